//! A client and a server connection of its own whose bytes go through as they are.
//! What they mean is followed only so far that one knows what goes on.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::farewell::{End, Goodbye, log_end};
use super::info::ClientInfo;
use crate::admin::snapshot::{ClientState, ServerState};
use crate::config::Config;
use crate::net::{Outgoing, Stream};
use crate::server::{Dedicated, Pool};
use crate::stats::add;
use crate::wire::FrameError;
use crate::wire::walk::Walk;

/// The two connections.
pub(super) struct Relay {
    pub stream: Stream,
    pub server: Dedicated,
    pub pool: Rc<Pool>,
    pub info: Rc<ClientInfo>,
    to_client: Outgoing,
    from_client: Walk,
    client_said_goodbye: bool,
    /// By an error; what comes after one takes it back.
    pub server_said_goodbye: bool,
}

impl Relay {
    pub fn new(stream: Stream, server: Dedicated, pool: Rc<Pool>, info: Rc<ClientInfo>) -> Relay {
        info.state.set(ClientState::Active);
        info.link.set(Some(server.info.clone()));
        server.info.link.set(Some(info.id));
        server.info.state.set(ServerState::Active);
        Relay {
            stream,
            server,
            pool,
            info,
            to_client: Outgoing::default(),
            from_client: Walk::default(),
            client_said_goodbye: false,
            server_said_goodbye: false,
        }
    }

    /// Whether the client has sent its last message whole.
    pub fn client_is_between_messages(&self) -> bool {
        self.from_client.is_between_messages()
    }

    /// Pending: the server has nothing, or the client takes nothing. `follow` reads what
    /// came before the client gets it, and says whether the last message was an error.
    pub fn poll_server(
        &mut self,
        cx: &mut Context<'_>,
        follow: impl FnOnce(&[u8], &mut bool) -> Result<(), FrameError>,
    ) -> Result<Poll<()>, End> {
        let gone = |error| End::Gone(Some(error));
        match self.to_client.poll_flush(&mut self.stream, cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(flushed) => flushed.map_err(gone)?,
        }
        let mut buffer = self.pool.local().read_buffer.borrow_mut();
        let read = match self.server.stream.poll_read_some(cx, &mut buffer) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(read) => read.map_err(|error| End::ServerGone(Some(error)))?,
        };
        if read == 0 {
            return Err(End::ServerGone(None));
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        // There is nothing to be done about it: the client sees it as well.
        follow(bytes, &mut self.server_said_goodbye).map_err(|_| End::ServerGone(None))?;
        add(&self.pool.counters.bytes_sent, read as u64);
        let sent = self.to_client.write(&mut self.stream, cx, bytes);
        sent.map_err(gone)?;
        Ok(Poll::Ready(()))
    }

    /// Pending: the client has nothing, or the server takes nothing. `asked` is told the
    /// tag of each message.
    pub fn poll_client(
        &mut self,
        cx: &mut Context<'_>,
        mut asked: impl FnMut(u8),
    ) -> Result<Poll<()>, End> {
        if self.poll_flush(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        if self.client_said_goodbye {
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
        let goodbye = &mut self.client_said_goodbye;
        // What is wrong with it the server will say.
        let _ = self.from_client.feed(bytes, |tag| {
            *goodbye |= tag == b'X';
            asked(tag);
        });
        add(&self.pool.counters.bytes_received, read as u64);
        let server = &mut *self.server;
        let sent = server.output.write(&mut server.stream, cx, bytes);
        sent.map_err(|error| End::ServerGone(Some(error)))?;
        Ok(Poll::Ready(()))
    }

    /// Pending: the server has not taken all that is for it.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        let server = &mut *self.server;
        match server.output.poll_flush(&mut server.stream, cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(flushed) => {
                flushed.map_err(|error| End::ServerGone(Some(error)))?;
                Ok(Poll::Ready(()))
            }
        }
    }

    /// The client is without the server connection.
    pub fn part(self) -> (Stream, Dedicated) {
        self.info.link.set(None);
        self.info.state.set(ClientState::Idle);
        (self.stream, self.server)
    }

    /// Closes both, after the client was told why. `between_messages`: it has the last one
    /// of the server's whole.
    pub async fn end(mut self, end: &End, between_messages: bool, config: &Config) {
        let (mut refusal, reason) = end.last_words(self.server_said_goodbye, config);
        if !between_messages {
            // It would be taken for the rest of a message.
            refusal.clear();
        }
        let output = std::mem::take(&mut self.to_client);
        let info = self.info.clone();
        let (mut stream, server) = self.part();
        server.close(&reason);
        log_end(&info, &reason, !refusal.is_empty(), config);
        Goodbye { output, refusal }.say(&mut stream).await;
    }
}
