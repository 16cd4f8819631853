//! Body of the fuzz target for both halves of a link.

use super::{
    Backend, Naming, Output, ParamTable, Params, Pins, Release, Session, Shared, Statements, Stop,
    Values, Watchlist,
};
use crate::config::PoolMode;
use crate::stats::Counters;
use crate::wire::{BackendTag, FrontendTag, Header};

/// Any bytes from a client and a server, in pieces of any size: each piece has
/// a byte that says whose it is (or that the client leaves) and a byte for its
/// length. What comes out are whole messages of the right direction, and not
/// more of them than what went in explains.
pub fn fuzz_link(data: &[u8]) {
    let mut link = Link::new();
    let mut rest = data;
    while let Some((&[what, len], after)) = rest.split_first_chunk() {
        let (piece, after) = after.split_at(after.len().min(usize::from(len)));
        rest = after;
        let alive = match what % 8 {
            0..3 => link.client_sends(piece),
            3..7 => link.server_sends(piece),
            _ => link.client_leaves(),
        };
        if !alive {
            return;
        }
    }
}

struct Link {
    session: Session,
    backend: Backend,
    linked: bool,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// Bytes that went in.
    seen: usize,
    statements: Statements,
    params: ParamTable,
    counters: Counters,
    pins: Pins,
    suspects: Watchlist,
    values: Values,
}

impl Link {
    fn new() -> Link {
        let mut params = ParamTable::default();
        let mut theirs = Params::default();
        theirs.set(b"TimeZone", b"UTC", true);
        let ours = params.intern(Params::default());
        Link {
            session: Session::new(
                PoolMode::Transaction,
                Naming::TheClients,
                params.intern(theirs),
            ),
            backend: Backend::new(ours, 2),
            linked: false,
            from_client: Vec::new(),
            from_server: Vec::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            seen: 0,
            statements: Statements::default(),
            params,
            counters: Counters::default(),
            pins: Pins::default(),
            suspects: Watchlist::default(),
            values: Values::default(),
        }
    }

    /// False: the link has ended.
    fn client_sends(&mut self, piece: &[u8]) -> bool {
        self.seen += piece.len();
        self.from_client.extend_from_slice(piece);
        let mut fresh = false;
        loop {
            let input = std::mem::take(&mut self.from_client);
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
            let mut to_client = Vec::new();
            if fresh {
                self.backend
                    .adopt(&mut self.session, &mut out, &mut to_client, &mut shared);
            }
            let backend = self.linked.then_some(&mut self.backend);
            let result =
                self.session
                    .from_client(backend, &input, &mut out, &mut to_client, &mut shared);
            let sent = out.finish();
            assert!(sent.is_empty() || self.linked, "bytes for no server");
            let most = (input.len() + 1) * (self.seen + 500);
            assert!(
                sent.len() + to_client.len() <= most,
                "too much for so little"
            );
            self.to_server.extend_from_slice(sent);
            self.to_client.extend_from_slice(&to_client);
            self.check();
            let Ok((taken, stop)) = result else {
                return false;
            };
            self.from_client = input[taken..].to_vec();
            match stop {
                Stop::AskListener => {
                    fresh = false;
                    if let Some(channels) = self.session.channels_mut() {
                        channels.prepared = true;
                    }
                }
                Stop::NeedServer if self.backend.release() == Release::Ready => {
                    assert!(!self.linked, "a second server");
                    self.linked = true;
                    fresh = true;
                }
                Stop::Terminate => return false,
                Stop::NeedServer | Stop::More { .. } | Stop::Wait => return true,
            }
        }
    }

    fn server_sends(&mut self, piece: &[u8]) -> bool {
        self.seen += piece.len();
        self.from_server.extend_from_slice(piece);
        let input = std::mem::take(&mut self.from_server);
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
        let session = self.linked.then_some(&mut self.session);
        let result = self
            .backend
            .from_server(session, &input, &mut out, &mut shared);
        let sent = out.finish();
        if self.linked {
            self.to_client.extend_from_slice(sent);
        }
        let Ok(taken) = result else {
            assert_eq!(self.backend.release(), Release::Broken);
            return false;
        };
        self.from_server = input[taken..].to_vec();
        if self.backend.release() == Release::Ready {
            assert!(self.backend.is_settled() && !self.backend.is_busy());
            self.linked &= !self.from_server.is_empty();
        }
        self.check();
        self.client_sends(&[])
    }

    fn client_leaves(&mut self) -> bool {
        if self.linked {
            self.linked = false;
            if self.backend.release() == Release::Broken {
                return false;
            }
            self.backend.abandon(&mut self.to_server);
            if self.backend.is_settled() {
                self.backend.rollback(&mut self.to_server);
            }
        }
        let params = self.session.params().clone();
        self.session = Session::new(PoolMode::Transaction, Naming::TheClients, params);
        self.from_client.clear();
        self.to_client.clear();
        self.check();
        true
    }

    /// Walks off whole messages; each must be one of its direction.
    fn check(&mut self) {
        let from_client = |tag| FrontendTag::from_byte(tag).is_some();
        let from_server = |tag| BackendTag::from_byte(tag).is_some();
        walk(&mut self.to_server, from_client);
        walk(&mut self.to_client, from_server);
    }
}

fn walk(stream: &mut Vec<u8>, known: impl Fn(u8) -> bool) {
    let mut at = 0;
    loop {
        let header = match Header::peek(&stream[at..]) {
            Ok(Some(header)) => header,
            Ok(None) => break,
            Err(error) => panic!("{error}"),
        };
        assert!(known(header.tag), "message {:?}", header.tag as char);
        if stream.len() - at < header.total {
            break;
        }
        at += header.total;
    }
    stream.drain(..at);
}
