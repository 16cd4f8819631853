//! Clients, a pool and model servers, and a scheduler that lets anything that
//! can happen happen in any order. The rules by which bytes and connections
//! move are those of `client::session`, `server::pool` and `server::cleanup`.

mod clients;
mod servers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::time::{Duration, Instant};

use pgweir::config::PoolMode;
use pgweir::flow::{
    Backend, ParamTable, Params, Pins, Release, Session, Statements, Values, Watchlist,
};
use pgweir::pool::{Book, Ledger, Limits, PoolName, Ticket, Title};
use pgweir::stats::Counters;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::postgres::Postgres;
use crate::program::{Program, piece};

/// Something that can happen now.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    Arrive,
    Send(usize),
    ClientToPooler(usize),
    PoolerToClient(usize),
    Served(usize),
    Disconnect(usize),
    PoolerToServer(u64),
    ServerToPooler(u64),
    ServerEof(u64),
    WakeUp(u64),
    Cancel(u64),
    Kill(u64),
    Opened,
    OpenFailed,
    Time,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

enum Hold {
    Nothing,
    Waiting(Ticket),
    Linked(u64),
}

struct Client {
    session: Session,
    program: Program,
    sent: usize,
    to_pooler: Vec<u8>,
    to_client: Vec<u8>,
    got: Vec<u8>,
    input: Vec<u8>,
    hold: Hold,
    answers_first: bool,
    /// It has said goodbye, and is still answered.
    leaving: bool,
    woken: Arc<Flag>,
    /// The pooler has closed it.
    closed: bool,
    /// It, its server or its patience was cut off: it need not get everything.
    cut: bool,
}

enum Stage {
    Settle,
    RollBack,
    Clean,
    Reset,
    Cancels,
}

struct Server {
    backend: Backend,
    input: Vec<u8>,
    to_server: Vec<u8>,
    to_pooler: Vec<u8>,
    postgres: Postgres,
    /// Cancel requests under way.
    cancels: u32,
    born: Instant,
    client: Option<usize>,
    work: Option<Work>,
}

/// Housekeeping on a server connection.
struct Work {
    stage: Stage,
    reset: bool,
    /// The book counts on it.
    quick: bool,
}

/// Everything there is.
pub struct World {
    rng: StdRng,
    mode: PoolMode,
    now: Instant,
    clients: Vec<Client>,
    to_come: usize,
    faults: bool,
    servers: BTreeMap<u64, Server>,
    last_server: u64,
    max_prepared: usize,
    book: Book<u64, ()>,
    statements: Statements,
    params: ParamTable,
    counters: Counters,
    pins: Pins,
    suspects: Watchlist,
    values: Values,
    pub last_events: VecDeque<(usize, Event)>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let faults = rng.random_bool(0.3);
        let some = |on: bool, s: u64| on.then(|| Duration::from_secs(s));
        let limits = Limits {
            pool_size: rng.random_range(1..4),
            min_pool_size: rng.random_range(0..2),
            reserve_pool_size: rng.random_range(0..2),
            reserve_pool_timeout: some(rng.random(), 3),
            query_wait_timeout: some(faults, 60),
            query_wait_notify: some(rng.random(), 5),
            server_idle_timeout: some(rng.random(), 20),
            server_lifetime: some(rng.random(), 100),
            round_robin: rng.random(),
        };
        let now = Instant::now();
        let title = Title {
            name: PoolName {
                database: "db".into(),
                user: "user".into(),
                host: None,
            },
            max_db_connections: rng.random_range(0..5),
            max_user_connections: 0,
        };
        let book = Book::new(limits, Ledger::new(1, now).part(0, &title));
        World {
            mode: match rng.random_bool(0.85) {
                true => PoolMode::Transaction,
                false => PoolMode::Session,
            },
            to_come: rng.random_range(2..8),
            max_prepared: *[1, 2, 3, 100].choose(&mut rng).unwrap(),
            rng,
            now,
            clients: Vec::new(),
            faults,
            servers: BTreeMap::new(),
            last_server: 0,
            book,
            statements: Statements::default(),
            params: ParamTable::default(),
            counters: Counters::default(),
            pins: Pins::default(),
            suspects: Watchlist::default(),
            values: Values::default(),
            last_events: VecDeque::new(),
        }
    }

    /// Runs until everybody has left and everything is at rest.
    pub fn run(&mut self, steps: usize) {
        for step in 0..steps {
            let events = self.events();
            let Some(&event) = events.choose(&mut self.rng) else {
                return self.check_rest();
            };
            self.last_events.push_back((step, event));
            if self.last_events.len() > 40 {
                self.last_events.pop_front();
            }
            self.happen(event);
            self.book.check_invariants();
            let all = self.servers.len() as u32 + self.book.opening_count();
            assert_eq!(self.book.total(), all, "the book has lost count");
            let shared = self.book.part().shared_totals();
            assert_eq!(shared, (all, all), "the shared bounds have lost count");
        }
        let clients = self.clients.iter().filter(|client| !client.closed);
        let clients: Vec<_> = clients.collect();
        let servers: Vec<_> = self
            .servers
            .values()
            .map(|s| (s.client, &s.backend, &s.postgres))
            .collect();
        panic!("no rest after {steps} steps: {clients:#?} {servers:?}");
    }

    fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.to_come > 0 {
            events.push(Event::Arrive);
        }
        for (i, client) in self.clients.iter().enumerate() {
            if !client.to_client.is_empty() {
                events.push(Event::PoolerToClient(i));
            }
            if client.closed {
                continue;
            }
            let next = client.program.rounds.get(client.sent);
            if next.is_some_and(|round| client.got.len() >= round.after) {
                events.push(Event::Send(i));
            }
            let finished = next.is_none() && client.got.len() == client.program.expected.len();
            if finished && !client.program.says_goodbye
                || self.faults && self.rng.random_bool(0.003)
            {
                events.push(Event::Disconnect(i));
            }
            if !client.to_pooler.is_empty() && client.may_be_read() {
                events.push(Event::ClientToPooler(i));
            }
            if client.woken.0.load(Ordering::Relaxed) {
                events.push(Event::Served(i));
            }
        }
        for (&id, server) in &self.servers {
            if !server.to_server.is_empty() {
                events.push(Event::PoolerToServer(id));
            }
            if !server.to_pooler.is_empty() {
                events.push(Event::ServerToPooler(id));
            } else if server.postgres.closed {
                events.push(Event::ServerEof(id));
            }
            if server.postgres.is_asleep() {
                events.push(Event::WakeUp(id));
            }
            if server.cancels > 0 {
                events.push(Event::Cancel(id));
            }
            if self.faults && self.rng.random_bool(0.001) {
                events.push(Event::Kill(id));
            }
        }
        if self.book.opening_count() > 0 {
            events.push(Event::Opened);
            if self.faults && self.rng.random_bool(0.05) {
                events.push(Event::OpenFailed);
            }
        }
        let alive = self.clients.iter().any(|client| !client.closed);
        if (alive || self.to_come > 0) && (events.is_empty() || self.rng.random_bool(0.02)) {
            events.push(Event::Time);
        }
        events
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Send(i) => {
                let client = &mut self.clients[i];
                let round = &client.program.rounds[client.sent];
                client.to_pooler.extend_from_slice(&round.send);
                client.sent += 1;
            }
            Event::ClientToPooler(i) => {
                let n = piece(&mut self.rng, self.clients[i].to_pooler.len());
                let client = &mut self.clients[i];
                client.input.extend(client.to_pooler.drain(..n));
                if !matches!(client.hold, Hold::Waiting(_)) {
                    self.take_input(i, false);
                }
            }
            Event::PoolerToClient(i) => {
                let n = piece(&mut self.rng, self.clients[i].to_client.len());
                let client = &mut self.clients[i];
                client.got.extend(client.to_client.drain(..n));
                client.check(i);
            }
            Event::Served(i) => self.served(i),
            Event::Disconnect(i) => {
                let client = &mut self.clients[i];
                let finished = client.got.len() == client.program.expected.len();
                client.cut |= !finished;
                let orderly = self.rng.random();
                self.end(i, orderly && finished);
            }
            Event::PoolerToServer(id) => {
                let server = self.servers.get_mut(&id).unwrap();
                let n = piece(&mut self.rng, server.to_server.len());
                let bytes: Vec<_> = server.to_server.drain(..n).collect();
                if !server.postgres.closed {
                    server.postgres.receive(&bytes);
                }
                server.hear();
            }
            Event::ServerToPooler(id) => self.server_to_pooler(id),
            Event::ServerEof(id) => self.server_eof(id),
            Event::WakeUp(id) | Event::Cancel(id) => {
                let server = self.servers.get_mut(&id).unwrap();
                let cancel = matches!(event, Event::Cancel(_));
                server.postgres.wake(cancel);
                server.cancels -= u32::from(cancel);
                server.hear();
                self.advance(id);
            }
            Event::Kill(id) => {
                let server = self.servers.get_mut(&id).unwrap();
                server.postgres.closed = true;
                if let Some(i) = server.client {
                    self.clients[i].cut = true;
                }
            }
            Event::Opened => {
                self.book.opened();
                self.last_server += 1;
                let mut params = Params::default();
                params.set(b"TimeZone", b"UTC", true);
                let server = Server {
                    backend: Backend::new(self.params.intern(params), self.max_prepared)
                        .of(self.statements.schema("")),
                    input: Vec::new(),
                    to_server: Vec::new(),
                    to_pooler: Vec::new(),
                    postgres: Postgres::login(""),
                    cancels: 0,
                    born: self.now,
                    client: None,
                    work: None,
                };
                self.servers.insert(self.last_server, server);
                self.reuse(self.last_server);
            }
            Event::OpenFailed => {
                self.book.open_failed();
                self.open_wanted();
            }
            Event::Time => {
                self.now += Duration::from_secs(self.rng.random_range(1..10));
                self.book.expire_waiters(self.now, |_| ());
                for (id, _) in self.book.expire_idle(self.now) {
                    self.servers.remove(&id);
                }
                self.open_wanted();
            }
        }
    }

    // ---- what must be true in the end ----

    fn check_rest(&mut self) {
        for (i, client) in self.clients.iter().enumerate() {
            assert!(client.closed, "client {i} hangs");
            client.check(i);
            if !client.cut {
                let (got, wanted) = (client.got.len(), client.program.expected.len());
                assert_eq!(got, wanted, "client {i} did not get everything");
            }
        }
        assert_eq!(self.book.idle_count(), self.servers.len(), "not all idle");
        assert_eq!(self.book.waiting_count(), 0);
        for (id, server) in &self.servers {
            let postgres = &server.postgres;
            assert_eq!(server.backend.release(), Release::Ready);
            assert!(
                postgres.is_clean(),
                "server {id} is not clean: {postgres:?}"
            );
            assert_eq!(
                server.backend.prepared_statements(),
                match self.mode {
                    PoolMode::Session => 0,
                    _ => postgres.named.len(),
                },
                "statements of server {id}"
            );
        }
    }
}

impl Client {
    fn may_be_read(&self) -> bool {
        if self.leaving {
            return false;
        }
        match self.hold {
            Hold::Nothing => true,
            Hold::Waiting(_) => self.input.len() < 100,
            Hold::Linked(_) => !self.answers_first,
        }
    }

    /// What it got is what a direct connection says.
    fn check(&self, i: usize) {
        let wanted = &self.program.expected;
        let same = self.got.iter().zip(wanted).take_while(|(a, b)| a == b);
        let same = same.count();
        assert!(
            same == self.got.len(),
            "client {i} got, after {same} bytes\n{}\ninstead of\n{}\nsent\n{}",
            self.got[same.saturating_sub(60)..].escape_ascii(),
            wanted[same.saturating_sub(60)..wanted.len().min(same + 60)].escape_ascii(),
            self.program.rounds[..self.sent]
                .iter()
                .map(|r| format!("{}\n", r.send.escape_ascii()))
                .collect::<String>()
        );
    }
}

impl Server {
    fn hear(&mut self) {
        self.to_pooler.extend(self.postgres.take());
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hold = match self.hold {
            Hold::Nothing => "nothing".to_owned(),
            Hold::Waiting(ticket) => format!("{ticket:?}"),
            Hold::Linked(id) => format!("server {id}"),
        };
        f.debug_struct("Client")
            .field("hold", &hold)
            .field("sent", &(self.sent, self.program.rounds.len()))
            .field("got", &(self.got.len(), self.program.expected.len()))
            .field(
                "next",
                &self.program.expected[self.got.len()..]
                    .escape_ascii()
                    .to_string(),
            )
            .field("input", &self.input.escape_ascii().to_string())
            .field(
                "rounds",
                &self
                    .program
                    .rounds
                    .iter()
                    .map(|r| r.send.escape_ascii().to_string())
                    .collect::<Vec<_>>(),
            )
            .field("leaving", &self.leaving)
            .field("answers_first", &self.answers_first)
            .field("closed", &self.closed)
            .field("cut", &self.cut)
            .finish()
    }
}
