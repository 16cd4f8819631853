//! Other processes behind the same address: a cancel request for a client of
//! theirs is handed on to them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::cancel;
use super::dial::{self, DialError};
use crate::admin::snapshot::PeerRow;
use crate::config::{Config, Host, TcpConfig};
use crate::net::dns::Dns;
use crate::reactor;

/// The peers of a configuration, by number. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Peers(BTreeMap<u32, Arc<Peer>>);

/// One of them, with what is under way to it from all workers.
#[derive(Debug)]
pub struct Peer {
    host: Host,
    pool_size: u32,
    permits: Semaphore,
    waiting: AtomicUsize,
    connecting: AtomicUsize,
    sent: AtomicUsize,
}

impl Peers {
    /// Those that are as before keep what is under way.
    pub fn new(config: &Config, old: Option<&Peers>) -> Peers {
        let one = |id: u32| {
            let (host, pool_size) = config.peer(id)?;
            let known = old.and_then(|old| old.get(id));
            let same = known.filter(|peer| (&peer.host, peer.pool_size) == (&host, pool_size));
            let peer = match same {
                Some(peer) => peer.clone(),
                None => Arc::new(Peer::new(host, pool_size)),
            };
            Some((id, peer))
        };
        Peers(config.peers.keys().copied().filter_map(one).collect())
    }

    pub fn get(&self, id: u32) -> Option<&Arc<Peer>> {
        self.0.get(&id)
    }

    /// What the console shows.
    pub fn rows(&self) -> Vec<PeerRow> {
        let row = |(id, peer): (&u32, &Arc<Peer>)| {
            let (host, port) = match &peer.host {
                Host::Tcp { host, port } => (host.clone(), *port),
                Host::Unix { dir, port } => (dir.clone(), *port),
            };
            let sent = peer.sent.load(Ordering::Relaxed);
            PeerRow {
                peer_id: *id,
                host,
                port,
                pool_size: peer.pool_size,
                cl_active_cancel_req: sent,
                cl_waiting_cancel_req: peer.waiting.load(Ordering::Relaxed),
                sv_active_cancel: sent,
                sv_login: peer.connecting.load(Ordering::Relaxed),
            }
        };
        self.0.iter().map(row).collect()
    }
}

impl Peer {
    fn new(host: Host, pool_size: u32) -> Peer {
        let most = match pool_size {
            0 => Semaphore::MAX_PERMITS,
            size => size as usize,
        };
        Peer {
            host,
            pool_size,
            permits: Semaphore::new(most),
            waiting: AtomicUsize::new(0),
            connecting: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
        }
    }

    /// Hands a cancel request on, at most `pool_size` at a time, and waits until
    /// the peer has dealt with it: it closes the connection then. Not encrypted, as
    /// PgBouncer and libpq do it. Cancel safe.
    ///
    /// # Errors
    /// The peer cannot be reached, or `limit` is over.
    pub async fn hand_on(
        &self,
        (pid, key): (u32, &[u8]),
        (tcp, dns): (&TcpConfig, &Arc<Dns>),
        limit: Option<Duration>,
    ) -> Result<(), DialError> {
        let request = async {
            let waiting = Counted::new(&self.waiting);
            // Never closed.
            let _permit = self.permits.acquire().await.map_err(io::Error::other)?;
            drop(waiting);
            let connecting = Counted::new(&self.connecting);
            let mut stream = dial::connect_plain(&self.host, tcp, dns).await?;
            drop(connecting);
            let _sent = Counted::new(&self.sent);
            stream.write_all(&cancel::packet(pid, key)).await?;
            // Nothing is ever answered; only the end is of interest.
            let mut nothing = [0; 16];
            while stream.read(&mut nothing).await? > 0 {}
            Ok(())
        };
        match limit {
            Some(limit) => reactor::timeout(limit, request)
                .await
                .unwrap_or_else(|late| Err(io::Error::from(late).into())),
            None => request.await,
        }
    }
}

/// Counts until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
