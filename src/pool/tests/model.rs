//! Random events, on the book and on a simple model of it.

use std::collections::VecDeque;
use std::task::Poll;
use std::time::Instant;

use proptest::prelude::*;

use super::{Expired, SECOND, TestBook, give_back, poll, title, wanted};
use crate::pool::{Ledger, Limits, SharedBound, Ticket};

#[derive(Clone, Debug)]
enum Do {
    Take,
    Join,
    Poll(usize),
    Leave(usize),
    GiveBack(usize),
    Close(usize),
    Open,
    Opened,
    OpenFailed,
    FailAll,
    Expire,
    Evict,
    Pass(u32),
}

fn any_do() -> impl Strategy<Value = Do> {
    prop_oneof![
        3 => Just(Do::Take),
        4 => Just(Do::Join),
        3 => any::<usize>().prop_map(Do::Poll),
        1 => any::<usize>().prop_map(Do::Leave),
        4 => any::<usize>().prop_map(Do::GiveBack),
        1 => any::<usize>().prop_map(Do::Close),
        4 => Just(Do::Open),
        4 => Just(Do::Opened),
        1 => Just(Do::OpenFailed),
        1 => Just(Do::FailAll),
        2 => Just(Do::Expire),
        1 => Just(Do::Evict),
        2 => (0..20u32).prop_map(Do::Pass),
    ]
}

/// Everything in plain lists.
#[derive(Default)]
struct Model {
    /// Connections with the times of their birth and of becoming idle.
    idle: Vec<(u32, Instant, Instant)>,
    held: Vec<(u32, Instant)>,
    opening: u32,
    waiting: VecDeque<(Ticket, Instant)>,
    done: Vec<(Ticket, Result<u32, &'static str>)>,
    last: u32,
    last_aged: Option<Instant>,
}

impl Model {
    fn total(&self) -> u32 {
        self.idle.len() as u32 + self.held.len() as u32 + self.opening
    }

    fn give_back(&mut self, at: usize, now: Instant) {
        let (id, born) = self.held[at];
        match self.waiting.pop_front() {
            Some((ticket, _)) => self.done.push((ticket, Ok(id))),
            None => {
                self.held.remove(at);
                self.idle.push((id, born, now));
            }
        }
    }

    fn fail_while(&mut self, error: &'static str, late: impl Fn(Instant) -> bool) {
        while self.waiting.front().is_some_and(|(_, since)| late(*since)) {
            let (ticket, _) = self.waiting.pop_front().unwrap();
            self.done.push((ticket, Err(error)));
        }
    }

    /// A held connection that nobody was handed without having taken it.
    fn held_by_hand(&self, n: usize) -> Option<usize> {
        let free = |id: u32| !self.done.iter().any(|(_, outcome)| *outcome == Ok(id));
        let held = self.held.iter().enumerate();
        let held: Vec<_> = held.filter(|(_, (id, _))| free(*id)).collect();
        let (at, _) = held.get(n.checked_rem(held.len())?)?;
        Some(*at)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_order_of_events_agrees_with_the_model(
        pool_size in 0..4u32,
        min_pool_size in 0..3u32,
        shared in 0..5u32,
        round_robin in any::<bool>(),
        doings in proptest::collection::vec(any_do(), 0..120),
    ) {
        let limits = Limits {
            pool_size,
            min_pool_size,
            query_wait_timeout: Some(10 * SECOND),
            query_wait_notify: Some(5 * SECOND),
            server_idle_timeout: Some(20 * SECOND),
            server_lifetime: Some(60 * SECOND),
            round_robin,
            ..Limits::default()
        };
        let ledger = Ledger::new(1, Instant::now());
        let mut book = TestBook::new(limits, ledger.part(0, &title("user", shared, 0)));
        let mut model = Model::default();
        let mut now = Instant::now();
        let mut tickets: Vec<Ticket> = Vec::new();
        for doing in doings {
            match doing {
                Do::Take => {
                    let at = match round_robin {
                        true => 0,
                        false => model.idle.len().wrapping_sub(1),
                    };
                    let wanted = model.idle.get(at).copied();
                    prop_assert_eq!(book.take_idle(|_| false), wanted.map(|(id, _, since)| (id, since)));
                    if let Some((id, born, _)) = wanted {
                        model.idle.remove(at);
                        model.held.push((id, born));
                    }
                }
                // Who could take an idle one does not wait.
                Do::Join if !model.idle.is_empty() => {}
                Do::Join => {
                    let ticket = book.join(now);
                    model.waiting.push_back((ticket, now));
                    tickets.push(ticket);
                }
                Do::Poll(n) | Do::Leave(n) if !tickets.is_empty() => {
                    let ticket = tickets[n % tickets.len()];
                    let done = model.done.iter().position(|(t, _)| *t == ticket);
                    let done = done.map(|at| model.done.remove(at).1);
                    let waits = model.waiting.iter().position(|(t, _)| *t == ticket);
                    if matches!(doing, Do::Leave(_)) {
                        if let Some(at) = waits {
                            model.waiting.remove(at);
                        }
                        prop_assert_eq!(book.leave(ticket), done.and_then(Result::ok));
                    } else {
                        let wanted = match (done, waits) {
                            (Some(outcome), _) => Poll::Ready(Some(outcome)),
                            (None, Some(_)) => Poll::Pending,
                            (None, None) => Poll::Ready(None),
                        };
                        prop_assert_eq!(poll(&mut book, ticket), wanted);
                    }
                }
                Do::GiveBack(n) => if let Some(at) = model.held_by_hand(n) {
                    let (id, born) = model.held[at];
                    give_back(&mut book, id, now, born);
                    model.give_back(at, now);
                }
                Do::Close(n) => if let Some(at) = model.held_by_hand(n) {
                    model.held.remove(at);
                    book.closed();
                }
                Do::Open => {
                    let lacking = min_pool_size.saturating_sub(model.total());
                    let waiting = (model.waiting.len() as u32).saturating_sub(model.opening);
                    let room = match pool_size {
                        0 => u32::MAX,
                        size => size.saturating_sub(model.total()),
                    };
                    let due = waiting.max(lacking).min(room);
                    let shared_room = match shared {
                        0 => u32::MAX,
                        max => max - model.total(),
                    };
                    let due = match (due, shared_room) {
                        (1.., 0) => Err(SharedBound::Database),
                        _ => Ok(due.min(shared_room)),
                    };
                    prop_assert_eq!(wanted(&mut book, now, true), due);
                    if let Ok(1..) = due {
                        prop_assert_eq!(book.begin_open(now, true), Ok(true));
                        model.opening += 1;
                    }
                }
                Do::Opened if model.opening > 0 => {
                    book.opened();
                    model.opening -= 1;
                    model.last += 1;
                    model.held.push((model.last, now));
                    give_back(&mut book, model.last, now, now);
                    model.give_back(model.held.len() - 1, now);
                }
                Do::OpenFailed if model.opening > 0 => {
                    book.open_failed();
                    model.opening -= 1;
                }
                Do::FailAll => {
                    book.fail_all(&"failed");
                    model.fail_while("failed", |_| true);
                }
                Do::Expire => {
                    book.expire_waiters(now, |_| "late");
                    model.fail_while("late", |since| now >= since + 10 * SECOND);
                    let mut gone = Vec::new();
                    let gap = 60 * SECOND / pool_size.max(1) * u32::from(pool_size > 0);
                    for (id, born, since) in std::mem::take(&mut model.idle) {
                        let early = model.last_aged.is_some_and(|at| now < at + gap);
                        let old = now >= born + 60 * SECOND && !early;
                        if old {
                            model.last_aged = Some(now);
                        }
                        let left = book.total() - gone.len() as u32;
                        let unused = now >= since + 20 * SECOND && left > min_pool_size;
                        match (old, unused) {
                            (true, _) => gone.push((id, Expired::Lifetime)),
                            (_, true) => gone.push((id, Expired::IdleTimeout)),
                            _ => model.idle.push((id, born, since)),
                        }
                    }
                    prop_assert_eq!(book.expire_idle(now), gone);
                }
                Do::Evict => {
                    let oldest = match model.idle.is_empty() {
                        true => None,
                        false => Some(model.idle.remove(0).0),
                    };
                    prop_assert_eq!(book.evict_idle(), oldest);
                }
                Do::Pass(seconds) => now += seconds * SECOND,
                _ => {}
            }
            book.check_invariants();
            prop_assert_eq!(book.total(), model.total());
            prop_assert_eq!(book.part().shared_totals(), (model.total(), model.total()));
            prop_assert_eq!(book.idle_count(), model.idle.len());
            prop_assert_eq!(book.waiting_count(), model.waiting.len());
            prop_assert_eq!(book.oldest_wait(), model.waiting.front().map(|w| w.1));
        }
    }
}
