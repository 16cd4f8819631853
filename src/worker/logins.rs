//! Connections that have not logged in, as SHOW SOCKETS has them.

use std::time::SystemTime;

use crate::admin::snapshot::{ClientState, SocketRow};
use crate::net::{PeerAddr, Stream};

/// What is known of one.
#[derive(Debug)]
pub struct Login {
    peer: PeerAddr,
    local: PeerAddr,
    peer_pid: u32,
    descriptor: Option<i32>,
    since: SystemTime,
    /// It turned out to be a cancel request.
    pub cancels: bool,
}

impl Login {
    pub fn new(stream: &Stream) -> Login {
        Login {
            peer: stream.peer_addr(),
            local: stream.local_addr(),
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
        SocketRow {
            user: "(nouser)".to_owned(),
            database: "(nodb)".to_owned(),
            addr: self.peer.host(),
            port: self.peer.port(),
            local_addr: self.local.host(),
            local_port: self.local.port(),
            remote_pid: self.peer_pid,
            worker,
            fd: self.descriptor,
            ..SocketRow::new(id, state, self.since)
        }
    }
}
