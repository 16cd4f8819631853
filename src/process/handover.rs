//! A new process takes the place of a running one (`--reboot`).
//!
//! Every process with a Unix socket listens at a second one beside it, for
//! processes of its own user only.
//!
//! | new process | running process |
//! |---|---|
//! | connects | sends an [`Offer`] with its listening sockets |
//! | starts, listens at them | serves as before |
//! | says that it serves | removes the second socket, and says so |
//! | listens at a second socket | lets go of the sockets, and leaves as after SIGTERM |
//!
//! Both have the same sockets meanwhile, so nobody is ever refused. If the new
//! process fails before it serves, nothing has changed.
//!
//! A running PgBouncer is asked in its own way: see [`super::pgbouncer`].

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::pgbouncer::{Connections, PgBouncer, Running, Taken};
use super::{Handle, identity, link};
use crate::config::Settings;
use crate::flow::Texts;
use crate::net::descriptors;
use crate::net::listener::{self, Bound, UnixPath};
use crate::pool::Ledger;
use crate::server::written::WrittenName;

/// Of the messages: processes with another one cannot follow each other.
const FORMAT: u32 = 1;
/// How long a process may take to start, or to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a process may take until it can be replaced, and how often that is tried.
const SETTLING: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(50);

/// What the running process has, in the order of the files that come with it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Offer {
    format: u32,
    version: String,
    pid: u32,
    sockets: Vec<Kind>,
    /// What moves besides, if the other one knows it as well.
    #[serde(default)]
    moving: Option<Moving>,
    /// So many server connections its pools have.
    #[serde(default)]
    own: Vec<(WrittenName, u32)>,
}

/// Clients move with what they have. Numbers go on where they were, so that nothing
/// has the number of something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    format: u32,
    /// Of connections, and of prepared statements, that were given last.
    pub connection: u64,
    pub statement: u64,
}

/// The process that is replaced goes on to give numbers until its last client has
/// moved; these are kept for it.
const RESERVED: u64 = 1 << 20;

/// Where numbers come from.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    pub connections: Arc<AtomicU64>,
    pub statements: Arc<Texts>,
}

impl Numbers {
    /// Those of a process that takes the place of another one, or of none.
    pub fn following(moving: Option<Moving>) -> Numbers {
        let Some(moving) = moving else {
            return Numbers::default();
        };
        Numbers {
            connections: Arc::new(AtomicU64::new(moving.connection + RESERVED)),
            statements: Arc::new(Texts::beginning_after(moving.statement + RESERVED)),
        }
    }

    fn last(&self) -> Moving {
        Moving {
            format: link::FORMAT,
            connection: self.connections.load(Ordering::Relaxed),
            statement: self.statements.last_id(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Tcp,
    Unix {
        path: Option<PathBuf>,
    },
    /// The stats port, as the configuration writes it.
    Stats(String),
}

/// Copies of a process's listening sockets.
#[derive(Debug)]
pub struct Copies {
    sockets: Vec<(Kind, OwnedFd)>,
    numbers: Numbers,
    ledger: Arc<Ledger>,
}

impl Copies {
    pub fn new(
        listeners: &[Bound],
        stats: Option<(&str, &TcpListener)>,
        (numbers, ledger): (Numbers, Arc<Ledger>),
    ) -> io::Result<Copies> {
        let mut copies = Vec::new();
        for bound in listeners {
            copies.push(match bound {
                Bound::Tcp(socket, _) => (Kind::Tcp, socket.try_clone()?.into()),
                Bound::Unix(socket, path) => {
                    let path = path.get().cloned();
                    (Kind::Unix { path }, socket.try_clone()?.into())
                }
            });
        }
        if let Some((addr, socket)) = stats {
            let kind = Kind::Stats(addr.to_owned());
            copies.push((kind, socket.try_clone()?.into()));
        }
        Ok(Copies {
            sockets: copies,
            numbers,
            ledger,
        })
    }
}

/// Where a process says that it serves in our place.
fn meeting_place(general: &Settings) -> Option<String> {
    let dir = &general.unix_socket_dir;
    let port = general.listen_port;
    (!dir.is_empty()).then(|| format!("{dir}/.s.PGSQL.{port}.reboot"))
}

/// Waits for a process that wants to take our place, and offers it our sockets. Once
/// it serves, `handle` is told. Whoever stops waiting lets go of the copies.
///
/// Must be called inside a runtime.
pub fn wait_for_successor(
    general: &Settings,
    copies: Copies,
    handle: Handle,
) -> Option<JoinHandle<()>> {
    let place = meeting_place(general)?;
    let bound = listener::unix_at(&place, 0o600, None, 1);
    let listener = bound.map_err(anyhow::Error::from).and_then(|bound| {
        let Bound::Unix(listener, file) = bound else {
            bail!("it is not a Unix socket");
        };
        let listener = tokio::net::UnixListener::from_std(listener);
        Ok((listener.context("it is not known to the runtime")?, file))
    });
    match listener {
        Ok(listener) => Some(tokio::spawn(offer(listener, Arc::new(copies), handle))),
        Err(error) => {
            let reason = format!("{error:#}");
            warn!(reason, "this process cannot be replaced by --reboot");
            None
        }
    }
}

async fn offer(
    (listener, file): (tokio::net::UnixListener, UnixPath),
    copies: Arc<Copies>,
    handle: Handle,
) {
    let (successor, answer) = loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Most likely no descriptor is left.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        // Root is still to become our user.
        let trusted = [geteuid().as_raw(), 0];
        if !stream
            .peer_cred()
            .is_ok_and(|peer| trusted.contains(&peer.uid()))
        {
            continue;
        }
        let copies = copies.clone();
        let served = tokio::task::spawn_blocking(move || {
            let stream = stream.into_std()?;
            let answer = offer_to(&stream, &copies)?;
            Ok::<_, io::Error>((stream, answer))
        });
        match served.await {
            Ok(Ok(served)) => break served,
            Ok(Err(error)) => warn!(reason = %error, "a new process did not take over"),
            Err(_) => return,
        }
    };
    // Its file goes: the successor has one there.
    drop((listener, file));
    let clients = answer == TAKES_CLIENTS;
    handle.succeeded(Successor {
        stream: successor,
        clients,
    });
}

/// The process that takes our place, which serves clients.
#[derive(Debug)]
pub struct Successor {
    pub stream: UnixStream,
    /// It takes ours, too.
    pub clients: bool,
}

/// What a process says when it serves.
const SERVES: &[u8] = b"serving";
const TAKES_CLIENTS: &[u8] = b"serving, and takes clients";

/// Returns what the process there says when it serves clients.
fn offer_to(stream: &UnixStream, copies: &Copies) -> io::Result<Vec<u8>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let own = copies.ledger.own();
    let offer = Offer {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        sockets: copies
            .sockets
            .iter()
            .map(|(kind, _)| kind.clone())
            .collect(),
        moving: Some(copies.numbers.last()),
        own: own
            .iter()
            .map(|(name, count)| (name.into(), *count))
            .collect(),
    };
    let files: Vec<_> = copies
        .sockets
        .iter()
        .map(|(_, file)| file.as_fd())
        .collect();
    descriptors::send(stream, &serde_json::to_vec(&offer)?, &files)?;
    descriptors::receive(stream).map(|(serves, _)| serves)
}

/// What a new process has got from the one that it replaces.
#[derive(Debug)]
pub struct Inheritance {
    predecessor: Predecessor,
    pub listeners: Vec<Bound>,
    /// Whether the files of Unix sockets are ours already.
    ours: Arc<AtomicBool>,
    stats: Option<(String, TcpListener)>,
    /// Clients come as well.
    pub moving: Option<Moving>,
    own: Vec<(WrittenName, u32)>,
}

#[derive(Debug)]
enum Predecessor {
    Pgweir(UnixStream),
    PgBouncer(Box<PgBouncer>, Vec<Taken<OwnedFd>>, Vec<OwnedFd>),
}

/// Where the clients of the process come from that is replaced.
#[derive(Debug)]
pub enum Legacy {
    /// It keeps them.
    Nothing,
    /// They come one by one.
    Line(UnixStream),
    /// It has gone, and left them; and server connections that nobody holds.
    Estate(Vec<Taken<OwnedFd>>, Vec<OwnedFd>),
}

/// Asks the running process for its sockets; `None`: there is none.
///
/// # Errors
/// It cannot be replaced by this one.
pub fn inherit(general: &Settings) -> anyhow::Result<Option<Inheritance>> {
    let place = meeting_place(general).context("--reboot needs a unix_socket_dir")?;
    let begun = Instant::now();
    let predecessor = loop {
        if let Ok(predecessor) = listener::connect_unix(&place) {
            break predecessor;
        }
        match PgBouncer::suspend(general)? {
            Running::PgBouncer(found) => {
                return inherit_from_pgbouncer(*found, general).map(Some);
            }
            // It has just begun, and may not have let its own predecessor go yet.
            Running::Pgweir(_) if begun.elapsed() < SETTLING => thread::sleep(RETRY),
            Running::Pgweir(version) => {
                warn!(version, "the running process cannot be replaced");
                return Ok(None);
            }
            Running::Nobody => {
                // PgBouncer's words (src/main.c).
                info!("old process not found, try to continue normally");
                return Ok(None);
            }
        }
    };
    // In /tmp anybody can have such a socket.
    let user = getsockopt(&predecessor, PeerCredentials)?.uid();
    let ours = match general.user.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => identity::find(name)?.uid.as_raw(),
        None => geteuid().as_raw(),
    };
    ensure!(
        user == ours,
        "the running process is user {user}'s, not {ours}'s"
    );
    predecessor.set_read_timeout(Some(PATIENCE))?;
    let (offer, files) = descriptors::receive(&predecessor).context("no offer came")?;
    let offer: Offer = read_offer(&offer)?;
    ensure!(offer.sockets.len() == files.len(), "a socket is missing");
    info!(pid = offer.pid, version = offer.version, "taking over");
    let mut inheritance = Inheritance {
        predecessor: Predecessor::Pgweir(predecessor),
        listeners: Vec::new(),
        ours: Arc::default(),
        stats: None,
        moving: offer.moving.filter(|moving| moving.format == link::FORMAT),
        own: offer.own,
    };
    for (kind, file) in offer.sockets.into_iter().zip(files) {
        match kind {
            Kind::Tcp => inheritance.listeners.push(Bound::tcp(file.into())?),
            Kind::Unix { path } => {
                let path = UnixPath::inherited(path, &inheritance.ours);
                inheritance.listeners.push(Bound::unix(file.into(), path)?);
            }
            Kind::Stats(addr) => inheritance.stats = Some((addr, file.into())),
        }
    }
    Ok(Some(inheritance))
}

fn inherit_from_pgbouncer(
    (running, connections): (PgBouncer, Connections<OwnedFd>),
    general: &Settings,
) -> anyhow::Result<Inheritance> {
    let ours = Arc::default();
    let Connections {
        listeners,
        clients,
        servers,
        newcomers,
    } = connections;
    ensure!(!listeners.is_empty(), "PgBouncer does not listen");
    info!(
        clients = clients.len(),
        servers = servers.len(),
        newcomers,
        "PgBouncer is suspended"
    );
    let mut bound = Vec::new();
    for listener in listeners {
        bound.push(match listener.unix {
            false => Bound::tcp(listener.socket.into())?,
            true => {
                let (dir, port) = (&general.unix_socket_dir, general.listen_port);
                let file = (!dir.starts_with('@')).then(|| format!("{dir}/.s.PGSQL.{port}"));
                let path = UnixPath::inherited(file.map(PathBuf::from), &ours);
                Bound::unix(listener.socket.into(), path)?
            }
        });
    }
    Ok(Inheritance {
        predecessor: Predecessor::PgBouncer(Box::new(running), clients, servers),
        listeners: bound,
        ours,
        stats: None,
        moving: None,
        own: Vec::new(),
    })
}

fn read_offer(message: &[u8]) -> anyhow::Result<Offer> {
    #[derive(Deserialize)]
    struct Any {
        format: u32,
        version: String,
    }
    let Any { format, version } = serde_json::from_slice(message)?;
    if format != FORMAT {
        bail!(
            "the running process ({version}) hands over in format {format}, this one takes \
             {FORMAT}: stop it and start this one without --reboot"
        );
    }
    Ok(serde_json::from_slice(message)?)
}

impl Inheritance {
    /// The stats port, if it is the one of the configuration.
    pub fn take_stats(&mut self, wanted: &str) -> Option<TcpListener> {
        let (_, socket) = self.stats.take_if(|(addr, _)| addr == wanted)?;
        Some(socket)
    }

    /// Counts the predecessor's server connections as well.
    pub fn enter(&self, ledger: &Ledger) {
        for (name, count) in self.own.iter().filter(|_| self.moving.is_some()) {
            ledger.set_elsewhere(&name.read(), *count);
        }
    }

    /// Whether the one that is replaced removes its pidfile, whoever has written that.
    pub fn removes_pidfile(&self) -> bool {
        matches!(self.predecessor, Predecessor::PgBouncer(..))
    }

    /// We serve clients: the predecessor leaves. Returns when the place where it
    /// waited for us, and its pidfile's, is free.
    ///
    /// # Errors
    /// It has gone already.
    pub fn serve(self, pidfile: Option<&Path>) -> io::Result<Legacy> {
        let predecessor = match self.predecessor {
            Predecessor::Pgweir(predecessor) => predecessor,
            Predecessor::PgBouncer(running, clients, servers) => {
                running.shut_down(pidfile)?;
                self.ours.store(true, Ordering::Relaxed);
                return Ok(Legacy::Estate(clients, servers));
            }
        };
        let serves = match self.moving {
            Some(_) => TAKES_CLIENTS,
            None => SERVES,
        };
        descriptors::send(&predecessor, serves, &[])?;
        self.ours.store(true, Ordering::Relaxed);
        descriptors::receive(&predecessor)?;
        Ok(match self.moving {
            Some(_) => Legacy::Line(predecessor),
            None => Legacy::Nothing,
        })
    }
}

/// Tells a successor that its place is free.
pub fn make_way(successor: &UnixStream) -> io::Result<()> {
    descriptors::send(successor, b"leaving", &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_format_is_refused_clearly() {
        let offer = Offer {
            format: FORMAT,
            version: "9.9".to_owned(),
            pid: 7,
            sockets: vec![Kind::Tcp, Kind::Stats("*:1".to_owned())],
            moving: None,
            own: Vec::new(),
        };
        let mut message = serde_json::to_value(&offer).unwrap();
        let text = serde_json::to_vec(&message).unwrap();
        assert_eq!(read_offer(&text).unwrap(), offer);
        message["format"] = 2.into();
        message["sockets"] = "in another form".into();
        let text = serde_json::to_vec(&message).unwrap();
        let error = read_offer(&text).unwrap_err().to_string();
        let start = "the running process (9.9) hands over in format 2, this one takes 1";
        assert!(error.starts_with(start), "{error}");
    }
}
