//! Connections that have not logged in, as SHOW SOCKETS has them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::admin::snapshot::{ClientState, SocketRow};
use crate::net::{PeerAddr, Stream};
use crate::sql::effects::Features;

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
        SocketRow {
            id,
            user: "(nouser)".to_owned(),
            database: "(nodb)".to_owned(),
            replication: None,
            state: match self.cancels {
                true => ClientState::CancelRequest,
                false => ClientState::Login,
            },
            addr: self.peer.host(),
            port: self.peer.port(),
            local_addr: self.local.host(),
            local_port: self.local.port(),
            connect_time: self.since,
            request_time: self.since,
            wait: Duration::ZERO,
            close_needed: false,
            link: None,
            remote_pid: self.peer_pid,
            encryption: None,
            application_name: String::new(),
            prepared_statements: 0,
            pins: Features::empty(),
            worker,
            held: 0,
            unsent: 0,
            fd: self.descriptor,
            variables: Arc::default(),
        }
    }
}
