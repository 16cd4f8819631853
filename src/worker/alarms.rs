//! When which client is to be looked at, because a time limit may be over.
//!
//! No client has a timer, and what a client does sets none: each is looked at
//! after the shortest of its limits, and before that only when one of them ends
//! that was running at the last look. Without limits nobody is looked at.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;

use super::Worker;
use crate::client::ClientInfo;
use crate::reactor;

/// Once for each client that has a limit: when to look, and its [`place`](super::place).
/// Entries of clients that have left stay for a while.
#[derive(Debug, Default)]
pub struct Alarms {
    queue: RefCell<BinaryHeap<Reverse<(Instant, u64)>>>,
    earlier: Notify,
}

impl Alarms {
    fn set(&self, at: Instant, place: u64) {
        let mut queue = self.queue.borrow_mut();
        if queue.peek().is_none_or(|Reverse((first, _))| at < *first) {
            self.earlier.notify_one();
        }
        queue.push(Reverse((at, place)));
    }

    fn take_due(&self, now: Instant) -> Option<u64> {
        let mut queue = self.queue.borrow_mut();
        let Reverse((at, _)) = queue.peek()?;
        if *at > now {
            return None;
        }
        queue.pop().map(|Reverse((_, place))| place)
    }

    /// Returns when the first is due. Cancel safe.
    async fn wait(&self) {
        loop {
            let first = self.queue.borrow().peek().map(|Reverse((at, _))| *at);
            let earlier = self.earlier.notified();
            match first {
                None => earlier.await,
                Some(at) => match reactor::timeout_at(at, earlier).await {
                    Ok(()) => {}
                    Err(_) => return,
                },
            }
        }
    }
}

impl Worker {
    /// Looks at clients for as long as the worker lives.
    pub(super) async fn watch_limits(self: Rc<Self>) {
        loop {
            self.alarms.wait().await;
            let now = Instant::now();
            while let Some(place) = self.alarms.take_due(now) {
                let client = self.clients.borrow().get(&place).cloned();
                if let Some(client) = client {
                    self.look_at(place, &client, now);
                }
            }
        }
    }

    /// From now on it is looked at.
    pub(super) fn watch(&self, place: u64, client: &ClientInfo) {
        self.look_at(place, client, Instant::now());
        let clients = self.clients.borrow();
        let mut queue = self.alarms.queue.borrow_mut();
        if queue.len() > 2 * clients.len() + 64 {
            queue.retain(|Reverse((_, place))| clients.contains_key(place));
        }
    }

    /// Limits have changed.
    pub(super) fn watch_anew(&self) {
        self.alarms.queue.borrow_mut().clear();
        let now = Instant::now();
        for (&place, client) in self.clients.borrow().iter() {
            self.look_at(place, client, now);
        }
    }

    fn look_at(&self, place: u64, client: &ClientInfo, now: Instant) {
        if let Some(next) = client.look_at_limits(&self.terms().config, now) {
            self.alarms.set(next, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn in_order_of_time() {
        reactor::run(async {
            let alarms = Alarms::default();
            let start = Instant::now();
            let at = |millis| start + Duration::from_millis(millis);
            alarms.set(at(300), 3);
            alarms.set(at(100), 1);
            alarms.set(at(200), 2);
            assert_eq!(alarms.take_due(start), None);
            alarms.wait().await;
            assert_eq!(alarms.take_due(at(250)), Some(1));
            assert_eq!(alarms.take_due(at(250)), Some(2));
            assert_eq!(alarms.take_due(at(250)), None);
        });
    }

    #[test]
    fn an_earlier_one_is_not_slept_over() {
        reactor::run(async {
            let alarms = Alarms::default();
            let start = Instant::now();
            alarms.set(start + Duration::from_secs(3600), 1);
            let set = async {
                reactor::sleep(Duration::from_millis(1)).await;
                alarms.set(start + Duration::from_millis(20), 2);
            };
            tokio::join!(alarms.wait(), set);
            assert!(start.elapsed() < Duration::from_secs(60));
            assert_eq!(alarms.take_due(Instant::now()), Some(2));
        });
    }
}
