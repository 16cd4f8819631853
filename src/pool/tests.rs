//! The book against what it promises.

mod dedicated;
mod kinds;
mod model;
mod workers;

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::{Book, Expired, Given, Ledger, Limits, SharedBound, Ticket, Title};
use crate::pool::PoolName;

type TestBook = Book<u32, &'static str>;

const SECOND: Duration = Duration::from_secs(1);

fn limits(pool_size: u32) -> Limits {
    Limits {
        pool_size,
        ..Limits::default()
    }
}

fn book(limits: Limits) -> TestBook {
    let ledger = Ledger::new(1, Instant::now());
    Book::new(limits, ledger.part(0, &title("user", 0, 0)))
}

fn title(user: &str, max_db_connections: u32, max_user_connections: u32) -> Title {
    Title {
        name: PoolName {
            database: "database".into(),
            user: user.into(),
            host: None,
        },
        max_db_connections,
        max_user_connections,
    }
}

/// Opens connection `id` and gives it to whoever is to have it.
fn open(book: &mut TestBook, id: u32, now: Instant) {
    book.begin_open_anyway();
    book.opened();
    give_back(book, id, now, now);
}

/// Gives a connection back that must stay on this worker.
fn give_back(book: &mut TestBook, id: u32, now: Instant, born: Instant) -> Option<Waker> {
    match book.give_back(id, 0, now, born) {
        Given::Here(waker) => waker,
        Given::Away(..) => panic!("there is no other worker"),
    }
}

/// How many connections would be opened now.
fn wanted(book: &mut TestBook, now: Instant, keep_min: bool) -> Result<u32, SharedBound> {
    let mut begun = 0;
    let result = loop {
        match book.begin_open(now, keep_min) {
            Ok(true) => begun += 1,
            Ok(false) => break Ok(begun),
            Err(_) if begun > 0 => break Ok(begun),
            Err(bound) => break Err(bound),
        }
    };
    (0..begun).for_each(|_| book.open_failed());
    result
}

fn poll(book: &mut TestBook, ticket: Ticket) -> Poll<Option<Result<u32, &'static str>>> {
    book.poll(ticket, Waker::noop())
}

#[test]
fn who_waits_longest_is_served_first() {
    let now = Instant::now();
    let mut book = book(limits(2));
    let tickets = [book.join(now), book.join(now), book.join(now)];
    open(&mut book, 1, now);
    assert_eq!(poll(&mut book, tickets[1]), Poll::Pending);
    open(&mut book, 2, now);
    assert_eq!(poll(&mut book, tickets[1]), Poll::Ready(Some(Ok(2))));
    assert_eq!(poll(&mut book, tickets[0]), Poll::Ready(Some(Ok(1))));
    assert_eq!(poll(&mut book, tickets[2]), Poll::Pending);
    // What is served cannot be had twice.
    assert_eq!(poll(&mut book, tickets[0]), Poll::Ready(None));
    assert_eq!(book.leave(tickets[0]), None);
    give_back(&mut book, 1, now, now);
    assert_eq!(poll(&mut book, tickets[2]), Poll::Ready(Some(Ok(1))));
    assert_eq!((book.idle_count(), book.waiting_count()), (0, 0));
}

#[test]
fn a_waiter_is_woken_when_it_is_served() {
    let now = Instant::now();
    let mut book = book(limits(1));
    let ticket = book.join(now);
    book.begin_open_anyway();
    book.opened();
    assert!(
        give_back(&mut book, 1, now, now).is_none(),
        "nobody has polled"
    );
    assert_eq!(poll(&mut book, ticket), Poll::Ready(Some(Ok(1))));
    let ticket = book.join(now);
    assert_eq!(poll(&mut book, ticket), Poll::Pending);
    assert!(give_back(&mut book, 1, now, now).is_some());
    assert_eq!(book.leave(ticket), Some(1));
}

#[test]
fn the_connection_used_last_is_taken_first() {
    let now = Instant::now();
    let mut book = book(limits(0));
    (1..=3).for_each(|id| open(&mut book, id, now));
    assert_eq!(book.take_idle(|_| false), Some((3, now)));
    assert_eq!(book.take_idle(|_| false), Some((2, now)));
    give_back(&mut book, 3, now + SECOND, now);
    assert_eq!(book.take_idle(|_| false), Some((3, now + SECOND)));
}

#[test]
fn round_robin_takes_the_one_that_was_idle_longest() {
    let now = Instant::now();
    let mut book = book(Limits {
        round_robin: true,
        ..limits(0)
    });
    (1..=3).for_each(|id| open(&mut book, id, now));
    for id in [1, 2, 3, 1] {
        assert_eq!(book.take_idle(|&id| id == 2), Some((id, now)));
        give_back(&mut book, id, now, now);
    }
}

#[test]
fn one_that_fits_is_preferred_among_those_used_last() {
    let now = Instant::now();
    let mut book = book(limits(0));
    (1..=10).for_each(|id| open(&mut book, id, now));
    assert_eq!(book.take_idle(|&id| id == 5), Some((5, now)));
    // Too long ago to be looked at.
    assert_eq!(book.take_idle(|&id| id == 1), Some((10, now)));
}

#[test]
fn nobody_overtakes_those_who_wait() {
    let now = Instant::now();
    let mut book = book(limits(1));
    open(&mut book, 1, now);
    let (id, _) = book.take_idle(|_| true).unwrap();
    let ticket = book.join(now);
    give_back(&mut book, id, now, now);
    assert_eq!(book.take_idle(|_| true), None);
    assert_eq!(poll(&mut book, ticket), Poll::Ready(Some(Ok(1))));
}

#[test]
fn who_waits_for_a_place_is_not_passed_over() {
    let now = Instant::now();
    let mut book = book(limits(1));
    open(&mut book, 1, now);
    book.take_idle(|_| true).unwrap();
    let first = book.join_for_place(now);
    let other = book.join(now);
    book.prefer(other, 7);
    let Given::Here(_) = book.give_back(1, 7, now, now) else {
        panic!("there is no other worker");
    };
    assert_eq!(poll(&mut book, first), Poll::Ready(Some(Ok(1))));
    assert_eq!(poll(&mut book, other), Poll::Pending);
}

#[test]
fn leaving_in_each_state() {
    let now = Instant::now();
    let mut book = book(limits(1));
    // Waiting.
    let ticket = book.join(now);
    assert_eq!(book.leave(ticket), None);
    assert_eq!(book.waiting_count(), 0);
    assert_eq!(book.leave(ticket), None, "twice");
    // Handed over, not taken.
    let ticket = book.join(now);
    open(&mut book, 1, now);
    assert_eq!(book.leave(ticket), Some(1));
    assert_eq!(book.total(), 1, "it is held by whoever left");
    give_back(&mut book, 1, now, now);
    assert_eq!(book.idle_count(), 1);
    // Failed.
    book.take_idle(|_| true);
    let ticket = book.join(now);
    book.fail_all(&"no");
    assert_eq!(book.leave(ticket), None);
    // A new waiter in the same slot is somebody else.
    let other = book.join(now);
    assert_eq!(book.leave(ticket), None);
    assert_eq!(poll(&mut book, other), Poll::Pending);
    give_back(&mut book, 1, now, now);
    assert_eq!(poll(&mut book, other), Poll::Ready(Some(Ok(1))));
}

#[test]
fn as_many_are_opened_at_once_as_clients_wait() {
    let now = Instant::now();
    let mut book = book(limits(3));
    assert_eq!(wanted(&mut book, now, false), Ok(0));
    for _ in 0..5 {
        book.join(now);
    }
    assert_eq!(wanted(&mut book, now, false), Ok(3));
    book.begin_open_anyway();
    assert_eq!(wanted(&mut book, now, false), Ok(2));
    book.begin_open_anyway();
    book.begin_open_anyway();
    assert_eq!(wanted(&mut book, now, false), Ok(0));
    book.open_failed();
    assert_eq!(wanted(&mut book, now, false), Ok(1));
}

#[test]
fn no_more_are_opened_than_are_waited_for() {
    let now = Instant::now();
    let mut book = book(limits(0));
    book.join(now);
    book.join(now);
    book.begin_open_anyway();
    assert_eq!(wanted(&mut book, now, false), Ok(1));
    book.begin_open_anyway();
    assert_eq!(wanted(&mut book, now, false), Ok(0));
}

#[test]
fn the_minimum_is_kept_only_when_it_is_asked_for() {
    let now = Instant::now();
    let mut book = book(Limits {
        min_pool_size: 2,
        ..limits(5)
    });
    assert_eq!(wanted(&mut book, now, false), Ok(0));
    assert_eq!(wanted(&mut book, now, true), Ok(2));
    book.begin_open_anyway();
    assert_eq!(wanted(&mut book, now, true), Ok(1));
    book.begin_open_anyway();
    assert_eq!(wanted(&mut book, now, true), Ok(0));
}

#[test]
fn the_reserve_opens_for_those_who_have_waited_long_enough() {
    let now = Instant::now();
    let mut book = book(Limits {
        reserve_pool_size: 2,
        reserve_pool_timeout: Some(5 * SECOND),
        ..limits(1)
    });
    open(&mut book, 1, now);
    book.take_idle(|_| true);
    for n in 0..3 {
        book.join(now + n * SECOND);
    }
    assert_eq!(wanted(&mut book, now + 4 * SECOND, false), Ok(0));
    assert_eq!(book.next_deadline(now), Some(now + 5 * SECOND));
    assert_eq!(wanted(&mut book, now + 5 * SECOND, false), Ok(1));
    assert_eq!(wanted(&mut book, now + 9 * SECOND, false), Ok(2));
    book.begin_open_anyway();
    book.begin_open_anyway();
    assert_eq!(wanted(&mut book, now + 9 * SECOND, false), Ok(0));
}

#[test]
fn who_waits_is_told_so_once() {
    let now = Instant::now();
    let mut book = book(Limits {
        query_wait_notify: Some(5 * SECOND),
        ..limits(1)
    });
    open(&mut book, 1, now);
    book.take_idle(|_| true);
    let tickets = [0, 1, 2, 3].map(|n| book.join(now + n * SECOND));
    for ticket in &tickets {
        assert!(book.poll(*ticket, Waker::noop()).is_pending());
    }
    assert_eq!(book.next_deadline(now), Some(now + 5 * SECOND));
    assert_eq!(book.notify_waiters(now + 4 * SECOND).len(), 0);
    // The first is served before its time, the third leaves.
    give_back(&mut book, 1, now, now);
    book.leave(tickets[2]);
    assert_eq!(book.next_deadline(now), Some(now + 6 * SECOND));
    assert_eq!(book.notify_waiters(now + 6 * SECOND).len(), 1);
    assert_eq!(book.next_deadline(now), Some(now + 8 * SECOND));
    assert_eq!(book.notify_waiters(now + 8 * SECOND).len(), 1);
    assert_eq!(book.notify_waiters(now + 99 * SECOND).len(), 0);
    let told = tickets.map(|ticket| [book.take_notice(ticket), book.take_notice(ticket)]);
    assert_eq!(told.iter().flatten().filter(|told| **told).count(), 2);
    assert_eq!([told[1][0], told[3][0]], [true, true]);
    // Who comes after them is next.
    book.join(now + 100 * SECOND);
    assert_eq!(book.next_deadline(now), Some(now + 105 * SECOND));
}

#[test]
fn bounds_shared_with_other_pools() {
    let now = Instant::now();
    for bound in [SharedBound::Database, SharedBound::User] {
        let titles = |max| match bound {
            SharedBound::Database => (title("one", max, 0), title("other", max, 0)),
            SharedBound::User => {
                let one = title("same", 0, max);
                let mut other = one.clone();
                other.name.database = "elsewhere".into();
                (one, other)
            }
        };
        let ledger = Ledger::new(1, now);
        let (title_one, title_other) = titles(3);
        let mut one = TestBook::new(limits(0), ledger.part(0, &title_one));
        let mut other = TestBook::new(limits(0), ledger.part(0, &title_other));
        for _ in 0..5 {
            one.join(now);
        }
        assert_eq!(wanted(&mut one, now, false), Ok(3));
        open(&mut other, 1, now);
        assert_eq!(wanted(&mut one, now, false), Ok(2));
        one.begin_open_anyway();
        one.begin_open_anyway();
        let (database, user) = one.part().shared_totals();
        assert_eq!(
            match bound {
                SharedBound::Database => (database, user),
                SharedBound::User => (user, database),
            },
            (3, 2)
        );
        assert_eq!(wanted(&mut one, now, false), Err(bound));
        assert_eq!(other.evict_idle(), Some(1));
        assert_eq!(wanted(&mut one, now, false), Ok(1));
        one.open_failed();
        assert_eq!(wanted(&mut one, now, false), Ok(2));
        ledger.set_bounds(&titles(1).0);
        assert_eq!(wanted(&mut one, now, false), Err(bound));
    }
}

#[test]
fn waiting_ends_in_time() {
    let now = Instant::now();
    let mut book = book(Limits {
        query_wait_timeout: Some(10 * SECOND),
        ..limits(1)
    });
    let early = book.join(now);
    let late = book.join(now + SECOND);
    assert_eq!(book.next_deadline(now), Some(now + 10 * SECOND));
    assert_eq!(poll(&mut book, early), Poll::Pending);
    assert!(book.expire_waiters(now + 9 * SECOND, |_| "late").is_empty());
    let woken = book.expire_waiters(now + 10 * SECOND, |_| "late");
    assert_eq!(woken.len(), 1);
    assert_eq!(poll(&mut book, early), Poll::Ready(Some(Err("late"))));
    assert_eq!(poll(&mut book, late), Poll::Pending);
    assert_eq!(book.oldest_wait(), Some(now + SECOND));
    assert_eq!(book.next_deadline(now), Some(now + 11 * SECOND));
}

#[test]
fn a_waiter_may_have_a_limit_of_its_own() {
    let now = Instant::now();
    let mut book = book(Limits {
        query_wait_timeout: Some(10 * SECOND),
        ..limits(1)
    });
    let [endless, usual, short] = [book.join(now), book.join(now), book.join(now)];
    book.limit_wait(endless, None);
    book.limit_wait(short, Some(SECOND));
    assert_eq!(book.next_deadline(now), Some(now + SECOND));
    let told = |limit| if limit == SECOND { "short" } else { "usual" };
    book.expire_waiters(now + SECOND, told);
    assert_eq!(poll(&mut book, short), Poll::Ready(Some(Err("short"))));
    assert_eq!(book.next_deadline(now), Some(now + 10 * SECOND));
    book.expire_waiters(now + 20 * SECOND, told);
    assert_eq!(poll(&mut book, usual), Poll::Ready(Some(Err("usual"))));
    assert_eq!(poll(&mut book, endless), Poll::Pending);
    assert_eq!(book.leave(endless), None);
    // As before.
    let usual = book.join(now);
    book.expire_waiters(now + 10 * SECOND, told);
    assert_eq!(poll(&mut book, usual), Poll::Ready(Some(Err("usual"))));
}

#[test]
fn idle_connections_are_closed_in_time_but_not_below_the_minimum() {
    let now = Instant::now();
    let mut book = book(Limits {
        min_pool_size: 1,
        server_idle_timeout: Some(10 * SECOND),
        ..limits(5)
    });
    (1..=3).for_each(|id| open(&mut book, id, now + id * SECOND));
    assert_eq!(book.next_deadline(now), Some(now + 11 * SECOND));
    let expired = |id| [(id, Expired::IdleTimeout)];
    assert_eq!(book.expire_idle(now + 11 * SECOND), expired(1));
    assert_eq!(book.expire_idle(now + 60 * SECOND), expired(2));
    assert_eq!(book.next_deadline(now), None, "the minimum stays");
    assert_eq!(book.total(), 1);
}

#[test]
fn a_connection_that_was_only_looked_at_keeps_its_place() {
    let now = Instant::now();
    let mut book = book(Limits {
        server_idle_timeout: Some(10 * SECOND),
        round_robin: true,
        ..limits(5)
    });
    (1..=3).for_each(|id| open(&mut book, id, now + id * SECOND));
    let (looked_at, since) = book.take_idle(|_| true).unwrap();
    assert_eq!((looked_at, since), (1, now + SECOND));
    let given = book.give_back(looked_at, 0, since, now);
    assert!(matches!(given, Given::Here(None)));
    let order: Vec<_> = book.idle().map(|(id, _)| *id).collect();
    assert_eq!(order, [1, 2, 3]);
    assert_eq!(book.next_deadline(now), Some(now + 11 * SECOND));
    assert_eq!(
        book.expire_idle(now + 11 * SECOND),
        [(1, Expired::IdleTimeout)]
    );
}

#[test]
fn old_connections_are_closed_even_below_the_minimum() {
    let now = Instant::now();
    let mut book = book(Limits {
        min_pool_size: 5,
        server_lifetime: Some(60 * SECOND),
        ..limits(5)
    });
    open(&mut book, 1, now);
    open(&mut book, 2, now + 20 * SECOND);
    assert_eq!(book.next_deadline(now), Some(now + 60 * SECOND));
    assert_eq!(
        book.expire_idle(now + 60 * SECOND),
        [(1, Expired::Lifetime)]
    );
    assert_eq!(book.next_deadline(now), Some(now + 80 * SECOND));
}

#[test]
fn connections_that_were_opened_together_are_closed_one_by_one() {
    let now = Instant::now();
    let mut book = book(Limits {
        server_lifetime: Some(60 * SECOND),
        ..limits(3)
    });
    (1..=3).for_each(|id| open(&mut book, id, now));
    assert_eq!(book.expire_idle(now + 59 * SECOND), []);
    assert_eq!(
        book.expire_idle(now + 60 * SECOND),
        [(1, Expired::Lifetime)]
    );
    assert_eq!(
        book.next_deadline(now + 60 * SECOND),
        Some(now + 80 * SECOND)
    );
    assert_eq!(book.expire_idle(now + 79 * SECOND), []);
    // One that is released counts as well.
    assert!(book.take_idle(|_| true).is_some());
    assert!(!book.end_life(now, now + 79 * SECOND));
    assert!(book.end_life(now, now + 80 * SECOND));
    assert_eq!(book.expire_idle(now + 99 * SECOND), []);
    assert_eq!(book.expire_idle(now + 100 * SECOND).len(), 1);
}

#[test]
fn what_is_above_a_smaller_pool_size_goes() {
    let now = Instant::now();
    let mut book = book(limits(5));
    (1..=5).for_each(|id| open(&mut book, id, now));
    book.take_idle(|_| true);
    book.set_limits(limits(2));
    assert_eq!(book.expire_idle(now).len(), 3);
    assert_eq!(book.total(), 2);
}

#[test]
fn nothing_is_due_where_nothing_is_set() {
    let now = Instant::now();
    let mut book = book(limits(1));
    open(&mut book, 1, now);
    assert_eq!(book.next_deadline(now), None);
    book.take_idle(|_| true);
    book.join(now);
    assert_eq!(book.next_deadline(now), None);
    assert!(book.expire_waiters(now + 9999 * SECOND, |_| "").is_empty());
}

#[test]
fn connections_that_are_not_kept_go() {
    let now = Instant::now();
    let mut book = book(limits(0));
    (1..=4).for_each(|id| open(&mut book, id, now));
    assert_eq!(book.retain_idle(|id| *id % 2 == 0), [1, 3]);
    let left: Vec<_> = book.idle().map(|(id, _)| *id).collect();
    assert_eq!(left, [2, 4], "in the same order");
    assert_eq!(book.total(), 2);
}

#[test]
fn a_queue_that_people_only_leave_does_not_grow() {
    let now = Instant::now();
    let mut book = book(limits(1));
    let first = book.join(now);
    for _ in 0..10_000 {
        let ticket = book.join(now);
        book.leave(ticket);
    }
    assert!(format!("{book:?}").len() < 20_000);
    open(&mut book, 1, now);
    assert_eq!(poll(&mut book, first), Poll::Ready(Some(Ok(1))));
}
