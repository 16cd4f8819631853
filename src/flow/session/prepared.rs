//! Prepared statements: the client's names for them, and what the server
//! connection that it holds has to be told.

use std::borrow::Cow;
use std::rc::Rc;

use super::super::backend::Backend;
use super::super::replies::{NamedUndo, Reply, Undo};
use super::super::statements::Statement;
use super::super::{Output, Shared};
use super::effects::forget_sequences;
use super::{MISSING, Message, Misuse, Session, Step};
use crate::stats::add;
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
            let punishment = self.punishment(Misuse::BrokenParse);
            return punishment.unwrap_or_else(|| plain(backend));
        };
        let manner = self.manner_of(view.definition);
        let statement = shared.statements.intern(view.definition, &manner);
        if let Some(effects) = statement.effects.as_deref().filter(|_| self.carries()) {
            forget_sequences(effects, backend, out);
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
        if backend.replies.names_in_doubt() {
            return Step::Wait;
        }
        add(&shared.counters.client_parse_count, 1);
        let names = &mut self.names.get_or_insert_default().statements;
        if names.contains_key(view.name) {
            if let Some(step) = self.punishment(Misuse::Taken) {
                return step;
            }
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

    pub(super) fn bind(
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
        if !self.follows() {
            return plain(backend);
        }
        let arrived = message.bytes.get(HEADER_LEN..).unwrap_or_default();
        let Some(view) = names::bind(arrived) else {
            if message.body().is_none() {
                return Step::Hold;
            }
            let punishment = self.punishment(Misuse::BrokenBind);
            return punishment.unwrap_or_else(|| plain(backend));
        };
        if view.statement.is_empty() {
            if backend.replies.unnamed_in_doubt() {
                return Step::Wait;
            }
            let unnamed = self.unnamed.clone();
            if let Some(step) = self.watch_bind(unnamed, backend, out, shared) {
                return step;
            }
            self.have_unnamed(backend, out);
            return plain(backend);
        }
        if backend.replies.names_in_doubt() {
            return Step::Wait;
        }
        if self.carries() {
            let named = self.named(view.statement).cloned();
            if let Some(step) = self.watch_bind(named, backend, out, shared) {
                return step;
            }
        }
        let rest_len = message.total - HEADER_LEN - view.rest;
        let known = self.named(view.statement);
        let alias = match known {
            Some(statement) => {
                prepare(backend, statement, out, shared);
                build::bind_front(out.own(), view.portal, &statement.server_name, rest_len);
                None
            }
            None => {
                if let Some(step) = self.punishment(Misuse::Missing) {
                    return step;
                }
                build::bind_front(out.own(), view.portal, MISSING, rest_len);
                Some(view.statement.into())
            }
        };
        add(&shared.counters.bind_count, 1);
        backend.expect(Reply::Bind { alias });
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
                Some(Target::Statement(b"")) => self.have_unnamed(backend, out),
                Some(Target::Statement(_)) if backend.replies.names_in_doubt() => {
                    return Step::Wait;
                }
                Some(Target::Statement(name)) => {
                    let known = self.named(name);
                    let alias = match known {
                        Some(statement) => {
                            prepare(backend, statement, out, shared);
                            build::statement_message(out.own(), b'D', &statement.server_name);
                            None
                        }
                        None => {
                            if let Some(step) = self.punishment(Misuse::Missing) {
                                return step;
                            }
                            build::statement_message(out.own(), b'D', MISSING);
                            Some(name.into())
                        }
                    };
                    backend.expect(Reply::Describe { alias });
                    return Step::Done;
                }
                Some(Target::Portal(_)) => {}
                None => {
                    if let Some(step) = self.punishment(Misuse::BrokenDescribe) {
                        return step;
                    }
                }
            }
        }
        backend.expect(Reply::Describe { alias: None });
        Step::Pass
    }

    pub(super) fn close(
        &mut self,
        message: Message<'_>,
        backend: &mut Backend,
        to_client: &mut Vec<u8>,
    ) -> Step {
        if self.follows() {
            let Some(body) = message.body() else {
                return Step::Hold;
            };
            match names::target(body) {
                Some(Target::Statement(_)) if backend.replies.names_in_doubt() => {
                    return Step::Wait;
                }
                Some(Target::Statement(name)) => {
                    // The statement stays on the server for others.
                    let undo = self.remove(name);
                    self.local(backend, build::CLOSE_COMPLETE, undo, to_client);
                    return Step::Done;
                }
                Some(Target::Portal(_)) => {}
                None => {
                    if let Some(step) = self.punishment(Misuse::BrokenClose) {
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

    /// What the meaning of a statement depends on besides its bytes, as
    /// [`Statements::intern`](crate::flow::Statements::intern) wants it.
    pub(super) fn manner_of(&self, definition: &[u8]) -> Cow<'_, [u8]> {
        let encoding = match definition.is_ascii() {
            true => &[],
            false => self.params.get(b"client_encoding").unwrap_or_default(),
        };
        let escapes = memchr::memchr(b'\\', definition).is_some()
            && self.params.get(b"standard_conforming_strings") == Some(b"off");
        match escapes {
            true => Cow::Owned([encoding, b"\\"].concat()),
            false => Cow::Borrowed(encoding),
        }
    }

    /// Makes the server's unnamed statement the client's.
    pub(super) fn have_unnamed(&self, backend: &mut Backend, out: &mut Output<'_>) {
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
