//! A client that copies the server's data: physical or logical replication. It has
//! a server connection of its own, which was opened for it with its startup
//! parameters. Bytes go through as they are, whatever their meaning; manual,
//! "Streaming Replication Protocol".

use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::farewell::End;
use super::info::{ClientInfo, Order, Party};
use super::login::{told, welcome};
use super::relay::Relay;
use super::startup::Failure;
use crate::net::Stream;
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
        let mut copying = Copying {
            relay: Relay::new(stream, self.server, self.pool, info),
            from_server: Walk::default(),
            phase: Phase::Idle,
        };
        let end = poll_fn(|cx| copying.poll(cx)).await;
        let terms = worker.terms();
        let between_messages = copying.from_server.is_between_messages();
        let relay = copying.relay;
        relay.end(&end, between_messages, &terms.config).await;
    }
}

struct Listed(Rc<Worker>, Rc<ClientInfo>);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.delist(&self.1);
    }
}

struct Copying {
    relay: Relay,
    from_server: Walk,
    phase: Phase,
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

impl Copying {
    /// Ready when it is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.relay.info.listen();
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
        if self.relay.server.info.close_needed.get() {
            return Err(End::Outdated);
        }
        match self.relay.info.ordered() {
            Order::Nothing | Order::Move | Order::Stay => Ok(()),
            // Who follows the WAL connects again and goes on where it was.
            Order::Drain if self.phase == Phase::Busy => Ok(()),
            Order::Drain if !self.from_server.is_between_messages() => Ok(()),
            order => Err(End::Ordered(order)),
        }
    }

    fn poll_server(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        let (from_server, phase) = (&mut self.from_server, &mut self.phase);
        self.relay.poll_server(cx, |bytes, goodbye| {
            from_server.feed(bytes, |tag| {
                *goodbye = tag == b'E';
                match tag {
                    b'W' => *phase = Phase::Streaming,
                    b'Z' => *phase = Phase::Idle,
                    _ => {}
                }
            })
        })
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        let polled = self.relay.poll_client(cx, |_| ())?;
        if polled.is_ready() && self.phase == Phase::Idle {
            self.phase = Phase::Busy;
        }
        Ok(polled)
    }
}
