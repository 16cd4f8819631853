//! Cancel requests to servers.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::{self, DialError};
use super::lease::ServerInfo;
use super::pool::Pool;
use crate::config::TcpConfig;
use crate::reactor;
use crate::worker::hashing::Hashing;

/// Code of a CancelRequest packet (src/include/libpq/pqcomm.h).
const CANCEL_REQUEST_CODE: u32 = 80_877_102;

/// Asks the server to cancel what this connection is running, and waits until
/// it has passed the signal on: it closes the socket after that
/// (backend_startup.c, `ProcessCancelRequestPacket`). Until then the
/// connection counts as having a cancel under way, so that nobody else gets
/// it. `limit` bounds the wait; if it was too short, the request may still
/// arrive at any time, so the connection is closed when it is released. The
/// request is encrypted if the connection is. `told`: whose log has the connection
/// that brings it, if a client has asked for it.
pub async fn cancel(
    info: &Rc<ServerInfo>,
    told: Option<&Pool>,
    tcp: &TcpConfig,
    hashing: &Hashing,
    limit: Option<Duration>,
) -> Result<(), DialError> {
    let Some(key) = &info.key else {
        return Ok(());
    };
    if info.cancels.get() >= MOST_AT_ONCE {
        return Ok(());
    }
    let _under_way = UnderWay::new(info.clone());
    let sent = Cell::new(false);
    let logged = Cell::new(None);
    let request = async {
        let encrypted = info.encryption.map(|_| &*info.connector);
        let place = (&info.host, info.peer);
        let mut stream = dial::connect_again(place, tcp, encrypted, hashing).await?;
        if let Some(pool) = told {
            logged.set(pool.log_cancel(&info.host, stream.local_addr()));
        }
        let packet = packet(key.pid as u32, &key.secret);
        sent.set(true);
        stream.write_all(&packet).await?;
        // Nothing is ever answered; only the end is of interest.
        let mut nothing = [0; 16];
        while stream.read(&mut nothing).await? > 0 {}
        Ok(())
    };
    let result = match limit {
        Some(limit) => reactor::timeout(limit, request)
            .await
            .unwrap_or_else(|late| Err(io::Error::from(late).into())),
        None => request.await,
    };
    if let (Some(pool), Some((id, begun))) = (told, logged.get()) {
        let reason = match result {
            Ok(()) => "successfully sent cancel request",
            Err(_) => "server conn crashed?",
        };
        pool.log_close(id, &info.host, reason, begun);
    }
    if result.is_err() && sent.get() {
        info.close_needed.set(true);
    }
    result
}

/// A CancelRequest.
pub fn packet(pid: u32, key: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend_from_slice(&(12 + key.len() as u32).to_be_bytes());
    packet.extend_from_slice(&CANCEL_REQUEST_CODE.to_be_bytes());
    packet.extend_from_slice(&pid.to_be_bytes());
    packet.extend_from_slice(key);
    packet
}

/// Requests for one connection that may be under way together: a client that
/// sends one after the other without end does not open as many connections.
/// All in all that is PgBouncer's bound, twice `pool_size`.
const MOST_AT_ONCE: u32 = 2;

struct UnderWay(Rc<ServerInfo>);

impl UnderWay {
    fn new(info: Rc<ServerInfo>) -> Self {
        info.cancels.set(info.cancels.get() + 1);
        UnderWay(info)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.cancels.set(self.0.cancels.get() - 1);
        self.0.cancels_over.notify_waiters();
    }
}
