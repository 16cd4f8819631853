//! How many server connections there may be.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// A bound that several pools share: `max_db_connections`,
/// `max_user_connections`. 0 = no bound.
#[derive(Debug, Default)]
pub struct SharedLimit {
    max: Cell<u32>,
    used: Cell<u32>,
}

impl SharedLimit {
    pub fn new(max: u32) -> Rc<Self> {
        Rc::new(SharedLimit {
            max: Cell::new(max),
            used: Cell::new(0),
        })
    }

    /// Changes the bound; connections above it are not closed.
    pub fn set_max(&self, max: u32) {
        self.max.set(max);
    }

    pub fn max(&self) -> u32 {
        self.max.get()
    }

    /// Connections that count against the bound now.
    pub fn used(&self) -> u32 {
        self.used.get()
    }

    pub(super) fn room(&self) -> u32 {
        match self.max.get() {
            0 => u32::MAX,
            max => max.saturating_sub(self.used.get()),
        }
    }

    pub(super) fn take(&self) {
        self.used.set(self.used.get() + 1);
    }

    pub(super) fn free(&self) {
        debug_assert!(self.used.get() > 0, "freed more than was taken");
        self.used.set(self.used.get().saturating_sub(1));
    }
}

/// A pool's own bounds. Sizes of 0 = no bound; timeouts of `None` = never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub pool_size: u32,
    pub min_pool_size: u32,
    pub reserve_pool_size: u32,
    pub reserve_pool_timeout: Option<Duration>,
    pub query_wait_timeout: Option<Duration>,
    pub server_idle_timeout: Option<Duration>,
    pub server_lifetime: Option<Duration>,
    /// Take the connection that was idle longest instead of shortest.
    pub round_robin: bool,
}
