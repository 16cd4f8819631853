//! Bookkeeping of one pool: who has a server connection, who waits, how many
//! there may be. No sockets and no clock: connections are whatever the caller
//! says, and `now` comes from outside.

mod book;
mod limits;

#[cfg(test)]
mod tests;

pub use book::{Book, SharedBound, Ticket};
pub use limits::{Limits, SharedLimit};
