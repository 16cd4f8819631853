//! Statements that leave something in the session: what they leave is noted on
//! the server connection, which is asked about it when the transaction is over;
//! and they are refused where they may not.

use std::borrow::Cow;
use std::rc::Rc;

use super::super::backend::Backend;
use super::super::replies::OwnQuery;
use super::super::statements::Statement;
use super::super::traces::SPELLING;
use super::super::{Output, Shared};
use super::own::fail;
use super::{Message, Session, Step};
use crate::config::SessionFeatures;
use crate::sql::Dialect;
use crate::sql::effects::{Effects, Features, may_advance_a_sequence};
use crate::wire::build::{self, Refusal};
use crate::wire::{FrontendTag, names};

/// Functions of large objects, whose descriptors end with the transaction
/// (pg_proc.dat).
const LARGE_OBJECT_FUNCTIONS: [u32; 13] = [
    715, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172,
];

impl Session {
    /// Whether what statements leave in the session is carried, and so followed.
    #[inline]
    pub(in crate::flow) fn carries(&self) -> bool {
        self.terms.carries()
    }

    /// A simple query or a function call is about to be forwarded. `Some`: it is
    /// not.
    #[inline]
    pub(super) fn watch(
        &mut self,
        message: &Message<'_>,
        backend: &mut Backend,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Option<Step> {
        if !self.carries() {
            return None;
        }
        let Some(body) = message.body() else {
            return self.note(&Effects::unknown(), message.tag, None, backend, out, shared);
        };
        if message.tag == FrontendTag::FunctionCall {
            let function = body.first_chunk().map(|oid| u32::from_be_bytes(*oid));
            if function.is_some_and(|oid| LARGE_OBJECT_FUNCTIONS.contains(&oid)) {
                return None;
            }
            return self.note(&Effects::unknown(), message.tag, None, backend, out, shared);
        }
        let unseen = self.unseen(body, shared);
        if unseen.is_none() && message.plain {
            return None;
        }
        let (text, _) = names::split_nul(body)?;
        let effects = Effects::of(text, self.dialect());
        let effects = self.with_unseen(effects.as_deref(), unseen, text)?;
        self.note(&effects, message.tag, None, backend, out, shared)
    }

    /// What a text leaves though its words alone do not tell: the names of suspects
    /// do, and the configuration.
    #[inline]
    pub(super) fn unseen(&self, text: &[u8], shared: &Shared<'_>) -> Option<Effects> {
        let suspect = shared.suspects.are_in(text);
        let advances = self.terms.pins_sequences() && may_advance_a_sequence(text);
        (suspect || advances).then(|| Effects {
            opaque: suspect,
            leaves: match advances {
                true => Features::SEQUENCE,
                false => Features::empty(),
            },
            ..Effects::default()
        })
    }

    /// All that a text leaves on the server connection: its LISTEN is heard for it
    /// elsewhere.
    fn with_unseen<'a>(
        &self,
        seen: Option<&'a Effects>,
        unseen: Option<Effects>,
        text: &[u8],
    ) -> Option<Cow<'a, Effects>> {
        let mut effects = match (seen, unseen) {
            (None, unseen) => Cow::Owned(unseen?),
            (Some(seen), None) => Cow::Borrowed(seen),
            (Some(seen), Some(unseen)) => Cow::Owned(Effects {
                opaque: seen.opaque | unseen.opaque,
                leaves: seen.leaves | unseen.leaves,
                alters_code: seen.alters_code | (seen.makes_code & unseen.opaque),
                ..seen.clone()
            }),
        };
        if effects.leaves.contains(Features::LISTEN) && self.takes_over(text) {
            effects.to_mut().leaves -= Features::LISTEN;
        }
        Some(effects)
    }

    /// A Parse is about to be forwarded, and its statement not to be followed.
    pub(super) fn watch_parse(
        &mut self,
        body: &[u8],
        backend: &mut Backend,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Option<Step> {
        let view = names::parse(body)?;
        let (text, _) = names::split_nul(view.definition)?;
        let effects = Effects::of(text, self.dialect())?;
        self.note(&effects, FrontendTag::Parse, None, backend, out, shared)
    }

    /// A Bind of this statement to this portal is about to be forwarded.
    #[inline]
    pub(super) fn watch_bind(
        &mut self,
        statement: Option<Rc<Statement>>,
        portal: &[u8],
        backend: &mut Backend,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Option<Step> {
        if !self.carries() {
            return None;
        }
        let statement = statement?;
        let unseen = self.unseen(&statement.definition, shared);
        if unseen.is_none() && statement.effects.is_none() {
            return None;
        }
        let (text, _) = names::split_nul(&statement.definition)?;
        let effects = self.with_unseen(statement.effects.as_deref(), unseen, text)?;
        self.note(
            &effects,
            FrontendTag::Bind,
            Some(portal),
            backend,
            out,
            shared,
        )
    }

    /// How the present settings have texts read.
    pub(super) fn dialect(&self) -> Dialect {
        self.params.meaning().dialect()
    }

    /// A text with these effects is about to run, or is bound to a portal. `Some`: it
    /// may not.
    pub(super) fn note(
        &mut self,
        effects: &Effects,
        tag: FrontendTag,
        portal: Option<&[u8]>,
        backend: &mut Backend,
        out: &mut Output<'_>,
        shared: &mut Shared<'_>,
    ) -> Option<Step> {
        if let Err(refusal) = self.admit(effects.leaves, backend, shared) {
            return Some(refuse(&refusal, tag, backend, out));
        }
        if effects.names_statements
            && let Some(step) = self.bring_names(backend, out, shared)
        {
            return Some(step);
        }
        // What only takes something back matters where something is.
        let takes_back = effects.releases && (backend.is_marked() || backend.has_clients_names());
        if !effects.matters() && !takes_back {
            return None;
        }
        forget_sequences(effects, backend, out);
        self.keep_start();
        let values = Some(shared.values).filter(|_| backend.params().get(SPELLING).is_none());
        let traces = backend.traces.get_or_insert_default();
        traces.add(effects, values);
        traces.sent_by(tag, portal);
        if let Some(start) = self.start().filter(|_| effects.goes_back()) {
            backend.note_lapse(effects, start, tag == FrontendTag::Query);
        }
        if effects.leaves.contains(Features::PREPARE) {
            backend.hides_effects |= effects.beyond_prepare();
            if backend.hides_effects {
                let traces = backend.traces.get_or_insert_default();
                traces.add(&Effects::unknown(), None);
            }
        }
        None
    }

    /// Whether a statement may leave this.
    fn admit(
        &self,
        leaves: Features,
        backend: &mut Backend,
        shared: &mut Shared<'_>,
    ) -> Result<(), Refusal> {
        let Some(feature) = leaves.iter().next().filter(|_| !backend.has_place()) else {
            return Ok(());
        };
        let name = feature.label();
        let refusal = |message: String| Refusal::error("0A000", message);
        if self.terms.features() == SessionFeatures::Error {
            return Err(refusal(format!("session feature not allowed: {name}"))
                .detail(
                    "session_features = error, and what this statement leaves belongs to one \
                         server connection.",
                )
                .hint(
                    "Use pool_mode = session or session_features = pin for this database or user.",
                ));
        }
        match shared.pins.take() {
            Some(place) => {
                backend.keep_place(place);
                Ok(())
            }
            None => {
                let most = shared.pins.most();
                Err(refusal(format!("no place left for a session feature: {name}"))
                    .detail(format!(
                        "max_pinned_connections = {most}, and as many clients of this pool keep \
                         their server connections for what they have left there."
                    ))
                    .hint("SHOW CLIENTS tells which and why (pin_reason)."))
            }
        }
    }

    /// Its parameters are about to change, if only for a transaction.
    pub(in crate::flow) fn keep_start(&mut self) {
        if self.carries() {
            let start = &mut self.names.get_or_insert_default().start;
            start.get_or_insert_with(|| self.params.clone());
        }
    }

    /// What its session began with, once it has changed anything.
    pub(in crate::flow) fn start(&self) -> Option<&super::Params> {
        self.names.as_ref()?.start.as_deref()
    }
}

/// Before a client asks for the first time where a sequence is, in a transaction of
/// its own: what others have made of the session is not its answer.
pub(super) fn forget_sequences(effects: &Effects, backend: &mut Backend, out: &mut Output<'_>) {
    let asks = effects.leaves.contains(Features::SEQUENCE);
    if asks && !backend.pins().contains(Features::SEQUENCE) && backend.is_at_rest() {
        backend.own_query(OwnQuery::Housekeeping, b"DISCARD SEQUENCES", out.own());
    }
}

/// Has the server's transaction fail with this error in place of the statement.
fn refuse(
    refusal: &Refusal,
    tag: FrontendTag,
    backend: &mut Backend,
    out: &mut Output<'_>,
) -> Step {
    fail(backend, refusal, out);
    if matches!(tag, FrontendTag::Query | FrontendTag::FunctionCall) {
        out.own().extend_from_slice(build::SYNC);
        backend.expect_sync();
    } else {
        backend.unsynced = true;
    }
    Step::Done
}
