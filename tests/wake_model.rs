//! How threads wake a reactor, model-checked: loom runs each scenario in every
//! interleaving of its threads and under the memory model of C11. A wake-up that is lost
//! shows as a reactor that sleeps for ever, which loom calls a deadlock.
//!
//! The inbox is the real one, with loom's threads and atomics put in. What the kernel
//! does for an eventfd is done here by a count under a lock.

#![allow(clippy::unwrap_used)]

#[path = "../src/reactor"]
mod reactor {
    #![allow(dead_code)]

    pub mod inbox;

    mod sync {
        pub use std::sync::PoisonError;

        pub use loom::sync::atomic::{AtomicU8, Ordering};
        pub use loom::sync::{Mutex, MutexGuard};
    }

    /// Whom a call is for.
    pub mod tasks {
        pub type Id = u32;
    }
}

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use reactor::inbox::Inbox;

/// A reactor without tasks, sockets and timers.
#[derive(Default)]
struct Reactor {
    inbox: Inbox,
    /// The eventfd: how often it was written to and not looked at.
    written: Mutex<u32>,
    told: Condvar,
}

impl Reactor {
    /// What a waker does on another thread.
    fn wake(&self, task: u32) {
        if self.inbox.call(task) {
            *self.written.lock().unwrap() += 1;
            self.told.notify_one();
        }
    }

    /// What the loop does, until it has heard of so many tasks.
    fn run(&self, tasks: usize) -> Vec<u32> {
        let mut heard = Vec::new();
        while heard.len() < tasks {
            let mut called = self.inbox.is_called();
            if !called {
                called = !self.inbox.fall_asleep();
                if !called {
                    let mut written = self.written.lock().unwrap();
                    while *written == 0 {
                        written = self.told.wait(written).unwrap();
                    }
                    *written = 0;
                    drop(written);
                    called = self.inbox.wake_up();
                }
            }
            if called || self.inbox.is_called() {
                heard.extend(self.inbox.take());
            }
        }
        heard.sort_unstable();
        heard
    }
}

fn model(callers: &'static [&'static [u32]]) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let reactor = Arc::new(Reactor::default());
        let threads: Vec<_> = callers
            .iter()
            .map(|tasks| {
                let reactor = reactor.clone();
                thread::spawn(move || tasks.iter().for_each(|task| reactor.wake(*task)))
            })
            .collect();
        let mut expected: Vec<u32> = callers.concat();
        expected.sort_unstable();
        assert_eq!(reactor.run(expected.len()), expected);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn one_thread_wakes_it_twice() {
    model(&[&[1, 2]]);
}

#[test]
fn two_threads_wake_it() {
    model(&[&[1], &[2]]);
}

#[test]
fn two_threads_wake_it_twice() {
    model(&[&[1, 2], &[3, 4]]);
}
