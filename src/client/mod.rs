//! One client: startup, login, session, cancel.

pub mod auth;
mod cancel;
mod info;
mod login;
mod session;
mod startup;

pub use info::{ClientInfo, Order};
pub use startup::serve;
