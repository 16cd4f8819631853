//! The connection that listens for all clients of a database: its ear.
//!
//! It lives on the worker of the client that first needed it, and tells every
//! worker what its clients are to hear. Between two answers of the server stand
//! the notifications that were sent in between: whoever has asked something after
//! a transaction was committed, if only an empty query, knows with the answer that
//! all of that transaction's notifications have come (async.c, `SignalBackends` and
//! `ProcessNotifyInterrupt`).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::login_error::ErrorResponse;
use super::pool::{OpenError, Opened, Pool};
use crate::admin::snapshot::{ServerState, SocketRow};
use crate::config::PoolConfig;
use crate::flow::each_channel;
use crate::net::{Outgoing, Stream};
use crate::reactor;
use crate::sql::Encoding;
use crate::sql::listen::Channel;
use crate::wire::{FrameError, HEADER_LEN, Header, build, names};
use crate::worker::{Command, Crew};

/// Longest message of the server. A payload has less than 8000 bytes.
const LONGEST: u32 = 1 << 20;
/// How often it looks whether the database has moved.
const LOOK: Duration = Duration::from_secs(1);
/// What the server shows of it.
const APPLICATION_NAME: &str = "pgweir listener";
/// How long it stays when nobody listens any more.
const LINGER: Duration = Duration::from_secs(10);

/// Which ear.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EarName {
    pub database: Arc<str>,
    /// The `client_encoding` of channels and payloads.
    pub encoding: Arc<[u8]>,
}

/// What a worker asks of an ear.
#[derive(Debug)]
pub struct Asked {
    pub worker: usize,
    pub ask: Ask,
}

/// Clients are named by their number, server processes and clients' process ids
/// by what they are told.
#[derive(Debug)]
pub enum Ask {
    /// Hear these from the answer on, beside what is heard already. From then on,
    /// what comes from this server process comes from this client.
    Hear {
        client: u64,
        channels: Vec<Channel>,
        reserve: Option<(u32, u32)>,
    },
    /// Nobody of this worker listens to it any more.
    Forget(Channel),
    /// Answer when everything has come that was sent up to now.
    Settle { client: u64 },
    /// What comes from this server process is not this client's any more. Whoever
    /// gets the server connection next gets it only after this was said.
    Release((u32, u32)),
}

impl Ask {
    /// Who is answered.
    fn client(&self) -> Option<u64> {
        match self {
            Ask::Hear { client, .. } | Ask::Settle { client } => Some(*client),
            Ask::Forget(_) | Ask::Release(_) => None,
        }
    }
}

/// What an ear tells a worker, in order.
#[derive(Clone, Debug)]
pub enum Heard {
    Notification(Arc<Notification>),
    /// The client's question is answered.
    Ready(u64),
    /// It cannot be.
    Failed(u64, Arc<str>),
    /// Notifications may be missed from now on.
    Lost,
}

#[derive(Debug)]
pub struct Notification {
    pub channel: Channel,
    /// NotificationResponse, as clients get it.
    pub message: Box<[u8]>,
}

/// The ears of the process.
#[derive(Debug, Default)]
pub struct Ears(Mutex<HashMap<EarName, mpsc::UnboundedSender<Asked>>>);

impl Ears {
    /// Asks an ear of a client of this pool; begins to listen if there is none. Must
    /// be called inside a reactor.
    pub fn ask(&self, name: &EarName, asked: Asked, pool: &Rc<Pool>, crew: &Crew) {
        let mut all = self.lock();
        let asked = match all.get(name) {
            None => asked,
            Some(ear) => match ear.send(asked) {
                Ok(()) => return,
                Err(unsent) => unsent.0,
            },
        };
        let (sender, questions) = mpsc::unbounded_channel();
        // It is received by the task that begins below.
        let _ = sender.send(asked);
        all.insert(name.clone(), sender);
        let begun = Beginning {
            name: name.clone(),
            pool: pool.clone(),
            crew: crew.clone(),
            questions,
        };
        reactor::spawn(begun.run());
    }

    /// Tells an ear something that needs no answer.
    pub fn tell(&self, name: &EarName, asked: Asked) {
        if let Some(ear) = self.lock().get(name) {
            // One that has ended hears nothing any more.
            let _ = ear.send(asked);
        }
    }

    /// Ends an ear, and returns what it was still asked.
    fn end(&self, name: &EarName, questions: &mut mpsc::UnboundedReceiver<Asked>) -> Vec<Asked> {
        let mut all = self.lock();
        all.remove(name);
        std::iter::from_fn(|| questions.try_recv().ok()).collect()
    }

    /// The same if it was asked nothing. False: it was.
    fn leave(&self, name: &EarName, questions: &mpsc::UnboundedReceiver<Asked>) -> bool {
        let mut all = self.lock();
        let unused = questions.is_empty();
        if unused {
            all.remove(name);
        }
        unused
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EarName, mpsc::UnboundedSender<Asked>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an ear hears nothing any more.
#[derive(Debug, thiserror::Error)]
enum Deaf {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("server closed the connection")]
    Closed,
    #[error("{0}")]
    Server(String),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a message was not understood")]
    Message,
    #[error("the database is on another server now")]
    Moved,
}

/// An ear that is not connected yet.
struct Beginning {
    name: EarName,
    pool: Rc<Pool>,
    crew: Crew,
    questions: mpsc::UnboundedReceiver<Asked>,
}

impl Beginning {
    async fn run(mut self) {
        let ears = self.crew.ears().clone();
        let (pool, opened) = match self.open().await {
            Ok(opened) => opened,
            Err(error) => {
                let (db, reason) = (&self.name.database, error.text());
                warn!(%db, %reason, "cannot listen");
                let reason: Arc<str> = reason.into();
                for Asked { worker, ask } in ears.end(&self.name, &mut self.questions) {
                    if let Some(client) = ask.client() {
                        let told = vec![Heard::Failed(client, reason.clone())];
                        tell(&self.crew, worker, &self.name, told);
                    }
                }
                return;
            }
        };
        let encoding = Encoding::of_client_encoding(&self.name.encoding);
        let row = Rc::new(row(&pool, &opened, self.crew.number()));
        let local = pool.local().clone();
        local.listening.borrow_mut().push(row.clone());
        let ear = Ear {
            config: pool.config(),
            pool,
            crew: self.crew,
            name: self.name,
            questions: self.questions,
            stream: opened.stream,
            encoding,
            input: Vec::new(),
            output: Outgoing::default(),
            channels: HashMap::new(),
            waiting: Vec::new(),
            forgotten: Vec::new(),
            flights: VecDeque::new(),
            pids: HashMap::new(),
            mail: HashMap::new(),
            unused_since: Some(Instant::now()),
            complaint: None,
        };
        ear.run().await;
        local
            .listening
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, &row));
    }

    /// A server that cannot be reached is waited for as queries wait for it.
    async fn open(&self) -> Result<(Rc<Pool>, Opened), OpenError> {
        let begun = Instant::now();
        loop {
            let pool = self.pool.clone().ready().await;
            let config = pool.config();
            let encoding = String::from_utf8_lossy(&self.name.encoding);
            let parameters = [
                ("client_encoding", &*encoding),
                ("application_name", APPLICATION_NAME),
            ];
            let error = match pool.open_beside(&parameters).await {
                Ok(opened) => return Ok((pool, opened)),
                Err(error) => error,
            };
            let patience = config
                .longest_wait(config.query_wait_timeout)
                .unwrap_or(Duration::MAX);
            if error.is_refusal() || pool.is_closing() || begun.elapsed() >= patience {
                return Err(error);
            }
            reactor::sleep(config.server_login_retry).await;
        }
    }
}

/// What SHOW SERVERS has of it.
fn row(pool: &Pool, opened: &Opened, worker: usize) -> SocketRow<ServerState> {
    let (config, stream) = (pool.config(), &opened.stream);
    let (peer, local) = (stream.peer_addr(), stream.local_addr());
    let key = opened.logged_in.backend_key.as_ref();
    SocketRow {
        user: config.user.to_string(),
        database: config.database.to_string(),
        addr: peer.host(),
        port: peer.port(),
        local_addr: local.host(),
        local_port: local.port(),
        remote_pid: key.map_or(0, |key| key.pid as u32),
        encryption: stream.encryption(),
        application_name: APPLICATION_NAME.to_owned(),
        worker,
        ..SocketRow::new(opened.id, ServerState::Listening, SystemTime::now())
    }
}

/// A query that was sent, and whom its answer answers.
struct Flight {
    channels: Vec<Channel>,
    asked: Vec<Asked>,
}

struct Ear {
    name: EarName,
    pool: Rc<Pool>,
    /// As it was when the connection was opened.
    config: Rc<PoolConfig>,
    crew: Crew,
    questions: mpsc::UnboundedReceiver<Asked>,
    stream: Stream,
    encoding: Encoding,
    input: Vec<u8>,
    output: Outgoing,
    /// What it listens to or is about to, and for which workers.
    channels: HashMap<Channel, Vec<usize>>,
    /// What to ask next.
    waiting: Vec<Asked>,
    /// What to listen to no longer.
    forgotten: Vec<Channel>,
    flights: VecDeque<Flight>,
    /// Clients' process ids by the servers' that they have.
    pids: HashMap<u32, u32>,
    /// What the workers are about to be told.
    mail: HashMap<usize, Vec<Heard>>,
    unused_since: Option<Instant>,
    /// The last error that the server has raised.
    complaint: Option<String>,
}

enum Event {
    Asked(Option<Asked>),
    Read(usize),
}

impl Ear {
    async fn run(mut self) {
        let ears = self.crew.ears().clone();
        let db = self.name.database.clone();
        info!(%db, "begins to listen");
        let deaf = loop {
            match self.turn().await {
                Ok(()) => {}
                Err(deaf) => break Some(deaf),
            }
            let unused = self.unused_since.is_some_and(|at| at.elapsed() >= LINGER);
            if unused && ears.leave(&self.name, &self.questions) {
                break None;
            }
        };
        let Some(deaf) = deaf else {
            let mut cx = Context::from_waker(Waker::noop());
            let sent = self
                .output
                .write(&mut self.stream, &mut cx, build::TERMINATE);
            let reason = sent.err().map_or(String::new(), |error| error.to_string());
            return info!(%db, %reason, "listens no longer");
        };
        let reason = match self.complaint.take() {
            Some(complaint) => complaint,
            None => deaf.to_string(),
        };
        warn!(%db, %reason, "the connection that listens is lost: its clients are disconnected");
        // Who comes now begins anew.
        let late = ears.end(&self.name, &mut self.questions);
        let mut workers: Vec<_> = self.channels.values().flatten().copied().collect();
        let flying = self.flights.iter().flat_map(|flight| &flight.asked);
        workers.extend(flying.chain(&self.waiting).chain(&late).map(|a| a.worker));
        workers.sort_unstable();
        workers.dedup();
        self.spread();
        for worker in workers {
            tell(&self.crew, worker, &self.name, vec![Heard::Lost]);
        }
    }

    /// Waits for something and deals with it.
    async fn turn(&mut self) -> Result<(), Deaf> {
        let next = poll_fn(|cx| self.poll(cx));
        match reactor::timeout(LOOK, next).await {
            Err(_) => self.look(),
            Ok(event) => match event? {
                Event::Asked(asked) => {
                    asked
                        .into_iter()
                        .for_each(|asked| self.take_question(asked));
                    self.take_questions();
                    Ok(())
                }
                Event::Read(0) => Err(Deaf::Closed),
                Event::Read(_) => {
                    self.take_questions();
                    let input = std::mem::take(&mut self.input);
                    let taken = self.walk(&input)?;
                    self.input = input.get(taken..).unwrap_or_default().to_vec();
                    self.spread();
                    Ok(())
                }
            },
        }?;
        if self.flights.is_empty() && !(self.waiting.is_empty() && self.forgotten.is_empty()) {
            self.send()?;
        }
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Deaf>> {
        // What is left wakes the task when there is room.
        let _ = self.output.poll_flush(&mut self.stream, cx)?;
        if let Poll::Ready(asked) = self.questions.poll_recv(cx) {
            return Poll::Ready(Ok(Event::Asked(asked)));
        }
        let mut buffer = self.pool.local().read_buffer.borrow_mut();
        let read = std::task::ready!(self.stream.poll_read_some(cx, &mut buffer))?;
        self.input
            .extend_from_slice(buffer.get(..read).unwrap_or_default());
        Poll::Ready(Ok(Event::Read(read)))
    }

    /// Whether it still listens where the clients' transactions run.
    fn look(&self) -> Result<(), Deaf> {
        let now = self.pool.config();
        let elsewhere = (&now.hosts, &now.dbname) != (&self.config.hosts, &self.config.dbname);
        let replaced = self.pool.family().is_some_and(|family| {
            family.topology().primary().is_some() && !Rc::ptr_eq(&family.primary(), &self.pool)
        });
        match elsewhere || replaced {
            true => Err(Deaf::Moved),
            false => Ok(()),
        }
    }

    /// Sends everything that was asked.
    fn send(&mut self) -> Result<(), Deaf> {
        let mut plain = Vec::new();
        for asked in std::mem::take(&mut self.waiting) {
            let worker = asked.worker;
            let mut fresh = Vec::new();
            match &asked.ask {
                Ask::Hear { channels, .. } => {
                    for channel in channels {
                        let workers = self.channels.entry(channel.clone()).or_insert_with(|| {
                            fresh.push(channel.clone());
                            Vec::new()
                        });
                        if !workers.contains(&worker) {
                            workers.push(worker);
                        }
                    }
                }
                Ask::Forget(channel) => {
                    if let Some(workers) = self.channels.get_mut(channel) {
                        workers.retain(|other| *other != worker);
                        if workers.is_empty() {
                            self.channels.remove(channel);
                            self.forgotten.push(channel.clone());
                        }
                    }
                    continue;
                }
                Ask::Settle { .. } | Ask::Release(_) => {}
            }
            match fresh.is_empty() {
                true => plain.push(asked),
                // A query of its own, so that nobody's fails because of another's.
                false => self.flights.push_back(Flight {
                    channels: fresh,
                    asked: vec![asked],
                }),
            }
        }
        let forgotten = std::mem::take(&mut self.forgotten);
        let gone = forgotten.iter().filter(|c| !self.channels.contains_key(*c));
        let unlisten = each_channel("UNLISTEN", gone, self.encoding);
        let mut out = Vec::new();
        for flight in &self.flights {
            build::query(
                &mut out,
                &each_channel("LISTEN", &flight.channels, self.encoding),
            );
        }
        // Last: by then all channels are heard that somebody has asked for.
        if !plain.is_empty() || !unlisten.is_empty() {
            build::query(&mut out, &unlisten);
            self.flights.push_back(Flight {
                channels: Vec::new(),
                asked: plain,
            });
        }
        self.unused_since = match self.channels.is_empty() {
            true => self.unused_since.or_else(|| Some(Instant::now())),
            false => None,
        };
        let mut cx = Context::from_waker(Waker::noop());
        Ok(self.output.write(&mut self.stream, &mut cx, &out)?)
    }

    /// Walks what the server has sent; returns how much.
    fn walk(&mut self, input: &[u8]) -> Result<usize, Deaf> {
        let mut at = 0;
        loop {
            let bytes = input.get(at..).unwrap_or_default();
            let Some(header) = Header::peek_within(bytes, LONGEST)? else {
                return Ok(at);
            };
            let Some(message) = bytes.get(..header.total) else {
                return Ok(at);
            };
            at += header.total;
            let body = message.get(HEADER_LEN..).unwrap_or_default();
            match header.tag {
                b'A' => self.notification(body).ok_or(Deaf::Message)?,
                b'E' => {
                    let error = ErrorResponse::new(body).message().into_owned();
                    if self.flights.is_empty() {
                        return Err(Deaf::Server(error));
                    }
                    self.complaint = Some(error);
                }
                b'Z' => {
                    let flight = self.flights.pop_front().ok_or(Deaf::Message)?;
                    self.answer(flight);
                }
                _ => {}
            }
        }
    }

    fn notification(&mut self, body: &[u8]) -> Option<()> {
        let (pid, rest) = body.split_first_chunk::<4>()?;
        let (channel, payload) = names::split_nul(rest)?;
        let Some(workers) = self.channels.get(channel) else {
            return Some(());
        };
        let pid = u32::from_be_bytes(*pid);
        let pid = self.pids.get(&pid).copied().unwrap_or(pid);
        let mut message = Vec::with_capacity(HEADER_LEN + body.len());
        build::notification(&mut message, pid, channel, payload.strip_suffix(&[0])?);
        let notification = Arc::new(Notification {
            channel: channel.into(),
            message: message.into(),
        });
        for worker in workers {
            let mail = self.mail.entry(*worker).or_default();
            mail.push(Heard::Notification(notification.clone()));
        }
        Some(())
    }

    fn answer(&mut self, flight: Flight) {
        let error: Option<Arc<str>> = self.complaint.take().map(Into::into);
        if error.is_some() {
            for channel in &flight.channels {
                self.channels.remove(channel);
            }
        }
        for Asked { worker, ask } in flight.asked {
            let client = ask.client();
            if let Ask::Hear { reserve, .. } = ask {
                self.pids.extend(reserve);
            }
            let Some(client) = client else { continue };
            let mail = self.mail.entry(worker).or_default();
            mail.push(match &error {
                None => Heard::Ready(client),
                Some(error) => Heard::Failed(client, error.clone()),
            });
        }
    }

    /// Takes in whatever was asked. What comes from a server connection after it was
    /// released is read after that was said.
    fn take_questions(&mut self) {
        while let Ok(asked) = self.questions.try_recv() {
            self.take_question(asked);
        }
    }

    fn take_question(&mut self, asked: Asked) {
        let Ask::Release(ended) = asked.ask else {
            return self.waiting.push(asked);
        };
        if self.pids.get(&ended.0) == Some(&ended.1) {
            self.pids.remove(&ended.0);
        }
        // Its client has gone before it was answered.
        let flying = self.flights.iter_mut().flat_map(|flight| &mut flight.asked);
        for Asked { ask, .. } in flying.chain(&mut self.waiting) {
            if let Ask::Hear { reserve, .. } = ask {
                reserve.take_if(|reserved| *reserved == ended);
            }
        }
    }

    fn spread(&mut self) {
        for (worker, mail) in self.mail.drain() {
            tell(&self.crew, worker, &self.name, mail);
        }
    }
}

/// A worker that has ended has no clients.
fn tell(crew: &Crew, worker: usize, name: &EarName, told: Vec<Heard>) {
    let _ = crew.tell(worker, Command::Ear(name.clone(), told));
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ear({})", self.name.database)
    }
}
