//! Bookkeeping of one pool: who has a server connection, who waits, how many
//! there may be. No sockets and no clock: connections are whatever the caller
//! says, and `now` comes from outside.

mod book;
mod ledger;
mod limits;

/// What [`ledger`] needs of threads, in one place so that a model checker can
/// put its own there (tests/handover_model.rs).
mod sync {
    pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    pub use std::sync::{Mutex, MutexGuard, PoisonError};
}

#[cfg(test)]
mod tests;

pub use book::{Book, Expired, Given, Kind, Ticket};
pub use ledger::{HANDOVER_SLACK, Ledger, MAX_WORKERS, Part, Passage, PoolName, Title};
pub use limits::{Limits, SharedBound};
