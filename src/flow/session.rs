//! The client's half of a link.

use std::rc::Rc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use thiserror::Error;

use super::backend::Backend;
use super::replies::{NamedUndo, Reply, Undo};
use super::statements::Statement;
use super::{Output, Params, Shared};
use crate::config::PoolMode;
use crate::stats::add;
use crate::wire::names::{self, Target};
use crate::wire::{FrameError, FrontendTag, HEADER_LEN, Header, TxStatus, build};

/// Stands on the server for a statement that the client does not have, so
/// that the server itself raises the error.
pub(super) const MISSING: &[u8] = b"pgweir_missing";

/// The client broke the protocol; it is told and disconnected, as PostgreSQL
/// does (postgres.c, `SocketBackend`).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ClientFault {
    #[error("invalid message length")]
    Length(#[from] FrameError),
    #[error("invalid frontend message type {0}")]
    Type(u8),
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
    /// The client said goodbye.
    Terminate,
}

/// A message up to this size in bytes is sent on only when it is complete, so
/// that a client that dies in the middle of one leaves nothing half done.
const HOLD: usize = 16 * 1024;

type Names = HashMap<Box<[u8]>, Rc<Statement>, RandomState>;

/// The pure half of a client's connection.
#[derive(Debug)]
pub struct Session {
    mode: PoolMode,
    /// Named statements are followed over server connections.
    follow: bool,
    /// The rest of the present message goes to the server (or nowhere).
    rest_forward: bool,
    /// Its request was refused here: what follows is discarded up to Sync.
    skipping: bool,
    /// Bytes of the present message still to come.
    rest: usize,
    names: Option<Box<Names>>,
    unnamed: Option<Rc<Statement>>,
    pub(super) params: Rc<Params>,
}

impl Session {
    /// A client that has logged in. `follow`: whether its prepared statements
    /// are carried over server connections (never in session mode, where the
    /// server connection is its own).
    pub fn new(mode: PoolMode, follow: bool, params: Rc<Params>) -> Self {
        Session {
            mode,
            follow: follow && mode != PoolMode::Session,
            rest_forward: false,
            skipping: false,
            rest: 0,
            names: None,
            unnamed: None,
            params,
        }
    }

    pub fn mode(&self) -> PoolMode {
        self.mode
    }

    pub fn params(&self) -> &Rc<Params> {
        &self.params
    }

    /// Named statements that the client has.
    pub fn prepared_statements(&self) -> usize {
        self.names.as_ref().map_or(0, |names| names.len())
    }

    /// A name that the client has for the statement with this id.
    pub(super) fn name_of(&self, id: u64) -> Option<&[u8]> {
        let mut names = self.names.as_ref()?.iter();
        let (name, _) = names.find(|(_, statement)| statement.id == id)?;
        Some(name)
    }

    pub(super) fn statement_mode(&self) -> bool {
        self.mode == PoolMode::Statement
    }

    pub(super) fn forget_statements(&mut self) {
        self.names = None;
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
            if self.rest > 0 {
                let n = self.rest.min(bytes.len());
                if self.rest_forward {
                    out.forward(at..at + n);
                }
                self.rest -= n;
                at += n;
                if let Some(backend) = backend.as_deref_mut() {
                    backend.uploading = self.rest > 0 && self.rest_forward;
                }
                if self.rest > 0 {
                    return Ok((at, Stop::More { need: 0 }));
                }
                continue;
            }
            let Some(header) = Header::peek(bytes)? else {
                return Ok((at, Stop::More { need: 0 }));
            };
            let tag = FrontendTag::from_byte(header.tag).ok_or(ClientFault::Type(header.tag))?;
            if tag == FrontendTag::Terminate {
                return Ok((at, Stop::Terminate));
            }
            if bytes.len() < header.total && header.total <= HOLD {
                let need = header.total;
                return Ok((at, Stop::More { need }));
            }
            let message = Message {
                tag,
                total: header.total,
                bytes: bytes.get(..header.total).unwrap_or(bytes),
            };
            let step = match backend.as_deref_mut() {
                Some(backend) => self.linked(message, backend, out, to_client, shared),
                None => self.unlinked(message, to_client),
            };
            match step {
                Step::Done => at += header.total,
                Step::Pass => self.begin_rest(header.total, true),
                Step::Drop => self.begin_rest(header.total, false),
                Step::PassFrom(from) => {
                    at += from;
                    self.begin_rest(header.total - from, true);
                }
                Step::Hold => {
                    return Ok((at, Stop::More { need: header.total }));
                }
                Step::NeedServer => return Ok((at, Stop::NeedServer)),
                Step::Wait => return Ok((at, Stop::Wait)),
            }
        }
    }

    /// Refuses the request that begins with `input` and waits for a server, by
    /// an error that leaves the client connected; as PostgreSQL does, the rest
    /// of an extended request is discarded. Returns how much was taken.
    pub fn refuse(&mut self, input: &[u8], error: &[u8], to_client: &mut Vec<u8>) -> usize {
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
        self.rest = total;
        self.rest_forward = forward;
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
            FrontendTag::Close if self.follow => {
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
        let extended = match message.tag {
            FrontendTag::Query => {
                backend.unnamed = None;
                backend.unsynced = false;
                let unnamed = self.unnamed.take();
                backend.expect(Reply::Query { unnamed });
                return Step::Pass;
            }
            FrontendTag::FunctionCall => {
                backend.unsynced = false;
                backend.expect(Reply::FunctionCall);
                return Step::Pass;
            }
            FrontendTag::Execute => {
                backend.expect(Reply::Execute);
                Step::Pass
            }
            FrontendTag::Parse => self.parse(message, backend, out, to_client, shared),
            FrontendTag::Bind => self.bind(message, backend, out, shared),
            FrontendTag::Describe => self.describe(message, backend, out, shared),
            FrontendTag::Close => self.close(message, backend, to_client),
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

    fn parse(
        &mut self,
        message: Message<'_>,
        backend: &mut Backend,
        out: &mut Output<'_>,
        to_client: &mut Vec<u8>,
        shared: &mut Shared<'_>,
    ) -> Step {
        let plain = |backend: &mut Backend| {
            backend.expect(Reply::Parse {
                own: false,
                id: 0,
                undo: Undo::Nothing,
                alias: None,
            });
            Step::Pass
        };
        if !self.follow {
            return plain(backend);
        }
        let Some(body) = message.body() else {
            return Step::Hold;
        };
        let Some(view) = names::parse(body) else {
            // The server will refuse it.
            return plain(backend);
        };
        // The same bytes are another text in another encoding.
        let encoding = match view.definition.is_ascii() {
            true => &[],
            false => self.params.get(b"client_encoding").unwrap_or_default(),
        };
        let statement = shared.statements.intern(view.definition, encoding);
        if view.name.is_empty() {
            let before = self.unnamed.replace(statement.clone());
            backend.unnamed = Some(statement);
            backend.expect(Reply::Parse {
                own: false,
                id: 0,
                undo: Undo::Unnamed(before),
                alias: None,
            });
            return Step::Pass;
        }
        if backend.replies.names_in_doubt() {
            return Step::Wait;
        }
        add(&shared.counters.client_parse_count, 1);
        let names = self.names.get_or_insert_default();
        if names.contains_key(view.name) {
            // The name is taken: the server finds its own name taken, and
            // says so.
            prepare(backend, &statement, out, shared);
            build::parse(out.own(), &statement.server_name, view.definition);
            backend.expect(Reply::Parse {
                own: false,
                id: statement.id,
                undo: Undo::Nothing,
                alias: Some(view.name.into()),
            });
            return Step::Done;
        }
        names.insert(view.name.into(), statement.clone());
        let undo = Undo::Named(Box::new(NamedUndo {
            name: view.name.into(),
            before: None,
        }));
        let known = backend.prepared.get(&statement.id).is_some();
        let failed = backend.status() == TxStatus::Failed || backend.replies.may_fail();
        if known && !failed {
            self.local(backend, build::PARSE_COMPLETE, undo, to_client);
            return Step::Done;
        }
        if known {
            // In a transaction that has failed, or may, the server decides whether this may be
            // parsed at all, so it must see it.
            build::statement_message(out.own(), b'C', &statement.server_name);
            backend.expect(Reply::Close {
                own: true,
                evicted: Some(statement.clone()),
            });
            backend.prepared.pop(&statement.id);
        }
        make_room(backend, out);
        build::parse(out.own(), &statement.server_name, view.definition);
        add(&shared.counters.server_parse_count, 1);
        backend.expect(Reply::Parse {
            own: false,
            id: statement.id,
            undo,
            alias: None,
        });
        backend.prepared.put(statement.id, statement);
        Step::Done
    }

    fn bind(
        &mut self,
        message: Message<'_>,
        backend: &mut Backend,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Step {
        let plain = |backend: &mut Backend| {
            backend.expect(Reply::Bind { alias: None });
            Step::Pass
        };
        if !self.follow {
            return plain(backend);
        }
        let arrived = message.bytes.get(HEADER_LEN..).unwrap_or_default();
        let Some(view) = names::bind(arrived) else {
            return match message.body() {
                Some(_) => plain(backend),
                None => Step::Hold,
            };
        };
        if view.statement.is_empty() {
            if backend.replies.unnamed_in_doubt() {
                return Step::Wait;
            }
            self.have_unnamed(backend, out);
            return plain(backend);
        }
        if backend.replies.names_in_doubt() {
            return Step::Wait;
        }
        let rest_len = message.total - HEADER_LEN - view.rest;
        let known = self.names.as_ref().and_then(|n| n.get(view.statement));
        let alias = match known {
            Some(statement) => {
                prepare(backend, statement, out, shared);
                build::bind_front(out.own(), view.portal, &statement.server_name, rest_len);
                None
            }
            None => {
                build::bind_front(out.own(), view.portal, MISSING, rest_len);
                Some(view.statement.into())
            }
        };
        add(&shared.counters.bind_count, 1);
        backend.expect(Reply::Bind { alias });
        Step::PassFrom(HEADER_LEN + view.rest)
    }

    fn describe(
        &mut self,
        message: Message<'_>,
        backend: &mut Backend,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Step {
        if self.follow {
            let Some(body) = message.body() else {
                return Step::Hold;
            };
            match names::target(body) {
                Some(Target::Statement(b"")) if backend.replies.unnamed_in_doubt() => {
                    return Step::Wait;
                }
                Some(Target::Statement(b"")) => self.have_unnamed(backend, out),
                Some(Target::Statement(_)) if backend.replies.names_in_doubt() => {
                    return Step::Wait;
                }
                Some(Target::Statement(name)) => {
                    let known = self.names.as_ref().and_then(|n| n.get(name));
                    let alias = match known {
                        Some(statement) => {
                            prepare(backend, statement, out, shared);
                            build::statement_message(out.own(), b'D', &statement.server_name);
                            None
                        }
                        None => {
                            build::statement_message(out.own(), b'D', MISSING);
                            Some(name.into())
                        }
                    };
                    backend.expect(Reply::Describe { alias });
                    return Step::Done;
                }
                Some(Target::Portal(_)) | None => {}
            }
        }
        backend.expect(Reply::Describe { alias: None });
        Step::Pass
    }

    fn close(
        &mut self,
        message: Message<'_>,
        backend: &mut Backend,
        to_client: &mut Vec<u8>,
    ) -> Step {
        if self.follow {
            let Some(body) = message.body() else {
                return Step::Hold;
            };
            if let Some(Target::Statement(name)) = names::target(body) {
                if backend.replies.names_in_doubt() {
                    return Step::Wait;
                }
                // The statement stays on the server for others.
                let undo = self.remove(name);
                self.local(backend, build::CLOSE_COMPLETE, undo, to_client);
                return Step::Done;
            }
        }
        backend.expect(Reply::Close {
            own: false,
            evicted: None,
        });
        Step::Pass
    }

    /// Takes a name away.
    fn remove(&mut self, name: &[u8]) -> Undo {
        if name.is_empty() {
            return Undo::Unnamed(self.unnamed.take());
        }
        match self.names.as_mut().and_then(|names| names.remove(name)) {
            Some(statement) => Undo::Named(Box::new(NamedUndo {
                name: name.into(),
                before: Some(statement),
            })),
            None => Undo::Nothing,
        }
    }

    /// Puts names back as they were before a message that the server skipped
    /// or refused.
    pub(super) fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Unnamed(before) => self.unnamed = before,
            Undo::Named(named) => {
                let names = self.names.get_or_insert_default();
                match named.before {
                    Some(statement) => names.insert(named.name, statement),
                    None => names.remove(&named.name),
                };
            }
        }
    }

    /// Makes the server's unnamed statement the client's.
    fn have_unnamed(&self, backend: &mut Backend, out: &mut Output<'_>) {
        match (&self.unnamed, &backend.unnamed) {
            (Some(mine), Some(there)) if Rc::ptr_eq(mine, there) => {}
            (Some(mine), _) => {
                build::parse(out.own(), b"", &mine.definition);
                backend.unnamed = Some(mine.clone());
                backend.expect(Reply::Parse {
                    own: true,
                    id: 0,
                    undo: Undo::Nothing,
                    alias: None,
                });
            }
            (None, _) => {
                // There may be somebody else's.
                build::statement_message(out.own(), b'C', b"");
                backend.unnamed = None;
                backend.expect(Reply::Close {
                    own: true,
                    evicted: None,
                });
            }
        }
    }

    /// Replies ourselves: now, or when the server has answered what is ahead.
    fn local(
        &self,
        backend: &mut Backend,
        bytes: &'static [u8],
        undo: Undo,
        to_client: &mut Vec<u8>,
    ) {
        if backend.replies.is_empty() && !backend.is_inside_message() {
            to_client.extend_from_slice(bytes);
        } else {
            backend.expect(Reply::Local { bytes, undo });
        }
    }
}

/// Makes sure that the server has the statement, by a Parse of our own in
/// front of what the client sends.
fn prepare(
    backend: &mut Backend,
    statement: &Rc<Statement>,
    out: &mut Output<'_>,
    shared: &mut Shared<'_>,
) {
    if backend.prepared.get(&statement.id).is_some() {
        return;
    }
    make_room(backend, out);
    build::parse(out.own(), &statement.server_name, &statement.definition);
    add(&shared.counters.server_parse_count, 1);
    backend.expect(Reply::Parse {
        own: true,
        id: statement.id,
        undo: Undo::Nothing,
        alias: None,
    });
    backend.prepared.put(statement.id, statement.clone());
}

/// Evicts the statement that was not used for the longest time when the
/// server keeps as many as it may.
fn make_room(backend: &mut Backend, out: &mut Output<'_>) {
    while backend.prepared.len() >= backend.max_prepared.max(1) {
        let Some((_, evicted)) = backend.prepared.pop_lru() else {
            return;
        };
        build::statement_message(out.own(), b'C', &evicted.server_name);
        backend.expect(Reply::Close {
            own: true,
            evicted: Some(evicted),
        });
    }
}

/// A message, or as much of it as has arrived.
#[derive(Clone, Copy)]
struct Message<'a> {
    tag: FrontendTag,
    total: usize,
    bytes: &'a [u8],
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
    NeedServer,
}
