//! SHOW HOSTS, which PgBouncer has not.

use super::sockets::timestamp;
use crate::admin::snapshot::Snapshot;
use crate::admin::table::Type::{Int4, Numeric, Text};
use crate::admin::table::{Column, Table, row};

const COLUMNS: [Column; 15] = [
    ("database", Text),
    ("host", Text),
    ("port", Int4),
    ("role", Text),
    ("state", Text),
    ("weight", Int4),
    ("reads", Numeric),
    ("refused_reads", Numeric),
    ("lost_reads", Numeric),
    ("outstanding", Int4),
    ("lag_bytes", Numeric),
    ("lag_us", Numeric),
    ("ejected_until", Text),
    ("failures", Numeric),
    ("reason", Text),
];

/// The servers of databases with `route_reads`, once a client has come.
pub fn hosts(snapshot: &Snapshot) -> Table<'_> {
    let rows = snapshot.hosts.iter().map(|host| {
        row![
            host.database.as_str(),
            host.host.as_str(),
            u64::from(host.port),
            host.role.word(),
            host.state.word(),
            u64::from(host.weight),
            host.reads,
            host.refused_reads,
            host.lost_reads,
            host.outstanding,
            host.lag,
            host.delay.as_micros() as u64,
            host.ejected_until.map(timestamp),
            host.failures,
            host.reason.as_str(),
        ]
    });
    Table {
        columns: &COLUMNS,
        rows: rows.collect(),
    }
}
