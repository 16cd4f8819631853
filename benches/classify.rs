//! Cost of telling whether a statement reads: `cargo bench --bench classify`.
//! `miss` reads the text, `hit` finds it among remembered ones.

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgweir::config::Reads;
use pgweir::flow::Params;
use pgweir::route::Policy;
use pgweir::sql::Dialect;
use pgweir::sql::classify::catalog::{Builder, Row};
use pgweir::sql::classify::{Catalog, Kind, classify};

const TEXTS: [(&str, &str); 4] = [
    (
        "point",
        "SELECT abalance FROM pgbench_accounts WHERE aid = $1;",
    ),
    // 200 bytes, as an ORM writes it.
    (
        "orm_200",
        "SELECT \"users\".\"id\", \"users\".\"email\", \"users\".\"created_at\", \"users\".\"name\" FROM \"users\" \
         INNER JOIN \"orders\" ON \"orders\".\"user_id\" = \"users\".\"id\" WHERE \"orders\".\"state\" = $1 LIMIT 21 OFFSET 4",
    ),
    (
        "report_200",
        "SELECT o.id, sum(i.price * i.amount)::numeric(12, 2) FROM orders o JOIN items i ON i.order_id = o.id \
         WHERE o.state IN ('paid', 'sent') AND lower(o.code) LIKE 'a%' GROUP BY o.id ORDER BY 2 DESC LIMIT 50",
    ),
    (
        "update",
        "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
    ),
];

/// A database of a hundred tables and functions, some of which write.
fn catalog() -> Catalog {
    let mut builder = Builder::default();
    let tables = ["pgbench_accounts", "users", "orders", "items"].map(str::to_owned);
    let names = tables
        .into_iter()
        .chain((0..100).map(|n| format!("object_{n}")));
    for name in names {
        for (object, standing) in [("r", "i"), ("t", "i"), ("f", "v")] {
            let row = Row {
                object,
                schema: "public",
                name: &name,
                standing,
                definition: None,
            };
            let _ = builder.add(row);
        }
    }
    builder.build()
}

fn verdicts(c: &mut Criterion) {
    let (catalog, dialect) = (Arc::new(catalog()), Dialect::default());
    let mut params = Params::default();
    params.set(b"client_encoding", b"UTF8", true);
    params.set(b"standard_conforming_strings", b"on", true);
    let params = Rc::new(params);
    let mut policy = Policy::new(Reads::Replica, &[], (0, catalog.clone()));
    for n in 0..2000 {
        let text = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {n}");
        policy.plan(text.as_bytes(), &params, None);
    }
    for (name, text) in TEXTS {
        let verdict = classify(text.as_bytes(), dialect, &catalog);
        let expected = if name == "update" {
            Kind::Write
        } else {
            Kind::Read
        };
        assert_eq!(verdict.kind, expected, "{name}: {verdict}");
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function("miss", |b| {
            b.iter(|| classify(black_box(text.as_bytes()), dialect, &catalog).kind);
        });
        group.bench_function("hit", |b| {
            b.iter(|| policy.plan(black_box(text.as_bytes()), &params, None));
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = verdicts
}
criterion_main!(benches);
