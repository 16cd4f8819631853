//! A logged-in client: moves bytes between its socket and the server
//! connection that it holds, as the flow machines say.

mod lease;
mod limits;
mod notify;
mod orders;

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::farewell::{End, Goodbye, log_end, log_fault};
use super::info::{ClientInfo, Order};
use crate::admin::snapshot::ClientState;
use crate::flow::{Backend, Outlook, Output, Release, Session, Stop, Wait};
use crate::net::{Outgoing, Stream};
use crate::pool::Ticket;
use crate::reactor;
use crate::server::{Again, Course, Lease, Pool};
use crate::stats::add;
use crate::wire::build;
use crate::worker::Worker;
pub(super) use limits::TimeLimit;

/// While a client waits for a server connection, this many bytes more are read
/// from it, so that its going away is noticed.
const READ_WHILE_WAITING: usize = 16 * 1024;
/// An incomplete message longer than this is read into its own buffer.
const CARRY: usize = 16 * 1024;

/// A client's socket and its state.
pub struct Client {
    pub(super) stream: Stream,
    pub(super) session: Session,
    pub(super) info: Rc<ClientInfo>,
    pub(super) pool: Rc<Pool>,
    /// Bytes of the client that could not be dealt with yet.
    pub(super) input: Vec<u8>,
    pub(super) output: Outgoing,
    /// `input` begins with a message that waits for an answer of the server.
    answers_first: bool,
    /// `input` begins with a message that can be dealt with now.
    input_due: bool,
    hold: Hold,
    /// Where what `input` begins with has been already.
    again: Again,
    hearing: Hearing,
    pub(super) worker: Rc<Worker>,
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Hold::Waiting(ticket, _) = self.hold {
            self.pool.leave(ticket);
        }
        self.worker.delist(&self.info);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hearing {
    /// The client may have sent something.
    Due,
    /// The reactor wakes the task when it does.
    Expected,
    /// It has said goodbye; what it asked for before is still answered.
    Over,
}

enum Hold {
    Nothing,
    Waiting(Ticket, Course),
    Linked(Lease),
}

impl Client {
    pub(super) fn new(
        stream: Stream,
        session: Session,
        info: Rc<ClientInfo>,
        (pool, worker): (Rc<Pool>, Rc<Worker>),
    ) -> Client {
        Client {
            stream,
            session,
            info,
            pool,
            input: Vec::new(),
            output: Outgoing::default(),
            answers_first: false,
            input_due: false,
            hold: Hold::Nothing,
            again: Again::No,
            hearing: Hearing::Due,
            worker,
        }
    }

    /// Does whatever can be done now. Ready when the session is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.info.listen();
        match self.drive(cx) {
            Ok(()) => {
                let shown = |bytes: usize| bytes.min(u16::MAX as usize) as u16;
                self.info.held.set(shown(self.input.len()));
                self.info.unsent.set(shown(self.output.len()));
                if let Hold::Linked(lease) = &self.hold {
                    lease.info.held.set(shown(lease.input.len()));
                    lease.info.rest.set(lease.backend.rest());
                    lease.info.client_rest.set(self.session.rest());
                    lease.info.unsent.set(shown(lease.output.len()));
                }
                Poll::Pending
            }
            Err(end) => Poll::Ready(end),
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        // A socket that has nothing more wakes the task when it has: it is not
        // asked twice.
        let (mut server_drained, mut client_drained) = (false, false);
        loop {
            self.obey()?;
            if self.worker.is_suspended() {
                return self.only_write(cx);
            }
            self.leave_silent_server();
            let mut progress = false;
            if self
                .output
                .poll_flush(&mut self.stream, cx)
                .map_err(gone)?
                .is_pending()
            {
                // The client is slow: nothing more is read for it.
            } else if self.info.has_news() && self.take_news(cx)? {
                progress = true;
                server_drained = false;
            } else if matches!(self.hold, Hold::Linked(_))
                && !server_drained
                && self.session.listener_wait() != Wait::Settle
            {
                progress = self.poll_server(cx)?.is_ready();
                server_drained = !progress;
            }
            if let Hold::Waiting(ticket, course) = self.hold {
                match self.pool.poll_wait(ticket, cx.waker()) {
                    Poll::Pending if self.pool.take_notice(ticket) => self.tell_of_wait(cx)?,
                    Poll::Pending => {}
                    Poll::Ready(outcome) => {
                        self.end_wait(outcome, course, cx)?;
                        server_drained = false;
                        progress = true;
                    }
                }
            }
            if self.hearing == Hearing::Over && !self.is_served() {
                return Err(End::Terminate);
            }
            if !self.waits_for_listener() && std::mem::take(&mut self.input_due) {
                self.go_on(false, cx)?;
                progress = true;
            }
            if !client_drained && self.may_read(cx) {
                client_drained = self.poll_client(cx)?.is_pending();
                progress |= !client_drained;
            }
            if !progress || (client_drained && self.is_quiet()) {
                return Ok(());
            }
        }
    }

    /// Whether nothing can be done before the task is woken again, when the client's
    /// socket has nothing.
    fn is_quiet(&self) -> bool {
        matches!(self.hold, Hold::Nothing)
            && self.hearing == Hearing::Expected
            && !self.input_due
            && self.output.is_empty()
            && !self.info.has_news()
            && self.info.ordered() == Order::Nothing
    }

    /// Nothing is read, so that soon nothing is left to be written.
    fn only_write(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let to_client = self.output.poll_flush(&mut self.stream, cx).map_err(gone)?;
        let to_server = match &mut self.hold {
            Hold::Linked(lease) => {
                let server = &mut **lease;
                // An error shows when the server is read.
                server.output.poll_flush(&mut server.stream, cx).is_ready()
            }
            Hold::Nothing | Hold::Waiting(..) => true,
        };
        self.info.flushed.set(to_client.is_ready() && to_server);
        Ok(())
    }

    /// Whether more from the client can be dealt with. What the server has not
    /// taken yet goes out first, even if the client has said goodbye.
    fn may_read(&mut self, cx: &mut Context<'_>) -> bool {
        let able = match &mut self.hold {
            Hold::Nothing => self.output.is_empty(),
            Hold::Waiting(..) => self.input.len() < READ_WHILE_WAITING,
            Hold::Linked(lease) => {
                let server = &mut **lease;
                // An error shows when the server is read.
                let flushed = server.output.poll_flush(&mut server.stream, cx);
                let owes_many = server.backend.owes_many();
                !self.answers_first && !owes_many && self.output.is_empty() && flushed.is_ready()
            }
        };
        able && self.hearing != Hearing::Over && !self.waits_for_listener()
    }

    // ---- from the client ----

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        // To look is cheaper than to ask for being woken once more.
        if self.hearing == Hearing::Expected && !self.stream.may_be_readable() {
            return Ok(Poll::Pending);
        }
        self.hearing = Hearing::Due;
        if self.input.len() > CARRY {
            return self.poll_client_long(cx);
        }
        let pool = self.pool.clone();
        let mut buffer = pool.local().read_buffer.borrow_mut();
        let carried = self.input.len();
        let Some((front, free)) = buffer.split_at_mut_checked(carried) else {
            return self.poll_client_long(cx);
        };
        let n = match self.stream.poll_read_some(cx, free) {
            Poll::Pending => {
                // Without a budget the reactor has not looked at the socket.
                if reactor::has_budget() {
                    self.hearing = Hearing::Expected;
                }
                return Ok(Poll::Pending);
            }
            Poll::Ready(read) => read.map_err(gone)?,
        };
        if n == 0 {
            return Err(End::Gone(None));
        }
        add(&self.pool.counters.bytes_received, n as u64);
        front.copy_from_slice(&self.input);
        let bytes = buffer.get(..carried + n).unwrap_or_default();
        let taken = match self.hold {
            Hold::Waiting(..) => 0,
            _ => self.take_input(bytes, false, cx)?,
        };
        self.keep_input(bytes, taken);
        Ok(Poll::Ready(()))
    }

    /// The same for a long message that must be held whole: memory grows with
    /// what has arrived, not with what was announced.
    fn poll_client_long(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        let before = self.input.len();
        self.input.resize(before + 4 * CARRY, 0);
        let free = self.input.get_mut(before..).unwrap_or_default();
        let read = self.stream.poll_read_some(cx, free);
        let n = match &read {
            Poll::Ready(Ok(n)) => *n,
            _ => 0,
        };
        self.input.truncate(before + n);
        match read {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Err(error)) => return Err(gone(error)),
            Poll::Ready(Ok(0)) => return Err(End::Gone(None)),
            Poll::Ready(Ok(_)) => {}
        }
        add(&self.pool.counters.bytes_received, n as u64);
        if !matches!(self.hold, Hold::Waiting(..)) {
            let input = std::mem::take(&mut self.input);
            match self.take_input(&input, false, cx)? {
                0 => self.input = input,
                taken => self.keep_input(&input, taken),
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Deals with what was kept.
    fn go_on(&mut self, fresh: bool, cx: &mut Context<'_>) -> Result<(), End> {
        let input = std::mem::take(&mut self.input);
        let taken = self.take_input(&input, fresh, cx)?;
        self.keep_input(&input, taken);
        self.pool.local().give_spare(input);
        Ok(())
    }

    /// Keeps what was not taken. Nothing is owned while there is nothing.
    fn keep_input(&mut self, bytes: &[u8], taken: usize) {
        let left = bytes.get(taken..).unwrap_or_default();
        let local = self.pool.local();
        if left.is_empty() {
            local.give_spare(std::mem::take(&mut self.input));
            return;
        }
        if self.input.capacity() == 0 {
            self.input = local.take_spare();
        }
        self.input.clear();
        self.input.extend_from_slice(left);
    }

    /// Walks the client's bytes, gets a server connection where they need one,
    /// and sends on what they say, with one write. `fresh`: the server
    /// connection has just been given to us.
    fn take_input(
        &mut self,
        bytes: &[u8],
        mut fresh: bool,
        cx: &mut Context<'_>,
    ) -> Result<usize, End> {
        let first_pool = self.pool.clone();
        let local = first_pool.local();
        let mut buffer = local.empty_write_buffer();
        let mut to_client = Vec::new();
        let mut at = 0;
        loop {
            let rest = rest_of(bytes, at);
            let idle = matches!(self.hold, Hold::Nothing);
            let (taken, stop) = match idle && self.session.needs_server(rest, local.bounds.get()) {
                true => (0, Stop::NeedServer),
                false => match self.part_due(rest) {
                    Some(part) => self.walk(part, fresh, &mut buffer, &mut to_client, cx)?,
                    None => {
                        self.answers_first = true;
                        return Ok(at);
                    }
                },
            };
            at += taken;
            match stop {
                Stop::More { .. } if self.is_one_by_one() && taken > 0 && at < bytes.len() => {}
                Stop::More { .. } => return Ok(at),
                Stop::Terminate => {
                    self.hearing = Hearing::Over;
                    return Ok(bytes.len());
                }
                Stop::Wait => {
                    self.answers_first = true;
                    // The rest depends on answers: it cannot all be asked again.
                    if let Hold::Linked(lease) = &mut self.hold
                        && lease.backend.takes_more()
                    {
                        lease.backend.end_attempt();
                    }
                    return Ok(at);
                }
                Stop::AskListener => {
                    self.ask_listener();
                    return Ok(at);
                }
                Stop::NeedServer => match self.next_lease(rest_of(bytes, at)) {
                    Err(refusal) => {
                        let mut error = Vec::new();
                        refusal.encode(&mut error);
                        let rest = rest_of(bytes, at);
                        at += self.session.refuse(rest, &error, &mut to_client);
                        self.output
                            .write(&mut self.stream, cx, &to_client)
                            .map_err(gone)?;
                        to_client.clear();
                    }
                    Ok((Some(lease), course)) => {
                        self.link(lease, course, rest_of(bytes, at));
                        if self.reserves() {
                            return Ok(at);
                        }
                        fresh = true;
                    }
                    Ok((None, course)) => {
                        let now = reactor::now();
                        let ticket = self.join(now)?;
                        self.hold = Hold::Waiting(ticket, course);
                        self.info.state.set(ClientState::Waiting);
                        self.info.request_time.set(now);
                        return Ok(at);
                    }
                },
            }
        }
    }

    /// What of the client's bytes can be dealt with now; `None`: the server answers
    /// first.
    fn part_due<'a>(&mut self, rest: &'a [u8]) -> Option<&'a [u8]> {
        let Hold::Linked(lease) = &mut self.hold else {
            return Some(rest);
        };
        if lease.backend.is_taking_stock() {
            return None;
        }
        // It was linked for an earlier one.
        if lease.backend.is_marked()
            && lease.backend.release() == Release::Ready
            && lease.backend.outlook() == Outlook::Served
            && !std::mem::take(&mut lease.attempt.repeated)
        {
            lease::begin_repeatable(&self.session, lease, rest);
        }
        if !lease::goes_one_by_one(lease) || rest.is_empty() {
            return Some(rest);
        }
        let more = self.session.is_inside_message() || lease.backend.takes_more();
        if lease.backend.is_busy() && !(lease.one_by_one && more) {
            return None;
        }
        rest.get(..self.session.request_end(rest)).or(Some(rest))
    }

    /// One walk over the client's bytes: what it says to the server, and to the
    /// client, is sent.
    fn walk(
        &mut self,
        part: &[u8],
        fresh: bool,
        buffer: &mut Vec<u8>,
        to_client: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Result<(usize, Stop), End> {
        buffer.clear();
        let pool = self.pool.clone();
        self.look_for_writes(part);
        let mut out = Output::new(part, buffer);
        let mut server = match &mut self.hold {
            Hold::Linked(lease) => Some(&mut **lease),
            _ => None,
        };
        let was_busy = server.as_ref().is_some_and(|s| s.backend.is_busy());
        let session = &mut self.session;
        let result = pool.with_shared(|shared| {
            let mut backend = server.as_mut().map(|server| &mut server.backend);
            let wants = |backend: &&mut Backend| fresh || backend.has_strayed(session);
            if let Some(backend) = backend.as_deref_mut().filter(wants) {
                backend.adopt(session, &mut out, to_client, shared);
            }
            session.from_client(backend, part, &mut out, to_client, shared)
        });
        if server.as_ref().is_some_and(|s| s.backend.owes_many()) {
            out.own().extend_from_slice(build::FLUSH);
        }
        let to_server = out.finish();
        if let Some(server) = server {
            if !to_server.is_empty() {
                // If the server has gone, reading from it tells why.
                let _ = server.output.write(&mut server.stream, cx, to_server);
            }
            if server.backend.take_needs_empty_database() {
                self.worker.renew_all_servers();
            }
            // What was just linked is asked at the same moment.
            if !was_busy && server.backend.is_busy() && !fresh {
                let (info, now) = (&server.info, reactor::now());
                if info.linked_at == info.asked_at {
                    info.linked_at.set(now);
                }
                info.asked_at.set(now);
            }
        }
        if !to_client.is_empty() {
            match &mut self.hold {
                Hold::Linked(lease)
                    if lease.backend.outlook().is_open() && lease.backend.is_busy() =>
                {
                    lease.attempt.withheld.extend_from_slice(to_client);
                }
                _ => {
                    if matches!(self.hold, Hold::Nothing) {
                        self.info.request_time.set(reactor::now());
                    }
                    add(&pool.counters.bytes_sent, to_client.len() as u64);
                    self.output
                        .write(&mut self.stream, cx, to_client)
                        .map_err(gone)?;
                }
            }
            to_client.clear();
        }
        result.map_err(End::Fault)
    }

    // ---- from the server ----

    fn poll_server(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        let read = self.read_server(cx);
        let gone = matches!(read, Err(End::ServerGone(_)));
        if let Hold::Linked(lease) = &mut self.hold
            && gone
        {
            lease.backend.set_lost();
        }
        if let Some(setback) = self.setback().filter(|_| gone || read.is_ok()) {
            self.start_over(setback);
            return Ok(Poll::Ready(()));
        }
        let read = read?;
        // The buffers are free again here: a lease that is dropped may need
        // them.
        if read.is_ready() {
            self.give_back(cx)?;
        }
        Ok(read)
    }

    fn read_server(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        let Hold::Linked(lease) = &mut self.hold else {
            return Ok(Poll::Pending);
        };
        let server = &mut **lease;
        let pool = self.pool.clone();
        let local = pool.local();
        let mut read_buffer = local.read_buffer.borrow_mut();
        let carried = std::mem::take(&mut server.input);
        let long;
        let bytes = match read_buffer.split_at_mut_checked(carried.len()) {
            Some((front, free)) if carried.len() <= CARRY => {
                let n = match server.stream.poll_read_some(cx, free) {
                    Poll::Pending => {
                        server.input = carried;
                        return Ok(Poll::Pending);
                    }
                    Poll::Ready(read) => read.map_err(|error| End::ServerGone(Some(error)))?,
                };
                if n == 0 {
                    return Err(End::ServerGone(None));
                }
                front.copy_from_slice(&carried);
                read_buffer.get(..carried.len() + n).unwrap_or_default()
            }
            _ => {
                let n = match server.stream.poll_read_some(cx, &mut read_buffer) {
                    Poll::Pending => {
                        server.input = carried;
                        return Ok(Poll::Pending);
                    }
                    Poll::Ready(read) => read.map_err(|error| End::ServerGone(Some(error)))?,
                };
                if n == 0 {
                    return Err(End::ServerGone(None));
                }
                let mut all = carried;
                all.extend_from_slice(read_buffer.get(..n).unwrap_or_default());
                long = all;
                &long[..]
            }
        };
        let mut write_buffer = local.empty_write_buffer();
        let mut out = Output::new(bytes, &mut write_buffer);
        let (backend, session) = (&mut server.backend, Some(&mut self.session));
        let result =
            pool.with_shared(|shared| backend.from_server(session, bytes, &mut out, shared));
        let to_client = out.finish();
        // What has arrived of the next message must be kept even if the client
        // is gone: the connection goes on from there.
        if let Ok(taken) = result
            && taken < bytes.len()
        {
            server.input = bytes.get(taken..).unwrap_or_default().to_vec();
        }
        if server.backend.outlook() == Outlook::Here && !server.backend.is_busy() {
            // It ended with Flush.
            server.backend.end_attempt();
        }
        match server.backend.outlook() {
            Outlook::Served => {}
            Outlook::Open | Outlook::Here if result.is_ok() => {
                server.attempt.withheld.extend_from_slice(to_client);
                self.input_due |= std::mem::take(&mut self.answers_first);
                return Ok(Poll::Ready(()));
            }
            Outlook::Failed(_) if result.is_ok() => {
                let mut sync = Vec::new();
                server.backend.synchronise(&mut sync);
                // An error shows when the server is read.
                let _ = server.output.write(&mut server.stream, cx, &sync);
                return Ok(Poll::Ready(()));
            }
            _ => {}
        }
        if !server.attempt.request.is_empty() {
            let withheld = &server.attempt.withheld;
            if !withheld.is_empty() {
                add(&pool.counters.bytes_sent, withheld.len() as u64);
                self.output
                    .write(&mut self.stream, cx, withheld)
                    .map_err(gone)?;
            }
            server.attempt.end();
        }
        let (to_client, later) = match server.backend.take_later() {
            None => (to_client, &[][..]),
            Some(at) => to_client.split_at_checked(at).unwrap_or((to_client, &[])),
        };
        if !to_client.is_empty() {
            add(&pool.counters.bytes_sent, to_client.len() as u64);
            // Before the client knows of it.
            if server.may_write
                && let Some(family) = pool.family()
            {
                self.info.last_write.set(family.note_write());
            }
            self.output
                .write(&mut self.stream, cx, to_client)
                .map_err(gone)?;
        }
        result.map_err(End::ServerFault)?;
        self.input_due |= std::mem::take(&mut self.answers_first);
        if !server.backend.is_busy() {
            let (info, now) = (&server.info, reactor::now());
            let micros = |since: Instant| (now - since).as_micros() as u64;
            let (asked_at, linked_at) = (info.asked_at.replace(now), info.linked_at.get());
            let query_time = micros(asked_at);
            add(&pool.counters.query_time, query_time);
            if server.backend.release() == Release::Ready {
                // Mostly it was one query.
                let xact_time = match asked_at == linked_at {
                    true => query_time,
                    false => micros(linked_at),
                };
                add(&pool.counters.xact_time, xact_time);
                info.linked_at.set(now);
            }
        }
        if !later.is_empty() {
            self.hold_back(later, cx)?;
        }
        if self.session.channels().is_some() {
            self.end_listen(cx);
        }
        Ok(Poll::Ready(()))
    }

    // ---- the end ----

    /// The session is over: the server connection is given back, and what is
    /// left to be said to the client comes out.
    pub(super) fn finish(&mut self, end: &End) -> Goodbye {
        let terms = self.worker.terms();
        let (mut refusal, reason) = end.last_words(self.ending(), &terms.config);
        if let Hold::Linked(lease) = &self.hold
            && lease.backend.is_inside_message()
        {
            // It would be taken for the rest of a row.
            refusal.clear();
        }
        if let Hold::Waiting(ticket, _) = self.hold {
            self.pool.leave(ticket);
        }
        if let Hold::Linked(lease) = &mut self.hold {
            if matches!(end, End::Terminate) {
                lease.let_finish();
            }
            if let Some(reason) = end.of_server() {
                lease.info.close_needed.set(true);
                lease.info.close_reason.set(Some(reason));
            }
        }
        // The server connection is free before the client has read its last
        // message.
        self.unlink();
        let info = &self.info;
        if let End::Fault(fault) = end {
            log_fault(*fault, self.session.misused(), info, &terms.config);
        }
        log_end(info, &reason, !refusal.is_empty(), &terms.config);
        Goodbye {
            output: std::mem::take(&mut self.output),
            refusal,
        }
    }

    /// The server has said goodbye itself, and the client has read it.
    fn ending(&self) -> bool {
        matches!(&self.hold, Hold::Linked(lease) if lease.backend.is_ending())
    }
}

fn gone(error: io::Error) -> End {
    End::Gone(Some(error))
}

fn rest_of(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}
