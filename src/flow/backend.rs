//! The server's half of a link.

mod answers;
mod channels;
mod lapses;
mod packed;
mod prepared;
mod stock;

use std::rc::Rc;
use std::sync::Arc;

use lru::LruCache;
use thiserror::Error;

use super::params::set_statement;
use super::pins::Place;
use super::replies::{OwnQuery, Replies, Reply};
use super::schema::Schema;
use super::session::MISSING;
use super::statements::Statement;
use super::traces::Traces;
use super::{Outlook, Output, Params, Session, Shared};
use crate::sql::Encoding;
use crate::sql::effects::Features;
use crate::sql::listen::Channel;
use crate::stats::add;
use crate::wire::{FrameError, TxStatus, build};

pub(super) use lapses::Lapse;
pub use packed::{PackedBackend, WrittenBackend};
use prepared::{Callers, Prepared};
pub(super) use prepared::{Doubt, Fitness};

/// Once so many replies are owed nothing more is asked for: some requests cost
/// the server nothing, so that it would never slow their client down.
const MANY_OWED: usize = 16 * 1024;

/// The server said something that it could not say here, or refused what it
/// must not refuse. The link ends; the connection is not used again.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ServerFault {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("unexpected message {tag:?} from the server")]
    Unexpected { tag: char },
    #[error("message {tag:?} of {total} bytes from the server is too long")]
    TooLong { tag: char, total: usize },
    #[error("the server refused to set the client's parameters: {0}")]
    Parameters(String),
    #[error("transaction blocks not allowed in statement pooling mode")]
    TransactionInStatementMode,
}

/// May the server connection go to somebody else?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It owes nothing, is outside a transaction, and its state is known.
    Ready,
    /// Not as it is, but it can be cleaned.
    Dirty,
    /// It can only be closed.
    Broken,
}

/// The answer to a look-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// How many columns the rows have; `None`: the query gives no rows.
    pub columns: Option<u16>,
    /// Bodies of DataRow messages: of the first two, so that one can be told from
    /// several.
    pub rows: Vec<Vec<u8>>,
    /// Body of the ErrorResponse, if there was one.
    pub error: Option<Vec<u8>>,
}

/// The pure half of a server connection.
#[derive(Debug)]
pub struct Backend {
    pub(super) replies: Replies,
    /// An error has come and the client's Sync has not been sent: the server
    /// ignores everything else.
    pub(super) skipping: bool,
    /// A message of the extended protocol was sent after the last Sync. (A
    /// simple query ends the transaction as Sync does.)
    pub(super) unsynced: bool,
    /// In copy-in mode, and its end has not been sent.
    pub(super) copy_in: bool,
    /// So many Syncs the COPY under way made the server ignore.
    syncs_ignored: usize,
    /// So many Syncs may have been ignored by a COPY that failed, or not: what
    /// the server answers next tells.
    ambiguous: usize,
    /// Part of a client's message was sent and the rest must follow.
    pub(super) uploading: bool,
    status: TxStatus,
    prepared: LruCache<u64, Prepared>,
    callers: Callers,
    /// Running one of its statements by its name may leave more than the text says.
    pub(super) hides_effects: bool,
    max_prepared: usize,
    pub(super) unnamed: Option<Rc<Statement>>,
    pub(super) doubt: Doubt,
    pub(super) schema: Arc<Schema>,
    /// The present transaction may have changed it.
    schema_in_doubt: bool,
    params: Rc<Params>,
    /// What it reported when it had logged in: what RESET goes back to.
    defaults: Rc<Params>,
    /// Bytes of a streamed message still to come, and whether the client gets
    /// them.
    rest: usize,
    rest_forward: bool,
    /// Body of the ErrorResponse to the last housekeeping query.
    own_error: Option<Vec<u8>>,
    /// What a look-up under way has found.
    finding: Option<Box<Finding>>,
    /// The server is about to close, or must not be used again.
    ending: bool,
    /// Its socket is dead.
    lost: bool,
    /// What it listens to although another connection does: its client's LISTEN has
    /// run here.
    listens: Vec<Channel>,
    /// Where in the bytes for the client a ReadyForQuery begins that it is to get
    /// later, with all that follows.
    later: Option<usize>,
    /// Of the present request.
    outlook: Outlook,
    /// What the client may have left in the session since that was last known.
    pub(super) traces: Option<Box<Traces>>,
    /// What it has left there.
    pins: Features,
    place: Option<Place>,
    alters_defaults: bool,
    queries: u64,
}

impl Backend {
    /// A connection that has just logged in, with what it reported.
    /// `max_prepared` bounds the named statements that it keeps.
    pub fn new(params: Rc<Params>, max_prepared: usize) -> Self {
        Backend {
            replies: Replies::default(),
            skipping: false,
            unsynced: false,
            copy_in: false,
            syncs_ignored: 0,
            ambiguous: 0,
            uploading: false,
            status: TxStatus::Idle,
            prepared: LruCache::unbounded(),
            callers: Callers::default(),
            hides_effects: false,
            max_prepared,
            unnamed: None,
            doubt: Doubt::None,
            schema: Arc::default(),
            schema_in_doubt: false,
            defaults: params.clone(),
            params,
            rest: 0,
            rest_forward: false,
            own_error: None,
            finding: None,
            ending: false,
            lost: false,
            listens: Vec::new(),
            later: None,
            outlook: Outlook::Served,
            traces: None,
            pins: Features::empty(),
            place: None,
            alters_defaults: false,
            queries: 0,
        }
    }

    pub fn params(&self) -> &Rc<Params> {
        &self.params
    }

    pub fn status(&self) -> TxStatus {
        self.status
    }

    /// Queries of clients that were answered: simple ones, and Syncs.
    pub fn queries(&self) -> u64 {
        self.queries
    }

    /// Named statements that the server keeps.
    pub fn prepared_statements(&self) -> usize {
        self.prepared.len()
    }

    /// Whether the server may be working on something that a cancel could
    /// stop.
    pub fn is_busy(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Whether the server has sent a part of a message and owes the rest.
    pub fn is_inside_message(&self) -> bool {
        self.rest > 0
    }

    /// Bytes that are still to come of the message whose beginning was taken.
    pub fn rest(&self) -> u32 {
        // No frame is longer: its length is an i32.
        self.rest as u32
    }

    /// Whether its client is to wait before it asks for more. The replies come
    /// without a Sync: a Flush was sent.
    pub fn owes_many(&self) -> bool {
        self.replies.len() >= MANY_OWED && !self.uploading
    }

    /// Whether the client is in the middle of a request, as far as it was sent.
    pub fn takes_more(&self) -> bool {
        self.unsynced || self.uploading || self.copy_in
    }

    /// Whether the present request could still be repeated on another server.
    pub fn outlook(&self) -> Outlook {
        self.outlook
    }

    /// A request begins, with [`Outlook::Open`] or [`Outlook::Here`]; the client is
    /// told nothing while that does not change.
    pub fn begin_attempt(&mut self, outlook: Outlook) {
        self.outlook = outlook;
    }

    /// Appends a Sync to a request that has failed without one; its answer is the
    /// client's, unless somebody keeps it back.
    pub fn synchronise(&mut self, out: &mut Vec<u8>) {
        if self.skipping {
            out.extend_from_slice(build::SYNC);
            self.expect_sync();
        }
    }

    /// Whatever comes is for the client.
    pub fn end_attempt(&mut self) {
        self.outlook = Outlook::Served;
    }

    /// Whether nothing is owed and no message is half sent, in either
    /// direction. (A transaction may be open.)
    pub fn is_settled(&self) -> bool {
        self.replies.is_empty()
            && !self.unsynced
            && !self.skipping
            && !self.copy_in
            && !self.uploading
            && self.rest == 0
    }

    /// The one place that decides whether a connection may be used again.
    pub fn release(&self) -> Release {
        if self.ending || self.lost || self.uploading {
            return Release::Broken;
        }
        let clean = self.is_settled()
            && self.ambiguous == 0
            && self.status == TxStatus::Idle
            && self.listens.is_empty();
        if clean {
            Release::Ready
        } else {
            Release::Dirty
        }
    }

    /// The connection to the server has ended or failed.
    pub fn set_lost(&mut self) {
        self.lost = true;
        self.end_transaction();
    }

    /// A FATAL error has passed: the server is about to close.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Begins to serve `session`: what differs in its parameters is set ahead
    /// of its first message, in the same write. News about the server itself
    /// goes to the client.
    pub fn adopt(
        &mut self,
        session: &mut Session,
        out: &mut Output<'_>,
        to_client: &mut Vec<u8>,
        shared: &mut Shared<'_>,
    ) {
        self.recite(session, out);
        if Rc::ptr_eq(&self.params, &session.params) {
            return;
        }
        let (wanted, news) = session.params.with_fixed_of(&self.params);
        for (name, value) in news {
            build::parameter_status(to_client, &name, &value);
        }
        let changes = self.params.changes_to(&wanted);
        if !changes.is_empty() {
            let mut sql = Vec::new();
            set_statement(&mut sql, &changes);
            self.own_query(OwnQuery::Parameters, &sql, out.own());
            add(&shared.counters.parameter_sync_count, 1);
        }
        session.params = shared.params.intern(wanted);
        self.params = session.params.clone();
    }

    /// Appends the query that gives the session these parameters, without a
    /// client: housekeeping. If the server refuses, [`Backend::assume`] what it
    /// was before. False: it has them already.
    pub fn set_parameters(&mut self, wanted: &Rc<Params>, out: &mut Vec<u8>) -> bool {
        let changes = self.params.changes_to(wanted);
        if changes.is_empty() {
            return false;
        }
        let mut sql = Vec::new();
        set_statement(&mut sql, &changes);
        self.own_query(OwnQuery::Housekeeping, &sql, out);
        self.params = wanted.clone();
        true
    }

    /// The server is known to have these parameters.
    pub fn assume(&mut self, params: Rc<Params>) {
        self.params = params;
    }

    /// Appends a query of our own; its answer will be swallowed.
    pub fn own_query(&mut self, query: OwnQuery, sql: &[u8], out: &mut Vec<u8>) {
        build::query(out, sql);
        // A simple query drops the unnamed statement (postgres.c,
        // exec_simple_query).
        self.unnamed = None;
        self.replies.push(Reply::Own {
            query,
            answered: false,
            error: None,
        });
    }

    /// Appends a query with one parameter, whose answer [`Backend::take_finding`]
    /// gives once the connection is settled.
    pub fn look_up(&mut self, query: &[u8], parameter: &[u8], out: &mut Vec<u8>) {
        build::query_with(out, query, parameter);
        self.unnamed = None;
        self.finding = Some(Box::default());
        self.replies.push(Reply::Own {
            query: OwnQuery::LookUp,
            answered: false,
            error: None,
        });
    }

    /// What the last look-up has found; nobody wants to know any more what one
    /// under way will find.
    pub fn take_finding(&mut self) -> Option<Box<Finding>> {
        self.finding.take()
    }

    /// The error that the last housekeeping query met, if it did: the body of
    /// the ErrorResponse.
    pub fn take_own_error(&mut self) -> Option<Vec<u8>> {
        self.own_error.take()
    }

    /// Appends what ends an abandoned client's last request without committing
    /// it: CopyFail, an error, Sync, as needed. Replies are still owed
    /// afterwards.
    pub fn abandon(&mut self, out: &mut Vec<u8>) {
        if self.copy_in {
            build::copy_fail(out, "client disconnected");
            self.copy_in = false;
        } else if self.unsynced && !self.skipping {
            // A COPY may be about to begin, and takes nothing but its end; if
            // there is none, that is ignored.
            build::copy_fail(out, "client disconnected");
            self.expect_copy_end();
            // Sync commits what stands before it; PostgreSQL would roll it
            // back. An error does that, too: there is no such portal.
            build::execute(out, MISSING);
            self.expect(Reply::Execute { script: None });
        }
        if self.unsynced || self.skipping {
            out.extend_from_slice(build::SYNC);
            self.expect_sync();
        }
    }

    /// Appends the rollback that a settled but abandoned connection needs, if
    /// it does. It also tells whether a stray reply is still to come.
    pub fn rollback(&mut self, out: &mut Vec<u8>) -> bool {
        let needed = self.status != TxStatus::Idle || self.ambiguous > 0;
        if needed {
            self.own_query(OwnQuery::Housekeeping, b"ROLLBACK", out);
        }
        needed
    }

    fn encoding(&self) -> Encoding {
        Encoding::of_client_encoding(encoding(&self.params))
    }

    /// Whether nothing is owed but answers that no client waits for.
    pub fn is_tidying(&self) -> bool {
        self.is_busy() && self.is_at_rest()
    }

    /// From where on the client gets later what [`Backend::from_server`] gave for
    /// it: when the notifications are there that come before it.
    pub fn take_later(&mut self) -> Option<usize> {
        self.later.take()
    }

    /// A message was sent and will be answered.
    pub(super) fn expect(&mut self, reply: Reply) {
        if self.doubt == Doubt::Flushed {
            self.doubt = Doubt::Unsettled;
        }
        self.replies.push(reply);
    }

    /// A Sync was sent.
    pub(super) fn expect_sync(&mut self) {
        if self.copy_in {
            self.syncs_ignored += 1;
            return;
        }
        self.unsynced = false;
        self.skipping = false;
        self.replies.push(Reply::Sync);
    }

    /// CopyDone or CopyFail was sent.
    pub(super) fn expect_copy_end(&mut self) {
        self.copy_in = false;
        if !self.replies.is_empty() {
            self.replies.push(Reply::CopyEnd);
        }
    }
}

/// The encoding of a session's values.
fn encoding(params: &Params) -> &[u8] {
    params.get(b"client_encoding").unwrap_or(b"UTF8")
}
