//! SHOW PEERS and SHOW PEER_POOLS.

use crate::admin::table::Type::{Int4, Text};
use crate::admin::table::{Column, Table, row};
use crate::admin::view::ConsoleView;

const PEERS: [Column; 4] = [
    ("peer_id", Int4),
    ("host", Text),
    ("port", Int4),
    ("pool_size", Int4),
];

const PEER_POOLS: [Column; 5] = [
    ("peer_id", Int4),
    ("cl_active_cancel_req", Int4),
    ("cl_waiting_cancel_req", Int4),
    ("sv_active_cancel", Int4),
    ("sv_login", Int4),
];

/// The configured peers, by number.
pub fn peers(view: &ConsoleView) -> Table<'_> {
    let rows = view.peers.iter().map(|peer| {
        row![
            peer.peer_id,
            peer.host.as_deref(),
            peer.port,
            peer.pool_size,
        ]
    });
    Table {
        columns: &PEERS,
        rows: rows.collect(),
    }
}

/// A peer has a pool once a cancel request was handed on to it, which none is.
pub fn peer_pools() -> Table<'static> {
    Table {
        columns: &PEER_POOLS,
        rows: Vec::new(),
    }
}
