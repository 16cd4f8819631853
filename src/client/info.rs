//! What others may know of a client, and ask of it.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use crate::admin::snapshot::ClientState;
use crate::config::CONSOLE;
use crate::flow::Params;
use crate::net::tls::Encryption;
use crate::net::{PeerAddr, Stream};
use crate::reactor::Wake;
use crate::server::{Pool, ServerInfo};
use crate::worker::Admission;

/// Length of a cancel key in bytes: protocol 3.0 has room for 4, 3.2 for up to
/// 256 (PostgreSQL 18 itself gives 32).
pub const LONG_KEY: usize = 32;

/// What a cancel request must know beside the process id.
#[derive(Debug)]
pub enum CancelKey {
    Short([u8; 4]),
    Long(Box<[u8; LONG_KEY]>),
}

impl CancelKey {
    pub fn random(long: bool) -> CancelKey {
        match long {
            true => CancelKey::Long(Box::new(rand::random())),
            false => CancelKey::Short(rand::random()),
        }
    }

    /// `None`: no key is of this length.
    pub fn from_bytes(bytes: &[u8]) -> Option<CancelKey> {
        match bytes.try_into() {
            Ok(key) => Some(CancelKey::Short(key)),
            Err(_) => Some(CancelKey::Long(Box::new(bytes.try_into().ok()?))),
        }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            CancelKey::Short(key) => key,
            CancelKey::Long(key) => &mut **key,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            CancelKey::Short(key) => key,
            CancelKey::Long(key) => &**key,
        }
    }
}

/// Whose connection it is.
#[derive(Debug)]
pub enum Party {
    /// A client, and the pool that it uses.
    Client(Admission, Rc<Pool>),
    /// Somebody at the console, by name.
    Console(Arc<str>),
}

/// A connection that has logged in, as seen from outside its task. There may be
/// tens of thousands: see the test for its size.
#[derive(Debug)]
pub struct ClientInfo {
    pub id: u64,
    /// The process id that the client was told, for its cancel requests.
    pub pid: u32,
    pub key: CancelKey,
    pub party: Party,
    pub peer: PeerAddr,
    pub local: PeerAddr,
    pub peer_pid: u32,
    security: Security,
    /// Microseconds since the Unix epoch.
    connected: u64,
    /// When its last request got a server connection or began to wait; when the
    /// last one was answered, if it is idle.
    pub request_time: Cell<Instant>,
    pub state: Cell<ClientState>,
    /// 65535 at most.
    pub prepared_statements: Cell<u16>,
    /// Bytes that it sent and that could not be dealt with yet, and bytes that it
    /// has not taken yet, 65535 at most; as of the end of its task's last turn.
    pub held: Cell<u16>,
    pub unsent: Cell<u16>,
    /// What covers its last write, where statements are routed
    /// ([`crate::route::Topology::covering_sample`]).
    pub last_write: Cell<u32>,
    /// The server connection that it holds.
    pub link: Slot<Rc<ServerInfo>>,
    /// As of the end of its last transaction.
    pub params: Slot<Rc<Params>>,
    /// Since SUSPEND: nothing is left to be written to it, or to its server.
    pub flushed: Cell<bool>,
    /// Another process is asked whether it takes the client.
    pub moving: Cell<bool>,
    order: Cell<Order>,
    /// There is something to be heard from the connection that listens.
    news: Cell<bool>,
    question: Cell<Option<Question>>,
    task: Cell<Option<Wake>>,
}

/// One or the other, since a client has no more than one of them to show.
#[derive(Clone, Copy, Debug)]
enum Security {
    /// By this descriptor.
    Plain(i32),
    Tls(Option<Encryption>),
}

impl Security {
    fn of(stream: &Stream) -> Security {
        match stream.descriptor() {
            Some(descriptor) => Security::Plain(descriptor),
            None => Security::Tls(stream.encryption()),
        }
    }
}

/// What a socket does not tell of a client.
pub struct History {
    pub peer: PeerAddr,
    pub local: PeerAddr,
    /// Microseconds since the Unix epoch.
    pub connected: u64,
    /// Microseconds since its last request.
    pub idle: u64,
}

/// A cell for something that is cloned to be looked at.
pub struct Slot<T>(Cell<Option<T>>);

impl<T: Clone> Slot<T> {
    pub fn new(content: Option<T>) -> Self {
        Slot(Cell::new(content))
    }

    pub fn get(&self) -> Option<T> {
        let content = self.0.take();
        self.0.set(content.clone());
        content
    }

    pub fn set(&self, content: Option<T>) {
        self.0.set(content);
    }

    pub fn take(&self) -> Option<T> {
        self.0.take()
    }
}

impl<T: Clone + fmt::Debug> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// What somebody else asks of a client's task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    Nothing,
    /// Go to the process that takes our place, as soon as you are at rest.
    Move,
    /// Do not: it will not have you.
    Stay,
    /// Leave as soon as no transaction is open.
    Drain,
    /// Leave now: the server of the open transaction is no longer the primary.
    PrimaryReplaced,
    /// Leave now: it did not take its answers in time for a SUSPEND.
    NotFlushed,
    /// Leave now: what it listens to is not heard any more.
    NotificationsLost,
    /// Leave now: it did not take its notifications in time.
    TooManyNotifications,
    /// Leave now: the process ends.
    Leave,
    /// Leave now: an administrator says so.
    Dismissed,
    /// Leave now: the database was killed.
    DatabaseKilled,
    /// Leave now: the database is no longer in the configuration.
    DatabaseRemoved,
}

/// What a client's task is to look at, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether it waits: its request is cancelled then.
    Cancel,
    /// Whether it may go on as it is.
    Review,
}

impl ClientInfo {
    pub fn new(
        id: u64,
        (pid, key): (u32, CancelKey),
        party: Party,
        stream: &Stream,
        params: Rc<Params>,
    ) -> ClientInfo {
        ClientInfo {
            id,
            pid,
            key,
            party,
            peer: stream.peer_addr(),
            local: stream.local_addr(),
            peer_pid: stream.peer_pid(),
            security: Security::of(stream),
            connected: SystemTime::UNIX_EPOCH
                .elapsed()
                .map_or(0, |age| age.as_micros() as u64),
            request_time: Cell::new(Instant::now()),
            state: Cell::new(ClientState::Idle),
            prepared_statements: Cell::new(0),
            held: Cell::new(0),
            unsent: Cell::new(0),
            last_write: Cell::new(0),
            link: Slot::new(None),
            params: Slot::new(Some(params)),
            flushed: Cell::default(),
            moving: Cell::default(),
            order: Cell::default(),
            news: Cell::default(),
            question: Cell::default(),
            task: Cell::new(None),
        }
    }

    /// The same for a client that another process has had before.
    pub fn with_history(self, history: History) -> ClientInfo {
        let idle = Duration::from_micros(history.idle);
        let request_time = Instant::now().checked_sub(idle);
        let request_time = request_time.unwrap_or(self.request_time.get());
        ClientInfo {
            peer: history.peer,
            local: history.local,
            connected: history.connected,
            request_time: Cell::new(request_time),
            ..self
        }
    }

    /// Microseconds since the Unix epoch.
    pub fn connected(&self) -> u64 {
        self.connected
    }

    pub fn connect_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.connected)
    }

    /// `None`: it is not encrypted.
    pub fn encryption(&self) -> Option<Encryption> {
        match self.security {
            Security::Tls(encryption) => encryption,
            Security::Plain(_) => None,
        }
    }

    /// Of its socket, as [`Stream::descriptor`] has it.
    pub fn descriptor(&self) -> Option<i32> {
        match self.security {
            Security::Tls(_) => None,
            Security::Plain(descriptor) => Some(descriptor),
        }
    }

    /// The column `id` of the console is an int4: that of the 2^31st connection
    /// starts anew.
    pub fn shown_id(&self) -> u64 {
        self.id & i32::MAX as u64
    }

    pub fn user(&self) -> &str {
        match &self.party {
            Party::Client(admission, _) => admission.user(),
            Party::Console(user) => user,
        }
    }

    pub fn database(&self) -> &str {
        match &self.party {
            Party::Client(admission, _) => admission.database(),
            Party::Console(_) => CONSOLE[0],
        }
    }

    /// The pool that it uses; the console has none.
    pub fn pool(&self) -> Option<&Rc<Pool>> {
        match &self.party {
            Party::Client(_, pool) => Some(pool),
            Party::Console(_) => None,
        }
    }

    /// Asks something of the client's task and wakes it. A weaker order does
    /// not replace a stronger one.
    pub fn order(&self, order: Order) {
        let rank = |order: Order| order as u8;
        if rank(order) > rank(self.order.get()) {
            self.order.set(order);
        }
        self.wake();
    }

    /// Its request, which waits for a server connection, is cancelled.
    pub fn cancel_wait(&self) {
        self.question.set(Some(Question::Cancel));
        self.wake();
    }

    /// One of its time limits may be over, or its server connection is to be
    /// closed.
    pub fn review(&self) {
        if self.question.get().is_none() {
            self.question.set(Some(Question::Review));
        }
        self.wake();
    }

    /// Has the client's task ask the worker for them.
    pub fn bring_news(&self) {
        self.news.set(true);
        self.wake();
    }

    pub fn has_news(&self) -> bool {
        self.news.get()
    }

    pub fn take_news(&self) -> bool {
        self.news.replace(false)
    }

    /// What was asked since this was last called.
    pub fn take_question(&self) -> Option<Question> {
        self.question.take()
    }

    /// Has the client's task look at what has changed.
    pub fn wake(&self) {
        if let Some(task) = self.task.get() {
            task.wake();
        }
    }

    /// Returns when somebody asks it to leave. Cancel safe.
    pub async fn dismissed(&self) {
        poll_fn(|_| {
            self.listen();
            match self.ordered() {
                Order::Nothing | Order::Move | Order::Stay => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Somebody at the console asks for something, or has been answered.
    pub fn asks(&self, asks: bool) {
        if asks {
            self.request_time.set(Instant::now());
        }
        self.state.set(match asks {
            true => ClientState::Active,
            false => ClientState::Idle,
        });
    }

    /// What is asked now.
    pub fn ordered(&self) -> Order {
        self.order.get()
    }

    /// The task that runs is the one that [`ClientInfo::order`] wakes.
    #[inline]
    pub fn listen(&self) {
        self.task.set(Some(Wake::current()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each client has one, in an `Rc` (16 bytes more).
    #[test]
    fn it_stays_small() {
        let size = size_of::<ClientInfo>();
        assert!(size <= 208, "{size} bytes");
    }
}
