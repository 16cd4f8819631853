//! Which of several servers gets a read.

use std::cmp::Ordering;
use std::num::NonZeroU32;

use crate::config::BalanceReads;

/// A server that may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the topology, by which candidates differ.
    pub place: usize,
    /// Its share, compared with the others'.
    pub weight: NonZeroU32,
    /// Clients that have a connection to it or wait for one.
    pub outstanding: usize,
}

/// The place of the one that gets it; `None`: there is no candidate. `turn` is
/// one more with each choice; `random` returns any number. Allocates
/// nothing.
pub fn choose(
    balance: BalanceReads,
    candidates: &[Candidate],
    turn: u64,
    mut random: impl FnMut() -> u64,
) -> Option<usize> {
    let all = candidates.iter();
    let chosen = match balance {
        BalanceReads::LeastOutstanding => {
            let least = all.clone().min_by(|a, b| by_load(a, b))?;
            at_share(all.filter(|c| by_load(c, least).is_eq()), turn)
        }
        BalanceReads::RoundRobin => at_share(all, turn),
        BalanceReads::Random => {
            let first = at_share(all.clone(), random())?;
            let second = at_share(all.filter(|c| c.place != first.place), random());
            let better = second.filter(|second| by_load(second, first).is_lt());
            better.or(Some(first))
        }
    };
    chosen.map(|candidate| candidate.place)
}

/// Two under way at a server of weight two are as one at a server of weight one.
fn by_load(a: &Candidate, b: &Candidate) -> Ordering {
    let share =
        |of: &Candidate, other: &Candidate| of.outstanding as u128 * u128::from(other.weight.get());
    share(a, b).cmp(&share(b, a))
}

/// The one in whose share of the whole `turn` falls, all around.
fn at_share<'a>(
    mut candidates: impl Iterator<Item = &'a Candidate> + Clone,
    turn: u64,
) -> Option<&'a Candidate> {
    let shares = candidates.clone().map(|c| u64::from(c.weight.get()));
    let mut left = turn.checked_rem(shares.sum())?;
    candidates.find(|candidate| {
        let share = u64::from(candidate.weight.get());
        let found = left < share;
        left = left.saturating_sub(share);
        found
    })
}

#[cfg(test)]
mod tests;
