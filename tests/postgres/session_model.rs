//! Random sessions, each twice: one client goes to PostgreSQL directly, its twin
//! through pgweir in transaction mode, each to a database of its own with the
//! same content. Every request goes to both; the answers must be the same, to
//! the byte and in their order, and so must the parameters that are reported, the
//! notifications, and the locks that sessions hold.
//!
//! `SEED=n` replays a run, `STEPS=n` makes it longer, `SHRINK=1` looks for a
//! shorter sequence that fails, too.

mod generate;
mod twin;

use std::collections::BTreeSet;

use generate::{Generator, Step};
use twin::Twins;

use crate::support::{Cluster, Pooler, Setup, leftovers, secs};

/// Any number of clients may have something because of which they keep theirs.
const POOL_SIZE: usize = generate::CLIENTS + 1;

fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

struct World {
    cluster: Cluster,
    pooler: Pooler,
}

impl World {
    fn new() -> World {
        let cluster = Cluster::fresh();
        let mut admin = cluster.admin("postgres");
        admin.query("alter role app superuser");
        admin.query("create database model owner app");
        let mut inside = cluster.admin("model");
        leftovers::install(&mut inside);
        for sql in generate::CONTENT {
            inside.query(sql);
        }
        let port = i32::from(cluster.port);
        let pooler = Setup::with(&cluster)
            .pool_size(POOL_SIZE as i32)
            .set("server_round_robin", true)
            .set("query_wait_timeout", secs(5.0))
            .database("*", "host", "127.0.0.1")
            .database("*", "port", port)
            .start();
        World { cluster, pooler }
    }

    /// New twins, in new databases.
    fn twins(&self, count: usize) -> Twins<'_> {
        let mut admin = self.cluster.admin("postgres");
        for name in [twin::DIRECT, twin::POOLED] {
            admin.query(&format!("drop database if exists {name} with (force)"));
            admin.query(&format!("create database {name} template model owner app"));
            let set = |what: &str| format!("alter database {name} set {what}");
            // Who waits for a lock waits for one who does not go on meanwhile.
            admin.query(&set("lock_timeout = '10ms'"));
            // A connection that has heard a setting's name does not forget it.
            for custom in generate::CUSTOM {
                admin.query(&set(&format!("{custom} = ''")));
            }
        }
        Twins::new(&self.cluster, &self.pooler, count)
    }

    /// The first step that differs, and how.
    fn play(&self, steps: &[Step]) -> Option<(usize, String)> {
        let mut twins = self.twins(generate::CLIENTS);
        steps.iter().enumerate().find_map(|(at, step)| {
            let difference = twins.play(step).err()?;
            Some((at, difference))
        })
    }

    /// A sequence that fails as this one does, from which no step can be left out.
    fn shrink(&self, mut steps: Vec<Step>) -> Vec<Step> {
        let mut size = steps.len() / 2;
        while size > 0 {
            let mut start = 0;
            while start < steps.len().saturating_sub(1) {
                let mut fewer = steps.clone();
                fewer.drain(start..(start + size).min(steps.len() - 1));
                match self.play(&fewer) {
                    Some((at, _)) if at + 1 == fewer.len() => steps = fewer,
                    _ => start += size,
                }
            }
            size /= 2;
        }
        steps
    }
}

#[test]
#[ignore = "not all of it is built"]
fn a_session_cannot_tell() {
    let seed = number_from_env("SEED", rand::random());
    let count = number_from_env("STEPS", 3000);
    println!("SEED={seed}");
    let world = World::new();
    let mut generator = Generator::new(seed);
    let mut twins = world.twins(generate::CLIENTS);
    let mut steps = Vec::new();
    for _ in 0..count {
        let step = generator.step(&twins.states());
        steps.push(step.clone());
        let Err(difference) = twins.play(&step) else {
            continue;
        };
        drop(twins);
        let (what, shown) = match std::env::var("SHRINK") {
            Ok(_) => ("shortest", world.shrink(steps)),
            Err(_) => ("last", steps.split_off(steps.len().saturating_sub(40))),
        };
        let shown: Vec<String> = shown.iter().map(Step::to_string).collect();
        panic!(
            "SEED={seed}: {difference}\nthe {what} steps:\n{}",
            shown.join("\n")
        );
    }
    let kinds: BTreeSet<_> = steps.iter().map(|step| step.kind).collect();
    println!("{count} steps of {} kinds", kinds.len());
    drop(twins);
    let left = world
        .pooler
        .leftovers(twin::POOLED, POOL_SIZE, &generate::CUSTOM);
    assert_eq!(left, [""; 0], "left on server connections");
}
