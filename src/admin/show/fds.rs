//! SHOW FDS. PgBouncer sends the descriptors themselves along, and with them cancel
//! keys and passwords: its `-R` takes them over. Here they go another way
//! (`process/handover.rs`), and secrets are shown to nobody.

use std::collections::HashMap;

use super::sockets::by_id;
use crate::admin::snapshot::{ClientState, Snapshot, SocketRow};
use crate::admin::table::Type::{Bytea, Int4, Int8, Text};
use crate::admin::table::{Column, Table, Value, row};
use crate::admin::view::{ConsoleView, ListenerRow};

const COLUMNS: [Column; 15] = [
    ("fd", Int4),
    ("task", Text),
    ("user", Text),
    ("database", Text),
    ("addr", Text),
    ("port", Int4),
    ("cancel", Int8),
    ("link", Int4),
    ("client_encoding", Text),
    ("std_strings", Text),
    ("datestyle", Text),
    ("timezone", Text),
    ("password", Text),
    ("scram_client_key", Bytea),
    ("scram_server_key", Bytea),
];

/// Listening sockets, clients that log in, clients, server connections. As in
/// PgBouncer none with TLS at either end, and not the console's.
pub fn fds<'a>(snapshot: &'a Snapshot, view: &'a ConsoleView) -> Table<'a> {
    let clients = snapshot.clients.iter().map(|row| (row.id, row.fd));
    let servers = snapshot.servers.iter().map(|row| (row.id, row.fd));
    let known: HashMap<u64, Option<i32>> = clients.chain(servers).collect();
    let mut rows: Vec<_> = view.listeners.iter().map(listener).collect();
    let is_login = |row: &&SocketRow<ClientState>| row.state == ClientState::Login;
    let logins = by_id(&snapshot.clients).filter(is_login);
    let clients = by_id(&snapshot.clients).filter(|row| {
        let of_console = row.database == super::CONSOLE;
        !of_console && !matches!(row.state, ClientState::Login | ClientState::CancelRequest)
    });
    rows.extend(
        logins
            .chain(clients)
            .filter_map(|row| socket("client", row, &known)),
    );
    rows.extend(by_id(&snapshot.servers).filter_map(|row| socket("server", row, &known)));
    Table {
        columns: &COLUMNS,
        rows,
    }
}

fn listener(listener: &ListenerRow) -> Vec<Value<'_>> {
    let mut row = row![
        listener.fd as u32,
        "pooler",
        Value::Null,
        Value::Null,
        listener.addr.as_str(),
        listener.port,
        0u32,
        0u32,
    ];
    row.resize(COLUMNS.len(), Value::Null);
    row
}

/// `None`: there is more to it, or to what it is linked with, than a descriptor.
fn socket<'a, S>(
    task: &'static str,
    socket: &'a SocketRow<S>,
    known: &HashMap<u64, Option<i32>>,
) -> Option<Vec<Value<'a>>> {
    let link = match socket.link {
        Some(id) => known.get(&id).copied().flatten()?,
        None => 0,
    };
    let variables = &socket.variables;
    let mut row = row![
        socket.fd? as u32,
        task,
        socket.user.as_str(),
        socket.database.as_str(),
        socket.addr.as_str(),
        socket.port,
        0u32,
        link as u32,
        variables.client_encoding.as_str(),
        variables.standard_conforming_strings.as_str(),
        variables.datestyle.as_str(),
        variables.timezone.as_str(),
    ];
    row.resize(COLUMNS.len(), Value::Null);
    Some(row)
}
