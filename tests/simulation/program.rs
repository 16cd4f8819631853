//! Random programs for clients, and what a direct connection answers them.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use crate::messages::{message, strings};
use crate::postgres::Postgres;

/// What a client sends in one go.
pub struct Round {
    pub send: Vec<u8>,
    /// It is sent when this many bytes have come.
    pub after: usize,
}

/// A client's doings.
pub struct Program {
    pub rounds: Vec<Round>,
    /// Everything that a direct connection says.
    pub expected: Vec<u8>,
    /// It ends with Terminate.
    pub says_goodbye: bool,
}

impl Program {
    /// A program of client `id`, whose setting `x` is `x`.
    pub fn random(rng: &mut StdRng, id: usize, x: &str) -> Program {
        let mut writer = Writer {
            id,
            serial: 0,
            server: Postgres::login(x),
            rounds: Vec::new(),
            round: Vec::new(),
            visible: 0,
        };
        for _ in 0..rng.random_range(1..10) {
            writer.request(rng);
        }
        writer.put(strings(b'Q', &[b"rollback"], b""));
        let says_goodbye = rng.random();
        if says_goodbye {
            writer.put(message(b'X', b""));
        }
        writer.end_round(true);
        Program {
            rounds: writer.rounds,
            expected: writer.server.said().to_vec(),
            says_goodbye,
        }
    }
}

struct Writer {
    id: usize,
    serial: usize,
    server: Postgres,
    rounds: Vec<Round>,
    round: Vec<u8>,
    /// How much the client has seen when it waits.
    visible: usize,
}

impl Writer {
    fn put(&mut self, bytes: Vec<u8>) {
        self.round.extend(bytes);
    }

    fn end_round(&mut self, wait: bool) {
        let send = std::mem::take(&mut self.round);
        self.server.receive(&send);
        while self.server.is_asleep() {
            self.server.wake(false);
        }
        self.rounds.push(Round {
            send,
            after: self.visible,
        });
        if wait {
            self.visible = self.server.flushed;
        }
    }

    fn request(&mut self, rng: &mut StdRng) {
        match rng.random_range(0..20) {
            0..5 => {
                let n = rng.random_range(1..4);
                let list: Vec<_> = (0..n).map(|_| self.statement(rng)).collect();
                self.put(strings(b'Q', &[list.join("; ").as_bytes()], b""));
            }
            5..8 => {
                let sql = *["begin", "begin", "commit", "rollback"]
                    .choose(rng)
                    .unwrap();
                self.put(strings(b'Q', &[sql.as_bytes()], b""));
            }
            8..16 => {
                for _ in 0..rng.random_range(1..5) {
                    self.extended(rng);
                }
                match rng.random_range(0..10) {
                    0 => self.put(message(b'H', b"")),
                    _ => self.put(message(b'S', b"")),
                }
            }
            16 | 17 => return self.copy(rng),
            18 => {
                let sql = *["deallocate all", "discard all"].choose(rng).unwrap();
                self.end_round(true);
                self.put(strings(b'Q', &[sql.as_bytes()], b""));
                return self.end_round(true);
            }
            _ => {
                if rng.random_bool(0.2) {
                    self.put(strings(b'Q', &[b"fatal"], b""));
                    return self.end_round(true);
                }
                self.put(message(b'S', b""));
            }
        }
        if rng.random_bool(0.7) {
            let wait = rng.random_bool(0.7);
            self.end_round(wait);
        }
    }

    fn statement(&mut self, rng: &mut StdRng) -> String {
        self.serial += 1;
        let own = format!("{}-{}", self.id, self.serial);
        match rng.random_range(0..24) {
            0..6 => format!("echo shared{}", rng.random_range(0..4)),
            6 if rng.random_bool(0.1) => format!("echo {own} {}", "long ".repeat(4000)),
            6..9 => format!("echo {own}"),
            9 | 10 => format!("insert shared{}", rng.random_range(0..2)),
            11 | 12 => format!("fail {own}"),
            13 => format!("syntax shared{}", rng.random_range(0..2)),
            14 => format!("deferred {own}"),
            15 => format!("sleep {own}"),
            16 => format!("notice {own}"),
            17 | 18 => format!("set zone{}", rng.random_range(0..3)),
            19 => "show".into(),
            20 => "showx".into(),
            21 => format!("copyout {own}"),
            22 => "begin".into(),
            _ => ["commit", "rollback"].choose(rng).unwrap().to_string(),
        }
    }

    fn name(rng: &mut StdRng) -> &'static str {
        ["", "", "a", "b", "c"].choose(rng).unwrap()
    }

    fn extended(&mut self, rng: &mut StdRng) {
        let name = Self::name(rng).as_bytes();
        let parse = rng.random_bool(0.6);
        if rng.random_bool(0.15) {
            self.put(strings(b'C', &[&[b"S", name].concat()], b""));
        }
        if parse {
            let sql = self.statement(rng);
            self.put(strings(b'P', &[name, sql.as_bytes()], &[0, 0]));
        }
        if rng.random_bool(0.3) {
            self.put(strings(b'D', &[&[b"S", name].concat()], b""));
        }
        if rng.random_bool(0.85) {
            self.serial += 1;
            let value = format!("{}-{}", self.id, self.serial);
            let mut rest = b"\0\0\0\x01".to_vec();
            rest.extend((value.len() as u32).to_be_bytes());
            rest.extend(value.as_bytes());
            rest.extend([0, 0]);
            self.put(strings(b'B', &[b"", name], &rest));
            if rng.random_bool(0.3) {
                self.put(strings(b'D', &[b"P"], b""));
            }
            self.put(strings(b'E', &[b""], &[0; 4]));
            if rng.random_bool(0.1) {
                self.put(strings(b'C', &[b"P"], b""));
            }
        }
        if rng.random_bool(0.25) {
            self.put(message(b'S', b""));
            if rng.random_bool(0.3) {
                self.end_round(rng.random());
            }
        }
    }

    fn copy(&mut self, rng: &mut StdRng) {
        self.put(message(b'S', b""));
        self.end_round(true);
        let sql = *["copyin x", "copyin x", "copyfail x"].choose(rng).unwrap();
        let extended = rng.random();
        if extended {
            let name = *["", "copying"].choose(rng).unwrap();
            self.put(strings(b'C', &[&[b"S", name.as_bytes()].concat()], b""));
            self.put(strings(b'P', &[name.as_bytes(), sql.as_bytes()], &[0, 0]));
            self.put(strings(
                b'B',
                &[b"", name.as_bytes()],
                b"\0\0\0\0\0\0\0\0\0\0",
            ));
            self.put(strings(b'E', &[b""], &[0; 4]));
            self.put(message(if rng.random() { b'S' } else { b'H' }, b""));
        } else {
            self.put(strings(b'Q', &[sql.as_bytes()], b""));
        }
        if rng.random() {
            self.end_round(rng.random());
        }
        for _ in 0..rng.random_range(0..4) {
            let data: &[u8] = if rng.random_bool(0.15) {
                b"bad"
            } else {
                b"row"
            };
            self.put(message(b'd', data));
            if rng.random_bool(0.3) {
                self.end_round(rng.random());
            }
        }
        match rng.random_bool(0.8) {
            true => self.put(message(b'c', b"")),
            false => self.put(strings(b'f', &[b"no"], b"")),
        }
        if extended {
            self.put(message(b'S', b""));
        }
        self.end_round(true);
        // Nobody sends a COPY's statement again without its data: PostgreSQL
        // would take what follows for a loss of synchronisation and give up.
        for name in ["", "copying"] {
            self.put(strings(b'C', &[&[b"S", name.as_bytes()].concat()], b""));
        }
        self.put(message(b'S', b""));
    }
}

/// A random part of `all` from the front, at least one byte.
pub fn piece(rng: &mut impl Rng, len: usize) -> usize {
    match rng.random_range(0..4) {
        0 => 1,
        1 => rng.random_range(1..=len.min(9)),
        2 => rng.random_range(1..=len),
        _ => len,
    }
}
