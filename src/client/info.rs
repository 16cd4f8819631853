//! What others may know of a client, and ask of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Instant, SystemTime};

use crate::admin::snapshot::ClientState;
use crate::net::PeerAddr;
use crate::server::ServerInfo;

/// Length of a cancel key in bytes: protocol 3.0 has room for 4, 3.2 for up to
/// 256 (PostgreSQL 18 itself gives 32).
pub const LONG_KEY: usize = 32;

/// A logged-in client, as seen from outside its task.
#[derive(Debug)]
pub struct ClientInfo {
    pub id: u64,
    /// The process id that the client was told, for its cancel requests.
    pub pid: u32,
    pub secret: [u8; LONG_KEY],
    /// How much of `secret` the client was told.
    pub secret_len: usize,
    pub user: Arc<str>,
    pub database: Arc<str>,
    /// Whose pool it uses: the forced user where there is one.
    pub pool_user: Arc<str>,
    pub peer: PeerAddr,
    pub local: PeerAddr,
    pub peer_pid: u32,
    pub connect_time: SystemTime,
    /// Of its last request.
    pub request_time: Cell<Instant>,
    pub state: Cell<ClientState>,
    /// The server connection that it holds.
    pub link: RefCell<Option<Rc<ServerInfo>>>,
    pub application_name: RefCell<Box<str>>,
    pub prepared_statements: Cell<usize>,
    order: Cell<Order>,
    cancelled: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// What somebody else asks of a client's task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    Nothing,
    /// Leave as soon as no transaction is open.
    Drain,
    /// Leave now: the process ends, or an administrator says so.
    Leave,
    /// Leave now: the database is no longer in the configuration.
    DatabaseRemoved,
}

impl ClientInfo {
    pub fn new(
        id: u64,
        key: (u32, [u8; LONG_KEY], usize),
        [user, database, pool_user]: [Arc<str>; 3],
        (peer, local, peer_pid): (PeerAddr, PeerAddr, u32),
        application_name: &[u8],
    ) -> ClientInfo {
        let (pid, secret, secret_len) = key;
        ClientInfo {
            id,
            pid,
            secret,
            secret_len,
            user,
            database,
            pool_user,
            peer,
            local,
            peer_pid,
            connect_time: SystemTime::now(),
            request_time: Cell::new(Instant::now()),
            state: Cell::new(ClientState::Idle),
            link: RefCell::new(None),
            application_name: RefCell::new(String::from_utf8_lossy(application_name).into()),
            prepared_statements: Cell::new(0),
            order: Cell::default(),
            cancelled: Cell::default(),
            waker: RefCell::default(),
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
        self.cancelled.set(true);
        self.wake();
    }

    /// Whether [`ClientInfo::cancel_wait`] was called since last asked.
    pub fn take_cancelled(&self) -> bool {
        self.cancelled.take()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// What is asked now.
    pub fn ordered(&self) -> Order {
        self.order.get()
    }

    /// The task that [`ClientInfo::order`] wakes.
    pub fn listen(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
}
