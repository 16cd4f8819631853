//! What a client that listens is told, and when: between its transactions, and
//! before the ReadyForQuery of one that may have sent it (postgres.c,
//! `PostgresMain`; async.c, `ProcessNotifyInterrupt`).

use std::task::Context;

use super::{Client, Hold, gone};
use crate::client::farewell::End;
use crate::flow::{Channels, Release, Wait};
use crate::stats::add;
use crate::wire::TxStatus;

impl Client {
    /// Has the channels heard that its next message wants; then
    /// [`Client::take_news`] goes on with it.
    pub(super) fn ask_listener(&mut self) {
        let params = self.session.params().clone();
        let encoding = params.get(b"client_encoding").unwrap_or_default();
        let server = self.server_process();
        if let Some(channels) = self.session.channels_mut() {
            channels.wait = Wait::Prepare;
            channels.reserved |= server.is_some();
            let wanted = channels.take_wanted();
            self.worker.listen(&self.info, encoding, wanted, server);
        }
    }

    /// Of the server connection that it has; 0 if nothing can come from there, or
    /// if the client knows that process by its own id.
    fn server_process(&self) -> Option<u32> {
        let Hold::Linked(lease) = &self.hold else {
            return None;
        };
        let silent = lease.backend.is_known() || lease.info.read_only;
        let key = lease.info.key.as_ref().filter(|_| !silent);
        Some(key.map_or(0, |key| key.pid as u32))
    }

    /// Whether a client that listens has to wait before it uses the server connection
    /// that it was just given: what others have sent over it must not be taken for
    /// its own.
    pub(super) fn reserves(&mut self) -> bool {
        let server = self.server_process();
        let (Some(channels), Some(server)) = (self.session.channels_mut(), server) else {
            return false;
        };
        // Nobody who hears nothing is answered.
        channels.reserved = self.worker.reserve_pid(&self.info, server);
        if channels.reserved {
            channels.wait = Wait::Reserve;
        }
        channels.reserved
    }

    /// Keeps this from the client until the notifications have arrived that come
    /// before it.
    pub(super) fn hold_back(&mut self, to_client: &[u8], cx: &mut Context<'_>) -> Result<(), End> {
        match self.session.channels_mut() {
            Some(channels) if self.worker.settle_notifications(&self.info) => {
                channels.held.extend_from_slice(to_client);
                channels.wait = Wait::Settle;
                Ok(())
            }
            _ => {
                let written = self.output.write(&mut self.stream, cx, to_client);
                written.map_err(gone)
            }
        }
    }

    /// Whether its next message waits for notifications, or for its server connection
    /// to be given back.
    pub(super) fn waits_for_listener(&self) -> bool {
        let Some(channels) = self.session.channels() else {
            return false;
        };
        let is_tidying = |hold: &Hold| match hold {
            Hold::Linked(lease) => lease.backend.is_tidying(),
            Hold::Nothing | Hold::Waiting(..) => false,
        };
        channels.wait != Wait::No || is_tidying(&self.hold)
    }

    /// Does what is left to be done on a server connection that has run a LISTEN,
    /// and follows what has become of it.
    pub(super) fn end_listen(&mut self, cx: &mut Context<'_>) {
        let Hold::Linked(lease) = &mut self.hold else {
            return;
        };
        let server = &mut **lease;
        let idle = !server.backend.is_busy() && server.backend.status() == TxStatus::Idle;
        if let Some(channels) = self.session.channels_mut()
            && idle
            // Who is to be answered still must be known.
            && channels.wait == Wait::No
            && channels.take_changed()
        {
            self.worker.keep_channels(self.info.id, channels.heard());
        }
        let mut unlisten = Vec::new();
        let heard = self.session.channels().map(Channels::heard);
        if server.backend.unlisten(heard, &mut unlisten) {
            // If the server has gone, reading from it tells why.
            let _ = server.output.write(&mut server.stream, cx, &unlisten);
        }
    }

    /// Whether answers to the client are under way. A server that is to hear
    /// more of the request first, COPY data or a Sync, waits in vain for a
    /// client that has said goodbye.
    pub(super) fn is_served(&self) -> bool {
        let served = match &self.hold {
            Hold::Nothing => false,
            Hold::Waiting(..) => true,
            Hold::Linked(lease) => lease.backend.is_busy() && !lease.backend.takes_more(),
        };
        served || self.session.listener_wait() != Wait::No
    }

    /// Goes on where it had to wait, and tells the client what there is, if this is
    /// the time. True: something was done.
    pub(super) fn take_news(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let wait = self.session.listener_wait();
        let idle = match &self.hold {
            Hold::Linked(lease) => lease.backend.release() == Release::Ready,
            Hold::Nothing | Hold::Waiting(..) => true,
        };
        if (wait == Wait::No && !idle) || !self.info.take_news() {
            return Ok(false);
        }
        let answer = match wait {
            Wait::No => None,
            _ => self.worker.take_answer(self.info.id),
        };
        let answered = match answer {
            Some(Err(reason)) => return Err(End::CannotListen(reason)),
            Some(Ok(())) => true,
            None => false,
        };
        let free = idle && matches!(wait, Wait::No | Wait::Prepare);
        let told = match free || (answered && wait == Wait::Settle) {
            true => self.tell_notifications(cx)?,
            false => false,
        };
        let Some(channels) = self.session.channels_mut().filter(|_| answered) else {
            return Ok(told);
        };
        channels.wait = Wait::No;
        match wait {
            Wait::No => {}
            Wait::Prepare => {
                channels.prepared = true;
                // What has come for a LISTEN that is not in force yet was sent before.
                self.worker.drop_mail(self.info.id, channels.heard());
                self.go_on(false, cx)?;
            }
            Wait::Reserve => self.go_on(true, cx)?,
            Wait::Settle => {
                let held = std::mem::take(&mut channels.held);
                add(&self.pool.counters.bytes_sent, held.len() as u64);
                let written = self.output.write(&mut self.stream, cx, &held);
                written.map_err(gone)?;
                self.end_listen(cx);
                self.give_back(cx)?;
            }
        }
        Ok(true)
    }

    fn tell_notifications(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Some(channels) = self.session.channels() else {
            return Ok(false);
        };
        let mut mail = self.worker.take_mail(self.info.id);
        mail.retain(|notification| channels.heard().contains(&notification.channel));
        let bytes: Vec<u8> = mail
            .iter()
            .flat_map(|n| n.message.iter().copied())
            .collect();
        let counters = &self.pool.counters;
        add(&counters.notification_count, mail.len() as u64);
        add(&counters.bytes_sent, bytes.len() as u64);
        let written = self.output.write(&mut self.stream, cx, &bytes);
        written.map_err(gone)?;
        Ok(!mail.is_empty())
    }
}
