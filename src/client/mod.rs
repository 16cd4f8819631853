//! One client: startup, login, session, cancel.

pub mod auth;
mod cancel;
mod farewell;
mod identity;
mod info;
mod login;
mod lookup;
mod moving;
mod proxy;
mod relay;
mod replication;
mod session;
mod startup;
mod taken;
mod task;

use std::mem::size_of;

pub use cancel::{Outcome, find_and_cancel};
pub use farewell::address;
pub use info::{CancelKey, ClientInfo, Order, Party};
pub use moving::{Arrival, WrittenClient, arrive};
pub use startup::serve;
pub use taken::take;

/// What an idle client takes in bytes: its task, and what others may know of it.
pub const SIZE: usize = size_of::<task::Task>() + size_of::<ClientInfo>();
/// The same for somebody at the console, or one who is logging in.
pub const LOGIN_SIZE: usize = size_of::<ClientInfo>();
