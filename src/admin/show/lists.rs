//! SHOW LISTS.

use crate::admin::snapshot::{ClientState, Snapshot};
use crate::admin::table::Type::{Int4, Text};
use crate::admin::table::{Column, Table, row};
use crate::admin::view::ConsoleView;

const COLUMNS: [Column; 2] = [("list", Text), ("items", Int4)];

/// How many there are of everything. `databases`, `users` and `pools` count
/// the console's own. Memory is not kept for clients and servers that are not
/// there, so none are ever `free`; the system that looks names up tells nothing of
/// zones.
pub fn lists<'a>(snapshot: &'a Snapshot, view: &'a ConsoleView) -> Table<'a> {
    let logged_in = snapshot
        .clients
        .iter()
        .filter(|client| client.state != ClientState::Login)
        .count();
    let own_user = view.users.iter().all(|user| user.name != super::CONSOLE);
    let lists = [
        ("databases", view.databases.len() + 1),
        ("users", view.users.len() + usize::from(own_user)),
        ("peers", snapshot.peers.len()),
        ("pools", snapshot.pools.len() + 1),
        ("peer_pools", snapshot.peers.len()),
        ("free_clients", 0),
        ("used_clients", logged_in + snapshot.login_clients),
        ("login_clients", snapshot.login_clients),
        ("free_servers", 0),
        ("used_servers", snapshot.servers.len()),
        ("dns_names", view.names.len()),
        ("dns_zones", 0),
        ("dns_queries", view.lookups),
        ("dns_pending", 0),
    ];
    Table {
        columns: &COLUMNS,
        rows: lists
            .into_iter()
            .map(|(list, items)| row![list, items])
            .collect(),
    }
}
