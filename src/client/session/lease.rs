//! How a client comes by a server connection, gives it back, and asks another
//! server if the first does not answer.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use super::{Client, Hold, gone};
use crate::admin::snapshot::ClientState;
use crate::client::farewell::End;
use crate::config::PoolMode;
use crate::flow::{Outlook, Release, Session, Setback, Wait};
use crate::server::{Again, Course, Farewell, Lease, Way};
use crate::stats::add;
use crate::wire::build::{self, Refusal};

/// PgBouncer's words (janitor.c, `per_loop_activate`).
const QUEUED: &str = "No server connection available in postgres backend, client being queued";

impl Client {
    /// A server connection for the request that `input` begins with, if one is
    /// idle. Where statements are routed, this decides which pool it has to be
    /// of, and what else goes there.
    pub(super) fn next_lease(&mut self, input: &[u8]) -> Result<(Option<Lease>, Course), Refusal> {
        let mut course = Course::ALL;
        if let Some(family) = self.pool.family() {
            let last_write = self.info.last_write.get();
            let way = family.route(&self.session, input, last_write, self.again)?;
            Way {
                pool: self.pool,
                course,
            } = way;
        }
        Ok((self.pool.try_lease(self.session.params()), course))
    }

    /// What it waited for is there, or will not come.
    pub(super) fn end_wait(
        &mut self,
        outcome: Result<Lease, Arc<Farewell>>,
        course: Course,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        self.hold = Hold::Nothing;
        match outcome {
            Ok(lease) => {
                let input = std::mem::take(&mut self.input);
                self.link(lease, course, &input);
                self.input = input;
                match self.reserves() {
                    true => Ok(()),
                    false => self.go_on(true, cx),
                }
            }
            Err(farewell) if farewell.reroute => {
                self.input_due = true;
                Ok(())
            }
            Err(farewell) => Err(End::Farewell(farewell)),
        }
    }

    /// Tells the client that it waits (`query_wait_notify`).
    pub(super) fn tell_of_wait(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let mut notice = Vec::new();
        build::notice(&mut notice, "00000", QUEUED);
        self.output
            .write(&mut self.stream, cx, &notice)
            .map_err(gone)
    }

    pub(super) fn is_one_by_one(&self) -> bool {
        matches!(&self.hold, Hold::Linked(lease) if goes_one_by_one(lease))
    }

    /// `input`: what it is for.
    pub(super) fn link(&mut self, mut lease: Lease, course: Course, input: &[u8]) {
        let again = std::mem::take(&mut self.again);
        // What is sent is looked at.
        lease.may_write &= !course.only_reads();
        if let Some(length) = course.request_length() {
            lease.one_by_one = true;
            // What a replica has refused was no read after all.
            lease.may_write = again == Again::OnPrimary;
            if self.pool.is_read_only() && again == Again::No {
                let request = input.get(..length as usize).unwrap_or_default();
                lease.begin_attempt(request, Outlook::Open);
            }
        }
        begin_repeatable(&self.session, &mut lease, input);
        if !Rc::ptr_eq(lease.backend.params(), self.session.params()) {
            self.pool.log_settings(&lease, self.session.params());
        }
        if self.session.mode() == PoolMode::Session {
            lease.for_session();
        }
        let now = lease.info.linked_at.get();
        let counters = &self.pool.counters;
        add(&counters.server_assignment_count, 1);
        course.count(counters);
        if self.info.state.get() == ClientState::Waiting {
            let waited = now - self.info.request_time.get();
            add(&counters.wait_time, waited.as_micros() as u64);
        }
        self.info.request_time.set(now);
        self.info.state.set(ClientState::Active);
        lease.info.link.set(Some(self.info.id));
        self.info.link.set(Some(lease.info.clone()));
        self.hold = Hold::Linked(lease);
    }

    /// This is about to be sent: if it may write, so may all until the server
    /// connection is given back. Who goes one by one only reads.
    pub(super) fn look_for_writes(&mut self, part: &[u8]) {
        if let Hold::Linked(lease) = &mut self.hold
            && !lease.may_write
            && !lease.one_by_one
            && let Some(family) = self.pool.family()
        {
            lease.may_write = !family.only_reads(&self.session, part);
        }
    }

    /// What it holds.
    pub(in crate::client) fn lease(&self) -> Option<&Lease> {
        match &self.hold {
            Hold::Linked(lease) => Some(lease),
            Hold::Nothing | Hold::Waiting(..) => None,
        }
    }

    /// Takes that away from it.
    pub(in crate::client) fn take_lease(&mut self) -> Option<Lease> {
        match std::mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Linked(lease) => Some(lease),
            Hold::Nothing | Hold::Waiting(..) => None,
        }
    }

    /// It has come with the connection that is its own.
    pub(in crate::client) fn relink(&mut self, lease: Lease) {
        let asked = self.info.request_time.get();
        self.link(lease, Course::ALL, &[]);
        self.info.request_time.set(asked);
    }

    /// Why what was asked is to be asked again, as soon as that is possible.
    pub(super) fn setback(&self) -> Option<Setback> {
        let Hold::Linked(lease) = &self.hold else {
            return None;
        };
        let setback = match lease.backend.outlook() {
            Outlook::Served | Outlook::Here => return None,
            Outlook::Open => Setback::Lost,
            Outlook::Failed(setback) => setback,
        };
        match lease.backend.release() {
            // The rest of the answer is still to come.
            Release::Dirty => None,
            Release::Broken if setback == Setback::Stale => None,
            Release::Ready | Release::Broken => Some(setback),
        }
    }

    /// The server answers nobody any more: what can be asked elsewhere does not
    /// wait for it.
    pub(super) fn leave_silent_server(&mut self) {
        if let Hold::Linked(lease) = &mut self.hold
            && lease.backend.outlook() == Outlook::Open
            && lease.info.silent.get()
        {
            lease.backend.set_lost();
            self.start_over(Setback::Lost);
        }
    }

    /// Takes the request back, to ask it again: once, and the client has been told
    /// nothing of it. Elsewhere, unless the server only has to parse a statement
    /// anew.
    pub(super) fn start_over(&mut self, setback: Setback) {
        // Nothing of it was sent: it is still what `input` begins with.
        let unsent = self.session.listener_wait() == Wait::Reserve;
        let Hold::Linked(lease) = &mut self.hold else {
            return;
        };
        let mut request = std::mem::take(&mut lease.attempt.request);
        if !unsent {
            self.session.take_back_request(&request);
        }
        let counters = &self.pool.counters;
        let family = self.pool.family();
        if setback == Setback::Stale {
            add(&counters.stale_statement_count, 1);
            lease.attempt.end();
            lease.attempt.repeated = lease.backend.is_marked();
            lease.backend.end_attempt();
        } else if setback == Setback::Lost {
            add(&counters.lost_read_count, 1);
            self.again = family.map_or(Again::OnPrimary, |family| family.not_at(&self.pool));
        } else {
            add(&counters.refused_read_count, 1);
            self.again = Again::OnPrimary;
            if let Some(family) = family.filter(|_| setback == Setback::Unable) {
                family.refused(&self.session, &request);
            }
        }
        if setback != Setback::Stale {
            self.unlink();
        }
        if !unsent {
            request.extend_from_slice(&self.input);
            self.input = request;
        }
        self.answers_first = false;
        self.input_due = true;
    }

    /// Whether the server connection stays the client's when its transaction has
    /// ended: for what it has left there, or until that is known.
    pub(super) fn keeps_server(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Hold::Linked(lease) = &mut self.hold else {
            return Ok(false);
        };
        let server = &mut **lease;
        if !server.backend.is_marked() {
            return Ok(false);
        }
        let (mut question, mut to_client) = (Vec::new(), Vec::new());
        let (backend, session) = (&mut server.backend, Some(&mut self.session));
        self.pool.with_shared(|shared| {
            backend.take_stock(session, &mut question, &mut to_client, shared);
        });
        if !question.is_empty() {
            // If the server has gone, reading from it tells why.
            let _ = server.output.write(&mut server.stream, cx, &question);
        }
        server.info.pins.set(server.backend.pins());
        if self.session.channels().is_some() && server.backend.is_known() {
            // The client knows by which process id it sends.
            self.worker.release_pid(self.info.id);
        }
        let keeps = server.backend.is_marked();
        if server.backend.take_alters_defaults() {
            self.worker.renew_all_servers();
        }
        if !to_client.is_empty() {
            self.output
                .write(&mut self.stream, cx, &to_client)
                .map_err(gone)?;
        }
        Ok(keeps)
    }

    /// Gives the server connection back if it is free and does not stay.
    pub(super) fn give_back(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if let Hold::Linked(lease) = &self.hold
            && lease.input.is_empty()
            && lease.output.is_empty()
            && lease.backend.release() == Release::Ready
            && self.session.listener_wait() == Wait::No
        {
            match self.session.mode() {
                PoolMode::Session => self.leave_outdated()?,
                PoolMode::Transaction | PoolMode::Statement if self.keeps_server(cx)? => {
                    self.leave_outdated()?;
                }
                PoolMode::Transaction | PoolMode::Statement => self.unlink(),
            }
        }
        Ok(())
    }

    /// Gives the server connection back.
    pub(super) fn unlink(&mut self) {
        self.info.link.set(None);
        self.info.state.set(ClientState::Idle);
        if let Hold::Linked(lease) = &self.hold {
            self.info.request_time.set(lease.info.asked_at.get());
        }
        let prepared = self.session.prepared_statements();
        let prepared = prepared.min(u16::MAX.into()) as u16;
        self.info.prepared_statements.set(prepared);
        self.info.params.set(Some(self.session.params().clone()));
        if self.session.channels().is_some() {
            self.worker.release_pid(self.info.id);
        }
        self.hold = Hold::Nothing;
        if let Some(channels) = self.session.channels_mut() {
            channels.reserved = false;
            // What has come meanwhile can be told now.
            self.info.bring_news();
        }
    }
}

/// Keeps the request that `input` begins with, if it may have to be asked again here,
/// and is not kept for another reason.
pub(super) fn begin_repeatable(session: &Session, lease: &mut Lease, input: &[u8]) {
    if lease.backend.outlook() == Outlook::Served
        && let Some(length) = session.repeatable(input)
    {
        lease.begin_attempt(input.get(..length).unwrap_or_default(), Outlook::Here);
    }
}

/// Whether a request waits until the one before it is answered: it may belong
/// elsewhere, or the one before it may have to be asked again.
pub(super) fn goes_one_by_one(lease: &Lease) -> bool {
    lease.one_by_one || lease.backend.outlook() != Outlook::Served
}
