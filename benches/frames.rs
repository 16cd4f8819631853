//! Cost of walking messages, and of the flow machines that forward them:
//! `cargo bench --bench frames`.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgweir::config::PoolMode;
use pgweir::flow::{
    Backend, Naming, Output, ParamTable, Params, Pins, Session, Shared, Statements, Values,
    Watchlist,
};
use pgweir::stats::Counters;
use pgweir::wire::Header;

fn walk(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    for (name, body) in [("rows_of_40_bytes", 35), ("rows_of_400_bytes", 395)] {
        let burst = message(b'D', &vec![0; body]).repeat(100);
        group.throughput(Throughput::Elements(100));
        group.bench_function(name, |b| b.iter(|| frames(black_box(&burst))));
    }
    group.finish();
}

/// One request and its answer through both machines, as a link would do it.
fn transaction(c: &mut Criterion) {
    let row = message(b'D', b"\0\x01\0\0\0\x04abcd");
    let done = [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    let simple = (
        message(
            b'Q',
            b"SELECT abalance FROM pgbench_accounts WHERE aid = 42;\0",
        ),
        [message(b'T', &[0; 30]), row.clone(), done.clone()].concat(),
    );
    let parse = (
        message(b'P', b"s1\0SELECT abalance FROM t WHERE aid = $1\0\0\0"),
        message(b'1', b""),
    );
    let sync = (message(b'S', b""), message(b'Z', b"I"));
    let prepared = (
        [
            message(b'B', b"\0s1\0\0\0\0\x01\0\0\0\x0242\0\0"),
            message(b'E', b"\0\0\0\0\0"),
            sync.0.clone(),
        ]
        .concat(),
        [message(b'2', b""), row, done].concat(),
    );

    let mut group = c.benchmark_group("transaction");
    for (name, (request, answer)) in [("simple", simple), ("prepared", prepared)] {
        let mut link = Link::default();
        link.pass(
            &[&parse.0[..], &sync.0].concat(),
            &[&parse.1[..], &sync.1].concat(),
        );
        group.bench_function(name, |b| {
            b.iter(|| link.pass(black_box(&request), black_box(&answer)));
        });
    }
    group.finish();
}

struct Link {
    session: Session,
    backend: Backend,
    statements: Statements,
    params: ParamTable,
    counters: Counters,
    pins: Pins,
    suspects: Watchlist,
    values: Values,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

impl Default for Link {
    fn default() -> Self {
        let mut params = ParamTable::default();
        let same = params.intern(Params::default());
        Link {
            session: Session::new(PoolMode::Transaction, Naming::TheClients, Rc::clone(&same)),
            backend: Backend::new(same, 200),
            statements: Statements::default(),
            params,
            counters: Counters::default(),
            pins: Pins::default(),
            suspects: Watchlist::default(),
            values: Values::default(),
            to_server: Vec::new(),
            to_client: Vec::new(),
        }
    }
}

impl Link {
    /// How many bytes go out on both sides.
    fn pass(&mut self, request: &[u8], answer: &[u8]) -> usize {
        let mut shared = Shared {
            statements: &mut self.statements,
            params: &mut self.params,
            counters: &self.counters,
            pins: &self.pins,
            suspects: &self.suspects,
            values: &self.values,
            bounds: Default::default(),
        };
        self.to_server.clear();
        self.to_client.clear();
        let mut out = Output::new(request, &mut self.to_server);
        let taken = self.session.from_client(
            Some(&mut self.backend),
            request,
            &mut out,
            &mut self.to_client,
            &mut shared,
        );
        assert!(taken.is_ok_and(|(taken, _)| taken == request.len()));
        let sent = out.finish().len();

        let mut out = Output::new(answer, &mut self.to_client);
        let taken =
            self.backend
                .from_server(Some(&mut self.session), answer, &mut out, &mut shared);
        assert_eq!(taken, Ok(answer.len()));
        assert!(self.backend.is_settled());
        sent + out.finish().len()
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    pgweir::wire::frame::put_header(&mut message, tag, body.len());
    message.extend_from_slice(body);
    message
}

fn frames(mut burst: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Some(header)) = Header::peek(burst) {
        count += 1;
        burst = burst.get(header.total..).unwrap_or_default();
    }
    count
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = walk, transaction
}
criterion_main!(benches);
