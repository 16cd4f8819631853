//! Connections that one client has for itself.

use std::task::Poll;
use std::time::Instant;

use super::{book, give_back, limits, open, poll, wanted};
use crate::pool::{Book, HANDOVER_SLACK, Ledger, Limits, SharedBound};

#[test]
fn they_count_against_the_pools_size_and_are_never_opened_for_others() {
    let now = Instant::now();
    let mut book = book(limits(2));
    assert_eq!(book.begin_dedicated(now), Ok(true));
    assert_eq!((book.own(), book.total()), (1, 1));
    // Whoever waits cannot count on it.
    assert_eq!(book.part().total_open(), 0);
    let _waits = [book.join(now), book.join(now)];
    assert_eq!(wanted(&mut book, now, false), Ok(1));
    book.end_dedicated();
    assert_eq!(wanted(&mut book, now, false), Ok(2));
}

#[test]
fn nothing_is_opened_for_who_waits_for_a_place() {
    let now = Instant::now();
    let mut book = book(limits(2));
    open(&mut book, 1, now);
    assert_eq!(book.take_idle(|_| true).map(|(id, _)| id), Some(1));
    assert_eq!(book.begin_dedicated(now), Ok(true));
    assert_eq!(book.begin_dedicated(now), Ok(false));
    let ticket = book.join_for_place(now);
    let behind = book.join(now);
    assert!(book.place_is_next());
    book.end_dedicated();
    // There is room now, and it is the turn of the one that looks itself.
    assert_eq!(wanted(&mut book, now, false), Ok(0));
    assert_eq!(book.begin_dedicated(now), Ok(true));
    assert_eq!(book.leave(ticket), None);
    assert!(!book.place_is_next());
    book.end_dedicated();
    assert_eq!(wanted(&mut book, now, false), Ok(1));
    assert!(poll(&mut book, behind).is_pending());
}

#[test]
fn a_connection_that_comes_back_gives_its_place() {
    let now = Instant::now();
    let mut book = book(limits(1));
    open(&mut book, 1, now);
    assert!(book.take_idle(|_| true).is_some());
    let ticket = book.join_for_place(now);
    give_back(&mut book, 1, now, now);
    assert_eq!(poll(&mut book, ticket), Poll::Ready(Some(Ok(1))));
    book.dedicate();
    assert_eq!((book.total(), book.held_count()), (1, 0));
    assert_eq!(book.part().total_open(), 0);
    assert_eq!(book.begin_dedicated(now), Ok(false));
    book.end_dedicated();
    assert_eq!(book.total(), 0);
}

#[test]
fn shared_bounds_and_the_reserve_hold_as_for_others() {
    let now = Instant::now();
    let ledger = Ledger::new(1, now);
    let part = |user| ledger.part(0, &super::title(user, 1, 0));
    let mut first: super::TestBook = Book::new(limits(5), part("first"));
    let mut second: super::TestBook = Book::new(limits(5), part("second"));
    assert_eq!(first.begin_dedicated(now), Ok(true));
    assert_eq!(second.begin_dedicated(now), Err(SharedBound::Database));
    first.end_dedicated();
    assert_eq!(second.begin_dedicated(now), Ok(true));

    let patience = super::SECOND;
    let mut book = book(Limits {
        reserve_pool_size: 1,
        reserve_pool_timeout: Some(patience),
        ..limits(1)
    });
    assert_eq!(book.begin_dedicated(now), Ok(true));
    let _ticket = book.join_for_place(now);
    assert_eq!(book.begin_dedicated(now), Ok(false));
    assert_eq!(book.begin_dedicated(now + patience), Ok(true));
    assert_eq!(book.begin_dedicated(now + patience), Ok(false));
}

#[test]
fn a_place_is_due_to_who_has_waited_longest_on_any_worker() {
    let now = Instant::now();
    let ledger = Ledger::new(2, now);
    let part = |worker| ledger.part(worker, &super::title("user", 0, 0));
    let mut here: super::TestBook = Book::new(limits(1), part(0));
    let mut there: super::TestBook = Book::new(limits(1), part(1));
    assert_eq!(here.begin_dedicated(now), Ok(true));
    let longer = there.join(now);
    let later = now + 2 * HANDOVER_SLACK;
    // There is no place yet.
    assert!(!here.place_is_due_elsewhere(later));
    let ticket = here.join_for_place(later);
    here.end_dedicated();
    assert!(here.place_is_due_elsewhere(later));
    assert!(!there.place_is_due_elsewhere(later));
    assert_eq!(there.leave(longer), None);
    assert!(!here.place_is_due_elsewhere(later));
    assert_eq!(here.leave(ticket), None);
    // Within the slack each worker's own come first.
    let longer = there.join(later);
    assert!(!here.place_is_due_elsewhere(later + HANDOVER_SLACK / 2));
    assert_eq!(there.leave(longer), None);
}
