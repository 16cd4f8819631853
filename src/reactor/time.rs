//! Time limits. They are for what happens seldom: what a client does sets none
//! (`worker/alarms.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::core::Reactor;

/// Who is to be woken when.
#[derive(Default)]
pub(super) struct Timers {
    /// Several may be due in the same moment: the number tells them apart.
    due: BTreeMap<(Instant, u64), Waker>,
    last: u64,
}

impl Timers {
    pub fn first(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn take_due(&mut self, now: Instant) -> Option<Waker> {
        let first = self.due.first_entry()?;
        match first.key().0 <= now {
            true => Some(first.remove()),
            false => None,
        }
    }
}

/// Resolves at a certain time. Cancel safe.
#[derive(Debug)]
#[must_use = "nothing waits for it"]
pub struct Sleep {
    at: Instant,
    /// Its number among the timers, once it waits.
    number: Option<u64>,
}

/// Rounded up to whole milliseconds, as epoll_wait(2) counts.
pub fn sleep(time: Duration) -> Sleep {
    let now = Instant::now();
    // Nobody waits for what is later than the clock can show.
    let at = now.checked_add(time);
    sleep_until(at.unwrap_or_else(|| now + Duration::from_secs(30 * 365 * 24 * 3600)))
}

/// The same with the time when it ends.
pub fn sleep_until(at: Instant) -> Sleep {
    Sleep { at, number: None }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let timers = &Reactor::current().timers;
        let Some(number) = self.number else {
            if Instant::now() >= self.at {
                return Poll::Ready(());
            }
            let waker = cx.waker().clone();
            let mut timers = timers.borrow_mut();
            timers.last += 1;
            let number = timers.last;
            timers.due.insert((self.at, number), waker);
            self.number = Some(number);
            return Poll::Pending;
        };
        match timers.borrow_mut().due.get_mut(&(self.at, number)) {
            None => Poll::Ready(()),
            Some(waker) => {
                if !waker.will_wake(cx.waker()) {
                    *waker = cx.waker().clone();
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number
            && let Some(reactor) = Reactor::try_current()
        {
            let waker = reactor.timers.borrow_mut().due.remove(&(self.at, number));
            drop(waker);
        }
    }
}

/// It took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("time limit exceeded")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(late: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, late)
    }
}

pin_project! {
    /// A future and its time limit.
    ///
    /// Not an async function, which would have the future in memory three times.
    #[must_use = "nothing waits for it"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        end: Sleep,
    }
}

/// Gives a future so much time, and drops it then. Cancel safe if the future is.
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    let end = sleep(limit);
    Timeout { future, end }
}

/// The same with the time when it ends.
pub fn timeout_at<F: Future>(end: Instant, future: F) -> Timeout<F> {
    let end = sleep_until(end);
    Timeout { future, end }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.future.poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => Pin::new(this.end).poll(cx).map(|()| Err(Elapsed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::run;

    #[test]
    fn the_shorter_one_ends_first() {
        let begun = Instant::now();
        run(async {
            let first = async {
                sleep(Duration::from_millis(30)).await;
                "first"
            };
            let second = async {
                sleep(Duration::from_secs(3600)).await;
                "second"
            };
            tokio::select! {
                name = second => assert_eq!(name, "first"),
                name = first => assert_eq!(name, "first"),
            }
        });
        assert!(begun.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn what_takes_longer_is_dropped() {
        run(async {
            let never = std::future::pending::<()>();
            assert_eq!(timeout(Duration::from_millis(5), never).await, Err(Elapsed));
            assert_eq!(timeout(Duration::from_secs(3600), async { 1 }).await, Ok(1));
            assert_eq!(timeout(Duration::MAX, async { 2 }).await, Ok(2));
            assert_eq!(timeout(Duration::ZERO, async { 3 }).await, Ok(3));
        });
    }

    #[test]
    fn a_limit_that_nobody_waits_for_any_more_is_forgotten() {
        run(async {
            let mut asleep = Box::pin(sleep(Duration::from_secs(3600)));
            std::future::poll_fn(|cx| {
                assert!(asleep.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(Reactor::current().timers.borrow().due.len(), 1);
            drop(asleep);
            assert_eq!(Reactor::current().timers.borrow().due.len(), 0);
        });
    }

    #[test]
    fn several_may_end_in_the_same_moment() {
        run(async {
            let at = Instant::now() + Duration::from_millis(3);
            tokio::join!(sleep_until(at), sleep_until(at), sleep_until(at));
        });
    }
}
