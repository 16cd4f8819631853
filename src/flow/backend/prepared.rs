//! The named statements that a server keeps for clients.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use super::Backend;
use crate::flow::replies::{OwnQuery, Reply, Undo};
use crate::flow::schema::Schema;
use crate::flow::statements::Statement;
use crate::flow::{Output, Session, Shared, error_fields};
use crate::sql::effects::Features;
use crate::stats::add;
use crate::wire::{BackendTag, TxStatus, build};

/// What makes texts mean something else than to others.
const UNSETTLING: Features = Features::TEMPORARY
    .union(Features::SETTING)
    .union(Features::AUTHORIZATION)
    .union(Features::LIBRARY);

/// A statement that the server has.
#[derive(Clone, Debug)]
pub(super) struct Prepared<S = Rc<Statement>> {
    pub statement: S,
    /// Its Parse brings a notice.
    pub wordy: bool,
    pub fitness: Fitness,
}

/// Whether a statement on the server is what its clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flow) enum Fitness {
    Fit,
    /// The server is being asked for its columns.
    Unknown,
    /// It was parsed when it had other columns already, and would give them.
    Other,
    /// It has other columns now, and the server refuses to run it.
    Refused,
}

/// Whose names the statements have on the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Callers {
    #[default]
    Pgweir,
    /// The client that has the connection: as if it were alone with the server.
    Client,
    /// An error has come in between.
    Both,
}

impl<S> Prepared<S> {
    fn new(statement: S) -> Self {
        Prepared {
            statement,
            wordy: false,
            fitness: Fitness::Fit,
        }
    }

    /// The same of the statement in another form.
    pub fn map<T>(&self, form: impl FnOnce(&S) -> T) -> Prepared<T> {
        Prepared {
            statement: form(&self.statement),
            wordy: self.wordy,
            fitness: self.fitness,
        }
    }
}

/// Whether what was sent since the last ReadyForQuery may change what later
/// messages mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::flow) enum Doubt {
    #[default]
    None,
    /// It is not answered.
    Unsettled,
    /// It is not, and the server was asked to answer all it has without a Sync.
    Flushed,
    /// It is answered: which statements there are is known, but not the settings,
    /// which are reported with ReadyForQuery.
    Answered,
}

impl Doubt {
    #[inline]
    pub fn awaits_answer(self) -> bool {
        matches!(self, Doubt::Unsettled | Doubt::Flushed)
    }
}

impl Backend {
    /// Of a database with this schema.
    pub fn of(self, schema: Arc<Schema>) -> Self {
        Backend { schema, ..self }
    }

    /// Whether the server has the statement with this id.
    #[inline]
    pub(in crate::flow) fn has(&mut self, id: u64) -> bool {
        self.prepared.get(&id).is_some()
    }

    /// Whether it would parse it without a word.
    pub(in crate::flow) fn has_silently(&mut self, id: u64) -> bool {
        self.prepared.get(&id).is_some_and(|known| !known.wordy)
    }

    /// Whether its columns there are not those that clients know.
    pub(in crate::flow) fn has_other_columns(&self, id: u64) -> bool {
        let known = self.prepared.peek(&id);
        known.is_some_and(|known| matches!(known.fitness, Fitness::Other | Fitness::Refused))
    }

    /// Whether the server knows statements by the names of one client.
    pub fn has_clients_names(&self) -> bool {
        self.callers != Callers::Pgweir
    }

    /// Whether it knows by them all statements that this client has.
    #[inline]
    pub(in crate::flow) fn goes_by_clients_names(&self) -> bool {
        self.callers == Callers::Client
    }

    /// Whether it may have a statement that its client has not given by Parse.
    pub(in crate::flow) fn may_have_others(&self) -> bool {
        self.goes_by_clients_names() || self.pins.contains(Features::PREPARE)
    }

    /// Gives the server the client's statements, which are
    /// [`called`](crate::flow::Statements::called) by its own names, in place of
    /// those that it has, until `DEALLOCATE ALL`. One that cannot be parsed any more
    /// is left out.
    ///
    /// Not while an answer is owed to the client, except in the middle of a request:
    /// there an error would be the client's.
    pub(in crate::flow) fn go_by_clients_names(
        &mut self,
        statements: &[Rc<Statement>],
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) {
        self.callers = Callers::Client;
        while let Some((_, known)) = self.prepared.pop_lru() {
            self.close(known.statement, out);
        }
        let guarded = !self.unsynced;
        let nested = guarded && self.status == TxStatus::InTransaction && !statements.is_empty();
        let run = |backend: &mut Backend, sql: &[u8], out: &mut Output<'_>| {
            if nested {
                backend.own_query(OwnQuery::Housekeeping, sql, out.own());
            }
        };
        run(self, b"SAVEPOINT pgweir", out);
        for statement in statements {
            self.prepare(statement, || false, out, shared);
            if guarded {
                self.guard(out);
            }
            // Statements outlive it.
            run(self, b"ROLLBACK TO SAVEPOINT pgweir", out);
        }
        run(self, b"RELEASE SAVEPOINT pgweir", out);
    }

    /// Closes a statement of the client's that the server knows by the client's name;
    /// `alone`: not as a part of a request.
    pub(in crate::flow) fn close_clients(
        &mut self,
        statement: &Statement,
        alone: bool,
        out: &mut Output<'_>,
    ) {
        if self.has_clients_names()
            && let Some(known) = self.prepared.pop(&statement.id)
        {
            self.close(known.statement, out);
            if alone {
                self.guard(out);
            }
        }
    }

    /// What was sent since the last Sync is our own.
    fn guard(&mut self, out: &mut Output<'_>) {
        out.own().extend_from_slice(build::SYNC);
        self.unsynced = false;
        self.replies.push(Reply::Own {
            query: OwnQuery::Guard,
            answered: true,
            error: None,
        });
    }

    /// The names of the statements that the server has: others are gone.
    pub(super) fn keep_listed(&mut self, names: &HashSet<&[u8]>, session: Option<&mut Session>) {
        let known = self
            .prepared
            .iter()
            .map(|(id, known)| (*id, &known.statement));
        let gone = known.filter(|(_, statement)| !names.contains(&*statement.server_name));
        let gone: Vec<u64> = gone.map(|(id, _)| id).collect();
        for id in &gone {
            self.prepared.pop(id);
        }
        if let Some(session) = session {
            session.forget(&gone);
        }
    }

    /// Messages of our own were skipped or refused.
    pub(super) fn mix_names(&mut self) {
        if self.callers == Callers::Client {
            self.callers = Callers::Both;
        }
    }

    /// The server has no statements.
    pub(super) fn have_none(&mut self) {
        self.prepared.clear();
        self.callers = Callers::Pgweir;
        self.hides_effects = false;
    }

    /// Makes sure that the server has the statement, by a Parse of our own in
    /// front of what the client sends. If the schema has changed in the meantime, so
    /// that its columns may be others than the client goes by, it is asked for them
    /// first; `described`: the client asks for them itself.
    pub(in crate::flow) fn prepare(
        &mut self,
        statement: &Rc<Statement>,
        described: impl Fn() -> bool,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Fitness {
        if let Some(known) = self.prepared.get(&statement.id) {
            return known.fitness;
        }
        let reply = Reply::Parse {
            own: true,
            id: statement.id,
            undo: Undo::Nothing,
            alias: None,
        };
        self.parse(statement, reply, out, shared);
        if !statement.has_known_columns() || statement.is_of(&self.schema) || described() {
            return Fitness::Fit;
        }
        build::statement_message(out.own(), b'D', &statement.server_name);
        out.own().extend_from_slice(build::FLUSH);
        self.expect(Reply::Describe {
            own: true,
            id: statement.id,
            alias: None,
        });
        self.unsynced = true;
        self.set_fitness(statement.id, Fitness::Unknown);
        Fitness::Unknown
    }

    pub(super) fn set_fitness(&mut self, id: u64, fitness: Fitness) {
        if let Some(known) = self.prepared.peek_mut(&id) {
            known.fitness = fitness;
        }
    }

    /// Whether the message tells columns that are not known yet.
    pub(super) fn tells_columns(&self, tag: BackendTag) -> bool {
        let Some(Reply::Describe { own, id, .. }) = self.replies.front() else {
            return false;
        };
        let known = self.prepared.peek(id);
        matches!(tag, BackendTag::RowDescription | BackendTag::NoData)
            && known.is_some_and(|known| *own || !known.statement.has_known_columns())
    }

    /// It does; this is its body.
    pub(super) fn note_columns(&mut self, body: &[u8]) {
        if let Some(Reply::Describe { own, id, .. }) = self.replies.front()
            && let Some(known) = self.prepared.peek_mut(id)
        {
            let same = known.statement.has_columns(body);
            if *own {
                known.fitness = if same { Fitness::Fit } else { Fitness::Other };
            }
        }
    }

    /// Has the server parse a statement, in place of the one that it may have by
    /// that name.
    pub(in crate::flow) fn parse(
        &mut self,
        statement: &Rc<Statement>,
        reply: Reply,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) {
        if let Some(known) = self.prepared.pop(&statement.id) {
            self.close(known.statement, out);
        }
        if self.goes_by_clients_names() {
            let mut known = self.prepared.iter();
            let name = &statement.server_name;
            let other = known.find(|(_, known)| known.statement.server_name == *name);
            if let Some(known) = other
                .map(|(id, _)| *id)
                .and_then(|id| self.prepared.pop(&id))
            {
                self.close(known.statement, out);
            }
        }
        // Who was not used for the longest time makes room; a client's all count.
        while !self.goes_by_clients_names()
            && self.prepared.len() >= self.max_prepared.max(1)
            && let Some((_, evicted)) = self.prepared.pop_lru()
        {
            self.close(evicted.statement, out);
        }
        build::parse(out.own(), &statement.server_name, &statement.definition);
        add(&shared.counters.server_parse_count, 1);
        self.expect(reply);
        self.keep(statement.clone());
    }

    fn close(&mut self, statement: Rc<Statement>, out: &mut Output<'_>) {
        build::statement_message(out.own(), b'C', &statement.server_name);
        self.expect(Reply::Close {
            own: true,
            evicted: Some(statement),
        });
    }

    /// Its Parse is being sent, or its Close was not carried out.
    pub(super) fn keep(&mut self, statement: Rc<Statement>) {
        self.prepared.put(statement.id, Prepared::new(statement));
    }

    /// Whether what comes now may be analysed under settings that are not known
    /// yet, or with tables that nobody else sees.
    pub(in crate::flow) fn is_unsettled(&self) -> bool {
        self.doubt != Doubt::None
            || self.schema_in_doubt
            || self.pins.intersects(UNSETTLING)
            || self
                .traces
                .as_ref()
                .is_some_and(|traces| traces.touch(UNSETTLING))
            || self.replies.owe_simple_query()
    }

    /// Whether what a name means depends on answers to come.
    pub(in crate::flow) fn names_in_doubt(&self) -> bool {
        self.replies.names_in_doubt()
            || self.replies.owe_simple_query()
            || (self.doubt.awaits_answer() && !self.replies.is_empty())
    }

    /// What the server said at the Parse that is at the front it says only there.
    pub(super) fn note_notice(&mut self) {
        if let Some(Reply::Parse { id, .. }) = self.replies.front()
            && let Some(known) = self.prepared.peek_mut(id)
        {
            known.wordy = true;
        }
    }

    /// Whether the error is that of a statement which is no longer what it was when
    /// the server parsed it.
    pub(super) fn note_stale(&mut self, error: &[u8]) -> bool {
        let Some(Reply::Bind { id, .. } | Reply::Describe { id, .. }) = self.replies.front() else {
            return false;
        };
        let id = *id;
        if error_fields::is_of_changed_plan(error) {
            self.schema.change();
            match self.prepared.peek_mut(&id) {
                Some(known) => known.fitness = Fitness::Refused,
                None => self.unnamed = None,
            }
            return true;
        }
        // A function has run DEALLOCATE, or DISCARD.
        let gone = id != 0 && error_fields::statement_id(error) == Some(id);
        gone && error_fields::sqlstate(error) == b"26000" && self.prepared.pop(&id).is_some()
    }
}
