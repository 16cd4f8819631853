//! SHOW CLIENTS, SERVERS, SOCKETS and ACTIVE_SOCKETS.

use std::time::SystemTime;

use crate::admin::snapshot::{ClientState, ServerState, Snapshot, SocketRow};
use crate::admin::table::Type::{Int4, Text};
use crate::admin::table::{Column, Table, Value, row};
use crate::sql::effects::Features;
use crate::wire::startup::Replication;

/// Those of SHOW SERVERS, then those of SHOW SOCKETS and SHOW ACTIVE_SOCKETS.
const COLUMNS: [Column; 28] = [
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
    ("recv_pos", Int4),
    ("pkt_pos", Int4),
    ("pkt_remain", Int4),
    ("send_pos", Int4),
    ("send_remain", Int4),
    ("pkt_avail", Int4),
    ("send_avail", Int4),
];

/// How many of them SHOW SERVERS has.
const PLAIN: usize = 21;

/// Those of SHOW CLIENTS: PgBouncer has no `pin_reason` and no `channels`.
const OF_CLIENTS: [Column; PLAIN + 2] = {
    let mut columns = [("pin_reason", Text); PLAIN + 2];
    columns[PLAIN + 1] = ("channels", Int4);
    let mut at = 0;
    while at < PLAIN {
        columns[at] = COLUMNS[at];
        at += 1;
    }
    columns
};

/// Clients that have logged in, the console's among them, and cancel requests.
pub fn clients(snapshot: &Snapshot) -> Table<'_> {
    let logged_in = |row: &&SocketRow<ClientState>| row.state != ClientState::Login;
    let rows = by_id(&snapshot.clients).filter(logged_in);
    let word = |row: &SocketRow<ClientState>| match row.state {
        ClientState::Login => "login",
        ClientState::Waiting => "waiting",
        ClientState::CancelRequest => "active_cancel_req",
        // PgBouncer calls the console's clients so, whatever they do.
        ClientState::Active if row.link.is_none() => "idle",
        ClientState::Active => "active",
        ClientState::Idle => "idle",
    };
    let with_own = |row| {
        let mut values = socket_row("C", word(row), PLAIN, row);
        values.extend(row![pin_reason(row.pins), row.channels]);
        values
    };
    Table {
        columns: &OF_CLIENTS,
        rows: rows.map(with_own).collect(),
    }
}

/// What keeps a client at its server connection.
fn pin_reason(pins: Features) -> String {
    let labels: Vec<_> = pins.iter().map(Features::label).collect();
    labels.join(", ")
}

/// Server connections in every state.
pub fn servers(snapshot: &Snapshot) -> Table<'_> {
    let word = |state| match state {
        ServerState::Active => "active",
        ServerState::Idle => "idle",
        ServerState::Used => "used",
        ServerState::Tested => "tested",
        ServerState::New => "new",
        ServerState::BeingCanceled => "being_canceled",
        ServerState::Listening => "listening",
    };
    let rows = by_id(&snapshot.servers);
    Table {
        columns: &COLUMNS[..PLAIN],
        rows: rows
            .map(|row| socket_row("S", word(row.state), PLAIN, row))
            .collect(),
    }
}

/// Clients, then server connections, then clients that are logging in.
pub fn sockets(snapshot: &Snapshot) -> Table<'_> {
    detailed(snapshot, |_| true, |_| true)
}

/// Those of them for which something is under way.
pub fn active_sockets(snapshot: &Snapshot) -> Table<'_> {
    detailed(
        snapshot,
        |client| client.state != ClientState::Idle,
        |server| {
            use ServerState::{Idle, Listening, Used};
            !matches!(server.state, Idle | Used | Listening)
        },
    )
}

fn detailed(
    snapshot: &Snapshot,
    client: impl Fn(&SocketRow<ClientState>) -> bool,
    server: impl Fn(&SocketRow<ServerState>) -> bool,
) -> Table<'_> {
    let (logins, clients): (Vec<_>, Vec<_>) = by_id(&snapshot.clients)
        // PgBouncer leaves them out here.
        .filter(|row| row.state != ClientState::CancelRequest && client(row))
        .partition(|row| row.state == ClientState::Login);
    let servers = by_id(&snapshot.servers).filter(|row| server(row));
    let server_word = |state| match state {
        // Kept from other clients, as an active one is.
        ServerState::Active | ServerState::BeingCanceled => "sv_active",
        ServerState::Idle => "sv_idle",
        ServerState::Used => "sv_used",
        ServerState::Tested => "sv_tested",
        ServerState::New => "sv_login",
        ServerState::Listening => "sv_listening",
    };
    let all = COLUMNS.len();
    let mut rows = Vec::new();
    for row in clients {
        let word = match row.state {
            ClientState::Waiting => "cl_waiting",
            _ => "cl_active",
        };
        rows.push(socket_row("C", word, all, row));
    }
    for row in servers {
        rows.push(socket_row("S", server_word(row.state), all, row));
    }
    for row in logins {
        rows.push(socket_row("C", "cl_login", all, row));
    }
    Table {
        columns: &COLUMNS,
        rows,
    }
}

/// In the order in which they came.
pub(super) fn by_id<S>(rows: &[SocketRow<S>]) -> impl Iterator<Item = &SocketRow<S>> {
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_key(|row| row.id);
    rows.into_iter()
}

fn socket_row<'a, S>(
    kind: &'static str,
    state: &'static str,
    columns: usize,
    socket: &'a SocketRow<S>,
) -> Vec<Value<'a>> {
    let mut row = row![
        kind,
        socket.user.as_str(),
        socket.database.as_str(),
        match socket.replication {
            None => "none",
            Some(Replication::Physical) => "physical",
            Some(Replication::Logical) => "logical",
        },
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
        // Where PgBouncer's buffer of the socket is being filled and emptied. There
        // is none here: only what could not be passed on at once is kept.
        socket.held,
        0u32,
        socket.rest,
        0u32,
        0u32,
        socket.held,
        socket.unsent,
    ];
    row.truncate(columns);
    row
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
