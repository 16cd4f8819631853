//! Connections that have not logged in, as SHOW SOCKETS has them.

use std::time::SystemTime;

use crate::admin::snapshot::{ClientState, SocketRow};
use crate::net::{Addresses, Stream};

/// What is known of one.
#[derive(Debug)]
pub struct Login {
    addresses: Addresses,
    peer_pid: u32,
    descriptor: Option<i32>,
    since: SystemTime,
    /// It turned out to be a cancel request.
    pub cancels: bool,
}

impl Login {
    pub fn new(stream: &Stream, addresses: Addresses) -> Login {
        Login {
            addresses,
            peer_pid: stream.peer_pid(),
            descriptor: stream.descriptor(),
            since: SystemTime::now(),
            cancels: false,
        }
    }

    pub fn row(&self, id: u64, worker: usize) -> SocketRow<ClientState> {
        let state = match self.cancels {
            true => ClientState::CancelRequest,
            false => ClientState::Login,
        };
        let Addresses { peer, local } = self.addresses;
        SocketRow {
            user: "(nouser)".to_owned(),
            database: "(nodb)".to_owned(),
            addr: peer.host(),
            port: peer.port(),
            local_addr: local.host(),
            local_port: local.port(),
            remote_pid: self.peer_pid,
            worker,
            fd: self.descriptor,
            ..SocketRow::new(id, state, self.since)
        }
    }
}
