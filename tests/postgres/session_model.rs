//! Random sessions, each twice: one client goes to PostgreSQL directly, its twin
//! through pgweir in transaction mode, each to a database of its own with the
//! same content. Every request goes to both; the answers must be the same, to
//! the byte and in their order, and so must the parameters that are reported, the
//! notifications, and the locks that sessions hold. In the end the server
//! connections must be as good as fresh ones.
//!
//! `SEED=1 STEPS=100000 cargo test --test postgres session_model -- --ignored
//! --nocapture` makes as many steps as it says, each 2000 of a seed of their own;
//! `SHRINK=1` looks for a shorter sequence that fails, too. With an even seed
//! `pin_sequences` is on.

mod content;
mod generate;
mod shrink;
mod statements;
mod step;
mod twin;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use content::{CONTENT, CUSTOM};
use generate::{CLIENTS, Generator};
use step::Step;
use twin::Twins;

use crate::support::{Cluster, Pooler, Setup, leftovers, secs};

/// Any number of clients may have something because of which they keep theirs.
const POOL_SIZE: usize = CLIENTS + 1;
/// Of one seed.
const RUN: u64 = 2000;

struct World<'a> {
    cluster: &'a Cluster,
    pooler: Pooler,
}

fn cluster() -> Cluster {
    let cluster = Cluster::with_settings("max_prepared_transactions = 20\n");
    let mut admin = cluster.admin("postgres");
    admin.query("alter role app superuser");
    admin.query("create database model owner app");
    let mut inside = cluster.admin("model");
    leftovers::install(&mut inside);
    for sql in CONTENT {
        inside.query(sql);
    }
    cluster
}

impl<'a> World<'a> {
    fn new(cluster: &'a Cluster, sequences: bool) -> World<'a> {
        let pooler = Setup::with(cluster)
            .pool_size(POOL_SIZE as i32)
            .set("pin_sequences", sequences)
            .set("server_round_robin", true)
            .set("query_wait_timeout", secs(5.0))
            .database("*", "host", "127.0.0.1")
            .database("*", "port", i32::from(cluster.port))
            .start();
        World { cluster, pooler }
    }

    /// New twins, in new databases.
    fn twins(&self) -> Twins<'_> {
        let mut admin = self.cluster.admin("postgres");
        for name in [twin::DIRECT, twin::POOLED] {
            let prepared = format!("select gid from pg_prepared_xacts where database = '{name}'");
            for gid in admin.query(&prepared).column() {
                let mut inside = self.cluster.admin(name);
                inside.query(&format!("rollback prepared '{gid}'"));
            }
            admin.query(&format!("drop database if exists {name} with (force)"));
            admin.query(&format!("create database {name} template model owner app"));
            let set = |what: &str| format!("alter database {name} set {what}");
            // Who waits for a lock waits for one who does not go on meanwhile.
            admin.query(&set("lock_timeout = '30ms'"));
            // A connection that has heard a setting's name does not forget it.
            for custom in CUSTOM {
                admin.query(&set(&format!("{custom} = ''")));
            }
        }
        Twins::new(self.cluster, &self.pooler, CLIENTS)
    }

    /// How the first of these that differs does so.
    fn play(&self, steps: &[Step]) -> Option<String> {
        let mut twins = self.twins();
        let difference = steps.iter().find_map(|step| twins.play(step).err());
        drop(twins);
        difference.or_else(|| self.clients_left().err())
    }

    /// Those who have gone must be known to be gone.
    fn clients_left(&self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let mut clients = self.pooler.show("clients");
            clients.retain(|client| client["database"] == twin::POOLED);
            if clients.is_empty() {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(3) {
                return Err(format!("clients that have gone: {clients:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Makes so many steps; returns how many of which kind.
fn run(cluster: &Cluster, seed: u64, count: u64) -> BTreeMap<&'static str, usize> {
    println!("SEED={seed} STEPS={count}");
    let sequences = seed.is_multiple_of(2);
    let world = World::new(cluster, sequences);
    let mut generator = Generator::new(seed, sequences);
    let mut twins = world.twins();
    let mut steps = Vec::new();
    let mut difference = None;
    for _ in 0..count {
        let step = generator.step(&twins.states());
        steps.push(step.clone());
        difference = twins.play(&step).err();
        if difference.is_some() {
            break;
        }
    }
    drop(twins);
    if let Some(difference) = difference.or_else(|| world.clients_left().err()) {
        println!("SEED={seed} STEPS={count}: {difference}");
        // What went wrong before is not to be met again.
        let play = |steps: &[Step]| World::new(cluster, sequences).play(steps);
        let (steps, difference) = match std::env::var("SHRINK") {
            Ok(_) => {
                let steps = shrink::shrink(steps, |fewer| play(fewer).is_some());
                let again = play(&steps);
                (steps, again.unwrap_or(difference))
            }
            Err(_) => (steps.split_off(steps.len().saturating_sub(40)), difference),
        };
        let shown: Vec<_> = steps.iter().map(Step::to_string).collect();
        let shown = shown.join("\n");
        panic!("SEED={seed} STEPS={count}: {difference}\nafter the steps:\n{shown}");
    }
    let left = world.pooler.leftovers(twin::POOLED, POOL_SIZE, &CUSTOM);
    assert_eq!(left, [""; 0], "SEED={seed}: left on server connections");
    let mut kinds = BTreeMap::new();
    for step in &steps {
        *kinds.entry(step.kind).or_default() += 1;
    }
    kinds
}

#[test]
fn a_session_cannot_tell() {
    let cluster = cluster();
    for seed in [1, 2] {
        let kinds = run(&cluster, seed, 1000);
        assert_eq!(kinds.len(), 12, "{kinds:?}");
    }
}

#[test]
#[ignore = "as long as one likes"]
fn a_session_cannot_tell_for_long() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = number("SEED").unwrap_or_else(|| rand::random_range(0..1_000_000));
    let steps = number("STEPS").unwrap_or(RUN);
    let cluster = cluster();
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    for (seed, start) in (seed..).zip((0..steps).step_by(RUN as usize)) {
        for (kind, count) in run(&cluster, seed, RUN.min(steps - start)) {
            *done.entry(kind).or_default() += count;
        }
    }
    println!("{steps} steps: {done:?}");
}
