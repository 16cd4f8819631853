//! A client that copies the server's data: physical or logical replication. It has
//! a server connection of its own, which was opened for it with its startup
//! parameters. Bytes go through as they are, whatever their meaning; manual,
//! "Streaming Replication Protocol".

use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::farewell::{End, Goodbye, log_end};
use super::info::{ClientInfo, Order, Party};
use super::login::{told, welcome};
use super::startup::Failure;
use crate::admin::snapshot::{ClientState, ServerState};
use crate::config::Config;
use crate::net::{Outgoing, Stream};
use crate::server::{Dedicated, Pool};
use crate::stats::add;
use crate::wire::build::Refusal;
use crate::wire::startup::{Replication, Startup};
use crate::wire::walk::Walk;
use crate::worker::{Admission, Worker};

/// A server connection for such a client.
pub(super) struct Opened {
    server: Dedicated,
    pool: Rc<Pool>,
}

/// Opens it; with several hosts, to the primary. Not cancel safe.
pub(super) async fn open(
    stream: &Stream,
    pool: Rc<Pool>,
    replication: Replication,
    startup: &Startup,
    ignored: &[String],
) -> Result<Opened, Failure> {
    let parameters = parameters(startup, ignored)?;
    let opened = async {
        loop {
            let pool = match pool.family() {
                Some(family) => {
                    family.ready().await;
                    family.primary()
                }
                None => pool.clone(),
            };
            match pool.dedicate(replication, &parameters).await {
                Ok(server) => return Ok(Opened { server, pool }),
                // Another host is the primary now.
                Err(farewell) if farewell.reroute => {}
                Err(farewell) => return Err(told(farewell)),
            }
        }
    };
    tokio::select! {
        opened = opened => opened,
        () = stream.closed() => Err(Failure::Gone(ErrorKind::UnexpectedEof.into())),
    }
}

/// What the server is told beside user and database.
fn parameters(startup: &Startup, ignored: &[String]) -> Result<Vec<(String, String)>, Refusal> {
    let mut parameters = Vec::new();
    for (name, value) in &startup.parameters {
        let own: [&[u8]; 2] = [b"user", b"database"];
        let is_ignored = |other: &String| name.eq_ignore_ascii_case(other.as_bytes());
        if own.contains(&&**name) || name.starts_with(b"_pq_.") || ignored.iter().any(is_ignored) {
            continue;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
        let (Ok(name), Ok(value)) = (text(name), text(value)) else {
            let refusal = Refusal::fatal("08P01", "startup parameter is not valid UTF-8");
            return Err(refusal.detail(String::from_utf8_lossy(name).into_owned()));
        };
        parameters.push((name, value));
    }
    Ok(parameters)
}

impl Opened {
    /// Tells the client that it may begin, as the server did. `minor`: of the
    /// protocol.
    pub async fn welcome(
        self,
        stream: &mut Stream,
        (id, minor): (u64, u16),
        admission: Admission,
        worker: &Rc<Worker>,
    ) -> Result<Welcomed, Failure> {
        let Opened { server, pool } = self;
        let params = server.backend.params().clone();
        let cancel_key = welcome(stream, minor, &params, worker).await?;
        add(&pool.counters.client_login_count, 1);
        add(&pool.counters.server_assignment_count, 1);
        let party = Party::Client(admission, pool.clone());
        let info = ClientInfo::new(id, cancel_key, party, stream, params);
        info.state.set(ClientState::Active);
        info.link.set(Some(server.info.clone()));
        server.info.link.set(Some(id));
        server.info.state.set(ServerState::Active);
        Ok(Welcomed { server, pool, info })
    }
}

/// A client that has been told so.
pub(super) struct Welcomed {
    server: Dedicated,
    pool: Rc<Pool>,
    info: ClientInfo,
}

impl Welcomed {
    /// Serves it until it has left. If the future is dropped, both connections
    /// are closed.
    pub async fn serve(self, stream: Stream, worker: Rc<Worker>) {
        let info = Rc::new(self.info);
        worker.enlist(info.clone());
        let _listed = Listed(worker.clone(), info.clone());
        let mut pair = Pair {
            stream,
            server: self.server,
            pool: self.pool,
            info,
            to_client: Outgoing::default(),
            from_server: Walk::default(),
            from_client: Walk::default(),
            phase: Phase::Idle,
            said_goodbye: Goodbyes::default(),
        };
        let end = poll_fn(|cx| pair.poll(cx)).await;
        let terms = worker.terms();
        pair.end(&end, &terms.config).await;
    }
}

struct Listed(Rc<Worker>, Rc<ClientInfo>);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.delist(&self.1);
    }
}

/// The two connections.
struct Pair {
    stream: Stream,
    server: Dedicated,
    pool: Rc<Pool>,
    info: Rc<ClientInfo>,
    to_client: Outgoing,
    from_server: Walk,
    from_client: Walk,
    phase: Phase,
    said_goodbye: Goodbyes,
}

/// What the server is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// It has been asked for something: a base backup, for one.
    Busy,
    /// It sends its WAL, without end.
    Streaming,
}

#[derive(Default)]
struct Goodbyes {
    client: bool,
    /// By an error; what comes after one takes it back.
    server: bool,
}

impl Pair {
    /// Ready when it is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.info.listen();
        match self.drive(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            self.obey()?;
            let sent = self.poll_server(cx)?.is_ready();
            let asked = self.poll_client(cx)?.is_ready();
            if !sent && !asked {
                return Ok(());
            }
        }
    }

    fn obey(&self) -> Result<(), End> {
        if self.server.info.close_needed.get() {
            return Err(End::Outdated);
        }
        match self.info.ordered() {
            Order::Nothing | Order::Move | Order::Stay => Ok(()),
            // Who follows the WAL connects again and goes on where it was.
            Order::Drain if self.phase == Phase::Busy => Ok(()),
            Order::Drain if !self.from_server.is_between_messages() => Ok(()),
            order => Err(End::Ordered(order)),
        }
    }

    /// Pending: the server has nothing, or the client takes nothing.
    fn poll_server(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        let gone = |error| End::Gone(Some(error));
        match self.to_client.poll_flush(&mut self.stream, cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(flushed) => flushed.map_err(gone)?,
        }
        let pool = self.pool.clone();
        let mut buffer = pool.local().read_buffer.borrow_mut();
        let read = match self.server.stream.poll_read_some(cx, &mut buffer) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(read) => read.map_err(|error| End::ServerGone(Some(error)))?,
        };
        if read == 0 {
            return Err(End::ServerGone(None));
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        let (phase, goodbye) = (&mut self.phase, &mut self.said_goodbye.server);
        let walked = self.from_server.feed(bytes, |tag| {
            *goodbye = tag == b'E';
            match tag {
                b'W' => *phase = Phase::Streaming,
                b'Z' => *phase = Phase::Idle,
                _ => {}
            }
        });
        // There is nothing to be done about it: the client sees it as well.
        walked.map_err(|_| End::ServerGone(None))?;
        add(&self.pool.counters.bytes_sent, read as u64);
        let sent = self.to_client.write(&mut self.stream, cx, bytes);
        sent.map_err(gone)?;
        Ok(Poll::Ready(()))
    }

    /// Pending: the client has nothing, or the server takes nothing.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        let lost = |error| End::ServerGone(Some(error));
        let server = &mut *self.server;
        match server.output.poll_flush(&mut server.stream, cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(flushed) => flushed.map_err(lost)?,
        }
        if self.said_goodbye.client {
            return Err(End::Terminate);
        }
        let mut buffer = self.pool.local().read_buffer.borrow_mut();
        let read = match self.stream.poll_read_some(cx, &mut buffer) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(read) => read.map_err(|error| End::Gone(Some(error)))?,
        };
        if read == 0 {
            return Err(End::Gone(None));
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        let goodbye = &mut self.said_goodbye.client;
        // What is wrong with it the server will say.
        let _ = self.from_client.feed(bytes, |tag| *goodbye |= tag == b'X');
        if self.phase == Phase::Idle {
            self.phase = Phase::Busy;
        }
        add(&self.pool.counters.bytes_received, read as u64);
        let sent = server.output.write(&mut server.stream, cx, bytes);
        sent.map_err(lost)?;
        Ok(Poll::Ready(()))
    }

    /// Closes both, after the client was told why.
    async fn end(mut self, end: &End, config: &Config) {
        let (mut refusal, reason) = end.last_words(self.said_goodbye.server, config);
        if !self.from_server.is_between_messages() {
            // It would be taken for the rest of a message.
            refusal.clear();
        }
        self.server.close(&reason);
        let info = &self.info;
        info.link.set(None);
        info.state.set(ClientState::Idle);
        log_end(info, &reason, !refusal.is_empty(), config);
        let output = std::mem::take(&mut self.to_client);
        Goodbye { output, refusal }.say(&mut self.stream).await;
    }
}
