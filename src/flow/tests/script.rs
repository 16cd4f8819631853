//! A conversation as a list of steps, run at every way of cutting the bytes.

use std::rc::Rc;
use std::slice::from_ref;
use std::sync::Arc;

use super::messages::{Bytes, query};
use crate::config::{PoolMode, SessionFeatures};
use crate::flow::{
    Backend, Naming, Output, ParamTable, Params, Pins, Release, Schema, ServerFault, Session,
    Shared, Statements, Stop, Values, Watchlist,
};
use crate::stats::Counters;
use crate::wire::Header;

/// What is sent and what must come of it.
enum Step {
    /// The next time that a server is needed this one is given.
    Give(usize),
    /// Server connection `n` is given to another client.
    Client(usize),
    FromClient {
        send: Bytes,
        to_server: Bytes,
        to_client: Bytes,
    },
    FromServer {
        send: Bytes,
        to_client: Bytes,
    },
    /// The server's bytes end the link with this fault.
    Fault(Bytes, ServerFault),
    /// Whether the client holds a server connection now.
    Holds(bool),
    Released(Release),
    /// The request that waits is refused with this error.
    Refuse(Bytes, Bytes),
    /// The client goes; this is what the server is sent for it.
    Abandon(Bytes),
    /// This brings the connection back to a clean state, if it is needed.
    Rollback(Bytes),
    Unlisten(Bytes),
    Hears(&'static [&'static str]),
    /// How often it has waited for the connection that listens.
    Asked(usize),
    /// Number of statements on the server that is linked.
    OnServer(usize),
    SessionParams(&'static str, &'static str),
}

/// A conversation between clients and server connections.
#[must_use = "nothing is tested until it is run"]
pub struct Script {
    mode: PoolMode,
    naming: Naming,
    features: SessionFeatures,
    max_prepared: usize,
    client_params: Vec<(&'static str, &'static str)>,
    server_params: Vec<(&'static str, &'static str)>,
    steps: Vec<Step>,
}

impl Script {
    /// Transaction mode, prepared statements followed, one server given.
    pub fn new() -> Self {
        Script {
            mode: PoolMode::Transaction,
            naming: Naming::TheClients,
            features: SessionFeatures::Ignore,
            max_prepared: 100,
            client_params: Vec::new(),
            server_params: Vec::new(),
            steps: vec![Step::Give(0)],
        }
    }

    pub fn mode(mut self, mode: PoolMode) -> Self {
        self.mode = mode;
        self
    }

    /// What a session holds is the client's.
    pub fn carrying(mut self) -> Self {
        self.features = SessionFeatures::Pin;
        self
    }

    pub fn not_following(mut self) -> Self {
        self.naming = Naming::TheServers;
        self
    }

    pub fn max_prepared(mut self, max: usize) -> Self {
        self.max_prepared = max;
        self
    }

    /// What the clients log in with, and what the servers report.
    pub fn params(
        mut self,
        client: &[(&'static str, &'static str)],
        server: &[(&'static str, &'static str)],
    ) -> Self {
        self.client_params = client.to_vec();
        self.server_params = server.to_vec();
        self
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub fn give(self, server: usize) -> Self {
        self.step(Step::Give(server))
    }

    pub fn client(self, client: usize) -> Self {
        self.step(Step::Client(client))
    }

    /// The client sends; the server must get `to_server` and the client
    /// `to_client`.
    pub fn sends(self, send: &[Bytes], to_server: &[Bytes], to_client: &[Bytes]) -> Self {
        self.step(Step::FromClient {
            send: send.concat(),
            to_server: to_server.concat(),
            to_client: to_client.concat(),
        })
    }

    /// The client sends, and it reaches the server as it is.
    pub fn passes(self, send: &[Bytes]) -> Self {
        self.sends(send, send, &[])
    }

    /// The client sends, and it reaches the server behind a query of ours.
    pub fn passes_behind(self, own: &str, sent: &str) -> Self {
        let sent = query(sent);
        self.sends(from_ref(&sent), &[query(own), sent.clone()], &[])
    }

    /// The server sends; the client must get `to_client`.
    pub fn gives(self, send: &[Bytes], to_client: &[Bytes]) -> Self {
        self.step(Step::FromServer {
            send: send.concat(),
            to_client: to_client.concat(),
        })
    }

    /// The server sends, and it reaches the client as it is.
    pub fn answers(self, send: &[Bytes]) -> Self {
        self.gives(send, send)
    }

    pub fn fault(self, send: &[Bytes], fault: ServerFault) -> Self {
        self.step(Step::Fault(send.concat(), fault))
    }

    /// The client still holds the server connection.
    pub fn held(self) -> Self {
        self.step(Step::Holds(true))
    }

    /// The server connection has gone back, clean.
    pub fn free(self) -> Self {
        self.step(Step::Holds(false))
    }

    pub fn release(self, release: Release) -> Self {
        self.step(Step::Released(release))
    }

    pub fn refuse(self, error: Bytes, to_client: &[Bytes]) -> Self {
        self.step(Step::Refuse(error, to_client.concat()))
    }

    pub fn abandon(self, to_server: &[Bytes]) -> Self {
        self.step(Step::Abandon(to_server.concat()))
    }

    pub fn rollback(self, to_server: &[Bytes]) -> Self {
        self.step(Step::Rollback(to_server.concat()))
    }

    pub fn unlistens(self, to_server: &[Bytes]) -> Self {
        self.step(Step::Unlisten(to_server.concat()))
    }

    pub fn hears(self, channels: &'static [&'static str]) -> Self {
        self.step(Step::Hears(channels))
    }

    pub fn asked(self, times: usize) -> Self {
        self.step(Step::Asked(times))
    }

    pub fn on_server(self, statements: usize) -> Self {
        self.step(Step::OnServer(statements))
    }

    pub fn session_param(self, name: &'static str, value: &'static str) -> Self {
        self.step(Step::SessionParams(name, value))
    }

    /// Runs it with all bytes of a step at once, one by one, and cut in two at
    /// every place.
    pub fn run(self) {
        let longest = self.steps.iter().map(|step| match step {
            Step::FromClient { send, .. }
            | Step::FromServer { send, .. }
            | Step::Fault(send, _) => send.len(),
            _ => 0,
        });
        let longest = longest.max().unwrap_or(0);
        self.run_cut(Cut::Whole);
        self.run_cut(Cut::Bytes);
        for at in 1..longest {
            self.run_cut(Cut::At(at));
        }
    }

    /// Runs it with all bytes of a step at once.
    pub fn run_whole(self) {
        self.run_cut(Cut::Whole);
    }

    fn run_cut(&self, cut: Cut) {
        let mut world = World::new(self);
        for (n, step) in self.steps.iter().enumerate() {
            world.place = format!("step {n}, {cut:?}");
            world.step(step, cut);
        }
        for client in world.clients.iter().filter(|client| !client.left) {
            let mut rest = &client.all[..];
            while let Some(header) = Header::peek(rest).unwrap() {
                rest = rest.get(header.total..).expect("a whole message");
            }
            assert!(rest.is_empty(), "half a message to the client, {cut:?}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Bytes,
    At(usize),
}

impl Cut {
    fn pieces(self, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Cut::Bytes if !bytes.is_empty() => bytes.chunks(1).collect(),
            Cut::At(at) if at < bytes.len() => vec![&bytes[..at], &bytes[at..]],
            _ => vec![bytes],
        }
    }
}

struct Client {
    session: Session,
    input: Bytes,
    holds: Option<usize>,
    /// What it got in this step, and in all.
    got: Bytes,
    all: Bytes,
    left: bool,
}

struct Server {
    backend: Backend,
    input: Bytes,
    got: Bytes,
}

/// The clients and servers, driven as `client::session` drives them.
struct World {
    clients: Vec<Client>,
    servers: Vec<Server>,
    now: usize,
    next: usize,
    statements: Statements,
    params: ParamTable,
    counters: Counters,
    pins: Pins,
    suspects: Watchlist,
    values: Values,
    place: String,
    asked: usize,
}

impl World {
    fn new(script: &Script) -> World {
        let mut params = ParamTable::default();
        let mut intern = |list: &[(&str, &str)]| {
            let mut set = Params::default();
            for (name, value) in list {
                set.set(name.as_bytes(), value.as_bytes(), true);
            }
            params.intern(set)
        };
        let theirs = intern(&script.client_params);
        let ours = intern(&script.server_params);
        let client = |_| Client {
            session: Session::new(script.mode, script.naming, Rc::clone(&theirs))
                .carrying(script.features, false),
            input: Vec::new(),
            holds: None,
            got: Vec::new(),
            all: Vec::new(),
            left: false,
        };
        let schema = Arc::<Schema>::default();
        let server = |_| Server {
            backend: Backend::new(Rc::clone(&ours), script.max_prepared).of(schema.clone()),
            input: Vec::new(),
            got: Vec::new(),
        };
        World {
            clients: (0..2).map(client).collect(),
            servers: (0..2).map(server).collect(),
            now: 0,
            next: usize::MAX,
            statements: Statements::default(),
            params,
            counters: Counters::default(),
            pins: Pins::new(Arc::default(), 1),
            suspects: Watchlist::default(),
            values: Values::default(),
            place: String::new(),
            asked: 0,
        }
    }

    fn step(&mut self, step: &Step, cut: Cut) {
        let held = self.clients[self.now].holds;
        match step {
            Step::Give(server) => self.next = *server,
            Step::Client(client) => self.now = *client,
            Step::FromClient {
                send,
                to_server,
                to_client,
            } => {
                for piece in cut.pieces(send) {
                    self.client_sends(piece);
                }
                let at = self.clients[self.now].holds.unwrap_or(0);
                let got = std::mem::take(&mut self.servers[at].got);
                self.same("to the server", &got, to_server);
                self.same_to_client(to_client);
            }
            Step::FromServer { send, to_client } => {
                let at = held.unwrap_or(0);
                for piece in cut.pieces(send) {
                    self.server_sends(at, piece).unwrap();
                }
                self.same_to_client(to_client);
            }
            Step::Fault(send, fault) => {
                let mut pieces = cut.pieces(send).into_iter();
                let end = pieces.find_map(|p| self.server_sends(held.unwrap(), p).err());
                assert_eq!(end.as_ref(), Some(fault), "{}", self.place);
                let release = self.servers[held.unwrap()].backend.release();
                assert_eq!(release, Release::Broken, "{}", self.place);
            }
            Step::Holds(holds) => assert_eq!(held.is_some(), *holds, "{}", self.place),
            Step::Released(release) => {
                let backend = &self.servers[held.unwrap_or(0)].backend;
                assert_eq!(backend.release(), *release, "{}", self.place);
            }
            Step::Refuse(error, to_client) => {
                let client = &mut self.clients[self.now];
                let input = std::mem::take(&mut client.input);
                let taken = client.session.refuse(&input, error, &mut client.got);
                client.input = input[taken..].to_vec();
                self.same_to_client(to_client);
            }
            Step::Abandon(to_server) => {
                self.clients[self.now].holds = None;
                self.clients[self.now].left = true;
                let mut out = Vec::new();
                self.servers[held.unwrap_or(0)].backend.abandon(&mut out);
                self.same("to the server", &out, to_server);
            }
            Step::Rollback(to_server) => {
                let mut out = Vec::new();
                let needed = self.servers[0].backend.rollback(&mut out);
                self.same("to the server", &out, to_server);
                assert_eq!(needed, !to_server.is_empty());
            }
            Step::Unlisten(to_server) => {
                let mut out = Vec::new();
                let backend = &mut self.servers[held.unwrap()].backend;
                backend.unlisten(None, &mut out);
                self.same("to the server", &out, to_server);
            }
            Step::Hears(channels) => {
                let session = &self.clients[self.now].session;
                let heard = session.channels().unwrap().heard().iter();
                let heard: Vec<_> = heard.map(|c| str::from_utf8(c).unwrap()).collect();
                assert_eq!(heard, *channels, "{}", self.place);
            }
            Step::Asked(times) => assert_eq!(self.asked, *times, "{}", self.place),
            Step::OnServer(n) => {
                // The one that was given last.
                let backend = &self.servers[self.next].backend;
                assert_eq!(backend.prepared_statements(), *n, "{}", self.place);
            }
            Step::SessionParams(name, value) => {
                let params = self.clients[self.now].session.params();
                let value = Some(value.as_bytes());
                assert_eq!(params.get(name.as_bytes()), value, "{}", self.place);
            }
        }
    }

    fn same(&self, what: &str, got: &[u8], wanted: &[u8]) {
        let place = &self.place;
        assert!(
            got == wanted,
            "{place}: {what}\n   got {}\nwanted {}",
            got.escape_ascii(),
            wanted.escape_ascii()
        );
    }

    fn same_to_client(&mut self, wanted: &[u8]) {
        let got = std::mem::take(&mut self.clients[self.now].got);
        self.same("to the client", &got, wanted);
        self.clients[self.now].all.extend_from_slice(&got);
    }

    fn client_sends(&mut self, piece: &[u8]) {
        let client = &mut self.clients[self.now];
        client.input.extend_from_slice(piece);
        self.drive_client();
    }

    fn drive_client(&mut self) {
        let client = &mut self.clients[self.now];
        let mut fresh = false;
        loop {
            let input = std::mem::take(&mut client.input);
            let mut buffer = Vec::new();
            let mut out = Output::new(&input, &mut buffer);
            let mut shared = Shared {
                statements: &mut self.statements,
                params: &mut self.params,
                counters: &self.counters,
                pins: &self.pins,
                suspects: &self.suspects,
                values: &self.values,
                bounds: Default::default(),
            };
            let mut server = client.holds.map(|at| &mut self.servers[at]);
            if let Some(server) = server.as_deref_mut().filter(|_| fresh) {
                server
                    .backend
                    .adopt(&mut client.session, &mut out, &mut client.got, &mut shared);
            }
            let backend = server.as_deref_mut().map(|server| &mut server.backend);
            let (taken, stop) = client
                .session
                .from_client(backend, &input, &mut out, &mut client.got, &mut shared)
                .unwrap();
            let sent = out.finish();
            match server {
                Some(server) => server.got.extend_from_slice(sent),
                None => assert!(sent.is_empty(), "{}: sent to nobody", self.place),
            }
            client.input = input[taken..].to_vec();
            match stop {
                Stop::NeedServer if self.next < self.servers.len() => {
                    assert!(client.holds.is_none(), "{}", self.place);
                    let backend = &self.servers[self.next].backend;
                    assert_eq!(backend.release(), Release::Ready, "{}", self.place);
                    client.holds = Some(self.next);
                    fresh = true;
                }
                Stop::AskListener => {
                    self.asked += 1;
                    client.session.channels_mut().unwrap().prepared = true;
                    fresh = false;
                }
                _ => return,
            }
        }
    }

    fn server_sends(&mut self, at: usize, piece: &[u8]) -> Result<(), ServerFault> {
        let client = &mut self.clients[self.now];
        let server = &mut self.servers[at];
        server.input.extend_from_slice(piece);
        let input = std::mem::take(&mut server.input);
        let mut buffer = Vec::new();
        let mut out = Output::new(&input, &mut buffer);
        let mut shared = Shared {
            statements: &mut self.statements,
            params: &mut self.params,
            counters: &self.counters,
            pins: &self.pins,
            suspects: &self.suspects,
            values: &self.values,
            bounds: Default::default(),
        };
        let linked = client.holds == Some(at);
        let session = linked.then_some(&mut client.session);
        let result = server
            .backend
            .from_server(session, &input, &mut out, &mut shared);
        let sent = out.finish();
        if linked {
            client.got.extend_from_slice(sent);
        }
        server.input = input[result?..].to_vec();
        let ready = server.backend.release() == Release::Ready && server.input.is_empty();
        if ready && linked && client.session.mode() != PoolMode::Session {
            client.holds = None;
        }
        if linked && !client.input.is_empty() {
            self.drive_client();
        }
        Ok(())
    }
}
