//! Server connections, kept by the rules of `client::session`, `server::pool`
//! and `server::cleanup`.

use pgweir::config::PoolMode;
use pgweir::flow::{Output, OwnQuery, Release, Shared};
use pgweir::pool::Given;

use super::{Client, Hold, Stage, Work, World};
use crate::program::piece;

impl World {
    pub(super) fn server_to_pooler(&mut self, id: u64) {
        let server = self.servers.get_mut(&id).unwrap();
        let n = piece(&mut self.rng, server.to_pooler.len());
        server.input.extend(server.to_pooler.drain(..n));
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
        let mut client = server.client.map(|i| &mut self.clients[i]);
        let session = client.as_deref_mut().map(|client| &mut client.session);
        let taken = server
            .backend
            .from_server(session, &input, &mut out, &mut shared)
            .unwrap_or_else(|fault| {
                panic!(
                    "{fault} after {}: {:#?}",
                    input.escape_ascii(),
                    server.backend
                )
            });
        let to_client = out.finish();
        if let Some(client) = client {
            client.to_client.extend_from_slice(to_client);
        }
        server.input = input[taken..].to_vec();
        match server.client {
            Some(i) => {
                let ready = server.input.is_empty()
                    && server.backend.release() == Release::Ready
                    && self.mode != PoolMode::Session;
                let due = std::mem::take(&mut self.clients[i].answers_first);
                if ready {
                    self.unlink(i, false);
                }
                if due {
                    self.take_input(i, false);
                }
                self.leave_if_served(i);
            }
            None if server.work.is_some() => {
                let mut out = Vec::new();
                if !server.backend.is_settled() {
                    server.backend.abandon(&mut out);
                    server.to_server.extend(out);
                }
                self.advance(id);
            }
            None => assert!(server.postgres.closed, "unexpected message while idle"),
        }
    }

    pub(super) fn server_eof(&mut self, id: u64) {
        let server = &self.servers[&id];
        if let Some(i) = server.client {
            let told = server.backend.is_ending();
            self.clients[i].cut |= !told;
            self.clients[i].hold = Hold::Nothing;
            self.clients[i].closed = true;
            self.discard(id);
        } else if server.work.is_some() {
            self.discard(id);
        } else {
            let gone = self.book.retain_idle(|other| *other != id);
            if !gone.is_empty() {
                self.servers.remove(&id);
                self.open_wanted();
            } else {
                // Handed over, and not taken yet: the client will find out.
                let waiting = |c: &&mut Client| matches!(c.hold, Hold::Waiting(_));
                let waiting: Vec<_> = self.clients.iter_mut().filter(waiting).collect();
                assert!(!waiting.is_empty(), "a server that nobody has");
            }
        }
    }

    pub(super) fn take_back(&mut self, id: u64, let_finish: bool) {
        let server = &self.servers[&id];
        let release = server.backend.release();
        if release == Release::Broken {
            return self.discard(id);
        }
        let reset = self.mode == PoolMode::Session;
        let dirty = release == Release::Dirty || !server.input.is_empty();
        if dirty || reset || server.cancels > 0 {
            self.clean(id, dirty, reset, let_finish);
        } else {
            self.reuse(id);
        }
    }

    pub(super) fn clean(&mut self, id: u64, dirty: bool, reset: bool, let_finish: bool) {
        let server = self.servers.get_mut(&id).unwrap();
        let mut stage = Stage::Clean;
        if dirty {
            let mut out = Vec::new();
            server.backend.abandon(&mut out);
            server.to_server.extend(out);
            server.cancels += u32::from(server.backend.is_busy() && !let_finish);
            stage = Stage::Settle;
        }
        let quick = !dirty && server.cancels == 0;
        if quick {
            self.book.returning();
        }
        server.work = Some(Work {
            stage,
            reset,
            quick,
        });
        self.advance(id);
    }

    pub(super) fn advance(&mut self, id: u64) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        while let Some(work) = &mut server.work {
            if !server.backend.is_settled() {
                return;
            }
            let mut out = Vec::new();
            let error = server.backend.take_own_error();
            let next = match work.stage {
                Stage::Settle if server.backend.rollback(&mut out) => Stage::RollBack,
                Stage::Settle => Stage::Clean,
                Stage::RollBack | Stage::Reset if error.is_some() => panic!("own query failed"),
                Stage::RollBack => Stage::Clean,
                Stage::Clean if work.reset => {
                    let query = OwnQuery::Housekeeping;
                    server.backend.own_query(query, b"discard all", &mut out);
                    Stage::Reset
                }
                Stage::Clean | Stage::Reset => Stage::Cancels,
                Stage::Cancels if server.cancels > 0 => return,
                Stage::Cancels => {
                    if work.quick {
                        self.book.returned();
                    }
                    server.work = None;
                    return match server.backend.release() {
                        Release::Ready => self.reuse(id),
                        Release::Broken => self.discard(id),
                        Release::Dirty => panic!("state is unknown after housekeeping"),
                    };
                }
            };
            work.stage = next;
            server.to_server.extend(out);
        }
    }

    pub(super) fn reuse(&mut self, id: u64) {
        let born = self.servers[&id].born;
        if self.book.end_life(born, self.now) || self.book.is_above_size() {
            return self.discard(id);
        }
        match self.book.give_back(id, 0, self.now, born) {
            Given::Here(Some(waker)) => waker.wake(),
            Given::Here(None) => {}
            Given::Away(..) => panic!("there is one worker only"),
        }
    }

    pub(super) fn discard(&mut self, id: u64) {
        let server = self.servers.remove(&id).unwrap();
        if server.work.is_some_and(|work| work.quick) {
            self.book.returned();
        }
        self.book.closed();
        self.open_wanted();
    }

    pub(super) fn open_wanted(&mut self) {
        while self.book.begin_open(self.now, true) == Ok(true) {}
    }
}
