//! The wire: frames, message tags, startup packets, names inside messages.
//!
//! Nothing here allocates by a length that a peer claims, and nothing panics
//! on any bytes. PostgreSQL manual, "Frontend/Backend Protocol".

pub mod build;
pub mod cancel_key;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod names;
pub mod proxy;
pub mod row;
pub mod startup;
pub mod tag;
pub mod walk;

pub use frame::{FrameError, HEADER_LEN, Header, MAX_MESSAGE};
pub use tag::{BackendTag, FrontendTag, TxStatus};
