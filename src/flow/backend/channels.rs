//! What a server connection listens to, although another one does it for all clients.

use std::collections::BTreeSet;

use super::Backend;
use crate::flow::replies::{OwnQuery, Reply};
use crate::flow::{Output, Session, each_channel};
use crate::sql::effects::Features;
use crate::sql::listen::{Channel, Step};
use crate::wire::{TxStatus, names};

impl Backend {
    /// Whether what its client listens to comes from it, too.
    pub(in crate::flow) fn listens_itself(&self) -> bool {
        !self.listens.is_empty()
    }

    /// Listens to what `session` listens to, if that is about to be asked.
    pub(in crate::flow) fn recite(&mut self, session: &mut Session, out: &mut Output<'_>) {
        if let Some(channels) = session.recital() {
            self.listens.extend(channels.iter().cloned());
            let sql = each_channel("LISTEN", &self.listens, self.encoding());
            self.own_query(OwnQuery::Housekeeping, &sql, out.own());
        }
    }

    /// Appends what makes the session listen to nothing any more that is heard for its
    /// client elsewhere, if it does and can be told so now. The answer is owed
    /// afterwards. `heard`: what the client listens to, if it is there.
    pub fn unlisten(&mut self, heard: Option<&BTreeSet<Channel>>, out: &mut Vec<u8>) -> bool {
        if self.listens.is_empty() || !self.is_settled() || self.status != TxStatus::Idle {
            return false;
        }
        let mut channels = std::mem::take(&mut self.listens);
        if let Some(heard) = heard.filter(|_| self.pins.contains(Features::LISTEN)) {
            // What was rolled back may be what it listens to unseen.
            channels.retain(|channel| heard.contains(channel));
        }
        let sql = each_channel("UNLISTEN", &channels, self.encoding());
        self.own_query(OwnQuery::Housekeeping, &sql, out);
        true
    }

    /// Whether the body of a NotificationResponse is for a channel that another
    /// connection hears, too: one of a LISTEN that is not over here yet, or of one that
    /// no text has shown since.
    pub(super) fn is_heard_twice(&self, body: &[u8], session: Option<&Session>) -> bool {
        let unlistens = matches!(self.replies.front(), Some(Reply::Own { .. }));
        if unlistens && !self.may_listen_unseen() {
            return true;
        }
        let Some((channel, _)) = body.get(4..).and_then(names::split_nul) else {
            return false;
        };
        let channels = session.and_then(Session::channels);
        channels.is_some_and(|channels| channels.heard().contains(channel))
            || self.listens.iter().any(|other| **other == *channel)
    }

    /// Whether its client may have a LISTEN here that no text has shown: only this
    /// connection hears what comes then, whatever the server is being asked.
    fn may_listen_unseen(&self) -> bool {
        let feared = self.traces.as_ref().map(|traces| traces.feared());
        (self.pins | feared.unwrap_or_default()).contains(Features::LISTEN)
    }

    /// What a statement that has ended has done to its client's channels.
    #[inline]
    pub(super) fn follow_channels(&mut self, body: &[u8], session: &mut Session) {
        let Some(channels) = session.channels_mut() else {
            return;
        };
        let tag = body.strip_suffix(b"\0").unwrap_or(body);
        let script = match self.replies.front_mut() {
            Some(Reply::Query { script, .. } | Reply::Execute { script }) => script.as_mut(),
            _ => return,
        };
        let act = script.and_then(|script| script.pop_front_if(|act| act.ends_with(tag)));
        if let Some(Step::Listen(channel)) = &act {
            self.listens.push(channel.clone());
        }
        channels.follow(tag, act);
    }
}
