//! One client: startup, login, session, cancel.

pub mod auth;
