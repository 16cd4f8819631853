//! Several workers' parts of one pool, in one thread. (What threads add is
//! checked in tests/handover_model.rs.)

use super::*;
use crate::pool::{HANDOVER_SLACK, Passage};

const MOMENT: Duration = Duration::from_micros(10);

/// As many workers' parts of one pool.
fn books(workers: usize, limits: Limits, now: Instant) -> Vec<TestBook> {
    let ledger = Ledger::new(workers, now);
    let part = |worker| ledger.part(worker, &title("user", 0, 0));
    (0..workers)
        .map(|worker| TestBook::new(limits.clone(), part(worker)))
        .collect()
}

fn send(book: &mut TestBook, id: u32, now: Instant) -> Option<(u32, Passage)> {
    match book.give_back(id, 0, now, now) {
        Given::Here(_) => None,
        Given::Away(id, passage) => Some((id, passage)),
    }
}

fn receive(book: &mut TestBook, (id, passage): (u32, Passage), now: Instant) {
    book.arrive(passage);
    give_back(book, id, now, now);
}

#[test]
fn the_bound_holds_over_all_workers() {
    let now = Instant::now();
    let mut books = books(2, limits(3), now);
    for book in &mut books {
        book.join(now);
        book.join(now);
        book.join(now);
    }
    assert_eq!(wanted(&mut books[0], now, false), Ok(3));
    books[1].begin_open_anyway();
    books[1].begin_open_anyway();
    assert_eq!(wanted(&mut books[0], now, false), Ok(1));
    assert_eq!(wanted(&mut books[1], now, false), Ok(1));
    books[0].begin_open_anyway();
    assert_eq!(wanted(&mut books[0], now, false), Ok(0));
    assert_eq!((books[0].own(), books[0].total()), (1, 3));
    books[1].open_failed();
    assert_eq!(wanted(&mut books[0], now, false), Ok(1));
}

#[test]
fn a_released_connection_goes_where_somebody_waits() {
    let now = Instant::now();
    let mut books = books(3, limits(1), now);
    open(&mut books[0], 1, now);
    books[0].take_idle(|_| true).unwrap();
    let ticket = books[2].join(now);
    let sent = send(&mut books[0], 1, now).expect("worker 2 waits");
    assert_eq!(sent.1.to(), 2);
    assert_eq!(
        (books[0].own(), books[0].total()),
        (0, 1),
        "it still counts"
    );
    receive(&mut books[2], sent, now);
    assert_eq!(poll(&mut books[2], ticket), Poll::Ready(Some(Ok(1))));
    // Nobody waits any more.
    assert!(send(&mut books[2], 1, now).is_none());
    assert_eq!(books[2].idle_count(), 1);
}

#[test]
fn a_connection_on_its_way_is_not_sent_twice_for_one_waiter() {
    let now = Instant::now();
    let mut books = books(2, limits(2), now);
    for id in 1..=2 {
        open(&mut books[0], id, now);
    }
    books[0].take_idle(|_| true).unwrap();
    books[0].take_idle(|_| true).unwrap();
    let ticket = books[1].join(now);
    let sent = send(&mut books[0], 1, now).unwrap();
    assert!(send(&mut books[0], 2, now).is_none());
    receive(&mut books[1], sent, now);
    assert_eq!(poll(&mut books[1], ticket), Poll::Ready(Some(Ok(1))));
}

#[test]
fn own_clients_come_first_unless_somebody_has_waited_longer_elsewhere() {
    let now = Instant::now();
    let mut books = books(2, limits(1), now);
    open(&mut books[0], 1, now);
    books[0].take_idle(|_| true).unwrap();
    books[1].join(now);
    let own = books[0].join(now + HANDOVER_SLACK);
    assert!(send(&mut books[0], 1, now + SECOND).is_none());
    assert_eq!(poll(&mut books[0], own), Poll::Ready(Some(Ok(1))));
    let own = books[0].join(now + HANDOVER_SLACK + MOMENT);
    let sent = send(&mut books[0], 1, now + SECOND).expect("longer by more than the slack");
    assert_eq!(sent.1.to(), 1);
    assert_eq!(poll(&mut books[0], own), Poll::Pending);
}

#[test]
fn the_longest_waiter_of_all_others_is_chosen() {
    let now = Instant::now();
    let mut books = books(4, limits(1), now);
    open(&mut books[1], 1, now);
    books[1].take_idle(|_| true).unwrap();
    for (worker, wait) in [(0, 5), (2, 3), (3, 4)] {
        books[worker].join(now + wait * MOMENT);
    }
    assert_eq!(send(&mut books[1], 1, now).unwrap().1.to(), 2);
}

#[test]
fn what_the_others_see_follows_the_queue() {
    let now = Instant::now();
    let mut books = books(2, limits(2), now);
    open(&mut books[0], 1, now);
    open(&mut books[1], 2, now);
    books[0].take_idle(|_| true).unwrap();
    books[1].take_idle(|_| true).unwrap();
    let own = books[0].join(now + 10 * SECOND);
    books[1].join(now);
    books[1].join(now + 20 * SECOND);
    // The first is served; the other has not waited longer than ours.
    give_back(&mut books[1], 2, now, now);
    assert!(send(&mut books[0], 1, now).is_none());
    assert_eq!(poll(&mut books[0], own), Poll::Ready(Some(Ok(1))));
}

#[test]
fn who_leaves_is_sent_nothing() {
    let now = Instant::now();
    let mut books = books(2, limits(1), now);
    open(&mut books[0], 1, now);
    books[0].take_idle(|_| true).unwrap();
    let ticket = books[1].join(now);
    books[1].leave(ticket);
    assert!(send(&mut books[0], 1, now).is_none());
    books[0].take_idle(|_| true).unwrap();
    books[1].join(now);
    books[1].fail_all(&"no");
    assert!(send(&mut books[0], 1, now).is_none());
}

#[test]
fn idle_connections_are_asked_for() {
    let now = Instant::now();
    let mut books = books(3, limits(3), now);
    for id in 1..=3 {
        open(&mut books[0], id, now);
    }
    assert_eq!(books[1].ask(now), None, "nobody waits here");
    let tickets = [books[1].join(now), books[1].join(now)];
    assert_eq!(books[1].ask(now), Some(0));
    assert_eq!(books[1].ask(now), None, "not again at once");
    assert_eq!(
        books[1].next_deadline(now),
        Some(now + Duration::from_millis(1))
    );
    let (given, next) = books[0].answer(1, 2);
    assert_eq!(given.len(), 2);
    assert_eq!(next, None);
    for sent in given {
        receive(&mut books[1], sent, now);
    }
    for (ticket, id) in tickets.into_iter().zip([1, 2]) {
        assert_eq!(poll(&mut books[1], ticket), Poll::Ready(Some(Ok(id))));
    }
    // One is left at worker 0, and known to be.
    books[2].join(now);
    assert_eq!(books[2].ask(now), Some(0));
}

#[test]
fn who_has_nothing_idle_passes_the_question_on() {
    let now = Instant::now();
    let mut books = books(3, limits(3), now);
    open(&mut books[0], 1, now);
    open(&mut books[2], 2, now);
    books[2].take_idle(|_| true).unwrap();
    books[1].join(now);
    assert_eq!(books[1].ask(now), Some(2), "it had one");
    let (given, next) = books[2].answer(1, 1);
    assert!(given.is_empty());
    assert_eq!(next, Some(0));
    let (given, next) = books[0].answer(1, 1);
    assert_eq!((given.len(), next), (1, None));
    drop(given);
    // Nobody has one any more: what is released next is sent by itself.
    assert_eq!(books[1].ask(now + SECOND), Some(0));
    assert_eq!(books[0].answer(1, 1).1, None);
    assert_eq!(books[1].ask(now + 2 * SECOND), None);
    assert_eq!(send(&mut books[2], 2, now).unwrap().1.to(), 1);
}

#[test]
fn a_connection_that_is_lost_on_its_way_makes_room() {
    let now = Instant::now();
    let mut books = books(2, limits(1), now);
    open(&mut books[0], 1, now);
    books[0].take_idle(|_| true).unwrap();
    books[1].join(now);
    let sent = send(&mut books[0], 1, now).unwrap();
    assert_eq!(wanted(&mut books[1], now, false), Ok(0));
    drop(sent);
    assert_eq!(books[1].total(), 0);
    assert_eq!(wanted(&mut books[1], now, false), Ok(1));
    // And nothing is believed to be under way.
    books[0].begin_open_anyway();
    books[0].opened();
    assert!(send(&mut books[0], 2, now).is_some());
}

#[test]
fn the_minimum_is_kept_by_all_together() {
    let now = Instant::now();
    let limits = Limits {
        min_pool_size: 2,
        server_idle_timeout: Some(SECOND),
        ..limits(5)
    };
    let mut books = books(2, limits, now);
    assert_eq!(wanted(&mut books[0], now, true), Ok(2));
    (1..=2).for_each(|id| open(&mut books[0], id, now));
    (3..=4).for_each(|id| open(&mut books[1], id, now));
    assert_eq!(wanted(&mut books[1], now, true), Ok(0));
    let later = now + 2 * SECOND;
    assert_eq!(books[0].expire_idle(later).len(), 2);
    assert_eq!(books[1].expire_idle(later).len(), 0);
    assert_eq!(books[1].total(), 2);
}

#[test]
fn what_is_above_a_smaller_pool_size_goes_once() {
    let now = Instant::now();
    let mut books = books(2, limits(4), now);
    for book in &mut books {
        for id in 0..2 {
            open(book, id, now);
            book.take_idle(|_| true).unwrap();
        }
    }
    for book in &mut books {
        book.set_limits(limits(3));
        assert!(book.is_above_size());
    }
    assert!(books[0].close_surplus());
    assert!(!books[1].close_surplus(), "the other worker was faster");
    assert_eq!(books[1].total(), 3);
}

#[test]
fn a_bound_in_the_way_is_remembered_until_somebody_makes_room() {
    let now = Instant::now();
    let ledger = Ledger::new(2, now);
    let mut here = TestBook::new(limits(0), ledger.part(0, &title("here", 1, 0)));
    let mut there = TestBook::new(limits(0), ledger.part(1, &title("there", 1, 0)));
    open(&mut here, 1, now);
    assert_eq!(here.part().starved_elsewhere().count(), 0);
    there.join(now);
    assert_eq!(there.begin_open(now, false), Err(SharedBound::Database));
    assert!(here.part().starved_elsewhere().eq([1]));
    assert_eq!(here.part().starved_elsewhere().count(), 0, "told once");
    here.evict_idle().unwrap();
    assert_eq!(there.begin_open(now, false), Ok(true));
}

#[test]
fn an_abandoned_pool_is_forgotten() {
    let now = Instant::now();
    let ledger = Ledger::new(2, now);
    let part = ledger.part(0, &title("kept", 0, 0));
    assert_eq!(part.take(5), Ok(true));
    for user in 0..1000 {
        ledger.part(0, &title(&user.to_string(), 0, 0));
    }
    assert_eq!(ledger.part(1, &title("kept", 0, 0)).total(), 1);
    assert!(Arc::strong_count(&ledger) == 1 && format!("{ledger:?}").len() < 300_000);
}

#[test]
fn what_another_process_has_counts() {
    let ledger = Ledger::new(2, Instant::now());
    let title = title("app", 3, 0);
    // Told before there is a pool.
    assert!(!ledger.set_elsewhere(&title.name, 2));
    let part = ledger.part(0, &title);
    assert_eq!((part.total(), part.total_here()), (2, 0));
    assert_eq!(part.take(3), Ok(true));
    assert_eq!(part.take(3), Ok(false));
    assert_eq!(part.take(9), Err(SharedBound::Database));
    assert_eq!(ledger.own(), [(title.name.clone(), 1)]);

    // One of them comes, and one of ours goes.
    let passage = ledger.take_over(&title.name, 1);
    assert_eq!((part.total(), part.total_here()), (3, 2));
    passage.arrive();
    part.hand_over();
    assert_eq!((part.total(), part.total_here()), (3, 1));
    // One that is lost on its way counts no more.
    drop(ledger.take_over(&title.name, 1));
    assert_eq!((part.total(), part.total_here()), (2, 1));

    assert!(ledger.set_elsewhere(&title.name, 0));
    assert_eq!(part.shared_totals(), (1, 1));
    ledger.set_elsewhere(&title.name, 7);
    ledger.nothing_elsewhere();
    assert_eq!((part.total(), part.total_here()), (1, 1));
}
