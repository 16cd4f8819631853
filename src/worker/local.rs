//! What all connections of a worker share. Nothing of it leaves the thread.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::derived_keys::DerivedKeys;
use crate::admin::snapshot::{MemoryRow, ServerState, SocketRow};
use crate::config::ServerTls;
use crate::flow::{Bounds, ParamTable, Statements, Texts};
use crate::net::dns::Dns;
use crate::net::tls::{Connector, Tls};

/// Size of the read buffer in bytes: what one read can bring.
const READ_BUFFER: usize = 64 * 1024;

/// What the write buffer keeps from one use to the next, in bytes.
const WRITE_BUFFER: usize = 256 * 1024;

/// How many spare buffers are kept, of at most how many bytes each.
const SPARES: usize = 64;
const SPARE_SIZE: usize = 16 * 1024;

/// A worker's shared state.
pub struct Local {
    pub statements: RefCell<Statements>,
    pub params: RefCell<ParamTable>,
    /// Everything is read into this one buffer. Borrowed only within a poll.
    pub read_buffer: RefCell<Box<[u8]>>,
    /// Rewritten output is collected here. Borrowed only within a poll.
    write_buffer: RefCell<Vec<u8>>,
    /// Memory for what clients have sent while they wait, until the next one
    /// needs it.
    spare: RefCell<Vec<Vec<u8>>>,
    pub derived_keys: DerivedKeys,
    pub dns: Arc<Dns>,
    /// As the configuration in force has them.
    pub bounds: Cell<Bounds>,
    /// TLS towards servers, as the configuration in force has it.
    tls: RefCell<Tls>,
    /// Connections that listen for clients, as SHOW SERVERS has them.
    pub listening: RefCell<Vec<Rc<SocketRow<ServerState>>>>,
    ids: Arc<AtomicU64>,
}

impl Local {
    /// `ids`, `texts` and `dns` are shared by all workers.
    pub fn new(
        ids: Arc<AtomicU64>,
        texts: Arc<Texts>,
        derived_keys: DerivedKeys,
        dns: Arc<Dns>,
        tls: Tls,
    ) -> Local {
        Local {
            params: RefCell::new(ParamTable::new(texts.meanings().clone())),
            statements: RefCell::new(Statements::new(texts)),
            read_buffer: RefCell::new(vec![0; READ_BUFFER].into()),
            write_buffer: RefCell::default(),
            spare: RefCell::default(),
            derived_keys,
            dns,
            bounds: Cell::default(),
            tls: RefCell::new(tls),
            listening: RefCell::default(),
            ids,
        }
    }

    /// The write buffer, empty. The memory of an unusually long message is
    /// given back.
    pub fn empty_write_buffer(&self) -> RefMut<'_, Vec<u8>> {
        let mut buffer = self.write_buffer.borrow_mut();
        buffer.clear();
        buffer.shrink_to(WRITE_BUFFER);
        buffer
    }

    /// How connections to these servers are encrypted now.
    pub fn connector(&self, wanted: &ServerTls) -> Arc<Connector> {
        self.tls.borrow().connector(wanted).clone()
    }

    /// How they are from now on; returns how they were.
    pub fn set_tls(&self, tls: &Tls) -> Tls {
        self.tls.replace(tls.clone())
    }

    /// An empty buffer to keep something in.
    pub fn take_spare(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// A buffer is no longer needed. Large ones, and more than a few, are
    /// given back to the system.
    pub fn give_spare(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if (1..=SPARE_SIZE).contains(&buffer.capacity()) && spare.len() < SPARES {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// For SHOW MEM: the buffers, and what clients and servers share.
    pub fn memory(&self) -> [MemoryRow; 4] {
        let statements = self.statements.borrow();
        let texts = statements.iter().map(|statement| statement.bytes());
        let params = self.params.borrow();
        let spare = self.spare.borrow();
        let write = self.write_buffer.borrow().capacity();
        [
            MemoryRow {
                name: "iobuf_cache",
                size: READ_BUFFER as u64,
                used: 1,
                free: 0,
                bytes: (self.read_buffer.borrow().len() + write) as u64,
            },
            MemoryRow {
                name: "spare_iobuf_cache",
                size: 0,
                used: 0,
                free: spare.len() as u64,
                bytes: spare.iter().map(|buffer| buffer.capacity() as u64).sum(),
            },
            MemoryRow {
                name: "prepared_statement_cache",
                size: 0,
                used: statements.len() as u64,
                free: 0,
                bytes: texts.sum::<usize>() as u64,
            },
            MemoryRow {
                name: "var_list_cache",
                size: 0,
                used: params.iter().count() as u64,
                free: 0,
                bytes: params.iter().map(|set| set.bytes() as u64).sum(),
            },
        ]
    }

    /// A number for a new connection, client or server.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local")
    }
}
