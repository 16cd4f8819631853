//! Clients, served by the rules of `client::session`.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use pgweir::config::PoolMode;
use pgweir::flow::{Naming, Output, Params, Release, Session, Shared, Stop};
use rand::RngExt;

use super::{Client, Flag, Hold, World};
use crate::program::Program;

impl World {
    pub(super) fn arrive(&mut self) {
        self.to_come -= 1;
        let id = self.clients.len();
        let mut params = Params::default();
        params.set(b"TimeZone", b"UTC", true);
        let mut x = String::new();
        if self.mode == PoolMode::Transaction && self.rng.random() {
            x = format!("x{id}");
            params.set(b"x", x.as_bytes(), false);
        }
        self.clients.push(Client {
            session: Session::new(self.mode, Naming::TheClients, self.params.intern(params)),
            program: Program::random(&mut self.rng, id, &x),
            sent: 0,
            to_pooler: Vec::new(),
            to_client: Vec::new(),
            got: Vec::new(),
            input: Vec::new(),
            hold: Hold::Nothing,
            answers_first: false,
            leaving: false,
            woken: Arc::new(Flag(AtomicBool::new(false))),
            closed: false,
            cut: false,
        });
    }

    pub(super) fn take_input(&mut self, i: usize, mut fresh: bool) {
        loop {
            let client = &mut self.clients[i];
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
            let mut server = match client.hold {
                Hold::Linked(id) => self.servers.get_mut(&id),
                _ => None,
            };
            let session = &mut client.session;
            let to_client = &mut client.to_client;
            if let Some(server) = server.as_deref_mut().filter(|_| fresh) {
                server
                    .backend
                    .adopt(session, &mut out, to_client, &mut shared);
            }
            let backend = server.as_deref_mut().map(|server| &mut server.backend);
            let (taken, stop) = session
                .from_client(backend, &input, &mut out, to_client, &mut shared)
                .unwrap();
            let sent = out.finish();
            match server {
                Some(server) => server.to_server.extend_from_slice(sent),
                None => assert!(sent.is_empty(), "bytes for no server"),
            }
            client.input = input[taken..].to_vec();
            match stop {
                Stop::AskListener => {
                    session.channels_mut().expect("channels").prepared = true;
                }
                Stop::More { .. } => return,
                Stop::Terminate => {
                    client.leaving = true;
                    client.input.clear();
                    return self.leave_if_served(i);
                }
                Stop::Wait => {
                    client.answers_first = true;
                    return;
                }
                Stop::NeedServer => {
                    let params = client.session.params().clone();
                    let servers = &self.servers;
                    let fits = |id: &u64| Rc::ptr_eq(servers[id].backend.params(), &params);
                    let Some((id, _)) = self.book.take_idle(fits) else {
                        return self.join(i);
                    };
                    self.link(i, id);
                    fresh = true;
                }
            }
        }
    }

    pub(super) fn leave_if_served(&mut self, i: usize) {
        let client = &self.clients[i];
        let served = match client.hold {
            Hold::Nothing => false,
            Hold::Waiting(_) => true,
            Hold::Linked(id) => self.servers[&id].backend.is_busy(),
        };
        if client.leaving && !served && !client.closed {
            self.end(i, true);
        }
    }

    pub(super) fn join(&mut self, i: usize) {
        let ticket = self.book.join(self.now);
        self.open_wanted();
        let client = &mut self.clients[i];
        client.hold = Hold::Waiting(ticket);
        client.woken.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn link(&mut self, i: usize, id: u64) {
        let server = self.servers.get_mut(&id).unwrap();
        assert_eq!(server.backend.release(), Release::Ready);
        assert!(server.client.is_none() && server.work.is_none() && server.cancels == 0);
        // Killed, or its last words are on the way.
        self.clients[i].cut |= server.postgres.closed;
        server.client = Some(i);
        self.clients[i].hold = Hold::Linked(id);
    }

    pub(super) fn served(&mut self, i: usize) {
        let client = &mut self.clients[i];
        client.woken.0.store(false, Ordering::Relaxed);
        let Hold::Waiting(ticket) = client.hold else {
            return;
        };
        let waker = Waker::from(client.woken.clone());
        match self.book.poll(ticket, &waker) {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(id))) => {
                self.link(i, id);
                self.take_input(i, true);
            }
            Poll::Ready(Some(Err(()))) => {
                self.clients[i].hold = Hold::Nothing;
                self.clients[i].cut = true;
                self.end(i, false);
            }
            Poll::Ready(None) => panic!("a ticket that is not valid"),
        }
    }

    pub(super) fn unlink(&mut self, i: usize, let_finish: bool) {
        let hold = std::mem::replace(&mut self.clients[i].hold, Hold::Nothing);
        if let Hold::Linked(id) = hold {
            self.servers.get_mut(&id).unwrap().client = None;
            self.take_back(id, let_finish);
        }
    }

    pub(super) fn end(&mut self, i: usize, let_finish: bool) {
        let client = &mut self.clients[i];
        client.closed = true;
        if let Hold::Waiting(ticket) = client.hold {
            client.hold = Hold::Nothing;
            if let Some(id) = self.book.leave(ticket) {
                self.take_back(id, false);
            }
        }
        self.unlink(i, let_finish);
    }
}
