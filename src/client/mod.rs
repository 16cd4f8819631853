//! One client: startup, login, session, cancel.

pub mod auth;
mod cancel;
mod farewell;
mod info;
mod login;
mod session;
mod startup;
mod task;

pub use cancel::cancel;
pub use info::{CancelKey, ClientInfo, Order, Party};
pub use startup::serve;
