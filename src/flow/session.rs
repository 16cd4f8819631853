//! The client's half of a link.

mod by_name;
mod channels;
mod effects;
mod own;
mod prepared;
mod request;
mod role;
mod terms;
mod written;

use std::fmt;
use std::rc::Rc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::backend::Backend;
use super::replies::Reply;
use super::statements::Statement;
use super::{Bounds, Output, Params, Shared};
use crate::config::{PoolMode, Reads, SessionFeatures};
use crate::sql::effects::may_matter;
use crate::wire::names::{self, Target};
use crate::wire::{FrontendTag, HEADER_LEN, Header, TxStatus, build};

pub use channels::{Channels, Wait, each_channel};
pub use request::Purpose;
pub use role::{ROLE, role_of};
pub use written::WrittenSession;

pub(super) use channels::Script;
pub(super) use role::Role;
use terms::Terms;

/// Stands on the server for a statement that the client does not have, so
/// that the server itself raises the error.
pub(super) const MISSING: &[u8] = b"pgweir_missing";

/// The client broke the protocol; it is told and disconnected, as PostgreSQL
/// does (postgres.c, `SocketBackend`).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ClientFault {
    #[error("invalid message length")]
    Length(Front),
    #[error("invalid frontend message type {0}")]
    Type(u8),
    /// Although `disable_pqexec` forbids it.
    #[error("PQexec disallowed")]
    SimpleQuery,
    /// With [`Naming::TheClientsStrictly`].
    #[error(transparent)]
    Misuse(#[from] Misuse),
}

/// What is wrong with a message about a named statement, in PgBouncer's words. A
/// type of its own, as every message of a client comes by a place for one: the
/// smaller, the cheaper.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Misuse {
    #[error("prepared statement did not exist")]
    Missing,
    #[error("prepared statement name is already in use")]
    Taken,
    #[error("broken Parse packet")]
    BrokenParse,
    #[error("broken Bind packet")]
    BrokenBind,
    #[error("broken Describe packet")]
    BrokenDescribe,
    #[error("broken Close packet")]
    BrokenClose,
}

/// The first eight bytes, or less, of what is no message. Shown in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    bytes: [u8; 8],
    count: u8,
}

impl Front {
    fn of(message: &[u8]) -> Front {
        let mut front = Front {
            bytes: [0; 8],
            count: message.len().min(8) as u8,
        };
        for (to, from) in front.bytes.iter_mut().zip(message) {
            *to = *from;
        }
        front
    }

    /// The length that its header claims.
    pub fn length(&self) -> u32 {
        let [_, a, b, c, d, ..] = self.bytes;
        u32::from_be_bytes([a, b, c, d])
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.bytes.iter().take(self.count.into());
        shown.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What the names of prepared statements mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Naming {
    /// Names on the server connection that the client happens to hold.
    TheServers,
    /// The client's own, carried over server connections. For a name that it
    /// does not have, or has already, the server's error stands.
    TheClients,
    /// The same, but whoever misuses a name is disconnected, as by PgBouncer.
    TheClientsStrictly,
}

/// Why [`Session::from_client`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All was taken, or the rest is an incomplete message, of this many bytes
    /// when whole (0 = not known yet).
    More { need: usize },
    /// The next message needs a server connection.
    NeedServer,
    /// What the next message means depends on an answer that is still to come:
    /// to be called again, with the same bytes, when the server has answered
    /// something.
    Wait,
    /// The next message waits for the connection that listens ([`Wait::Prepare`]).
    AskListener,
    /// The client said goodbye.
    Terminate,
}

/// A message up to this size in bytes is sent on only when it is complete, so
/// that a client that dies in the middle of one leaves nothing half done.
const HOLD: usize = 16 * 1024;

/// What a client has prepared by name.
#[derive(Debug, Default)]
struct Names {
    statements: HashMap<Box<[u8]>, Rc<Statement>, RandomState>,
    /// Those of statements that are answered here.
    portals: Vec<own::Portal>,
    /// There may be such statements.
    own: bool,
    /// What its parameters were before it changed any.
    start: Option<Rc<Params>>,
    /// Once LISTEN was used.
    channels: Option<Box<Channels>>,
    /// The statement that it has to go for.
    misused: Box<[u8]>,
}

/// The pure half of a client's connection.
#[derive(Debug)]
pub struct Session {
    terms: Terms,
    /// Its request was refused here: what follows is discarded up to Sync.
    skipping: bool,
    role: Role,
    /// The message that a server connection was asked for is known to be plain.
    plain: bool,
    /// Bytes of the present message still to come; below zero, they go nowhere.
    rest: i32,
    names: Option<Box<Names>>,
    unnamed: Option<Rc<Statement>>,
    pub(super) params: Rc<Params>,
}

impl Session {
    /// A client that has logged in. In session mode the server connection is
    /// its own, and so are the names there.
    pub fn new(mode: PoolMode, naming: Naming, params: Rc<Params>) -> Self {
        let naming = match mode {
            PoolMode::Session => Naming::TheServers,
            PoolMode::Transaction | PoolMode::Statement => naming,
        };
        Session {
            terms: Terms::new(mode, naming, SessionFeatures::Ignore),
            skipping: false,
            plain: false,
            role: Role::default(),
            rest: 0,
            names: None,
            unnamed: None,
            params,
        }
    }

    /// What its startup packet says of `pgweir.role`.
    pub fn starting_with(self, role: Option<Reads>) -> Self {
        Session {
            role: Role::starting_with(role),
            ..self
        }
    }

    /// What becomes of statements that leave something in the session.
    /// `sequences`: what advances one leaves something, too.
    pub fn carrying(self, features: SessionFeatures, sequences: bool) -> Self {
        let Session { terms, .. } = self;
        Session {
            terms: Terms::new(terms.mode(), terms.naming(), features).pinning_sequences(sequences),
            ..self
        }
    }

    /// What it has set `pgweir.role` to; `None`: nothing.
    pub fn role(&self) -> Option<Reads> {
        self.role.get()
    }

    pub fn mode(&self) -> PoolMode {
        self.terms.mode()
    }

    pub fn params(&self) -> &Rc<Params> {
        &self.params
    }

    /// Named statements that the client has.
    pub fn prepared_statements(&self) -> usize {
        self.names
            .as_ref()
            .map_or(0, |names| names.statements.len())
    }

    /// A name that the client has for the statement with this id.
    pub(super) fn name_of(&self, id: u64) -> Option<&[u8]> {
        let mut names = self.names.as_ref()?.statements.iter();
        let (name, _) = names.find(|(_, statement)| statement.id == id)?;
        Some(name)
    }

    /// The statement that the client has by this name.
    fn named(&self, name: &[u8]) -> Option<&Rc<Statement>> {
        self.names.as_ref()?.statements.get(name)
    }

    /// Whether named statements are followed over server connections.
    fn follows(&self) -> bool {
        self.terms.naming() != Naming::TheServers
    }

    /// Whether a request that meets a stale plan is repeated; otherwise the client
    /// gets PostgreSQL's error.
    fn hides_stale_plans(&self) -> bool {
        self.carries() && self.follows()
    }

    /// What comes of misusing the name of a statement, if that is not for the
    /// server to say.
    fn punishment(&mut self, misuse: Misuse, name: &[u8]) -> Option<Step> {
        if self.terms.naming() != Naming::TheClientsStrictly {
            return None;
        }
        self.names.get_or_insert_default().misused = name.into();
        Some(Step::Fault(misuse))
    }

    /// The statement whose name was misused, for the log.
    pub fn misused(&self) -> Option<&[u8]> {
        self.names.as_ref().map(|names| &*names.misused)
    }

    pub(super) fn statement_mode(&self) -> bool {
        self.mode() == PoolMode::Statement
    }

    /// These statements are gone from the server that knew them by the client's names.
    pub(super) fn forget(&mut self, ids: &[u64]) {
        if let Some(names) = &mut self.names {
            names
                .statements
                .retain(|_, statement| !ids.contains(&statement.id));
        }
    }

    pub(super) fn forget_statements(&mut self) {
        self.names = self.names.take().and_then(|names| {
            let Names {
                start, channels, ..
            } = *names;
            let kept = start.is_some() || channels.is_some();
            kept.then(|| {
                Box::new(Names {
                    start,
                    channels,
                    ..Names::default()
                })
            })
        });
    }

    /// Walks what the client sent. `backend` is the server connection that it
    /// holds, if it does. Returns how much was taken, and why it stopped.
    /// Replies of our own whose turn has come are appended to `to_client`.
    pub fn from_client(
        &mut self,
        mut backend: Option<&mut Backend>,
        input: &[u8],
        out: &mut Output<'_>,
        to_client: &mut Vec<u8>,
        shared: &mut Shared<'_>,
    ) -> Result<(usize, Stop), ClientFault> {
        let mut at = 0;
        loop {
            let bytes = input.get(at..).unwrap_or_default();
            if self.rest != 0 {
                let n = bytes.len().min(self.rest.unsigned_abs() as usize);
                if self.rest > 0 {
                    out.forward(at..at + n);
                }
                self.rest -= n as i32 * self.rest.signum();
                at += n;
                if let Some(backend) = backend.as_deref_mut() {
                    backend.uploading = self.rest > 0;
                }
                if self.rest != 0 {
                    return Ok((at, Stop::More { need: 0 }));
                }
                continue;
            }
            let header = Header::peek_within(bytes, shared.bounds.longest);
            let Some(header) = header.map_err(|_| ClientFault::Length(Front::of(bytes)))? else {
                return Ok((at, Stop::More { need: 0 }));
            };
            let tag = FrontendTag::from_byte(header.tag).ok_or(ClientFault::Type(header.tag))?;
            match tag {
                FrontendTag::Terminate => return Ok((at, Stop::Terminate)),
                FrontendTag::Query if !shared.bounds.simple_queries => {
                    return Err(ClientFault::SimpleQuery);
                }
                _ => {}
            }
            if bytes.len() < header.total && header.total <= HOLD {
                let need = header.total;
                return Ok((at, Stop::More { need }));
            }
            let mut message = Message {
                tag,
                total: header.total,
                bytes: bytes.get(..header.total).unwrap_or(bytes),
                plain: false,
                is_described: bytes.get(header.total) == Some(&b'D'),
            };
            message.plain = std::mem::take(&mut self.plain) || self.is_plain(&message);
            let link = own::Link {
                backend: backend.as_deref_mut(),
                out: &mut *out,
                to_client: &mut *to_client,
            };
            let own = match !message.plain && self.may_concern_us(&message) {
                true => self.for_us(message, link, shared),
                false => None,
            };
            let step = own.unwrap_or_else(|| match backend.as_deref_mut() {
                Some(backend) => self.linked(message, backend, out, to_client, shared),
                None => self.unlinked(message, to_client),
            });
            match step {
                Step::Done => at += header.total,
                Step::Pass if bytes.len() >= header.total => {
                    out.forward(at..at + header.total);
                    at += header.total;
                }
                Step::Pass => self.begin_rest(header.total, true),
                Step::Drop => self.begin_rest(header.total, false),
                Step::PassFrom(from) => {
                    at += from;
                    self.begin_rest(header.total - from, true);
                }
                Step::Hold => {
                    return Ok((at, Stop::More { need: header.total }));
                }
                Step::NeedServer => {
                    self.plain = message.plain;
                    return Ok((at, Stop::NeedServer));
                }
                Step::Wait => return Ok((at, Stop::Wait)),
                Step::AskListener => return Ok((at, Stop::AskListener)),
                Step::Fault(misuse) => return Err(misuse.into()),
            }
        }
    }

    /// Whether the next message needs a server connection, while none is held. False:
    /// [`Session::from_client`] knows.
    pub fn needs_server(&mut self, input: &[u8], bounds: Bounds) -> bool {
        let Ok(Some(header)) = Header::peek_within(input, bounds.longest) else {
            return false;
        };
        let (Some(tag), Some(bytes)) = (
            FrontendTag::from_byte(header.tag),
            input.get(..header.total),
        ) else {
            return false;
        };
        let message = Message {
            tag,
            total: header.total,
            bytes,
            plain: false,
            is_described: false,
        };
        if self.rest != 0 || self.skipping {
            return false;
        }
        match tag {
            FrontendTag::Query if bounds.simple_queries => {
                self.plain = self.is_plain(&message);
                self.plain
            }
            FrontendTag::Parse | FrontendTag::Bind => !self.may_concern_us(&message),
            _ => false,
        }
    }

    /// Whether a message is a simple query that only the server has to do with.
    #[inline]
    fn is_plain(&self, message: &Message<'_>) -> bool {
        message.tag == FrontendTag::Query
            && !self.may_be_own(message)
            && self.channels().is_none()
            && message
                .body()
                .is_some_and(|text| !self.carries() || !may_matter(text))
    }

    /// Whether not only the server may have to do with a message: for nearly every
    /// one this says no, by a few bytes.
    #[inline]
    fn may_concern_us(&self, message: &Message<'_>) -> bool {
        match message.tag {
            FrontendTag::Query | FrontendTag::Parse => {
                self.may_be_own(message) || self.may_concern_channels(message)
            }
            _ => self
                .names
                .as_ref()
                .is_some_and(|names| names.own || names.channels.is_some()),
        }
    }

    /// What it is to pgweir. `None`: it is like any other.
    fn for_us(
        &mut self,
        message: Message<'_>,
        mut link: own::Link<'_, '_>,
        shared: &mut Shared<'_>,
    ) -> Option<Step> {
        if self.may_be_own(&message) {
            let step = self.own(message, link.reborrow(), shared);
            if step.is_some() {
                return step;
            }
        }
        match self.may_concern_channels(&message) {
            true => self.look_for_channels(&message, link.backend.as_deref_mut(), link.out),
            false => None,
        }
    }

    /// Refuses the request that begins with `input` and waits for a server, by
    /// an error that leaves the client connected; as PostgreSQL does, the rest
    /// of an extended request is discarded. Returns how much was taken.
    pub fn refuse(&mut self, input: &[u8], error: &[u8], to_client: &mut Vec<u8>) -> usize {
        self.plain = false;
        to_client.extend_from_slice(error);
        let Ok(Some(header)) = Header::peek(input) else {
            return 0;
        };
        let tag = FrontendTag::from_byte(header.tag);
        if !matches!(tag, Some(FrontendTag::Query | FrontendTag::FunctionCall)) {
            self.skipping = true;
            return 0;
        }
        to_client.extend_from_slice(build::ready_for_query(TxStatus::Idle));
        let taken = header.total.min(input.len());
        self.begin_rest(header.total - taken, false);
        taken
    }

    /// Whether the client is between two requests, as far as it has sent them.
    pub fn is_between_requests(&self) -> bool {
        self.rest == 0 && !self.skipping
    }

    fn begin_rest(&mut self, total: usize, forward: bool) {
        // No frame is longer: its length is an i32.
        let rest = i32::try_from(total).unwrap_or(i32::MAX);
        self.rest = if forward { rest } else { -rest };
    }

    /// A message while no server connection is held. What PostgreSQL would
    /// answer (or ignore) outside a transaction without looking at anything is
    /// answered here.
    fn unlinked(&mut self, message: Message<'_>, to_client: &mut Vec<u8>) -> Step {
        match message.tag {
            FrontendTag::Sync if message.total == HEADER_LEN => {
                self.skipping = false;
                to_client.extend_from_slice(build::ready_for_query(TxStatus::Idle));
                Step::Drop
            }
            _ if self.skipping => Step::Drop,
            // Nothing is buffered; and a COPY that is over leaves these behind
            // (postgres.c: "Accept but ignore these messages").
            FrontendTag::Flush
            | FrontendTag::CopyData
            | FrontendTag::CopyDone
            | FrontendTag::CopyFail => Step::Drop,
            FrontendTag::Close if self.follows() => {
                let Some(body) = message.body() else {
                    return Step::Hold;
                };
                match names::target(body) {
                    Some(Target::Statement(name)) => {
                        self.remove(name);
                    }
                    // There are no portals outside a transaction.
                    Some(Target::Portal(_)) => {}
                    None => return Step::NeedServer,
                }
                to_client.extend_from_slice(build::CLOSE_COMPLETE);
                Step::Done
            }
            _ => Step::NeedServer,
        }
    }

    fn linked(
        &mut self,
        message: Message<'_>,
        backend: &mut Backend,
        out: &mut Output<'_>,
        to_client: &mut Vec<u8>,
        shared: &mut Shared<'_>,
    ) -> Step {
        if message.tag == FrontendTag::Sync {
            backend.expect_sync();
            return Step::Pass;
        }
        if backend.skipping {
            // The server would read and discard it.
            return Step::Drop;
        }
        match message.tag {
            FrontendTag::CopyData | FrontendTag::Flush => return Step::Pass,
            FrontendTag::CopyDone | FrontendTag::CopyFail => {
                backend.expect_copy_end();
                return Step::Pass;
            }
            _ => {}
        }
        if backend.copy_in {
            // Anything else makes the server fail the COPY, and is used up by
            // that (copyfromparse.c, CopyGetData).
            return Step::Pass;
        }
        if let Some(traces) = &mut backend.traces {
            traces.follow(message.tag, message.body());
            if !backend.unsynced {
                backend.restore(self, out);
            }
        }
        let watched = matches!(message.tag, FrontendTag::Query | FrontendTag::FunctionCall);
        if watched && let Some(step) = self.watch(&message, backend, out, shared) {
            return step;
        }
        let extended = match message.tag {
            FrontendTag::Query => {
                backend.unnamed = None;
                backend.unsynced = false;
                let unnamed = self.unnamed.take();
                let script = self.take_script();
                backend.expect(Reply::Query { unnamed, script });
                return Step::Pass;
            }
            FrontendTag::FunctionCall => {
                backend.unsynced = false;
                backend.expect(Reply::FunctionCall);
                return Step::Pass;
            }
            FrontendTag::Execute => {
                let script = self.take_script();
                backend.expect(Reply::Execute { script });
                Step::Pass
            }
            FrontendTag::Parse => self.parse(message, backend, out, to_client, shared),
            FrontendTag::Bind => self.bind(message, backend, out, shared),
            FrontendTag::Describe => self.describe(message, backend, out, shared),
            FrontendTag::Close => self.close(message, backend, out, to_client, shared),
            FrontendTag::Sync
            | FrontendTag::CopyData
            | FrontendTag::CopyDone
            | FrontendTag::CopyFail
            | FrontendTag::Flush
            | FrontendTag::Terminate => Step::Pass,
        };
        if !matches!(extended, Step::Hold | Step::Wait) {
            backend.unsynced = true;
        }
        extended
    }
}

/// A message, or as much of it as has arrived.
#[derive(Clone, Copy)]
struct Message<'a> {
    tag: FrontendTag,
    total: usize,
    bytes: &'a [u8],
    /// It is a simple query that leaves nothing behind, as far as its words tell, and
    /// is nothing to pgweir.
    plain: bool,
    /// A Describe is known to follow.
    is_described: bool,
}

impl<'a> Message<'a> {
    /// The body, when it is complete.
    fn body(&self) -> Option<&'a [u8]> {
        let whole = self.bytes.len() == self.total;
        self.bytes.get(HEADER_LEN..).filter(|_| whole)
    }
}

/// What to do with a message.
enum Step {
    /// It was dealt with.
    Done,
    /// Forward it as it is.
    Pass,
    /// Forward it from this offset on.
    PassFrom(usize),
    /// Read it and discard it.
    Drop,
    /// It must arrive completely first.
    Hold,
    /// Earlier ones must be answered first.
    Wait,
    /// The connection that listens must be ready first.
    AskListener,
    NeedServer,
    /// The client has to go.
    Fault(Misuse),
}
