//! What is known of hosts' names, and until when.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long answers are good for, whatever the name server says of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ttl {
    /// `dns_max_ttl`
    pub found: Duration,
    /// `dns_nxdomain_ttl`: of a name that could not be resolved.
    pub failed: Duration,
}

/// Names and their addresses. Names come from configurations, and are never
/// forgotten: how many there are is bounded by those.
#[derive(Debug, Default)]
pub struct Cache {
    names: BTreeMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The last answer, until it is no longer good.
    answer: Option<(Answer, Instant)>,
    /// The addresses that were found last.
    addresses: Vec<SocketAddr>,
    /// Counts on with each time that they are given out.
    turn: usize,
    being_asked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Found,
    Failed(Arc<str>),
}

/// What to do for somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The addresses in the order in which they are to be tried: each time
    /// another one comes first.
    Use(Vec<SocketAddr>),
    /// Why there is none.
    Fail(Arc<str>),
    /// To look it up and [`Cache::learn`] the answer.
    LookUp,
    /// Somebody else does.
    Wait,
}

/// A row of SHOW DNS_HOSTS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsHost {
    pub name: String,
    /// How long the last answer is still good.
    pub ttl: Duration,
    /// Empty: it could not be resolved.
    pub addresses: Vec<SocketAddr>,
}

impl Cache {
    /// Somebody needs the addresses of a name.
    pub fn ask(&mut self, name: &str, now: Instant) -> Step {
        if !self.names.contains_key(name) {
            self.names.insert(name.to_owned(), Entry::default());
        }
        let Some(entry) = self.names.get_mut(name) else {
            return Step::LookUp;
        };
        match &entry.answer {
            Some((answer, until)) if now < *until => match answer {
                Answer::Failed(reason) => Step::Fail(reason.clone()),
                Answer::Found => Step::Use(entry.next_turn()),
            },
            _ if entry.being_asked => Step::Wait,
            _ => {
                entry.being_asked = true;
                Step::LookUp
            }
        }
    }

    /// The answer to [`Step::LookUp`]. Returns the addresses that the name does not
    /// have any more; that it could not be resolved says nothing of them.
    pub fn learn(
        &mut self,
        name: &str,
        answer: Result<Vec<SocketAddr>, String>,
        now: Instant,
        ttl: Ttl,
    ) -> Vec<SocketAddr> {
        let entry = self.names.entry(name.to_owned()).or_default();
        entry.being_asked = false;
        match answer {
            Ok(addresses) => {
                entry.answer = Some((Answer::Found, now + ttl.found));
                let mut before = std::mem::replace(&mut entry.addresses, addresses);
                before.retain(|old| !entry.addresses.contains(old));
                before
            }
            Err(reason) => {
                let answer = Answer::Failed(reason.into());
                entry.answer = Some((answer, now + ttl.failed));
                Vec::new()
            }
        }
    }

    /// For who has waited: the answer that was learned meanwhile, even if it is
    /// good for no time at all.
    pub fn learned(&mut self, name: &str) -> Step {
        let entry = self.names.get_mut(name);
        let Some(entry) = entry.filter(|entry| !entry.being_asked) else {
            return Step::Wait;
        };
        match &entry.answer {
            Some((Answer::Found, _)) => Step::Use(entry.next_turn()),
            Some((Answer::Failed(reason), _)) => Step::Fail(reason.clone()),
            None => Step::Wait,
        }
    }

    /// All names, in order.
    pub fn hosts(&self, now: Instant) -> Vec<DnsHost> {
        let row = |(name, entry): (&String, &Entry)| {
            let (answer, until) = entry.answer.as_ref()?;
            Some(DnsHost {
                name: name.clone(),
                ttl: until.saturating_duration_since(now),
                addresses: match answer {
                    Answer::Found => entry.addresses.clone(),
                    Answer::Failed(_) => Vec::new(),
                },
            })
        };
        self.names.iter().filter_map(row).collect()
    }

    /// How many names there are, and how many of them are being looked up.
    pub fn counts(&self) -> (usize, usize) {
        let asked = self.names.values().filter(|entry| entry.being_asked);
        (self.names.len(), asked.count())
    }
}

impl Entry {
    fn next_turn(&mut self) -> Vec<SocketAddr> {
        let mut addresses = self.addresses.clone();
        let first = self.turn.checked_rem(addresses.len()).unwrap_or(0);
        self.turn = self.turn.wrapping_add(1);
        addresses.rotate_left(first);
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TTL: Ttl = Ttl {
        found: Duration::from_secs(15),
        failed: Duration::from_secs(5),
    };

    fn addresses<const N: usize>(last: [u8; N]) -> Vec<SocketAddr> {
        last.map(|last| SocketAddr::from(([10, 0, 0, last], 0)))
            .to_vec()
    }

    fn used(step: Step) -> Vec<SocketAddr> {
        match step {
            Step::Use(addresses) => addresses,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_is_asked_for_once_and_good_for_its_time() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        assert_eq!(cache.ask("db", now), Step::LookUp);
        assert_eq!(cache.ask("db", now), Step::Wait);
        assert_eq!(cache.ask("other", now), Step::LookUp);
        assert_eq!(cache.counts(), (2, 2));
        assert!(cache.learn("db", Ok(addresses([1])), now, TTL).is_empty());
        assert_eq!(cache.counts(), (2, 1));
        let late = now + TTL.found - SECOND / 10;
        assert_eq!(used(cache.ask("db", late)), addresses([1]));
        let host = DnsHost {
            name: "db".to_owned(),
            ttl: SECOND / 10,
            addresses: addresses([1]),
        };
        assert_eq!(cache.hosts(late), [host]);
        assert_eq!(cache.ask("db", now + TTL.found), Step::LookUp);
    }

    #[test]
    fn that_there_is_none_is_remembered_for_its_own_time() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.ask("db", now);
        cache.learn("db", Err("unknown".to_owned()), now, TTL);
        let failed = Step::Fail("unknown".into());
        assert_eq!(cache.ask("db", now + TTL.failed - SECOND), failed);
        assert_eq!(cache.hosts(now)[0].addresses, []);
        assert_eq!(cache.ask("db", now + TTL.failed), Step::LookUp);
    }

    #[test]
    fn each_of_several_addresses_comes_first_in_turn() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.ask("db", now);
        cache.learn("db", Ok(addresses([1, 2, 3])), now, TTL);
        for expected in [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]] {
            assert_eq!(used(cache.ask("db", now)), addresses(expected));
        }
    }

    #[test]
    fn addresses_that_are_gone_are_told_and_a_failure_takes_none_away() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let mut learn = |answer: Result<Vec<SocketAddr>, String>| {
            cache.ask("db", now);
            cache.learn("db", answer, now, Ttl::default())
        };
        assert_eq!(learn(Ok(addresses([1, 2]))), []);
        assert_eq!(learn(Ok(addresses([2, 1]))), []);
        assert_eq!(learn(Err("no answer".to_owned())), []);
        assert_eq!(learn(Ok(addresses([2, 3]))), addresses([1]));
        assert_eq!(learn(Ok(Vec::new())), addresses([2, 3]));
    }

    #[test]
    fn who_waited_gets_an_answer_that_is_good_for_no_time() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        assert_eq!(cache.ask("db", now), Step::LookUp);
        assert_eq!(cache.learned("db"), Step::Wait);
        cache.learn("db", Ok(addresses([1])), now, Ttl::default());
        assert_eq!(used(cache.learned("db")), addresses([1]));
        assert_eq!(cache.ask("db", now), Step::LookUp);
    }
}
