//! SHOW DNS_HOSTS and SHOW DNS_ZONES. Names are resolved when a connection is
//! opened, and not kept: there is nothing to show.

use crate::admin::table::Type::{Int4, Int8, Text};
use crate::admin::table::{Column, Table};

const HOSTS: [Column; 3] = [("hostname", Text), ("ttl", Int8), ("addrs", Text)];

const ZONES: [Column; 3] = [("zonename", Text), ("serial", Int8), ("count", Int4)];

/// Names that are known with their addresses.
pub fn hosts() -> Table<'static> {
    Table {
        columns: &HOSTS,
        rows: Vec::new(),
    }
}

/// Zones whose serial number is watched.
pub fn zones() -> Table<'static> {
    Table {
        columns: &ZONES,
        rows: Vec::new(),
    }
}
