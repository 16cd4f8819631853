//! State machines of the protocol between one client and one server
//! connection, without sockets and clock: bytes go in, bytes come out.
//!
//! - [`Session`] is the client's half: it walks what a client sends, forwards
//!   it, renames prepared statements, and stops where a server is needed.
//! - [`Backend`] is the server's half: it knows what the server still owes
//!   ([`replies`]), which statements and parameters live there, and whether
//!   the connection may be given to somebody else.
//! - [`Statements`] and [`ParamTable`] are shared by all of a worker's
//!   connections, so that equal things are one thing.

mod backend;
pub mod error_fields;
#[doc(hidden)]
pub mod fuzzing;
mod meaning;
mod outlook;
mod output;
mod params;
mod pins;
mod replies;
mod schema;
mod session;
mod statements;
mod traces;
mod values;
mod watchlist;
mod written;

#[cfg(test)]
mod tests;

pub use backend::{Backend, Finding, PackedBackend, Release, ServerFault, WrittenBackend};
pub use meaning::Meanings;
pub use outlook::{Outlook, Setback};
pub use output::Output;
pub use params::{ParamTable, Params, is_fixed};
pub use pins::Pins;
pub use replies::OwnQuery;
pub use schema::Schema;
pub use session::{
    Channels, ClientFault, Front, Misuse, Naming, Purpose, ROLE, Session, Stop, Wait,
    WrittenSession, each_channel, role_of,
};
pub use statements::{Statement, Statements, Text, Texts};
pub use values::Values;
pub use watchlist::{Asked, LatestSuspects, Watchlist};
pub use written::{Bytes, WrittenParams};

use crate::config::Settings;
use crate::stats::Counters;
use crate::wire::MAX_MESSAGE;

/// What the machines share on one worker.
pub struct Shared<'a> {
    pub statements: &'a mut Statements,
    pub params: &'a mut ParamTable,
    pub counters: &'a Counters,
    pub pins: &'a Pins,
    pub suspects: &'a Watchlist,
    pub values: &'a Values,
    pub bounds: Bounds,
}

/// What the configuration allows of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of a message, as its header counts it.
    pub longest: u32,
    /// The simple query protocol (`disable_pqexec`).
    pub simple_queries: bool,
}

impl Default for Bounds {
    /// What PostgreSQL allows.
    fn default() -> Self {
        Bounds {
            longest: MAX_MESSAGE as u32,
            simple_queries: true,
        }
    }
}

impl From<&Settings> for Bounds {
    fn from(settings: &Settings) -> Self {
        // Of the whole message, the type included.
        let longest = settings.max_packet_size.saturating_sub(1);
        Bounds {
            longest: longest.min(MAX_MESSAGE as u32),
            simple_queries: !settings.disable_pqexec,
        }
    }
}
