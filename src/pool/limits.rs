//! How many server connections there may be.

use std::time::Duration;

/// Which shared bound is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedBound {
    /// `max_db_connections`
    Database,
    /// `max_user_connections`
    User,
}

/// A pool's own bounds. Sizes of 0 = no bound; timeouts of `None` = never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub pool_size: u32,
    pub min_pool_size: u32,
    pub reserve_pool_size: u32,
    pub reserve_pool_timeout: Option<Duration>,
    pub query_wait_timeout: Option<Duration>,
    pub query_wait_notify: Option<Duration>,
    pub server_idle_timeout: Option<Duration>,
    pub server_lifetime: Option<Duration>,
    /// Take the connection that was idle longest instead of shortest.
    pub round_robin: bool,
}
