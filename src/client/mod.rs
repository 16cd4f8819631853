//! One client: startup, login, session, cancel.

pub mod auth;
mod cancel;
mod info;
mod login;
mod session;
mod startup;

pub use info::{ClientInfo, LONG_KEY, Order};
pub use startup::serve;
