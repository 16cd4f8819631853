//! Cost of reading a query's text: `cargo bench --bench lexer`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgweir::sql::{Dialect, Lexer, classify};

fn lexer(c: &mut Criterion) {
    let insert = format!(
        "INSERT INTO t (a, b) VALUES {}('x', 1)",
        "('a text of some length', 42), ".repeat(1000)
    );
    let texts = [
        (
            "point",
            "SELECT abalance FROM pgbench_accounts WHERE aid = $1;",
        ),
        ("begin", "BEGIN"),
        (
            "report",
            "/* report */ SELECT o.id, c.name, sum(i.price * i.amount)::numeric(12, 2) AS total\n\
             FROM orders o JOIN customers c ON c.id = o.customer_id -- the buyer\n\
             JOIN items i ON i.order_id = o.id WHERE o.state IN ('paid', 'sent') AND o.at >= '2024-01-01'\n\
             GROUP BY o.id, c.name HAVING sum(i.price * i.amount) > 100.50 ORDER BY total DESC LIMIT 50",
        ),
        ("insert_1000_rows", insert.as_str()),
    ];
    let dialect = Dialect::default();
    for (name, text) in texts {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function("tokens", |b| {
            b.iter(|| Lexer::new(black_box(text.as_bytes()), dialect).count());
        });
        group.bench_function("classify", |b| {
            b.iter(|| classify(black_box(text.as_bytes()), dialect) == pgweir::sql::Command::Many);
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = lexer
}
criterion_main!(benches);
