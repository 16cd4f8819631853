use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::Choice;

use BalanceReads::{LeastOutstanding, Random, RoundRobin};

/// Weights and loads, in the order of the places.
fn candidates(servers: &[(u32, usize)]) -> Vec<Candidate> {
    let candidate = |(place, &(weight, outstanding))| Candidate {
        place,
        weight: NonZeroU32::new(weight).unwrap(),
        outstanding,
    };
    servers.iter().enumerate().map(candidate).collect()
}

/// A generator that is the same each time (splitmix64).
fn dice(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// How often each place is chosen in so many turns, the loads staying as they are.
fn shares(balance: BalanceReads, servers: &[(u32, usize)], turns: u64) -> BTreeMap<usize, u64> {
    let (candidates, mut dice) = (candidates(servers), dice(1));
    let mut shares = BTreeMap::new();
    for turn in 0..turns {
        let place = choose(balance, &candidates, turn, &mut dice).unwrap();
        *shares.entry(place).or_default() += 1;
    }
    shares
}

#[test]
fn without_candidates_nobody_is_chosen() {
    for &(_, balance) in BalanceReads::WORDS {
        assert_eq!(choose(balance, &[], 7, dice(1)), None);
        assert_eq!(choose(balance, &candidates(&[(1, 9)]), 7, dice(1)), Some(0));
    }
}

#[test]
fn the_least_loaded_is_chosen_and_equals_take_turns() {
    assert_eq!(
        shares(LeastOutstanding, &[(1, 1), (1, 0), (1, 2)], 9),
        [(1, 9)].into()
    );
    assert_eq!(
        shares(LeastOutstanding, &[(1, 1), (1, 2), (1, 1)], 10),
        [(0, 5), (2, 5)].into()
    );
    // Two at weight two are one at weight one.
    assert_eq!(
        shares(LeastOutstanding, &[(2, 1), (1, 1)], 9),
        [(0, 9)].into()
    );
    assert_eq!(
        shares(LeastOutstanding, &[(2, 2), (1, 1)], 9),
        [(0, 6), (1, 3)].into()
    );
    assert_eq!(
        shares(LeastOutstanding, &[(2, 3), (1, 1)], 9),
        [(1, 9)].into()
    );
}

#[test]
fn round_robin_goes_around_by_weight_whatever_the_load() {
    let servers = candidates(&[(1, 5), (2, 0), (1, 3)]);
    let places: Vec<_> = (0..8)
        .filter_map(|turn| choose(RoundRobin, &servers, turn, dice(1)))
        .collect();
    assert_eq!(places, [0, 1, 1, 2, 0, 1, 1, 2]);
    assert_eq!(choose(RoundRobin, &servers, u64::MAX, dice(1)), Some(2));
}

#[test]
fn of_two_that_chance_picks_the_less_loaded_is_chosen() {
    // Two servers are always both picked.
    assert_eq!(shares(Random, &[(1, 1), (1, 0)], 100), [(1, 100)].into());
    // The most loaded of three never wins, the least loaded in two of three cases.
    let shares = shares(Random, &[(1, 2), (1, 1), (1, 0)], 30_000);
    assert_eq!(shares.get(&0), None);
    assert!((19_000..21_000).contains(&shares[&2]), "{shares:?}");
}

#[test]
fn chance_keeps_to_the_weights() {
    let shares = shares(Random, &[(3, 0), (1, 0)], 40_000);
    assert!((29_000..31_000).contains(&shares[&0]), "{shares:?}");
}

fn servers() -> impl Strategy<Value = Vec<(u32, usize)>> {
    prop::collection::vec((1u32..6, 0usize..6), 1..6)
}

fn load(&(weight, outstanding): &(u32, usize)) -> f64 {
    outstanding as f64 / f64::from(weight)
}

proptest! {
    #[test]
    fn nobody_has_less_to_do_than_the_chosen(servers in servers(), turn: u64) {
        let place = choose(LeastOutstanding, &candidates(&servers), turn, dice(turn)).unwrap();
        for other in &servers {
            prop_assert!(load(&servers[place]) <= load(other));
        }
    }

    /// In as many turns as the weights are together each has its weight.
    #[test]
    fn turns_are_shared_exactly(servers in servers(), idle: bool, first in 0u64..100) {
        let (balance, servers) = match idle {
            true => (LeastOutstanding, servers.iter().map(|&(weight, _)| (weight, 0)).collect()),
            false => (RoundRobin, servers),
        };
        let candidates = candidates(&servers);
        let round: u64 = candidates.iter().map(|c| u64::from(c.weight.get())).sum();
        let mut counts = vec![0; servers.len()];
        for turn in first..first + round {
            counts[choose(balance, &candidates, turn, dice(1)).unwrap()] += 1;
        }
        let weights: Vec<u32> = servers.iter().map(|&(weight, _)| weight).collect();
        prop_assert_eq!(counts, weights);
    }

    /// The chosen one is at least better than one other.
    #[test]
    fn chance_never_chooses_the_worst(servers in servers(), seed: u64) {
        let place = choose(Random, &candidates(&servers), 0, dice(seed)).unwrap();
        let others = servers.iter().enumerate().filter(|&(other, _)| other != place);
        let mut others = others.map(|(_, other)| load(other)).peekable();
        let alone = others.peek().is_none();
        prop_assert!(alone || others.any(|other| load(&servers[place]) <= other));
    }

    /// Reads that stay for a while: what is under way settles by weight.
    #[test]
    fn what_is_under_way_settles_by_weight(
        weights in prop::collection::vec(1u32..5, 2..5),
        seed: u64,
    ) {
        let mut servers: Vec<_> = weights.iter().map(|&weight| (weight, 0)).collect();
        let mut dice = dice(seed);
        let whole: u32 = weights.iter().sum();
        let held = 20 * whole as usize;
        let mut places = Vec::new();
        for turn in 0..50 * held as u64 {
            let place = choose(LeastOutstanding, &candidates(&servers), turn, &mut dice).unwrap();
            servers[place].1 += 1;
            places.push(place);
            if places.len() > held {
                let ended = places.swap_remove(dice() as usize % places.len());
                servers[ended].1 -= 1;
            }
        }
        for &(weight, outstanding) in &servers {
            let fair = 20.0 * f64::from(weight);
            prop_assert!((outstanding as f64 - fair).abs() <= 0.2 * fair, "{servers:?}");
        }
    }
}
