//! A worker's event loop: tasks of one thread, its sockets, and its time limits.
//!
//! It does what tokio's runtimes do, for the case of pgweir: everything belongs to one
//! thread, tasks do not migrate, and a socket is waited for by one task in each
//! direction. So nothing on the way of an event is locked, counted or freed, and an
//! idle socket takes 40 bytes where tokio takes 256 (docs/performance.md).
//!
//! One reactor runs on each thread that has called [`Runtime::run`]. Tasks, sockets and
//! timers belong to the thread's reactor and panic on a thread without one. Futures of
//! others that need no runtime, as `tokio::sync` and `tokio::select!`, work as they
//! are; they may wake a task from any thread.

mod core;
mod inbox;
mod outbox;
mod pages;
#[cfg(target_os = "linux")]
mod ring;
#[cfg(not(target_os = "linux"))]
#[path = "no_ring.rs"]
mod ring;
mod socket;
mod sources;
mod tasks;
mod time;

/// What `tests/wake_model.rs` puts others in for.
mod sync {
    pub use std::sync::atomic::{AtomicU8, Ordering};
    pub use std::sync::{Mutex, MutexGuard, PoisonError};
}

pub use self::core::{Runtime, Wake, now, spawn};
#[cfg(test)]
pub use self::core::{run, run_both_ways};
pub use ring::has_ring;
pub use socket::{Listening, Socket, has_budget};
pub use time::{Elapsed, Sleep, Timeout, sleep, sleep_until, timeout, timeout_at};
