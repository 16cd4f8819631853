//! Prepared statements: the client's names for them, and what the server
//! connection that it holds has to be told.

use std::rc::Rc;

use super::super::backend::{Backend, Doubt, Fitness};
use super::super::replies::{NamedUndo, Reply, Undo};
use super::super::statements::Statement;
use super::super::{Output, Shared, error_fields};
use super::effects::forget_sequences;
use super::{MISSING, Message, Misuse, Session, Step};
use crate::sql::effects::Effects;
use crate::stats::add;
use crate::wire::build::Refusal;
use crate::wire::names::{self, Target};
use crate::wire::{HEADER_LEN, TxStatus, build};

impl Session {
    pub(super) fn parse(
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
        if !self.follows() && !self.carries() {
            return plain(backend);
        }
        let Some(body) = message.body() else {
            return Step::Hold;
        };
        if !self.follows() {
            // Which statement is bound later is not known.
            let step = self.watch_parse(body, backend, out, shared);
            return step.unwrap_or_else(|| plain(backend));
        }
        let Some(view) = names::parse(body) else {
            // The server will refuse it.
            let punishment = self.punishment(Misuse::BrokenParse, b"");
            return punishment.unwrap_or_else(|| plain(backend));
        };
        if !view.name.is_empty() && backend.names_in_doubt() {
            return wait_for_names(backend, out);
        }
        let statement = self.analysed(view.definition, backend, shared);
        if let Some(effects) = statement.effects.as_deref().filter(|_| self.carries()) {
            forget_sequences(effects, backend, out);
            if effects.names_statements
                && let Some(step) = self.bring_names(backend, out, shared)
            {
                return step;
            }
        }
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
        add(&shared.counters.client_parse_count, 1);
        let by_name = backend.goes_by_clients_names();
        let taken = match by_name {
            true => self
                .up_to_date(view.name, || false, backend, shared)
                .cloned(),
            false => self.named(view.name).map(|_| statement.clone()),
        };
        if let Some(there) = taken {
            if let Some(step) = self.punishment(Misuse::Taken, view.name) {
                return step;
            }
            // The name is taken: the server finds its own name taken, and
            // says so.
            backend.prepare(&there, || true, out, shared);
            build::parse(out.own(), &there.server_name, view.definition);
            backend.expect(Reply::Parse {
                own: false,
                id: there.id,
                undo: Undo::Nothing,
                alias: Some(view.name.into()),
            });
            return Step::Done;
        }
        let statement = match by_name {
            true => {
                backend.hides_effects |= self.has_effects(&statement, shared);
                shared.statements.called(view.name, &statement)
            }
            false => statement,
        };
        let names = &mut self.names.get_or_insert_default().statements;
        names.insert(view.name.into(), statement.clone());
        let undo = Undo::Named(Box::new(NamedUndo {
            name: view.name.into(),
            before: None,
        }));
        // In a transaction that has failed, or may, the server decides whether this may be
        // parsed at all, so it must see it.
        let failed = backend.status() == TxStatus::Failed || backend.replies.may_fail();
        if !failed && backend.has_silently(statement.id) {
            self.local(backend, build::PARSE_COMPLETE, undo, to_client);
            return Step::Done;
        }
        let reply = Reply::Parse {
            own: false,
            id: statement.id,
            undo,
            alias: None,
        };
        backend.parse(&statement, reply, out, shared);
        Step::Done
    }

    pub(super) fn bind(
        &mut self,
        message: Message<'_>,
        backend: &mut Backend,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Step {
        let plain = |backend: &mut Backend| {
            let (id, alias) = (0, None);
            backend.expect(Reply::Bind { id, alias });
            Step::Pass
        };
        if !self.follows() {
            return plain(backend);
        }
        let arrived = message.bytes.get(HEADER_LEN..).unwrap_or_default();
        let Some(view) = names::bind(arrived) else {
            if message.body().is_none() {
                return Step::Hold;
            }
            let punishment = self.punishment(Misuse::BrokenBind, b"");
            return punishment.unwrap_or_else(|| plain(backend));
        };
        if view.statement.is_empty() {
            if backend.replies.unnamed_in_doubt() {
                return Step::Wait;
            }
            let unnamed = self.unnamed.clone();
            if let Some(step) = self.watch_bind(unnamed, view.portal, backend, out, shared) {
                return step;
            }
            self.have_unnamed(backend, out, shared);
            if self.unnamed.as_ref().is_some_and(|mine| mine.unsettles) {
                backend.doubt = Doubt::Unsettled;
            }
            return plain(backend);
        }
        if backend.names_in_doubt() {
            return wait_for_names(backend, out);
        }
        if self.carries() {
            let named = self.named(view.statement).cloned();
            if let Some(step) = self.watch_bind(named, view.portal, backend, out, shared) {
                return step;
            }
        }
        let rest_len = message.total - HEADER_LEN - view.rest;
        // Nearly never asked.
        let described = || message.is_described && takes_any_columns(arrived);
        let (id, alias) = match self.up_to_date(view.statement, described, backend, shared) {
            Some(statement) => {
                match backend.prepare(statement, described, out, shared) {
                    Fitness::Unknown => return Step::Wait,
                    Fitness::Other if backend.status() != TxStatus::Failed => {
                        return refuse_other_columns(backend, out);
                    }
                    Fitness::Fit | Fitness::Other | Fitness::Refused => {}
                }
                build::bind_front(out.own(), view.portal, &statement.server_name, rest_len);
                if statement.unsettles {
                    backend.doubt = Doubt::Unsettled;
                }
                (statement.id, None)
            }
            None if backend.may_have_others() => {
                if backend.hides_effects
                    && let Some(step) =
                        self.note(&Effects::unknown(), message.tag, None, backend, out, shared)
                {
                    return step;
                }
                build::bind_front(out.own(), view.portal, view.statement, rest_len);
                backend.doubt = Doubt::Unsettled;
                (0, None)
            }
            None => {
                if let Some(step) = self.punishment(Misuse::Missing, view.statement) {
                    return step;
                }
                build::bind_front(out.own(), view.portal, MISSING, rest_len);
                (0, Some(view.statement.into()))
            }
        };
        add(&shared.counters.bind_count, 1);
        backend.expect(Reply::Bind { id, alias });
        Step::PassFrom(HEADER_LEN + view.rest)
    }

    pub(super) fn describe(
        &mut self,
        message: Message<'_>,
        backend: &mut Backend,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Step {
        if self.follows() {
            let Some(body) = message.body() else {
                return Step::Hold;
            };
            match names::target(body) {
                Some(Target::Statement(b"")) if backend.replies.unnamed_in_doubt() => {
                    return Step::Wait;
                }
                Some(Target::Statement(b"")) => self.have_unnamed(backend, out, shared),
                Some(Target::Statement(_)) if backend.names_in_doubt() => {
                    return wait_for_names(backend, out);
                }
                Some(Target::Statement(name)) => {
                    let (id, alias) = match self.up_to_date(name, || true, backend, shared) {
                        Some(statement) => {
                            backend.prepare(statement, || true, out, shared);
                            build::statement_message(out.own(), b'D', &statement.server_name);
                            (statement.id, None)
                        }
                        None if backend.may_have_others() => {
                            build::statement_message(out.own(), b'D', name);
                            (0, None)
                        }
                        None => {
                            if let Some(step) = self.punishment(Misuse::Missing, name) {
                                return step;
                            }
                            build::statement_message(out.own(), b'D', MISSING);
                            (0, Some(name.into()))
                        }
                    };
                    let own = false;
                    backend.expect(Reply::Describe { own, id, alias });
                    return Step::Done;
                }
                Some(Target::Portal(_)) => {}
                None => {
                    if let Some(step) = self.punishment(Misuse::BrokenDescribe, b"") {
                        return step;
                    }
                }
            }
        }
        let id = match backend.replies.back() {
            Some(Reply::Bind { id, .. }) => *id,
            _ => 0,
        };
        let (own, alias) = (false, None);
        backend.expect(Reply::Describe { own, id, alias });
        Step::Pass
    }

    pub(super) fn close(
        &mut self,
        message: Message<'_>,
        backend: &mut Backend,
        out: &mut Output<'_>,
        to_client: &mut Vec<u8>,
        shared: &mut Shared<'_>,
    ) -> Step {
        if self.follows() {
            let Some(body) = message.body() else {
                return Step::Hold;
            };
            match names::target(body) {
                Some(Target::Statement(_)) if backend.names_in_doubt() => {
                    return wait_for_names(backend, out);
                }
                Some(Target::Statement(name))
                    if !name.is_empty()
                        && self.named(name).is_none()
                        && backend.may_have_others() =>
                {
                    self.note_deallocation(backend, out, shared);
                }
                Some(Target::Statement(name)) => {
                    if let Some(statement) = self.named(name) {
                        backend.close_clients(statement, false, out);
                    }
                    // Otherwise the statement stays on the server for others.
                    let undo = self.remove(name);
                    self.local(backend, build::CLOSE_COMPLETE, undo, to_client);
                    return Step::Done;
                }
                Some(Target::Portal(_)) => {}
                None => {
                    if let Some(step) = self.punishment(Misuse::BrokenClose, b"") {
                        return step;
                    }
                }
            }
        }
        backend.expect(Reply::Close {
            own: false,
            evicted: None,
        });
        Step::Pass
    }

    /// Takes a name away.
    pub(super) fn remove(&mut self, name: &[u8]) -> Undo {
        if name.is_empty() {
            return Undo::Unnamed(self.unnamed.take());
        }
        let names = self.names.as_mut();
        match names.and_then(|names| names.statements.remove(name)) {
            Some(statement) => Undo::Named(Box::new(NamedUndo {
                name: name.into(),
                before: Some(statement),
            })),
            None => Undo::Nothing,
        }
    }

    /// Puts names back as they were before a message that the server skipped
    /// or refused.
    pub(in crate::flow) fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Unnamed(before) => self.unnamed = before,
            Undo::Role(before) => self.role = before,
            Undo::Named(named) => {
                let names = &mut self.names.get_or_insert_default().statements;
                match named.before {
                    Some(statement) => names.insert(named.name, statement),
                    None => names.remove(&named.name),
                };
            }
        }
    }

    /// The statement that the server makes of this now.
    pub(super) fn analysed(
        &self,
        definition: &[u8],
        backend: &Backend,
        shared: &mut Shared<'_>,
    ) -> Rc<Statement> {
        match backend.is_unsettled() {
            true => shared.statements.unshared(definition),
            false => {
                let edition = backend.schema.edition();
                shared.statements.intern(definition, &self.params, edition)
            }
        }
    }

    /// The statement that the client has by this name. If its settings have changed
    /// since then, it is from now on what they make of its text: only those who have
    /// the same settings share it, so it must neither be parsed nor planned under
    /// others.
    ///
    /// `described`: the client asks for its columns, too, so they may have changed.
    fn up_to_date(
        &mut self,
        name: &[u8],
        described: impl Fn() -> bool,
        backend: &mut Backend,
        shared: &mut Shared<'_>,
    ) -> Option<&Rc<Statement>> {
        let statement = self.names.as_mut()?.statements.get_mut(name)?;
        if backend.goes_by_clients_names() {
            if backend.has_other_columns(statement.id) && described() {
                let edition = backend.schema.edition();
                let definition = &statement.definition;
                let fresh = shared.statements.intern(definition, &self.params, edition);
                *statement = shared.statements.called(name, &fresh);
            } else if *statement.server_name != *name {
                *statement = shared.statements.called(name, statement);
            }
        } else if backend.is_unsettled() {
            let is_other = backend.has_other_columns(statement.id) && described();
            if is_other || !backend.has(statement.id) {
                *statement = shared.statements.unshared(&statement.definition);
            }
        } else if !statement.suits(&self.params) {
            *statement = shared
                .statements
                .under(statement, &self.params, &backend.schema);
        } else if backend.has_other_columns(statement.id) && described() {
            let edition = backend.schema.edition();
            *statement = shared
                .statements
                .intern(&statement.definition, &self.params, edition);
        }
        Some(statement)
    }

    /// Makes the server's unnamed statement the client's.
    pub(super) fn have_unnamed(
        &mut self,
        backend: &mut Backend,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) {
        if let Some(mine) = &mut self.unnamed
            && !mine.suits(&self.params)
            && !backend.is_unsettled()
        {
            *mine = shared.statements.under(mine, &self.params, &backend.schema);
        }
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
    pub(super) fn local(
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

/// Whether the Bind with this body goes by no columns that its client knows.
pub(super) fn takes_any_columns(bind: &[u8]) -> bool {
    names::result_formats(bind).is_some_and(|formats| formats <= 1)
}

/// The server has parsed the statement lately, and now it has other columns than the
/// client knows of. A server that had parsed it before says this (plancache.c,
/// `RevalidateCachedQuery`).
fn refuse_other_columns(backend: &mut Backend, out: &mut Output<'_>) -> Step {
    let message = "cached plan must not change result type";
    let mut error = Vec::new();
    Refusal::error("0A000", message).encode(&mut error);
    // Drivers know it by its place in the source.
    error_fields::add(&mut error, b"Fplancache.c\0RRevalidateCachedQuery\0");
    // There is no such portal.
    build::execute(out.own(), MISSING);
    backend.expect(Reply::Refused { error });
    Step::Done
}

/// The server's answers come first, even if the client has not asked for them yet.
pub(super) fn wait_for_names(backend: &mut Backend, out: &mut Output<'_>) -> Step {
    if backend.doubt == Doubt::Unsettled && backend.unsynced {
        out.own().extend_from_slice(build::FLUSH);
        backend.doubt = Doubt::Flushed;
    }
    Step::Wait
}
