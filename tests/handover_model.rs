//! The hand-over of server connections between workers, model-checked: loom
//! runs each scenario in every interleaving of its threads (with a bounded
//! number of preemptions) and under the memory model of C11. A wake-up that is
//! lost shows as a deadlock, a connection above the bound or one that is lost
//! as a wrong count.
//!
//! The book and the ledger are the real ones, with loom's threads and atomics
//! put in. What `server/pool/handover.rs` does with sockets and mailboxes is
//! done here with numbers and channels.

#![allow(clippy::unwrap_used)]

#[path = "../src/pool"]
mod pool {
    #![allow(dead_code, unused_imports)]

    pub mod book;
    pub mod ledger;
    pub mod limits;

    mod sync {
        pub use std::sync::PoisonError;

        pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
        pub use loom::sync::{Mutex, MutexGuard};
    }
}

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread;
use pool::book::{Book, Given, Ticket};
use pool::ledger::{Ledger, Passage, PoolName, Title};
use pool::limits::{Limits, SharedBound};

enum Mail {
    Parcel(u32, Passage),
    Ask {
        from: usize,
        wanted: usize,
    },
    Room,
    Evict,
    Evicted(bool),
    /// The sender will say no more by itself.
    End,
}

/// A worker with its part of one pool.
struct Worker {
    number: usize,
    book: Book<u32, ()>,
    mailbox: Receiver<Mail>,
    others: Vec<Sender<Mail>>,
    now: Instant,
    /// Of what kind connections are that are given back here.
    kind: usize,
    evicting: bool,
    /// Workers that have said [`Mail::End`].
    ended: usize,
}

/// So many workers. Those with the same user share one pool, all of them share
/// the database and its bound.
fn workers(users: &[&str], pool_size: u32, max_db_connections: u32) -> VecDeque<Worker> {
    let now = Instant::now();
    let ledger: Arc<Ledger> = Ledger::new(users.len(), now);
    let (senders, mailboxes): (Vec<_>, Vec<_>) = users.iter().map(|_| channel()).unzip();
    let members = mailboxes.into_iter().zip(users).enumerate();
    let worker = |(number, (mailbox, user)): (usize, (_, &&str))| {
        let title = Title {
            name: PoolName {
                database: "db".into(),
                user: (*user).into(),
                host: None,
            },
            max_db_connections,
            max_user_connections: 0,
        };
        let limits = Limits {
            pool_size,
            ..Limits::default()
        };
        Worker {
            number,
            book: Book::new(limits, ledger.part(number, &title)),
            mailbox,
            others: senders.clone(),
            now,
            kind: 0,
            evicting: false,
            ended: 0,
        }
    };
    members.map(worker).collect()
}

impl Worker {
    fn tell(&self, worker: usize, mail: Mail) {
        self.others[worker].send(mail).unwrap();
    }

    /// Has a connection open that a client holds.
    fn hold(&mut self, id: u32) {
        self.open(id);
        assert_eq!(self.book.take_idle(|_| true).map(|(id, _)| id), Some(id));
    }

    /// Has one open.
    fn open(&mut self, id: u32) {
        let ticket = self.book.join(self.now);
        assert_eq!(self.book.begin_open(self.now, false), Ok(true));
        self.book.leave(ticket);
        self.book.opened();
        self.give(id);
    }

    fn give(&mut self, id: u32) {
        match self.book.give_back(id, self.kind, self.now, self.now) {
            Given::Here(_) => {
                for worker in self.book.part().starved_elsewhere() {
                    self.tell(worker, Mail::Room);
                }
            }
            Given::Away(id, passage) => self.tell(passage.to(), Mail::Parcel(id, passage)),
        }
    }

    fn close(&mut self) {
        self.book.closed();
        let part = self.book.part();
        for worker in part.hungry_elsewhere().chain(part.starved_elsewhere()) {
            self.tell(worker, Mail::Room);
        }
    }

    fn open_wanted(&mut self) {
        match self.book.begin_open(self.now, false) {
            Ok(true) => {
                assert!(self.book.total() <= 2, "above every bound");
                self.book.opened();
                self.give(100 + self.number as u32);
            }
            Ok(false) => {}
            Err(bound) => {
                assert_eq!(bound, SharedBound::Database);
                if !self.evicting {
                    self.evicting = true;
                    self.tell(1 - self.number, Mail::Evict);
                }
            }
        }
    }

    fn join(&mut self) -> Ticket {
        let ticket = self.book.join(self.now);
        self.open_wanted();
        self.ask();
        ticket
    }

    fn ask(&mut self) {
        while let Some(worker) = self.book.ask(self.now) {
            let (from, wanted) = (self.number, self.book.waiting_count());
            self.tell(worker, Mail::Ask { from, wanted });
            // What the timer does later.
            self.now += Duration::from_millis(2);
            if self.book.ask_deadline().is_none() {
                break;
            }
        }
    }

    fn receive(&mut self) {
        match self.mailbox.recv().unwrap() {
            Mail::Parcel(id, passage) => {
                self.book.arrive(passage);
                self.give(id);
                self.ask();
            }
            Mail::Ask { from, wanted } => {
                let (given, next) = self.book.answer(from, wanted);
                let wanted = wanted - given.len();
                for (id, passage) in given {
                    self.tell(from, Mail::Parcel(id, passage));
                }
                if let Some(next) = next {
                    self.tell(next, Mail::Ask { from, wanted });
                }
            }
            Mail::Room => self.open_wanted(),
            Mail::Evict => {
                let evicted = self.book.evict_idle().is_some();
                self.tell(1 - self.number, Mail::Evicted(evicted));
            }
            Mail::Evicted(evicted) => {
                self.evicting = false;
                if evicted {
                    self.open_wanted();
                }
            }
            Mail::End => self.ended += 1,
        }
    }

    /// Works until the client is served: what it got.
    fn serve(&mut self, ticket: Ticket) -> u32 {
        loop {
            match self.book.poll(ticket, Waker::noop()) {
                Poll::Ready(outcome) => return outcome.unwrap().unwrap(),
                Poll::Pending => self.receive(),
            }
        }
    }

    /// Works until nobody has anything to say any more: a question may be
    /// passed on to everybody before it is answered.
    fn finish(mut self) -> Worker {
        let others = self.others.len() - 1;
        for round in 1..=self.others.len() {
            for worker in (0..self.others.len()).filter(|&worker| worker != self.number) {
                self.tell(worker, Mail::End);
            }
            while self.ended < round * others {
                self.receive();
            }
        }
        self
    }
}

/// Runs what each worker does, each on a thread, in every order; then `check`s
/// what is left.
fn model<const N: usize>(
    start: fn() -> VecDeque<Worker>,
    scripts: [fn(&mut Worker); N],
    check: fn(&[Worker]),
) {
    let mut builder = loom::model::Builder::new();
    // Each one more takes some twenty times as long.
    builder.preemption_bound = Some(if N == 2 { 3 } else { 2 });
    builder.max_branches = 10_000;
    builder.check(move || {
        let mut workers = start();
        let last = scripts.len() - 1;
        let threads: Vec<_> = scripts[..last]
            .iter()
            .map(|&script| {
                let mut worker = workers.pop_front().unwrap();
                thread::spawn(move || {
                    script(&mut worker);
                    worker.finish()
                })
            })
            .collect();
        let mut worker = workers.pop_front().unwrap();
        scripts[last](&mut worker);
        let end = worker.finish();
        let mut ends: Vec<Worker> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        ends.push(end);
        check(&ends);
    });
}

/// As many connections are there as count, all of them idle, and nobody waits.
fn all_idle(workers: &[Worker]) {
    let own: u32 = workers.iter().map(|worker| worker.book.own()).sum();
    let idle: usize = workers.iter().map(|worker| worker.book.idle_count()).sum();
    assert_eq!((own, idle), (1, 1));
    for worker in workers {
        assert_eq!(worker.book.total(), 1);
        assert_eq!(worker.book.waiting_count(), 0);
    }
}

fn one_held_by_worker_0() -> VecDeque<Worker> {
    let mut workers = workers(&["user", "user"], 1, 0);
    workers[0].hold(1);
    workers
}

fn one_idle_on_worker_0() -> VecDeque<Worker> {
    let mut workers = workers(&["user", "user"], 1, 0);
    workers[0].open(1);
    workers
}

fn wait_and_give_back(worker: &mut Worker) {
    let ticket = worker.join();
    let id = worker.serve(ticket);
    worker.give(id);
}

fn wait_and_leave(worker: &mut Worker) {
    let ticket = worker.join();
    if let Some(id) = worker.book.leave(ticket) {
        worker.give(id);
    }
}

#[test]
fn a_waiter_gets_what_another_worker_releases() {
    model(
        one_held_by_worker_0,
        [|worker| worker.give(1), wait_and_give_back],
        all_idle,
    );
}

#[test]
fn a_waiter_gets_what_is_idle_on_another_worker() {
    model(one_idle_on_worker_0, [|_| {}, wait_and_give_back], all_idle);
}

#[test]
fn a_waiter_is_served_while_the_other_worker_uses_its_connection() {
    model(
        one_idle_on_worker_0,
        [
            |worker| {
                if let Some((id, _)) = worker.book.take_idle(|_| true) {
                    worker.give(id);
                }
            },
            wait_and_give_back,
        ],
        all_idle,
    );
}

#[test]
fn two_workers_take_turns() {
    model(
        one_idle_on_worker_0,
        [wait_and_give_back_if_none_is_idle, wait_and_give_back],
        all_idle,
    );
}

#[test]
fn a_connection_that_stays_for_its_settings_goes_in_the_end() {
    model(
        one_held_by_worker_0,
        [
            |worker| {
                worker.kind = 7;
                // Whoever waits on the other worker has waited longer.
                worker.now += Duration::from_secs(1);
                let tickets = [7, 1].map(|kind| {
                    let ticket = worker.join();
                    worker.book.prefer(ticket, kind);
                    ticket
                });
                worker.give(1);
                for ticket in tickets {
                    let id = worker.serve(ticket);
                    worker.give(id);
                }
            },
            wait_and_give_back,
        ],
        all_idle,
    );
}

fn wait_and_give_back_if_none_is_idle(worker: &mut Worker) {
    match worker.book.take_idle(|_| true) {
        Some((id, _)) => worker.give(id),
        None => wait_and_give_back(worker),
    }
}

#[test]
fn a_waiter_that_goes_away_leaks_nothing() {
    model(
        one_held_by_worker_0,
        [|worker| worker.give(1), wait_and_leave],
        all_idle,
    );
    model(one_idle_on_worker_0, [|_| {}, wait_and_leave], all_idle);
}

#[test]
fn no_more_are_opened_than_the_bound_and_all_are_served() {
    model(
        || workers(&["user", "user"], 1, 0),
        [wait_and_give_back, wait_and_give_back],
        all_idle,
    );
}

#[test]
fn a_closed_connection_makes_room_for_a_waiter_elsewhere() {
    model(
        one_held_by_worker_0,
        [Worker::close, wait_and_give_back],
        all_idle,
    );
}

#[test]
fn a_connection_lost_on_its_way_makes_room() {
    model(
        one_held_by_worker_0,
        [
            |worker| match worker.book.give_back(1, 0, worker.now, worker.now) {
                Given::Away(_, passage) => {
                    drop(passage);
                    worker.tell(1, Mail::Room);
                }
                Given::Here(_) => {}
            },
            wait_and_give_back,
        ],
        all_idle,
    );
}

#[test]
fn a_shared_bound_is_freed_by_another_pools_idle_connection() {
    model(
        || {
            let mut workers = workers(&["one", "other"], 1, 1);
            workers[0].hold(1);
            workers
        },
        [|worker| worker.give(1), wait_and_give_back],
        |workers| {
            assert_eq!(workers[0].book.own() + workers[1].book.own(), 1);
            assert_eq!(workers[1].book.idle_count(), 1);
        },
    );
}

#[test]
fn three_workers_share_one() {
    model(
        || {
            let mut workers = workers(&["user", "user", "user"], 1, 0);
            workers[0].hold(1);
            workers
        },
        [
            |worker| worker.give(1),
            wait_and_give_back,
            wait_and_give_back,
        ],
        all_idle,
    );
}
