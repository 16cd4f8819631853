//! SHOW CLIENTS and SHOW SERVERS.

use std::time::SystemTime;

use crate::admin::snapshot::{ClientState, ServerState, Snapshot, SocketRow};
use crate::admin::table::Type::{Int4, Text};
use crate::admin::table::{Column, Table, Value, row};

const COLUMNS: [Column; 21] = [
    ("type", Text),
    ("user", Text),
    ("database", Text),
    ("replication", Text),
    ("state", Text),
    ("addr", Text),
    ("port", Int4),
    ("local_addr", Text),
    ("local_port", Int4),
    ("connect_time", Text),
    ("request_time", Text),
    ("wait", Int4),
    ("wait_us", Int4),
    ("close_needed", Int4),
    ("ptr", Text),
    ("link", Text),
    ("remote_pid", Int4),
    ("tls", Text),
    ("application_name", Text),
    ("prepared_statements", Int4),
    ("id", Int4),
];

/// Clients that have logged in, the console's among them.
pub fn clients(snapshot: &Snapshot) -> Table<'_> {
    table("C", &snapshot.clients, |state| match state {
        // Seen in SHOW LISTS only.
        ClientState::Login => None,
        ClientState::Idle => Some("idle"),
        ClientState::Active => Some("active"),
        ClientState::Waiting => Some("waiting"),
    })
}

/// Server connections in every state.
pub fn servers(snapshot: &Snapshot) -> Table<'_> {
    table("S", &snapshot.servers, |state| {
        Some(match state {
            ServerState::Active => "active",
            ServerState::Idle => "idle",
            ServerState::Used => "used",
            ServerState::Tested => "tested",
            ServerState::New => "new",
            ServerState::BeingCanceled => "being_canceled",
        })
    })
}

fn table<'a, S: Copy>(
    kind: &'static str,
    sockets: &'a [SocketRow<S>],
    state: impl Fn(S) -> Option<&'static str>,
) -> Table<'a> {
    let mut sockets: Vec<_> = sockets.iter().collect();
    sockets.sort_by_key(|socket| socket.id);
    let rows = sockets
        .into_iter()
        .filter_map(|socket| Some(socket_row(kind, state(socket.state)?, socket)))
        .collect();
    Table {
        columns: &COLUMNS,
        rows,
    }
}

fn socket_row<'a, S>(
    kind: &'static str,
    state: &'static str,
    socket: &'a SocketRow<S>,
) -> Vec<Value<'a>> {
    row![
        kind,
        socket.user.as_str(),
        socket.database.as_str(),
        "none",
        state,
        socket.addr.as_str(),
        socket.port,
        socket.local_addr.as_str(),
        socket.local_port,
        timestamp(socket.connect_time),
        timestamp(socket.request_time),
        socket.wait.as_secs(),
        socket.wait.subsec_micros(),
        socket.close_needed,
        pointer(socket.id),
        socket.link.map_or(String::new(), pointer),
        socket.remote_pid,
        socket
            .encryption
            .map_or(String::new(), |tls| tls.to_string()),
        socket.application_name.as_str(),
        socket.prepared_statements,
        // The column is an int4: the id of the 2^31st connection starts anew.
        socket.id & i32::MAX as u64,
    ]
}

/// PgBouncer shows addresses in memory, which tools use to join `ptr` with
/// `link`; the id does the same.
fn pointer(id: u64) -> String {
    format!("{id:#x}")
}

/// `2026-11-20 21:43:11 UTC`.
pub fn timestamp(time: SystemTime) -> String {
    let rfc3339 = humantime::format_rfc3339_seconds(time).to_string();
    rfc3339.replacen('T', " ", 1).replacen('Z', " UTC", 1)
}
