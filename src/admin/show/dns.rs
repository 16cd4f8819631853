//! SHOW DNS_HOSTS and SHOW DNS_ZONES. Names are looked up by the system, which
//! tells nothing of zones.

use std::net::SocketAddr;

use crate::admin::table::Type::{Int4, Int8, Text};
use crate::admin::table::{Column, Table, row};
use crate::admin::view::ConsoleView;
use crate::net::dns::DnsHost;

const HOSTS: [Column; 3] = [("hostname", Text), ("ttl", Int8), ("addrs", Text)];

const ZONES: [Column; 3] = [("zonename", Text), ("serial", Int8), ("count", Int4)];

/// Names of servers that are known, with their addresses (ports are of no
/// meaning, as in PgBouncer) and for how many seconds these are used.
pub fn hosts(view: &ConsoleView) -> Table<'_> {
    let addresses = |host: &DnsHost| {
        let texts: Vec<_> = host.addresses.iter().map(SocketAddr::to_string).collect();
        texts.join(",")
    };
    let rows = view.names.iter();
    Table {
        columns: &HOSTS,
        rows: rows
            .map(|host| row![host.name.as_str(), host.ttl.as_secs(), addresses(host)])
            .collect(),
    }
}

/// Zones whose serial number is watched.
pub fn zones() -> Table<'static> {
    Table {
        columns: &ZONES,
        rows: Vec::new(),
    }
}
