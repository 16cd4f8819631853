//! From an accepted socket to a client that is being served.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{debug, warn};

use super::farewell::{Who, close_gently};
use super::info::ClientInfo;
use super::task::Task;
use super::{cancel, login, proxy, replication};
use crate::admin;
use crate::net::tls::{Acceptor, HandshakeError};
use crate::net::{Addresses, Stream};
use crate::reactor;
use crate::wire::build::Refusal;
use crate::wire::startup::{self, FirstPacket, Startup, StartupError};
use crate::worker::{Newcomer, Seat, Worker};

/// A TLS connection's first byte; it would be a packet of 300 MB.
const TLS_HANDSHAKE: u8 = 22;

/// How long somebody who is refused may take to read why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves one connection from its first byte to its last.
///
/// Until it has logged in it counts against `max_unauthenticated_connections`
/// and must be done within `client_login_timeout`.
pub async fn serve(stream: Stream, worker: Rc<Worker>, seat: Seat) {
    let terms = worker.terms();
    let id = worker.local().next_id();
    let Some(newcomer) = worker.newcomer() else {
        let max = terms.config.general.unauthenticated_connections();
        let refusal = Refusal::fatal("53300", "too many unauthenticated connections")
            .detail(format!("{max} connections are logging in."))
            .hint("Raise max_unauthenticated_connections, or lower client_login_timeout.");
        return refuse(stream, &refusal).await;
    };
    let (proved, arrived) = (Cell::new(false), Instant::now());
    let (addresses, peer_pid) = (Cell::new(stream.addresses()), stream.peer_pid());
    let arrival = Arrival {
        newcomer,
        seat,
        end_point: None,
        proved: &proved,
        addresses: &addresses,
    };
    let limit = terms.config.general.client_login_timeout.0;
    let listed = worker.enlist_login(id, &stream, addresses.get());
    let mut names = Names::default();
    // Empty during a TLS handshake: whoever fails there can be told nothing.
    let mut stream = Some(stream);
    // Boxed before anything else gets it: it is large, and would be copied each time.
    let begin = Box::pin(begin(&mut stream, &mut names, id, &worker, arrival));
    let begun = match limit {
        Some(limit) => reactor::timeout(limit, begin)
            .await
            .unwrap_or_else(|_| Err(Failure::Refused(login_timeout(limit, proved.get())))),
        None => begin.await,
    };
    let _listed = match &begun {
        Ok(Begun::Cancel { .. }) => Some(listed.cancels()),
        _ => {
            drop(listed);
            None
        }
    };
    let peer = addresses.get().peer;
    let who = Who {
        id,
        db: names.db.as_deref(),
        user: names.user.as_deref(),
        peer,
        pid: peer_pid,
    };
    let ends = |reason: &str, told| {
        who.log_end(reason, arrived.elapsed(), told, &worker.terms().config);
    };
    match (begun, stream) {
        (Ok(Begun::Client(welcomed)), Some(stream)) => {
            // A task of its own, so that what the login needed is freed.
            let client = welcomed.into_client(stream.unwrapped(), &worker);
            reactor::spawn(Task::Serving(client));
        }
        (Ok(Begun::Replication(welcomed)), Some(stream)) => {
            reactor::spawn(welcomed.serve(stream.unwrapped(), worker));
        }
        (Ok(Begun::Console(console)), Some(stream)) => {
            let (identity, info) = *console;
            let info = Rc::new(info);
            let _listed = worker.enlist_console(info.clone());
            let means = (worker.handle(), worker.view());
            let asks = |asks| info.asks(asks);
            let asked = (asks, info.dismissed());
            let console = admin::console::serve(stream, identity, means, asked);
            match Box::pin(console).await {
                Ok(over) => ends(&over.reason, over.told),
                Err(error) => {
                    debug!(addr = %who.address(&terms.config), reason = %error, "console connection failed");
                    ends("client unexpected eof", false);
                }
            }
        }
        (Ok(Begun::Cancel { pid, key, newcomer }), stream) => {
            // Never answered; closed when it has been dealt with.
            let outcome = Box::pin(cancel::request(&worker, (id, peer), (pid, key))).await;
            drop(newcomer);
            let who = Who {
                db: outcome.database.as_deref(),
                ..who
            };
            let config = &worker.terms().config;
            who.log_end(outcome.reason, arrived.elapsed(), false, config);
            // libpq 17 takes a cut connection for a failure.
            if let Some(mut stream) = stream {
                stream.say_goodbye();
            }
        }
        (Err(Failure::Refused(mut refusal)), stream) => {
            refusal.sqlstate = terms.config.source.sqlstate(refusal.sqlstate);
            ends(&refusal.message, true);
            if let Some(stream) = stream {
                Box::pin(refuse(stream, &refusal)).await;
            }
        }
        (Err(Failure::Told(message, reason)), Some(stream)) => {
            ends(&reason, true);
            Box::pin(tell(stream, &message)).await;
        }
        (Err(Failure::Tls(error)), _) => {
            warn!(addr = %who.address(&terms.config), reason = %error, "TLS handshake error");
        }
        // Somebody who has said nothing may only have looked whether we are there.
        (Err(Failure::Gone(error)), _) => {
            debug!(addr = %who.address(&terms.config), reason = %error, "client went away while logging in");
            if who.user.is_some() {
                ends("client unexpected eof", false);
            }
        }
        // Without a stream nothing has begun, and nobody told anything.
        (Ok(_) | Err(Failure::Told(..)), None) => {}
    }
}

/// Somebody who has not logged in yet.
pub(super) struct Arrival<'a> {
    pub newcomer: Newcomer,
    pub seat: Seat,
    /// Of the certificate that it was shown, if the connection is encrypted.
    pub end_point: Option<Arc<[u8]>>,
    /// To be set when it has proved who it is.
    pub proved: &'a Cell<bool>,
    /// Those of the socket; what a load balancer tells is to be put here.
    pub addresses: &'a Cell<Addresses>,
}

/// What a startup packet asks for, for the log.
#[derive(Default)]
struct Names {
    db: Option<String>,
    user: Option<String>,
}

impl Names {
    fn of(startup: &Startup) -> Names {
        let name = |key| {
            let name = startup.get(key).filter(|name| !name.is_empty())?;
            Some(String::from_utf8_lossy(name).into_owned())
        };
        let user = name("user");
        Names {
            db: name("database").or_else(|| user.clone()),
            user,
        }
    }
}

/// What a connection turned out to be.
pub(super) enum Begun {
    Client(Box<login::Welcomed>),
    Replication(Box<replication::Welcomed>),
    Console(Box<(admin::console::Identity, ClientInfo)>),
    /// Anybody can send one: it counts as a newcomer until it is dealt with.
    Cancel {
        pid: u32,
        key: Vec<u8>,
        newcomer: Newcomer,
    },
}

/// Why it came to nothing.
pub(super) enum Failure {
    Refused(Refusal),
    /// An ErrorResponse of the server's, and the text of it.
    Told(Vec<u8>, String),
    Tls(HandshakeError),
    Gone(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Gone(error)
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Io(error) => Failure::Gone(error),
            error => Failure::Tls(error),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

async fn begin(
    slot: &mut Option<Stream>,
    names: &mut Names,
    id: u64,
    worker: &Rc<Worker>,
    mut arrival: Arrival<'_>,
) -> Result<Begun, Failure> {
    let terms = worker.terms();
    let networks = &terms.config.general.proxy_protocol_networks;
    let peer = arrival.addresses.get().peer;
    if let Some(told) = proxy::told_addresses(present(slot)?, peer, networks).await? {
        arrival.addresses.set(told);
    }
    let tls = terms.tls.clients.clone();
    let first = first_packet(slot, tls.as_deref(), worker).await?;
    match first {
        // libpq sends it in clear even if the connection is encrypted.
        First::Cancel { pid, key } => {
            let Arrival { newcomer, .. } = arrival;
            Ok(Begun::Cancel { pid, key, newcomer })
        }
        First::Startup(startup) => {
            *names = Names::of(&startup);
            if tls.as_ref().is_some_and(|tls| tls.requires())
                && matches!(slot, Some(Stream::Tcp(_)))
            {
                let refusal = Refusal::fatal("08P01", "SSL required");
                let hint = "client_tls_sslmode asks for it: connect with sslmode=require.";
                return Err(refusal.hint(hint).into());
            }
            if matches!(slot, Some(Stream::Tls(_))) {
                arrival.end_point = tls.and_then(|tls| tls.end_point());
            }
            let known = |stream| Stream::Known(Box::new((stream, arrival.addresses.get())));
            *slot = slot.take().map(known);
            login::login(present(slot)?, startup, id, worker, arrival).await
        }
    }
}

fn present(stream: &mut Option<Stream>) -> Result<&mut Stream, Failure> {
    let gone = || Failure::Gone(ErrorKind::NotConnected.into());
    stream.as_mut().ok_or_else(gone)
}

enum First {
    Startup(Startup),
    Cancel { pid: u32, key: Vec<u8> },
}

/// Reads up to the startup or cancel packet and not a byte beyond. Encryption is
/// set up where it is asked for and offered; each kind may be asked for once
/// (`ProcessStartupPacket`).
async fn first_packet(
    slot: &mut Option<Stream>,
    tls: Option<&Acceptor>,
    worker: &Worker,
) -> Result<First, Failure> {
    let (mut ssl_done, mut gss_done) = (false, false);
    loop {
        let stream = present(slot)?;
        let tls = tls.filter(|_| matches!(stream, Stream::Tcp(_)));
        let mut field = [0; 4];
        stream.read_exact(&mut field).await?;
        if let Some(tls) = tls.filter(|_| field[0] == TLS_HANDSHAKE && !ssl_done && !gss_done) {
            ssl_done = true;
            Box::pin(encrypt(slot, tls, &field, worker)).await?;
            continue;
        }
        let length = startup::packet_length(field).map_err(refused)?;
        // At most MAX_STARTUP_PACKET bytes.
        let mut packet = vec![0; length - 4];
        stream.read_exact(&mut packet).await?;
        let first = startup::decode(&packet).map_err(refused)?;
        let request = match first {
            FirstPacket::SslRequest => Some("SSL request"),
            FirstPacket::GssEncRequest => Some("GSSAPI encryption request"),
            _ => None,
        };
        // Such bytes may not be what the client said, but what somebody in between
        // did (CVE-2021-23222); whoever asks waits for the answer.
        if let Some(request) = request
            && stream.has_unread()
        {
            let text = format!("received unencrypted data after {request}");
            return Err(Refusal::fatal("08P01", text).into());
        }
        match (first, tls) {
            (FirstPacket::SslRequest, Some(tls)) if !ssl_done => {
                ssl_done = true;
                stream.write_all(b"S").await?;
                Box::pin(encrypt(slot, tls, &[], worker)).await?;
            }
            (FirstPacket::SslRequest, None) if !ssl_done => {
                ssl_done = true;
                stream.write_all(b"N").await?;
            }
            (FirstPacket::GssEncRequest, _) if !gss_done => {
                gss_done = true;
                stream.write_all(b"N").await?;
            }
            (FirstPacket::SslRequest | FirstPacket::GssEncRequest, _) => {
                return Err(Refusal::fatal("08P01", "client re-sent startup pkt").into());
            }
            (FirstPacket::Cancel { pid, key }, _) => return Ok(First::Cancel { pid, key }),
            (FirstPacket::Startup(startup), _) => return Ok(First::Startup(startup)),
        }
    }
}

/// Goes over to TLS. `received`: the first bytes of a ClientHello that came
/// without being asked for.
async fn encrypt(
    slot: &mut Option<Stream>,
    tls: &Acceptor,
    received: &[u8],
    worker: &Worker,
) -> Result<(), Failure> {
    let hashing = worker.local().derived_keys.hashing();
    let direct = !received.is_empty();
    *slot = match slot.take() {
        Some(Stream::Tcp(socket)) => {
            let accepted = tls.accept(socket, received, direct, hashing).await?;
            Some(Stream::Tls(Box::new(accepted)))
        }
        other => other,
    };
    Ok(())
}

fn refused(error: StartupError) -> Failure {
    let sqlstate = match error {
        StartupError::Version { .. } | StartupError::OldProtocol => "0A000",
        _ => "08P01",
    };
    Refusal::fatal(sqlstate, error.to_string()).into()
}

/// `proved`: it has only waited for a server connection.
fn login_timeout(limit: Duration, proved: bool) -> Refusal {
    let limit = limit.as_secs_f64();
    if proved {
        return Refusal::fatal("08P01", "client_login_timeout (server down)")
            .detail(format!("There was no server connection within {limit} s."))
            .hint("If they come slowly, raise client_login_timeout or pool_size.");
    }
    Refusal::fatal("08P01", "client_login_timeout")
        .detail(format!("Not logged in within {limit} s."))
        .hint("Raise client_login_timeout.")
}

async fn refuse(stream: Stream, refusal: &Refusal) {
    let mut message = Vec::new();
    refusal.encode(&mut message);
    tell(stream, &message).await;
}

async fn tell(mut stream: Stream, message: &[u8]) {
    let goodbye = async {
        stream.write_all(message).await?;
        close_gently(&mut stream).await
    };
    // Somebody who does not read is not waited for.
    let _ = reactor::timeout(LAST_WORDS, goodbye).await;
}
