//! A server connection and the right to use it.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::login::BackendKey;
use super::pool::Pool;
use crate::admin::snapshot::ServerState;
use crate::config::Host;
use crate::flow::{Backend, Outlook};
use crate::net::tls::{Connector, Encryption};
use crate::net::{Outgoing, PeerAddr, Stream};
use crate::sql::effects::Features;
use crate::wire::startup::Replication;

/// A connection to PostgreSQL that has logged in.
#[derive(Debug)]
pub struct Server {
    pub stream: Stream,
    pub backend: Backend,
    pub info: Rc<ServerInfo>,
    /// An incomplete message from the server.
    pub input: Vec<u8>,
    pub output: Outgoing,
    /// What its client asks next may belong to another server: it is sent on only
    /// when everything before has been answered.
    pub one_by_one: bool,
    /// It is not proved that its client only reads, as far as that was sent.
    pub may_write: bool,
    pub attempt: Attempt,
}

/// A request that can be asked again until it is answered.
#[derive(Debug, Default)]
pub struct Attempt {
    /// What the client sent; empty if it is not to be repeated.
    pub request: Vec<u8>,
    /// What of the answer the client has not been told yet.
    pub withheld: Vec<u8>,
    /// The next request is one that has been repeated.
    pub repeated: bool,
}

/// Room that a server connection keeps for the next attempt.
const ATTEMPT: usize = 4096;

impl Attempt {
    /// There is nothing to repeat any more.
    pub fn end(&mut self) {
        for buffer in [&mut self.request, &mut self.withheld] {
            buffer.clear();
            buffer.shrink_to(ATTEMPT);
        }
    }
}

/// What others may know of a server connection while somebody uses it.
#[derive(Debug)]
pub struct ServerInfo {
    pub id: u64,
    pub host: Host,
    pub peer: PeerAddr,
    pub local: PeerAddr,
    /// Of its socket, as [`Stream::descriptor`] has it.
    pub descriptor: Option<i32>,
    pub key: Option<BackendKey>,
    pub encryption: Option<Encryption>,
    /// How it was encrypted, if it was.
    pub connector: Arc<Connector>,
    pub born: Instant,
    pub connect_time: SystemTime,
    /// When a client last took it.
    pub request_time: Cell<Instant>,
    /// When the present transaction began, and when the present query was sent or,
    /// if none is, the last one answered. The same moment while no transaction is
    /// open. Of a linked connection only.
    pub linked_at: Cell<Instant>,
    pub asked_at: Cell<Instant>,
    /// Since when no client has had it; `None` while one has.
    pub idle_since: Cell<Option<Instant>>,
    /// When `server_check_query` last found it alive, or it was opened.
    pub checked: Cell<Instant>,
    pub state: Cell<ServerState>,
    /// It is one client's alone, for replication.
    pub replication: Option<Replication>,
    /// It was opened so that it cannot write.
    pub read_only: bool,
    /// Of the pool ([`Pool::renew`]), when its opening began.
    pub generation: u64,
    /// To be closed as soon as it is released.
    pub close_needed: Cell<bool>,
    /// What the log says when it is closed, if it is not only out of date.
    pub close_reason: Cell<Option<&'static str>>,
    /// And that without cleaning it first.
    pub doomed: Cell<bool>,
    /// Another server has taken the place of the one it leads to: who has it is to
    /// be told so.
    pub forsaken: Cell<bool>,
    /// The server has not answered when it was last asked how it is.
    pub silent: Cell<bool>,
    /// Bytes that have come and could not be dealt with yet, and bytes that the
    /// server has not taken yet, 65535 at most; as of the end of its client's turn.
    pub held: Cell<u16>,
    pub unsent: Cell<u16>,
    /// Bytes that are still to come of a message that is being passed on, from the
    /// server and from its client; as of then.
    pub rest: Cell<u32>,
    pub client_rest: Cell<u32>,
    /// Id of the client that holds it.
    pub link: Cell<Option<u64>>,
    pub prepared_statements: Cell<usize>,
    /// What its client keeps it for.
    pub pins: Cell<Features>,
    /// Cancel requests for it that are under way. Until they are over nobody
    /// else may have the connection: a late one would hit the wrong query.
    pub cancels: Cell<u32>,
    pub cancels_over: Notify,
}

impl ServerInfo {
    /// Whether a client has ever had it.
    pub(super) fn was_used(&self) -> bool {
        self.request_time.get() > self.born
    }
}

/// The right to use a server connection. However it ends, dropping it gives
/// the connection back: [`Backend::release`] decides what becomes of it.
pub struct Lease {
    server: Option<Box<Server>>,
    pool: Rc<Pool>,
    let_finish: bool,
    session: bool,
}

impl Lease {
    pub(super) fn new(mut server: Box<Server>, pool: Rc<Pool>, now: Instant) -> Lease {
        server.one_by_one = false;
        server.may_write = true;
        server.attempt.end();
        server.backend.end_attempt();
        server.info.state.set(ServerState::Active);
        // It was used, which tells it from one that is as old; the time of the event loop
        // may be from before it was born.
        let after_birth = server.info.born + Duration::from_nanos(1);
        server.info.request_time.set(now.max(after_birth));
        server.info.linked_at.set(now);
        server.info.asked_at.set(now);
        server.info.idle_since.set(None);
        Lease {
            server: Some(server),
            pool,
            let_finish: false,
            session: false,
        }
    }

    /// The client said goodbye in order: what it has sent runs to its end, as
    /// PostgreSQL would let it, instead of being cancelled.
    pub fn let_finish(&mut self) {
        self.let_finish = true;
    }

    /// Should this server not answer `request`, another is asked, or
    /// ([`Outlook::Here`]) the same once more.
    pub fn begin_attempt(&mut self, request: &[u8], outlook: Outlook) {
        self.attempt.request.extend_from_slice(request);
        self.backend.begin_attempt(outlook);
    }

    /// Takes the connection out: whoever has it closes it, or gives it back.
    pub(super) fn into_server(mut self) -> Option<Box<Server>> {
        let server = self.server.take()?;
        server.info.link.set(None);
        Some(server)
    }

    /// The client keeps it for its session, and may leave anything behind. (The
    /// pool's mode may be another one by the time that it comes back.)
    pub fn for_session(&mut self) {
        self.session = true;
    }

    pub(super) fn is_for_session(&self) -> bool {
        self.session
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.info.link.set(None);
            self.pool.take_back(server, self.let_finish, self.session);
        }
    }
}

// The server is there until drop.
#[allow(clippy::expect_used)]
impl Deref for Lease {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.server
            .as_deref()
            .expect("BUG: a lease without a server")
    }
}

#[allow(clippy::expect_used)]
impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Server {
        self.server
            .as_deref_mut()
            .expect("BUG: a lease without a server")
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.server).finish()
    }
}
