//! A client's defaults are what it began with, those of the server session are the
//! server's own. What the client resets inside a transaction, or in a pipeline,
//! lapses to the latter: it gets its value again ahead of the next request, and is
//! told of that value alone.

use super::{Backend, ServerFault, encoding};
use crate::flow::params::{ROLE, restore_statement, set_statement};
use crate::flow::replies::OwnQuery;
use crate::flow::{Output, Params, Session, Shared, error_fields, is_fixed};
use crate::sql::effects::{Effects, Features};
use crate::wire::build;

/// What the server may refuse in the middle of a transaction.
const NOT_INSIDE: [&[u8]; 5] = [
    ROLE,
    b"temp_buffers",
    b"transaction_deferrable",
    b"transaction_isolation",
    b"transaction_read_only",
];

/// Settings that one request has reset, whose defaults are others than the
/// server's.
#[derive(Debug)]
pub(in crate::flow) struct Lapse {
    /// How many ReadyForQuery come before its own; `None`: that has come, too.
    ahead: Option<usize>,
    /// In lower case.
    names: Vec<Box<[u8]>>,
    /// They are at their defaults when it is over, unless it fails.
    certain: bool,
    /// Its request was one text, and nothing else.
    alone: bool,
    /// The query that ends it was sent.
    restored: bool,
    /// No error takes it back.
    committed: bool,
}

impl Lapse {
    /// Whether it is there after an error in the request that is being answered.
    pub(super) fn outlasts_error(&self) -> bool {
        self.ahead != Some(0) || self.committed
    }
}

impl Backend {
    /// A text with these effects is about to run; `start`: the defaults of its client;
    /// `alone`: it is a simple query.
    pub(in crate::flow) fn note_lapse(&mut self, effects: &Effects, start: &Params, alone: bool) {
        let lapses = |name: &[u8]| match effects.resets_all {
            true => effects.sets.iter().all(|set| *set.name != *name),
            false => effects.resets.iter().any(|reset| **reset == *name),
        };
        let own = start
            .iter()
            .filter(|(name, value)| !is_fixed(name) && self.defaults.get(name) != Some(value));
        let names = own.map(|(name, _)| name.to_ascii_lowercase().into_boxed_slice());
        let names: Vec<_> = names
            .filter(|name| lapses(name) && !NOT_INSIDE.contains(&&**name))
            .collect();
        let ahead = Some(self.replies.readies());
        if let Some(traces) = self.traces.as_mut().filter(|_| !names.is_empty()) {
            traces.lapses.push(Lapse {
                ahead,
                names,
                certain: !effects.unsettled && !effects.opaque && effects.leaves.is_empty(),
                alone,
                restored: false,
                committed: false,
            });
        }
    }

    /// Whether a setting is at a default that is not its client's.
    pub(super) fn has_lapsed(&self, name: &[u8]) -> bool {
        let lapses = self.traces.iter().flat_map(|traces| &traces.lapses);
        let mut now = lapses.filter(|lapse| matches!(lapse.ahead, None | Some(0)));
        now.any(|lapse| lapse.names.iter().any(|own| own.eq_ignore_ascii_case(name)))
    }

    /// DISCARD ALL has run: in a pipeline it is committed at once (postgres.c,
    /// `XACT_FLAGS_NEEDIMMEDIATECOMMIT`).
    pub(super) fn commit_lapses(&mut self) {
        for lapse in self.traces.iter_mut().flat_map(|traces| &mut traces.lapses) {
            lapse.committed |= lapse.ahead == Some(0);
        }
    }

    /// Before a request: appends the query that ends what has lapsed. It changes
    /// nothing where a value was set again, or the reset taken back.
    pub(in crate::flow) fn restore(&mut self, session: &Session, out: &mut Output<'_>) {
        let no_role =
            self.params.get(ROLE).is_none() && !self.pins.contains(Features::AUTHORIZATION);
        let (Some(traces), Some(start)) = (self.traces.as_mut(), session.start()) else {
            return;
        };
        let mut names = Vec::new();
        // The server has answered, nothing else has run since, and nobody may be
        // forbidden to set them.
        let mut certain = no_role && !traces.touches_role();
        let due = traces.lapses.iter_mut().filter(|lapse| !lapse.restored);
        for lapse in due {
            lapse.restored = true;
            certain &= lapse.certain && lapse.alone && lapse.ahead.is_none();
            names.extend_from_slice(&lapse.names);
        }
        if names.is_empty() {
            return;
        }
        names.sort_unstable();
        names.dedup();
        let values = names.iter();
        let values = values.filter_map(|name| Some((&**name, start.get(name)?)));
        let values: Vec<_> = values.collect();
        certain &= values
            .iter()
            .all(|(name, value)| traces.has_reset(name) && value.is_ascii());
        let mut sql = Vec::new();
        if certain {
            traces.restore(&values);
            let changes = values.iter().map(|&(name, value)| (name, Some(value)));
            set_statement(&mut sql, &changes.collect::<Vec<_>>());
        } else {
            traces.doubt();
            restore_statement(&mut sql, values.into_iter(), encoding(start));
        }
        self.own_query(OwnQuery::Restore, &sql, out.own());
    }

    /// That query was answered: what its client is to be told.
    pub(super) fn restored(
        &mut self,
        error: Option<Vec<u8>>,
        session: Option<&mut Session>,
        shared: &mut Shared<'_>,
    ) -> Result<Vec<u8>, ServerFault> {
        if let Some(error) = error
            // The transaction had failed before.
            && error_fields::sqlstate(&error) != b"25P02"
        {
            return Err(ServerFault::Parameters(error_fields::summary(&error)));
        }
        let mut lapsed = Vec::new();
        if let Some(traces) = &mut self.traces {
            let over = |lapse: &mut Lapse| lapse.restored && lapse.ahead.is_none();
            let over = traces.lapses.extract_if(.., over);
            lapsed.extend(over.flat_map(|lapse| lapse.names));
        }
        let params = self.params.clone();
        Ok(tell(session, &lapsed, &params, &params, shared))
    }

    /// A ReadyForQuery has come: what its client is to be told before.
    pub(super) fn end_lapses(
        &mut self,
        session: Option<&mut Session>,
        shared: &mut Shared<'_>,
    ) -> Vec<u8> {
        let mut lapsed = Vec::new();
        for lapse in self.traces.iter_mut().flat_map(|traces| &mut traces.lapses) {
            if lapse.ahead == Some(0) && lapse.certain {
                lapsed.extend_from_slice(&lapse.names);
            }
            lapse.ahead = lapse.ahead.and_then(|ahead| ahead.checked_sub(1));
        }
        let start = session
            .as_ref()
            .and_then(|session| session.start().cloned());
        match start {
            Some(start) => tell(session, &lapsed, &start, &self.params, shared),
            None => Vec::new(),
        }
    }
}

/// The reported ones of these that the client has heard otherwise of. `spelled`: as
/// the server spells their names.
fn tell(
    session: Option<&mut Session>,
    names: &[Box<[u8]>],
    values: &Params,
    spelled: &Params,
    shared: &mut Shared<'_>,
) -> Vec<u8> {
    let mut news = Vec::new();
    let Some(session) = session.filter(|_| !names.is_empty()) else {
        return news;
    };
    let mut params = Params::clone(&session.params);
    for (name, _) in spelled.reported() {
        if names.iter().any(|own| own.eq_ignore_ascii_case(name))
            && let Some(value) = values.get(name)
            && params.get(name) != Some(value)
        {
            build::parameter_status(&mut news, name, value);
            params.set(name, value, true);
        }
    }
    if !news.is_empty() {
        session.params = shared.params.intern(params);
    }
    news
}
