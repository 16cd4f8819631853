//! SHOW DATABASES.

use std::collections::HashMap;

use crate::admin::snapshot::{ClientState, Snapshot};
use crate::admin::table::Type::{Int4, Text};
use crate::admin::table::{Column, Table, row};
use crate::admin::view::{ConsoleView, DatabaseRow};
use crate::config::PoolMode;

const COLUMNS: [Column; 17] = [
    ("name", Text),
    ("host", Text),
    ("port", Int4),
    ("database", Text),
    ("force_user", Text),
    ("pool_size", Int4),
    ("min_pool_size", Int4),
    ("reserve_pool_size", Int4),
    ("server_lifetime", Int4),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
    ("max_connections", Int4),
    ("current_connections", Int4),
    ("max_client_connections", Int4),
    ("current_client_connections", Int4),
    ("paused", Int4),
    ("disabled", Int4),
];

/// Every configured database and the console's own, by name.
pub fn databases<'a>(snapshot: &'a Snapshot, view: &'a ConsoleView) -> Table<'a> {
    let mut servers: HashMap<&str, usize> = HashMap::new();
    for pool in &snapshot.pools {
        *servers.entry(&pool.database).or_default() += pool.servers();
    }
    let mut clients: HashMap<&str, usize> = HashMap::new();
    for client in &snapshot.clients {
        if client.state != ClientState::Login {
            *clients.entry(&client.database).or_default() += 1;
        }
    }
    let mut databases: Vec<&DatabaseRow> = view.databases.iter().chain([&view.console.0]).collect();
    databases.sort_by_key(|database| &database.name);
    let rows = databases
        .into_iter()
        .map(|db| {
            row![
                db.name.clone(),
                db.host.clone(),
                db.port,
                db.database.clone(),
                db.force_user.clone(),
                db.pool_size,
                db.min_pool_size,
                db.reserve_pool_size,
                db.server_lifetime.as_secs(),
                db.pool_mode.map(PoolMode::as_str),
                db.load_balance_hosts,
                db.max_connections,
                servers.get(db.name.as_str()).copied().unwrap_or(0),
                db.max_client_connections,
                clients.get(db.name.as_str()).copied().unwrap_or(0),
                db.paused,
                db.disabled,
            ]
        })
        .collect();
    Table {
        columns: &COLUMNS,
        rows,
    }
}
