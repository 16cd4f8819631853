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
/// one more with each choice; `random` returns any number below its argument.
/// Allocates nothing.
pub fn choose(
    balance: BalanceReads,
    candidates: &[Candidate],
    turn: u64,
    mut random: impl FnMut(u64) -> u64,
) -> Option<usize> {
    let all = candidates.iter();
    let chosen = match balance {
        BalanceReads::LeastOutstanding => {
            let least = all.clone().min_by(|a, b| by_load(a, b))?;
            at_share(all.filter(|c| by_load(c, least).is_eq()), turn)
        }
        BalanceReads::RoundRobin => at_share(all, turn),
        BalanceReads::Random => {
            let first = at_share(all.clone(), random(whole(all.clone())))?;
            let others = all.filter(|c| c.place != first.place);
            let second = match whole(others.clone()) {
                0 => None,
                whole => at_share(others, random(whole)),
            };
            Some(
                second
                    .filter(|c| by_load(c, first).is_lt())
                    .unwrap_or(first),
            )
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

fn whole<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> u64 {
    candidates.map(|c| u64::from(c.weight.get())).sum()
}

/// The one in whose share of the whole `turn` falls, all around.
fn at_share<'a>(
    mut candidates: impl Iterator<Item = &'a Candidate> + Clone,
    turn: u64,
) -> Option<&'a Candidate> {
    let mut left = turn.checked_rem(whole(candidates.clone()))?;
    candidates.find(|candidate| {
        let share = u64::from(candidate.weight.get());
        let found = left < share;
        left = left.saturating_sub(share);
        found
    })
}

#[cfg(test)]
mod tests;
