//! A seeded simulation of clients, pool and servers, without sockets and
//! clock. A failing seed prints itself and can be run again alone:
//!
//! - `SEED=n` runs only this one,
//! - `SEEDS=n` runs so many (besides those in `seeds.txt`, always run),
//! - `STEPS=n` is how many events one run may take.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod messages;
mod postgres;
mod program;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

fn run(seed: u64, steps: usize) -> bool {
    let mut world = World::new(seed);
    let result = catch_unwind(AssertUnwindSafe(|| world.run(steps)));
    if result.is_err() {
        eprintln!("the last events before SEED={seed} failed:");
        for (step, event) in &world.last_events {
            eprintln!("{step:6} {event:?}");
        }
    }
    result.is_ok()
}

#[test]
fn clients_cannot_tell_the_pool_from_a_server_of_their_own() {
    let steps = number("STEPS").unwrap_or(30_000) as usize;
    let seeds: Vec<u64> = match number("SEED") {
        Some(seed) => vec![seed],
        None => {
            let always = include_str!("seeds.txt").lines();
            let always = always.filter_map(|line| line.split('#').next()?.trim().parse().ok());
            let more = 1..=number("SEEDS").unwrap_or(1000);
            always.chain(more).collect()
        }
    };
    let failed: Vec<u64> = seeds
        .into_iter()
        .filter(|&seed| !run(seed, steps))
        .collect();
    assert!(failed.is_empty(), "failed seeds: {failed:?}");
}
