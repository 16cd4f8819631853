//! What the client has left in the server session, once its transaction is over.

use std::cell::Cell;
use std::rc::Rc;

use super::{Backend, Release};
use crate::flow::pins::Place;
use crate::flow::replies::OwnQuery;
use crate::flow::traces::Traces;
use crate::flow::{Finding, Session, Shared, is_fixed};
use crate::sql::effects::{Effects, Features, Suspects};
use crate::stats::{Counters, add};
use crate::wire::{TxStatus, build, names};

impl Backend {
    /// What ties its client to it.
    pub fn pins(&self) -> Features {
        self.pins
    }

    /// Whether its client has asked for its process id.
    pub fn is_known(&self) -> bool {
        let traces = self.traces.as_ref();
        let asked = traces.is_some_and(|traces| traces.leave(Features::BACKEND_PID));
        asked || self.pins.contains(Features::BACKEND_PID)
    }

    /// Whether another client might find something of this one's there.
    #[inline]
    pub fn is_marked(&self) -> bool {
        self.traces.is_some() || !self.pins.is_empty()
    }

    /// Whether a pinned client's settings are not those of the session any more:
    /// they have been reset, and its own defaults are others.
    #[inline]
    pub fn has_strayed(&self, session: &Session) -> bool {
        !self.pins.is_empty()
            && !Rc::ptr_eq(&self.params, &session.params)
            && self.release() == Release::Ready
    }

    /// The server is being asked; its client's next message waits for the answer.
    pub fn is_taking_stock(&self) -> bool {
        self.traces.as_ref().is_some_and(|traces| traces.asked)
    }

    /// In no transaction, and nothing of its client's is under way.
    pub(in crate::flow) fn is_at_rest(&self) -> bool {
        self.status == TxStatus::Idle && !self.unsynced && self.replies.are_own()
    }

    pub(in crate::flow) fn has_place(&self) -> bool {
        self.place.is_some()
    }

    /// Its client has gone: it is kept from nobody for longer than it takes to clean
    /// it.
    pub fn leave_place(&mut self) {
        self.place = None;
    }

    pub(in crate::flow) fn keep_place(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// To be called when a transaction has ended and nothing is owed: appends the
    /// question what is left of it to `out`. Where there is nothing to ask,
    /// [`Backend::is_marked`] tells at once.
    pub fn take_stock(
        &mut self,
        session: Option<&mut Session>,
        out: &mut Vec<u8>,
        to_client: &mut Vec<u8>,
        shared: &mut Shared<'_>,
    ) {
        let names = self.has_clients_names();
        let Some(traces) = self.traces.as_mut().filter(|traces| !traces.asked) else {
            return;
        };
        let suspects = shared.suspects.suspects();
        let Some(question) = traces.question(&self.params, self.pins, names, &suspects) else {
            drop(suspects);
            return self.conclude(None, session, to_client, shared);
        };
        traces.asked = true;
        if traces.alters_code {
            traces.suspects_asked = shared.suspects.ask();
        }
        add(&shared.counters.state_question_count, 1);
        self.finding = Some(Box::default());
        self.own_query(OwnQuery::Stock, &question, out);
    }

    /// Appends the question which functions and relations leave something in the
    /// session of whoever uses them ([`Watchlist`](crate::flow::Watchlist)).
    pub fn look_for_suspects(&mut self, out: &mut Vec<u8>, shared: &mut Shared<'_>) {
        self.traces = Some(Box::new(Traces::of_suspects()));
        self.take_stock(None, out, &mut Vec::new(), shared);
    }

    /// Whether its client has changed what new sessions begin with, since this was
    /// last asked.
    pub fn take_alters_defaults(&mut self) -> bool {
        std::mem::take(&mut self.alters_defaults)
    }

    /// Whether a statement was sent, since this was last asked, that needs a
    /// database in which nobody is. The server gives others 5 s to leave
    /// (procarray.c, CountOtherDBBackends).
    #[inline]
    pub fn take_needs_empty_database(&mut self) -> bool {
        let traces = self.traces.as_mut();
        traces.is_some_and(|traces| std::mem::take(&mut traces.needs_empty_database))
    }

    /// Whoever had it has gone: asks about everything that can be there.
    pub fn search(&mut self, out: &mut Vec<u8>, shared: &mut Shared<'_>) {
        let traces = self.traces.get_or_insert_default();
        traces.add(&Effects::unknown(), None);
        self.take_stock(None, out, &mut Vec::new(), shared);
    }

    /// The answer has come, or will not come.
    pub(super) fn conclude(
        &mut self,
        finding: Option<&Finding>,
        mut session: Option<&mut Session>,
        to_client: &mut Vec<u8>,
        shared: &mut Shared<'_>,
    ) {
        let Some(traces) = self.traces.take() else {
            return;
        };
        self.alters_defaults |= traces.alters_defaults;
        if traces.asked && finding.is_none() {
            return self.pin(traces.feared(), shared);
        }
        if let Some(finding) = finding.filter(|_| traces.alters_code) {
            let mut suspects = Suspects::default();
            for row in &finding.rows {
                if let Some((name, _)) = names::two_columns(row) {
                    suspects.add(name);
                }
            }
            shared.suspects.replace(traces.suspects_asked, suspects);
        }
        if let Some(finding) = finding.filter(|_| traces.lists(self.has_clients_names())) {
            let rows = finding.rows.iter();
            let names = rows.filter_map(|row| names::two_columns(row)?.0.strip_prefix(b"&"));
            self.keep_listed(&names.collect(), session.as_deref_mut());
        }
        if let Some(finding) = finding {
            traces.teach(finding, shared.values);
        }
        let told = session.as_ref().map(|session| &*session.params);
        let stock = traces.conclude(&self.params, told, finding);
        self.params = shared.params.intern(stock.params.clone());
        if let Some(session) = session {
            let mine = match session.start() {
                Some(start) => stock.of_client(start),
                None => stock.params.clone(),
            };
            for (name, value) in mine.reported().filter(|(name, _)| !is_fixed(name)) {
                // What it was told last.
                if session.params.get(name) != Some(value) {
                    build::parameter_status(to_client, name, value);
                }
            }
            session.params = shared.params.intern(mine);
        }
        self.pins -= traces.settles(self.pins);
        let mut found = traces.unasked() | stock.found;
        // Refused where temporary objects were used before, also by others (guc.c,
        // check_temp_buffers).
        if self.params.get(b"temp_buffers").is_some() {
            found |= Features::SETTING;
        }
        self.pin(found, shared);
    }

    fn pin(&mut self, features: Features, shared: &mut Shared<'_>) {
        for feature in (features - self.pins).iter() {
            add(counter(feature, shared.counters), 1);
        }
        self.pins |= features;
        if self.pins.is_empty() {
            self.place = None;
            self.hides_effects = false;
        } else if self.place.is_none() {
            self.place = Some(shared.pins.squeeze_in());
        }
    }

    /// `DISCARD SEQUENCES` has run.
    pub(super) fn sequences_discarded(&mut self) {
        self.pins -= Features::SEQUENCE;
    }

    /// `DISCARD ALL` has run.
    pub(super) fn all_discarded(&mut self) {
        // What a library has changed stays.
        self.pins &= Features::LIBRARY;
        if self.pins.is_empty() {
            self.place = None;
        }
    }
}

/// Counts the clients that are pinned by this.
fn counter(feature: Features, counters: &Counters) -> &Cell<u64> {
    match feature {
        Features::TEMPORARY => &counters.pin_temporary_count,
        Features::CURSOR => &counters.pin_cursor_count,
        Features::ADVISORY_LOCK => &counters.pin_advisory_lock_count,
        Features::PREPARE => &counters.pin_prepare_count,
        Features::LISTEN => &counters.pin_listen_count,
        Features::AUTHORIZATION => &counters.pin_authorization_count,
        Features::SEQUENCE => &counters.pin_sequence_count,
        Features::SEED => &counters.pin_seed_count,
        Features::BACKEND_PID => &counters.pin_backend_pid_count,
        Features::SETTING => &counters.pin_setting_count,
        _ => &counters.pin_library_count,
    }
}
