//! SHOW USERS.

use std::collections::HashMap;

use crate::admin::snapshot::{ClientState, Snapshot};
use crate::admin::table::Type::{Int4, Text};
use crate::admin::table::{Column, Table, row};
use crate::admin::view::{ConsoleView, UserRow};
use crate::config::PoolMode;

const COLUMNS: [Column; 8] = [
    ("name", Text),
    ("pool_size", Text),
    ("reserve_pool_size", Text),
    ("pool_mode", Text),
    ("max_user_connections", Int4),
    ("current_connections", Int4),
    ("max_user_client_connections", Int4),
    ("current_client_connections", Int4),
];

/// Every known user and the console's own, by name. Server connections count
/// for the user of their pool, clients for the user they logged in as.
pub fn users<'a>(snapshot: &'a Snapshot, view: &'a ConsoleView) -> Table<'a> {
    let mut servers: HashMap<&str, usize> = HashMap::new();
    for pool in &snapshot.pools {
        *servers.entry(&pool.user).or_default() += pool.servers();
    }
    let mut clients: HashMap<&str, usize> = HashMap::new();
    for client in &snapshot.clients {
        if client.state != ClientState::Login {
            *clients.entry(&client.user).or_default() += 1;
        }
    }
    let console = &view.console.1;
    // Somebody may well have a user of this name in the list.
    let own = view.users.iter().all(|user| user.name != console.name);
    let mut users: Vec<&UserRow> = view.users.iter().chain(own.then_some(console)).collect();
    users.sort_by_key(|user| &user.name);
    let rows = users
        .into_iter()
        .map(|user| {
            row![
                user.name.clone(),
                size(user.pool_size),
                size(user.reserve_pool_size),
                user.pool_mode.map(PoolMode::as_str),
                user.max_user_connections,
                servers.get(user.name.as_str()).copied().unwrap_or(0),
                user.max_user_client_connections,
                clients.get(user.name.as_str()).copied().unwrap_or(0),
            ]
        })
        .collect();
    Table {
        columns: &COLUMNS,
        rows,
    }
}

/// PgBouncer has these two as text, nine wide, and empty where not set.
fn size(size: Option<u32>) -> String {
    size.map_or(String::new(), |size| format!("{size:9}"))
}
