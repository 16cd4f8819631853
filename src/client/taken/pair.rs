//! A client and the server connection that it holds. PgBouncer suspends both between two
//! messages, but does not say what they have begun: a transaction, a query that is
//! running, half an extended query. So bytes go through as they are until it is over.
//!
//! It is so when the server says that no transaction is open, and owes nothing that is
//! known of. It may still owe what the client had sent to PgBouncer. So it is said
//! goodbye to: it answers everything before it closes the connection, and only then is the
//! client one without a server connection. In session mode the pair stays together.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use super::Guest;
use super::answers::{Answers, Said};
use crate::client::farewell::End;
use crate::client::info::Order;
use crate::client::relay::Relay;
use crate::config::PoolMode;
use crate::flow::{Params, is_fixed};
use crate::net::{Detached, Stream};
use crate::process::Linked;
use crate::wire::build;

impl Guest {
    /// Serves it until it has no server connection: it, and its settings then. `None`: it
    /// has left.
    pub(super) async fn serve_pair(
        &self,
        stream: Stream,
        server: Linked<OwnedFd>,
        settings: Params,
    ) -> Option<(Stream, Params)> {
        let key = server.backend_key();
        let server = Detached::from_file(server.socket).and_then(Detached::attach);
        let server = server.ok()?;
        let (pool, info) = (self.pool.clone(), self.info.clone());
        let server = pool.dedicate_taken(server, key)?;
        let mut pair = Pair {
            relay: Relay::new(stream, server, pool, info),
            settings,
            from_server: Answers::default(),
            progress: Progress::default(),
            leaving: false,
        };
        let end = poll_fn(|cx| pair.poll(cx)).await;
        let between_messages = pair.from_server.are_between_messages();
        let Pair {
            relay, settings, ..
        } = pair;
        match end {
            None => {
                let (stream, server) = relay.part();
                server.close("opened by PgBouncer");
                Some((stream, settings))
            }
            Some(end) => {
                let terms = self.worker.terms();
                relay.end(&end, between_messages, &terms.config).await;
                None
            }
        }
    }
}

/// How far the two are, as far as can be seen.
#[derive(Debug, Default)]
struct Progress {
    /// So many answers are due, beside what was asked before.
    due: u32,
    /// The client has not said Sync yet.
    unsynced: bool,
    /// The status of the transaction when the server was ready last.
    status: Option<u8>,
}

impl Progress {
    fn asked(&mut self, tag: u8) {
        match tag {
            b'Q' | b'F' => self.due = self.due.saturating_add(1),
            b'S' => {
                self.due = self.due.saturating_add(1);
                self.unsynced = false;
            }
            b'P' | b'B' | b'D' | b'E' | b'C' => self.unsynced = true,
            _ => {}
        }
        self.status = None;
    }

    fn ready(&mut self, status: u8) {
        self.due = self.due.saturating_sub(1);
        self.status = Some(status);
    }

    /// No transaction is open, and no answer is known to be due.
    fn is_at_rest(&self) -> bool {
        self.status == Some(b'I') && self.due == 0 && !self.unsynced
    }
}

struct Pair {
    relay: Relay,
    settings: Params,
    from_server: Answers,
    progress: Progress,
    /// The server was told that nothing more comes.
    leaving: bool,
}

impl Pair {
    /// Ready when it is over; `None`: the client goes on without the server.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        self.relay.info.listen();
        match self.drive(cx) {
            Ok(true) => Poll::Ready(None),
            Ok(false) => Poll::Pending,
            Err(end) => Poll::Ready(Some(end)),
        }
    }

    /// True: the server has nothing more to say.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        loop {
            self.obey()?;
            let sent = match self.poll_server(cx)? {
                Poll::Ready(true) => return Ok(true),
                sent => sent.is_ready(),
            };
            self.let_go(cx)?;
            let asked = self.poll_client(cx)?.is_ready();
            if !sent && !asked {
                return Ok(false);
            }
        }
    }

    fn obey(&self) -> Result<(), End> {
        match self.relay.info.ordered() {
            Order::Nothing | Order::Move | Order::Stay => Ok(()),
            Order::Drain if !self.is_at_rest() => Ok(()),
            order => Err(End::Ordered(order)),
        }
    }

    fn is_at_rest(&self) -> bool {
        self.progress.is_at_rest()
            && self.from_server.are_between_messages()
            && self.relay.client_is_between_messages()
    }

    /// Says goodbye to the server once the client can do without it.
    fn let_go(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let for_session = self.relay.pool.config().pool_mode == PoolMode::Session;
        if for_session || self.leaving || !self.is_at_rest() {
            return Ok(());
        }
        self.leaving = true;
        let server = &mut *self.relay.server;
        let said = server
            .output
            .write(&mut server.stream, cx, build::TERMINATE);
        said.map_err(|error| End::ServerGone(Some(error)))
    }

    /// Ready with true: it has closed the connection after our goodbye.
    fn poll_server(&mut self, cx: &mut Context<'_>) -> Result<Poll<bool>, End> {
        let from_server = &mut self.from_server;
        let (progress, settings) = (&mut self.progress, &mut self.settings);
        let polled = self.relay.poll_server(cx, |bytes, goodbye| {
            from_server.feed(bytes, |said| {
                *goodbye = said == Said::Other(b'E');
                match said {
                    Said::Ready(status) => progress.ready(status),
                    Said::Parameter(name, value) if !is_fixed(name) => {
                        settings.set(name, value, false);
                    }
                    Said::Parameter(..) | Said::Other(_) => {}
                }
            })
        });
        match polled {
            Err(End::ServerGone(_)) if self.leaving && self.is_at_rest() => Ok(Poll::Ready(true)),
            polled => Ok(polled?.map(|()| false)),
        }
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        if self.leaving {
            // Nothing more is read, but the goodbye may not have gone yet.
            let _ = self.relay.poll_flush(cx)?;
            return Ok(Poll::Pending);
        }
        let progress = &mut self.progress;
        self.relay.poll_client(cx, |tag| progress.asked(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the client asks (`>`) and the server says (`<`), and whether they rest then.
    fn rests(messages: &str) -> bool {
        let mut progress = Progress::default();
        for message in messages.split_whitespace() {
            match message.as_bytes() {
                [b'>', tag] => progress.asked(*tag),
                [b'<', status] => progress.ready(*status),
                other => panic!("{other:?}"),
            }
        }
        progress.is_at_rest()
    }

    #[test]
    fn nothing_is_known_before_the_server_is_ready() {
        assert!(!rests(""));
        assert!(!rests(">Q"));
        assert!(rests(">Q <I"));
        assert!(!rests(">Q <T"));
        assert!(!rests(">Q <E"));
        assert!(rests(">Q <T >Q <I"));
    }

    #[test]
    fn what_was_asked_before_is_not_taken_for_an_answer_to_something_else() {
        // A query ran; the transaction goes on.
        assert!(rests("<I"));
        assert!(!rests("<T >Q"));
        assert!(rests("<T >Q <I"));
        // Half an extended query was there.
        assert!(!rests(">E"));
        assert!(rests(">E >S <I"));
        assert!(rests(">S <I"));
    }

    #[test]
    fn what_the_client_sends_on_is_still_to_be_answered() {
        assert!(!rests(">Q >Q <I"));
        assert!(rests(">Q >Q <I <I"));
        assert!(!rests(">Q >P <I"));
        assert!(!rests(">P >S >P <I"));
        assert!(rests(">P >S >P >S <I <I"));
        // COPY FROM STDIN.
        assert!(rests("<T >Q >d >d >c <I"));
    }
}
