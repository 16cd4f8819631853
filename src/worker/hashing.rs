//! Threads for what would delay an I/O loop: slow hashing (PBKDF2), or asking
//! somebody who may not answer (PAM, LDAP).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::{io, thread};

use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// A handle to the hashing threads, cheap to clone, usable from any runtime. The
/// threads end with the last handle.
#[derive(Clone, Debug)]
pub struct Hashing {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
}

/// The work was not done: it panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a hashing thread failed")]
pub struct HashingError;

impl Hashing {
    /// Starts `threads` threads with a common queue of at most `queue` jobs, both
    /// at least 1.
    pub fn start(threads: usize, queue: usize) -> io::Result<Hashing> {
        Hashing::named("hashing", threads, queue)
    }

    /// The same under a name of their own, of 12 bytes at most.
    pub fn named(name: &str, threads: usize, queue: usize) -> io::Result<Hashing> {
        let (jobs, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..threads.max(1) {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || serve(&receiver))?;
        }
        Ok(Hashing {
            jobs,
            room: Arc::new(Semaphore::new(queue.max(1))),
        })
    }

    /// Whether the next caller waits for room in the queue.
    pub fn is_full(&self) -> bool {
        self.room.available_permits() == 0
    }

    /// Runs `work` on one of the threads. Jobs are served in the order in which
    /// they came; when the queue is full, callers wait for room in that order too.
    ///
    /// Cancel safe: when the future is dropped, work that has not begun is never
    /// done, and what it owns is dropped.
    pub async fn run<T, F>(&self, work: F) -> Result<T, HashingError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let room = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(|_| HashingError)?;
        let (result, waiting) = oneshot::channel();
        let job = move || {
            drop(room);
            if !result.is_closed() {
                // The requester may vanish at any time.
                let _ = result.send(work());
            }
        };
        self.jobs.send(Box::new(job)).map_err(|_| HashingError)?;
        waiting.await.map_err(|_| HashingError)
    }
}

fn serve(jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // The requester learns of a panic from its closed channel.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn runs_work_elsewhere() {
        let hashing = Hashing::start(2, 4).unwrap();
        let here = thread::current().id();
        let there = hashing.run(|| thread::current().id()).await.unwrap();
        assert_ne!(here, there);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_order_and_vanished_requests_are_dropped() {
        let hashing = Hashing::start(1, 2).unwrap();
        let (unblock, blocked) = mpsc::channel::<()>();
        let (began, begin) = oneshot::channel();
        let blocker = tokio::spawn({
            let hashing = hashing.clone();
            async move {
                let work = move || {
                    let _ = began.send(());
                    let _ = blocked.recv();
                };
                hashing.run(work).await
            }
        });
        begin.await.unwrap();

        let done = Arc::new(Mutex::new(Vec::new()));
        let mut jobs: Vec<_> = (0..5)
            .map(|number| {
                let (hashing, done) = (hashing.clone(), Arc::clone(&done));
                tokio::spawn(
                    async move { hashing.run(move || done.lock().unwrap().push(number)).await },
                )
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(hashing.is_full());
        // One in the queue and one that waits for room.
        for gone in [3, 1] {
            let job = jobs.remove(gone);
            job.abort();
            assert!(job.await.unwrap_err().is_cancelled());
        }
        unblock.send(()).unwrap();
        blocker.await.unwrap().unwrap();
        for job in jobs {
            job.await.unwrap().unwrap();
        }
        assert_eq!(*done.lock().unwrap(), [0, 2, 4]);
    }

    #[tokio::test]
    async fn survives_a_panic() {
        let hashing = Hashing::start(1, 1).unwrap();
        let failed = hashing.run(|| panic!("for the test")).await;
        assert_eq!(failed, Err(HashingError));
        assert_eq!(hashing.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn threads_end_with_the_last_handle() {
        struct Ends(Arc<AtomicUsize>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        thread_local!(static ENDS: std::cell::RefCell<Option<Ends>> = const { std::cell::RefCell::new(None) });
        let ended = Arc::new(AtomicUsize::new(0));
        let hashing = Hashing::start(1, 1).unwrap();
        let ends = Ends(Arc::clone(&ended));
        hashing
            .run(|| ENDS.with(|slot| *slot.borrow_mut() = Some(ends)))
            .await
            .unwrap();
        drop(hashing);
        for _ in 0..200 {
            if ended.load(Ordering::SeqCst) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the thread lives on");
    }
}
