//! What the server says, and what it settles.

use std::rc::Rc;

use super::{Backend, Doubt, Fitness, Lapse, ServerFault};
use crate::flow::error_fields::{self, Severity};
use crate::flow::params::ROLE;
use crate::flow::replies::{Alias, OwnQuery, Reply, Undo};
use crate::flow::session::MISSING;
use crate::flow::{Outlook, Output, Session, Shared, schema};
use crate::stats::add;
use crate::wire::{BackendTag, HEADER_LEN, Header, TxStatus};

/// Messages that must be looked at are held whole up to this size, in bytes.
/// An ErrorResponse above it passes unseen; anything else above it is a fault.
const MAX_HELD: usize = 1 << 20;

impl Backend {
    /// Walks what the server sent. `session` is the client that it serves, if
    /// there is one. Returns how much was taken: an incomplete message that
    /// must be seen whole is left for the next call. After a fault the
    /// connection is broken ([`super::Release`]).
    pub fn from_server(
        &mut self,
        session: Option<&mut Session>,
        input: &[u8],
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Result<usize, ServerFault> {
        let result = self.walk(session, input, out, shared);
        self.ending |= result.is_err();
        result
    }

    fn walk(
        &mut self,
        mut session: Option<&mut Session>,
        input: &[u8],
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Result<usize, ServerFault> {
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
                if self.rest > 0 {
                    return Ok(at);
                }
                self.give_local_replies(session.is_some(), out);
                continue;
            }
            let Some(header) = Header::peek_within(bytes, shared.bounds.longest)? else {
                return Ok(at);
            };
            let shown = header.tag as char;
            let Some(tag) = BackendTag::from_byte(header.tag) else {
                return Err(ServerFault::Unexpected { tag: shown });
            };
            let whole = bytes.get(..header.total);
            if whole.is_none()
                && (must_be_whole(tag) || self.is_found_in(tag) || self.tells_columns(tag))
            {
                if header.total <= MAX_HELD {
                    return Ok(at);
                }
                if tag != BackendTag::ErrorResponse {
                    let total = header.total;
                    return Err(ServerFault::TooLong { tag: shown, total });
                }
            }
            let deliver = if session.is_some() && self.takes_plainly(tag) {
                Deliver::Forward
            } else {
                let body = whole.and_then(|m| m.get(HEADER_LEN..)).unwrap_or_default();
                self.message(tag, body, session.as_deref_mut(), out, shared)?
                    .ok_or(ServerFault::Unexpected { tag: shown })?
            };
            // The next ones of a result change nothing either.
            let length = match deliver {
                Deliver::Forward if is_data(tag) && whole.is_some() => {
                    Header::run_of(header.tag, bytes, shared.bounds.longest)
                }
                _ => header.total.min(bytes.len()),
            };
            let end = at + length;
            let forward = match deliver {
                Deliver::Forward => session.is_some(),
                Deliver::Later => {
                    self.later.get_or_insert(out.collected());
                    true
                }
                Deliver::Swallow => false,
                Deliver::Instead(message) => {
                    out.own().extend_from_slice(&message);
                    false
                }
            };
            if forward {
                out.forward(at..end);
            }
            self.rest = header.total.saturating_sub(length);
            self.rest_forward = forward;
            at = end;
            if self.rest == 0 {
                self.give_local_replies(session.is_some(), out);
            }
        }
    }

    /// Takes a message off the queue if it is what the client has asked for and nothing
    /// in it matters: a short way for those that come most often, which does what
    /// [`Backend::message`] would.
    #[inline]
    fn takes_plainly(&mut self, tag: BackendTag) -> bool {
        use BackendTag as B;
        match (self.replies.front(), tag) {
            (Some(Reply::Query { .. }), B::RowDescription) => {}
            (Some(Reply::Query { .. } | Reply::Execute { .. }), tag) if is_data(tag) => {
                self.served();
            }
            (Some(Reply::Parse { own: false, .. }), B::ParseComplete)
            | (Some(Reply::Bind { .. }), B::BindComplete) => self.take_answered(),
            _ => return false,
        }
        self.ambiguous = 0;
        true
    }

    /// The first message that was asked is answered.
    #[inline]
    fn take_answered(&mut self) {
        self.replies.pop();
        if self.doubt.awaits_answer() && self.replies.is_empty() {
            self.doubt = Doubt::Answered;
        }
    }

    /// One message. `None`: it does not fit here.
    fn message(
        &mut self,
        tag: BackendTag,
        body: &[u8],
        mut session: Option<&mut Session>,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Result<Option<Deliver>, ServerFault> {
        match tag {
            BackendTag::NoticeResponse | BackendTag::NotificationResponse => {
                let own = match tag {
                    BackendTag::NoticeResponse => {
                        self.note_notice();
                        self.is_own_next()
                    }
                    // It comes from the connection that listens for all.
                    _ => self.is_heard_twice(body, session.as_deref()),
                };
                Ok(Some(Deliver::forward_unless(own)))
            }
            BackendTag::ParameterStatus => Ok(self.parameter_status(body, session, shared)),
            BackendTag::ErrorResponse => {
                add(&shared.counters.server_error_count, 1);
                Ok(Some(self.error(body, session)))
            }
            BackendTag::ReadyForQuery => {
                let statement_mode = session.as_ref().is_some_and(|s| s.statement_mode());
                let Some(status) = body.first().and_then(|&b| TxStatus::from_byte(b)) else {
                    return Ok(None);
                };
                let deliver = self.ready(status, &mut session, shared)?;
                if self.traces.is_some() {
                    let news = self.end_lapses(session, shared);
                    out.own().extend_from_slice(&news);
                }
                if matches!(deliver, Some(Deliver::Forward | Deliver::Later)) {
                    self.served();
                    add(&shared.counters.query_count, 1);
                    let ended = status == TxStatus::Idle;
                    add(&shared.counters.xact_count, u64::from(ended));
                }
                if statement_mode && status != TxStatus::Idle {
                    return Err(ServerFault::TransactionInStatementMode);
                }
                Ok(deliver)
            }
            BackendTag::CommandComplete => {
                if let Some(session) = session.as_deref_mut() {
                    self.follow_channels(body, session);
                }
                self.command_complete(body, session, shared);
                Ok(self.answer(tag, body))
            }
            _ => Ok(self.answer(tag, body)),
        }
    }

    /// Whether what the server does now was not asked for by the client.
    fn is_own_next(&self) -> bool {
        self.replies.front().is_some_and(Reply::is_own)
    }

    /// Whether a look-up may want to know what the message says.
    fn is_found_in(&self, tag: BackendTag) -> bool {
        self.finding.is_some() && matches!(tag, BackendTag::RowDescription | BackendTag::DataRow)
    }

    fn find(&mut self, tag: BackendTag, body: &[u8]) {
        let most = if self.is_taking_stock() {
            usize::MAX
        } else {
            2
        };
        match (&mut self.finding, tag) {
            (Some(finding), BackendTag::RowDescription) => {
                finding.columns = body.first_chunk().map(|count| u16::from_be_bytes(*count));
            }
            (Some(finding), BackendTag::DataRow) if finding.rows.len() < most => {
                finding.rows.push(body.to_vec());
            }
            _ => {}
        }
    }

    /// Takes what `tag` answers off the queue.
    fn answer(&mut self, tag: BackendTag, body: &[u8]) -> Option<Deliver> {
        use BackendTag as B;
        let (own, last) = match (self.replies.front_mut()?, tag) {
            (Reply::Parse { own, .. }, B::ParseComplete) => (*own, true),
            (Reply::Close { own, .. }, B::CloseComplete) => (*own, true),
            (Reply::Bind { .. }, B::BindComplete) => (false, true),
            (Reply::Describe { own, .. }, B::ParameterDescription) => (*own, false),
            (Reply::Describe { own, .. }, B::RowDescription | B::NoData) => {
                let own = *own;
                if self.tells_columns(tag) {
                    self.note_columns(body);
                }
                (own, true)
            }
            (
                Reply::Execute { .. },
                B::CommandComplete | B::EmptyQueryResponse | B::PortalSuspended,
            ) => {
                self.syncs_ignored = 0;
                (false, true)
            }
            (Reply::Execute { .. } | Reply::Query { .. }, B::CopyInResponse) => {
                self.begin_copy_in();
                (false, false)
            }
            (
                Reply::Execute { .. } | Reply::Query { .. },
                B::DataRow | B::CopyOutResponse | B::CopyBothResponse | B::CopyData | B::CopyDone,
            ) => (false, false),
            (Reply::Query { .. }, B::CommandComplete) => {
                self.syncs_ignored = 0;
                (false, false)
            }
            (Reply::Query { .. }, B::RowDescription | B::EmptyQueryResponse) => (false, false),
            (Reply::FunctionCall, B::FunctionCallResponse) => (false, false),
            (Reply::Own { answered, .. }, B::CommandComplete | B::EmptyQueryResponse) => {
                *answered = true;
                (true, false)
            }
            (Reply::Own { .. }, B::RowDescription | B::DataRow) => (true, false),
            (
                Reply::Own {
                    query: OwnQuery::LookUp,
                    ..
                },
                B::ParseComplete | B::BindComplete | B::NoData,
            ) => (true, false),
            _ => return None,
        };
        if last {
            self.take_answered();
        }
        if own {
            self.find(tag, body);
        }
        if !own && !is_said_again(tag) {
            self.served();
        }
        // The answer to a Sync before this would have come before it.
        self.ambiguous = 0;
        Some(Deliver::forward_unless(own))
    }

    /// An answer that counts has come.
    #[inline]
    fn served(&mut self) {
        if self.outlook.is_open() {
            self.outlook = Outlook::Served;
        }
    }

    fn begin_copy_in(&mut self) {
        let extended = matches!(self.replies.front(), Some(Reply::Execute { .. }));
        let Some(syncs) = self.replies.enter_copy_in() else {
            return;
        };
        self.copy_in = !syncs.end_sent;
        self.syncs_ignored = syncs.ignored;
        if extended && !syncs.sync_follows {
            self.unsynced = true;
        }
    }

    fn ready(
        &mut self,
        status: TxStatus,
        session: &mut Option<&mut Session>,
        shared: &mut Shared<'_>,
    ) -> Result<Option<Deliver>, ServerFault> {
        if self.ambiguous > 0
            && !matches!(self.replies.front(), Some(Reply::Sync | Reply::Own { .. }))
        {
            // The Sync was not ignored: the COPY had failed before it was read.
            self.ambiguous -= 1;
            self.skipping = false;
            self.unsynced &= !self.replies.is_empty();
            self.set_status(status);
            return Ok(Some(Deliver::Forward));
        }
        match self.replies.front_mut() {
            Some(Reply::Query { .. } | Reply::FunctionCall | Reply::Sync) => {
                self.replies.pop();
                self.set_status(status);
                // A COPY in the simple protocol is over here at the latest.
                self.copy_in = false;
                self.queries += 1;
                let channels = session.as_mut().and_then(|s| s.channels_mut());
                let later = channels.is_some_and(|channels| channels.ready(status));
                Ok(Some(if later {
                    Deliver::Later
                } else {
                    Deliver::Forward
                }))
            }
            Some(Reply::Own {
                query,
                answered,
                error,
            }) => {
                if !*answered {
                    return Ok((self.ambiguous > 0).then_some(Deliver::Swallow));
                }
                let (query, error) = (*query, error.take());
                self.replies.pop();
                self.set_status(status);
                self.ambiguous = 0;
                match (query, error) {
                    (OwnQuery::Parameters, Some(error)) => {
                        Err(ServerFault::Parameters(error_fields::summary(&error)))
                    }
                    (OwnQuery::Parameters, None) => {
                        if let Some(session) = session {
                            session.params = self.params.clone();
                        }
                        Ok(Some(Deliver::Swallow))
                    }
                    (OwnQuery::Housekeeping, error) => {
                        self.own_error = error;
                        Ok(Some(Deliver::Swallow))
                    }
                    (OwnQuery::LookUp, error) => {
                        if let Some(finding) = &mut self.finding {
                            finding.error = error;
                        }
                        Ok(Some(Deliver::Swallow))
                    }
                    (OwnQuery::Restore, error) => {
                        let news = self.restored(error, session.as_deref_mut(), shared)?;
                        Ok(Some(Deliver::Instead(news)))
                    }
                    (OwnQuery::Stock, error) => {
                        let finding = self.finding.take().filter(|_| error.is_none());
                        let mut to_client = Vec::new();
                        let session = session.as_deref_mut();
                        self.conclude(finding.as_deref(), session, &mut to_client, shared);
                        Ok(Some(Deliver::Instead(to_client)))
                    }
                    (OwnQuery::Guard, _) => Ok(Some(Deliver::Swallow)),
                }
            }
            _ => Ok(None),
        }
    }

    fn set_status(&mut self, status: TxStatus) {
        self.status = status;
        if self.replies.is_empty() {
            self.doubt = Doubt::None;
        }
        if status == TxStatus::Idle {
            self.end_transaction();
        }
    }

    /// What the transaction did to the schema holds from now on, or never.
    pub(super) fn end_transaction(&mut self) {
        if std::mem::take(&mut self.schema_in_doubt) {
            self.schema.change();
        }
    }

    /// An error ends whatever stands at the front, and in the extended
    /// protocol everything up to the next Sync. Manual, "Extended Query":
    /// "the backend ... reads and discards messages until a Sync is reached".
    fn error(&mut self, body: &[u8], session: Option<&mut Session>) -> Deliver {
        if error_fields::severity(body) == Severity::Fatal {
            self.ending = true;
        }
        if let Some(Reply::Own {
            answered, error, ..
        }) = self.replies.front_mut()
        {
            *answered = true;
            *error = Some(body.to_vec());
            // The server's farewell is for the client.
            return Deliver::forward_unless(!self.ending);
        }
        let mut session = session;
        if self.replies.are_guarded() && !self.ending {
            let (skipped, _) = self.replies.skip_to_sync();
            self.take_back(skipped, session);
            return Deliver::Swallow;
        }
        if let Some(traces) = &mut self.traces {
            traces.fail();
            traces.lapses.retain(Lapse::outlasts_error);
        }
        if let Some(channels) = session.as_mut().and_then(|s| s.channels_mut()) {
            channels.fail();
        }
        let stale = self.note_stale(body);
        self.outlook = self.outlook.after_error(body, stale);
        self.copy_in = false;
        self.ambiguous = std::mem::take(&mut self.syncs_ignored);
        let rewritten = match self.replies.front() {
            // An error while idle is the server's farewell.
            None => {
                self.ending = true;
                return Deliver::Forward;
            }
            Some(Reply::Query { .. } | Reply::FunctionCall) => return Deliver::Forward,
            Some(front) => rewritten(front, body).or_else(|| {
                let session = session.as_deref()?;
                let id = error_fields::statement_id(body)?;
                let name = session.name_of(id)?;
                error_fields::rename(body, format!("pgweir_{id}").as_bytes(), name)
            }),
        };
        let (skipped, sync_sent) = self.replies.skip_to_sync();
        self.skipping = !sync_sent;
        if skipped.iter().any(Reply::is_own) {
            self.mix_names();
        }
        self.take_back(skipped, session);
        rewritten.map_or(Deliver::Forward, Deliver::Instead)
    }

    /// Undoes what skipped messages were to do to names. Last first: the very
    /// last was not skipped but refused.
    fn take_back(&mut self, skipped: Vec<Reply>, mut session: Option<&mut Session>) {
        let count = skipped.len();
        let (mut unnamed, mut replaced) = (None, None);
        for (n, reply) in skipped.into_iter().enumerate() {
            let undo = match reply {
                // With an alias the name is taken already, by what was there
                // before.
                Reply::Parse { alias: Some(_), .. } => continue,
                Reply::Parse { id: 0, undo, .. } => {
                    let replies = &mut self.replies;
                    if !*replaced.get_or_insert_with(|| replies.unnamed_undo().is_some()) {
                        self.unnamed = None;
                    }
                    match undo {
                        // It was dropped before the new one was looked at
                        // (postgres.c, exec_parse_message).
                        Undo::Unnamed(_) if n + 1 == count => Undo::Unnamed(None),
                        undo => undo,
                    }
                }
                Reply::Parse { id, undo, .. } => {
                    self.prepared.pop(&id);
                    undo
                }
                Reply::Close {
                    evicted: Some(statement),
                    ..
                } => {
                    self.keep(statement);
                    continue;
                }
                Reply::Describe { own: true, id, .. } => {
                    self.set_fitness(id, Fitness::Fit);
                    continue;
                }
                Reply::Local { undo, .. } => undo,
                Reply::Query { unnamed, .. } => Undo::Unnamed(unnamed),
                _ => continue,
            };
            match undo {
                Undo::Unnamed(before) => unnamed = Some(before),
                undo => {
                    if let Some(session) = session.as_deref_mut() {
                        session.take_back(undo);
                    }
                }
            }
        }
        let Some(before) = unnamed else {
            return;
        };
        // What was sent after the next Sync has replaced it already, and would go back to
        // this.
        if let Some(later) = self.replies.unnamed_undo() {
            *later = before;
        } else if let Some(session) = session {
            session.take_back(Undo::Unnamed(before));
        }
    }

    fn parameter_status(
        &mut self,
        body: &[u8],
        session: Option<&mut Session>,
        shared: &mut Shared<'_>,
    ) -> Option<Deliver> {
        let (name, rest) = crate::wire::names::split_nul(body)?;
        let (value, _) = crate::wire::names::split_nul(rest)?;
        let mut params = (*self.params).clone();
        params.set(name, value, true);
        let before = std::mem::replace(&mut self.params, shared.params.intern(params));
        let own = matches!(self.replies.front(), Some(Reply::Own { .. }));
        if let Some(traces) = self.traces.as_mut().filter(|_| !own) {
            traces.note_report(name, before.get(name));
        }
        if !own && self.has_lapsed(name) {
            return Some(Deliver::Swallow);
        }
        if let Some(session) = session.filter(|_| !own) {
            session.keep_start();
            if Rc::ptr_eq(&before, &session.params) {
                session.params = self.params.clone();
            } else {
                let mut params = (*session.params).clone();
                params.set(name, value, true);
                session.params = shared.params.intern(params);
            }
        }
        Some(Deliver::forward_unless(own))
    }

    /// Some commands drop what is followed here, or change what it means.
    fn command_complete(
        &mut self,
        body: &[u8],
        session: Option<&mut Session>,
        shared: &mut Shared<'_>,
    ) {
        if schema::is_changed_by(body) {
            self.schema_in_doubt = true;
            return;
        }
        let (statements, settings) = match body {
            b"DISCARD ALL\0" => (true, true),
            b"DEALLOCATE ALL\0" => (true, false),
            b"DISCARD SEQUENCES\0" => return self.sequences_discarded(),
            b"ROLLBACK\0" => {
                if let Some(traces) = &mut self.traces {
                    traces.fail();
                }
                return;
            }
            b"RESET\0" => (false, true),
            _ => return,
        };
        if statements && settings {
            self.all_discarded();
            self.commit_lapses();
        }
        if statements {
            self.have_none();
            if let Some(session) = session {
                session.forget_statements();
            }
        }
        // With traces the server is asked, or it follows: but for the role.
        if settings && (statements || self.traces.is_none()) {
            let mut params = (*self.params).clone();
            match self.traces {
                None => params.forget_unreported(),
                Some(_) => drop(params.remove(ROLE)),
            }
            self.params = shared.params.intern(params);
        }
    }

    /// Emits local replies whose turn has come.
    #[inline]
    fn give_local_replies(&mut self, to_client: bool, out: &mut Output<'_>) {
        // Almost always there is none.
        if let Some(Reply::Local { .. } | Reply::CopyEnd) = self.replies.front() {
            self.give_all_local_replies(to_client, out);
        }
    }

    #[cold]
    fn give_all_local_replies(&mut self, to_client: bool, out: &mut Output<'_>) {
        loop {
            match self.replies.front() {
                Some(Reply::Local { bytes, .. }) if to_client => {
                    out.own().extend_from_slice(bytes);
                }
                Some(Reply::Local { .. } | Reply::CopyEnd) => {}
                _ => return,
            }
            self.replies.pop();
        }
    }
}

/// What becomes of a message.
enum Deliver {
    Forward,
    /// But not yet.
    Later,
    Swallow,
    Instead(Vec<u8>),
}

impl Deliver {
    fn forward_unless(own: bool) -> Self {
        if own {
            Deliver::Swallow
        } else {
            Deliver::Forward
        }
    }
}

/// Whether another server gives this, too, if it is asked the same.
fn is_said_again(tag: BackendTag) -> bool {
    matches!(
        tag,
        BackendTag::ParseComplete
            | BackendTag::CloseComplete
            | BackendTag::BindComplete
            | BackendTag::ParameterDescription
            | BackendTag::RowDescription
            | BackendTag::NoData
    )
}

fn must_be_whole(tag: BackendTag) -> bool {
    matches!(
        tag,
        BackendTag::ReadyForQuery
            | BackendTag::ParameterStatus
            | BackendTag::ErrorResponse
            | BackendTag::CommandComplete
            | BackendTag::NotificationResponse
    )
}

/// What a result consists of: whether there is one more of them changes nothing.
fn is_data(tag: BackendTag) -> bool {
    matches!(tag, BackendTag::DataRow | BackendTag::CopyData)
}

/// The error's message with the client's name in place of the server's.
fn rewritten(front: &Reply, body: &[u8]) -> Option<Vec<u8>> {
    let named = |alias: &Alias, server_name: &[u8]| {
        let alias = alias.as_ref()?;
        error_fields::rename(body, server_name, alias)
    };
    match front {
        Reply::Parse { id, alias, .. } => named(alias, format!("pgweir_{id}").as_bytes()),
        Reply::Bind { alias, .. } | Reply::Describe { alias, .. } => named(alias, MISSING),
        Reply::Refused { error } => Some(error.clone()),
        _ => None,
    }
}
