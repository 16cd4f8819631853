//! Texts that go by the names of prepared statements: PREPARE, EXECUTE, and
//! whatever reads `pg_prepared_statements`. They must find the client's statements
//! under the client's names, and nobody else's.

use std::rc::Rc;

use super::super::backend::Backend;
use super::super::statements::Statement;
use super::super::{Output, Shared};
use super::prepared::wait_for_names;
use super::{Session, Step};
use crate::sql::effects::Effects;
use crate::wire::{FrontendTag, TxStatus};

impl Session {
    /// Such a text is about to be sent: the server gets the client's statements, and
    /// for as long as the client keeps it, both mean the same by a name. `Some`: the
    /// text must wait.
    pub(super) fn bring_names(
        &mut self,
        backend: &mut Backend,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Option<Step> {
        // In a transaction that has failed the text fails anyway, unless something is
        // under way that ends it.
        let failed = backend.status() == TxStatus::Failed && backend.is_settled();
        if !self.follows() || failed || backend.goes_by_clients_names() {
            return None;
        }
        let owes_client = !backend.unsynced && !backend.replies.are_own();
        if owes_client || backend.names_in_doubt() {
            return Some(wait_for_names(backend, out));
        }
        let hides = self.have_effects(shared);
        backend.hides_effects |= hides;
        let mut statements = Vec::new();
        if let Some(names) = &mut self.names {
            let mut named: Vec<_> = names.statements.iter_mut().collect();
            named.sort_unstable_by_key(|(_, statement)| statement.id);
            for (name, statement) in named {
                *statement = shared.statements.called(name, statement);
                statements.push(Rc::clone(statement));
            }
        }
        backend.go_by_clients_names(&statements, out, shared);
        None
    }

    fn have_effects(&self, shared: &Shared<'_>) -> bool {
        let names = self.names.as_ref();
        let mut all = names
            .into_iter()
            .flat_map(|names| names.statements.values());
        all.any(|statement| self.has_effects(statement, shared))
    }

    /// Whether to run it leaves anything.
    pub(super) fn has_effects(&self, statement: &Statement, shared: &Shared<'_>) -> bool {
        let seen = statement.effects.as_deref().is_some_and(Effects::matters);
        seen || self.unseen(&statement.definition, shared).is_some()
    }

    /// The client is about to close a statement that may be one of PREPARE's.
    pub(super) fn note_deallocation(
        &mut self,
        backend: &mut Backend,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) {
        let effects = Effects {
            releases: true,
            ..Effects::default()
        };
        self.note(&effects, FrontendTag::Close, None, backend, out, shared);
    }
}
