//! Random sessions, each twice: one client goes to PostgreSQL directly, its twin
//! through pgweir in transaction mode, each to a database of its own with the
//! same content. Every request goes to both; the answers must be the same, to
//! the byte and in their order, and so must the parameters that are reported, the
//! notifications, and the locks that sessions hold. In the end the server
//! connections must be as good as fresh ones.
//!
//! `SEEDS=1..51 STEPS=2000 cargo test --test postgres session_model -- --ignored
//! --nocapture` makes so many steps of each of these seeds; `SHRINK=1` looks for
//! shorter sequences that differ, too. With an even seed `pin_sequences` is on.

mod content;
mod generate;
mod shrink;
mod statements;
mod step;
mod tally;
mod twin;

use std::time::{Duration, Instant};

use content::{CONTENT, CUSTOM};
use generate::{CLIENTS, Generator};
use step::Step;
use tally::Tally;
use twin::Twins;

use crate::stats_port::metrics;
use crate::support::{Cluster, Pooler, Setup, free_port, leftovers, secs};

/// Any number of clients may have something because of which they keep theirs.
const POOL_SIZE: usize = CLIENTS + 1;
/// Of one seed.
const RUN: usize = 2000;

struct World<'a> {
    cluster: &'a Cluster,
    pooler: Pooler,
    stats: u16,
}

fn cluster() -> Cluster {
    let cluster = Cluster::with_settings(
        // Locks of autovacuum's are not the other side's.
        "max_prepared_transactions = 20\nlog_min_messages = fatal\nautovacuum = off\n",
    );
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
        let stats = free_port();
        let pooler = Setup::with(cluster)
            .set("stats_listen", &*format!("127.0.0.1:{stats}"))
            .pool_size(POOL_SIZE as i32)
            .set("pin_sequences", sequences)
            .set("server_round_robin", true)
            .set("query_wait_timeout", secs(5.0))
            .database("*", "host", "127.0.0.1")
            .database("*", "port", i32::from(cluster.port))
            .start();
        World {
            cluster,
            pooler,
            stats,
        }
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
            // Who commits a NOTIFY waits for all others that do, of any database.
            admin.query(&set("lock_timeout = '100ms'"));
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

/// Makes so many steps. An error tells what differs, after which steps.
fn run(cluster: &Cluster, seed: u64, count: usize) -> Result<Tally, String> {
    let sequences = seed.is_multiple_of(2);
    let world = World::new(cluster, sequences);
    let mut generator = Generator::new(seed, sequences);
    let mut twins = world.twins();
    let mut steps = Vec::new();
    let mut difference = None;
    while difference.is_none() && steps.len() < count {
        let step = generator.step(&twins.states());
        steps.push(step.clone());
        difference = twins.play(&step).err();
    }
    drop(twins);
    let difference = difference.or_else(|| world.clients_left().err());
    let difference = difference.or_else(|| {
        let left = world.pooler.leftovers(twin::POOLED, POOL_SIZE, &CUSTOM);
        (!left.is_empty()).then(|| format!("left on server connections: {left:?}"))
    });
    let tally = Tally::of(&steps, &metrics(world.stats));
    drop(world);
    match difference {
        Some(difference) => Err(shown(cluster, sequences, steps, difference)),
        None => Ok(tally),
    }
}

/// The steps that lead to a difference, or the last of them.
fn shown(cluster: &Cluster, sequences: bool, mut steps: Vec<Step>, difference: String) -> String {
    let mut shown = difference;
    if std::env::var("SHRINK").is_ok() {
        println!("to be shortened: {shown}");
        // What went wrong before is not to be met again.
        let play = |steps: &[Step]| World::new(cluster, sequences).play(steps);
        for client in 0..CLIENTS {
            let of_others = |step: &&Step| step.client != client;
            let fewer: Vec<_> = steps.iter().filter(of_others).cloned().collect();
            if play(&fewer).is_some() {
                steps = fewer;
            }
        }
        steps = shrink::shrink(steps, |fewer| play(fewer).is_some());
        shown = play(&steps).unwrap_or(shown);
    } else {
        steps.drain(..steps.len().saturating_sub(40));
    }
    for step in steps {
        shown += &format!("\n{step}");
    }
    shown
}

#[test]
fn a_session_cannot_tell() {
    let cluster = cluster();
    for seed in [1, 2] {
        let tally = run(&cluster, seed, 1000).unwrap_or_else(|why| panic!("SEED={seed}: {why}"));
        assert_eq!(tally.steps.len(), 13, "{tally}");
        assert!(tally.carried > 100 && tally.pins.len() > 5, "{tally}");
    }
}

#[test]
#[ignore = "as long as one likes"]
fn a_session_cannot_tell_for_long() {
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| {
        let seed = rand::random_range(0..1_000_000);
        format!("{seed}..{}", seed + 1)
    });
    let (first, end) = seeds.split_once("..").expect("SEEDS=first..end");
    let seeds = first.parse().unwrap()..end.parse().unwrap();
    let steps = std::env::var("STEPS").map_or(RUN, |steps| steps.parse().unwrap());
    let cluster = cluster();
    let mut done = Tally::default();
    let mut different = Vec::new();
    for seed in seeds {
        match run(&cluster, seed, steps) {
            Ok(tally) => {
                println!("SEED={seed} STEPS={steps}: no difference");
                done.add(tally);
            }
            Err(why) => {
                println!("SEED={seed} STEPS={steps}: {why}");
                different.push(seed);
            }
        }
    }
    println!("{CLIENTS} clients, {done}");
    assert!(different.is_empty(), "these seeds differ: {different:?}");
}
