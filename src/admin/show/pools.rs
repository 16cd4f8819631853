//! SHOW POOLS.

use super::CONSOLE;
use crate::admin::snapshot::{ClientState, Snapshot};
use crate::admin::table::Type::{Int4, Text};
use crate::admin::table::{Column, Table, row};

const COLUMNS: [Column; 17] = [
    ("database", Text),
    ("user", Text),
    ("cl_active", Int4),
    ("cl_waiting", Int4),
    ("cl_active_cancel_req", Int4),
    ("cl_waiting_cancel_req", Int4),
    ("sv_active", Int4),
    ("sv_active_cancel", Int4),
    ("sv_being_canceled", Int4),
    ("sv_idle", Int4),
    ("sv_used", Int4),
    ("sv_tested", Int4),
    ("sv_login", Int4),
    ("maxwait", Int4),
    ("maxwait_us", Int4),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
];

/// Every pool, the console's own among them, by database and user.
pub fn pools(snapshot: &Snapshot) -> Table<'_> {
    let mut rows: Vec<_> = snapshot
        .pools
        .iter()
        .map(|pool| {
            let balance = if pool.load_balance_hosts {
                "round-robin"
            } else {
                "disable"
            };
            let cells = row![
                pool.database.as_str(),
                pool.user.as_str(),
                pool.cl_active,
                pool.cl_waiting,
                pool.cl_active_cancel_req,
                pool.cl_waiting_cancel_req,
                pool.sv_active,
                pool.sv_active_cancel,
                pool.sv_being_canceled,
                pool.sv_idle,
                pool.sv_used,
                pool.sv_tested,
                pool.sv_login,
                pool.maxwait.as_secs(),
                pool.maxwait.subsec_micros(),
                pool.pool_mode.as_str(),
                pool.several_hosts.then_some(balance),
            ];
            ((pool.database.as_str(), pool.user.as_str()), cells)
        })
        .collect();
    let consoles = snapshot
        .clients
        .iter()
        .filter(|client| client.database == CONSOLE && client.state != ClientState::Login)
        .count();
    let none: Option<&str> = None;
    let console = row![
        CONSOLE,
        CONSOLE,
        consoles,
        0u64,
        0u64,
        0u64,
        0u64,
        0u64,
        0u64,
        0u64,
        0u64,
        0u64,
        0u64,
        0u64,
        0u64,
        "statement",
        none,
    ];
    rows.push(((CONSOLE, CONSOLE), console));
    rows.sort_by_key(|(name, _)| *name);
    Table {
        columns: &COLUMNS,
        rows: rows.into_iter().map(|(_, cells)| cells).collect(),
    }
}
