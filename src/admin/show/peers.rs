//! SHOW PEERS and SHOW PEER_POOLS.

use crate::admin::snapshot::Snapshot;
use crate::admin::table::Type::{Int4, Text};
use crate::admin::table::{Column, Table, row};

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
pub fn peers(snapshot: &Snapshot) -> Table<'_> {
    let rows = snapshot
        .peers
        .iter()
        .map(|peer| row![peer.peer_id, peer.host.as_str(), peer.port, peer.pool_size,]);
    Table {
        columns: &PEERS,
        rows: rows.collect(),
    }
}

/// Cancel requests that are being handed on to them.
pub fn peer_pools(snapshot: &Snapshot) -> Table<'_> {
    let rows = snapshot.peers.iter().map(|peer| {
        row![
            peer.peer_id,
            peer.cl_active_cancel_req,
            peer.cl_waiting_cancel_req,
            peer.sv_active_cancel,
            peer.sv_login,
        ]
    });
    Table {
        columns: &PEER_POOLS,
        rows: rows.collect(),
    }
}
