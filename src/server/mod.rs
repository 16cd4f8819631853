//! One connection to PostgreSQL.

pub mod login;
pub mod login_error;
