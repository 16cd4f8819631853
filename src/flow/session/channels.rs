//! LISTEN in transaction mode: the channels of a client, which one connection
//! hears for all.
//!
//! The client's statements run on the server connection that it holds, so that
//! every answer is the server's own. What they did is followed by the tags of
//! CommandComplete, savepoints and rollbacks included (async.c does its work at
//! the commit, too), and that server connection listens to nothing any more before
//! somebody else gets it.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use super::super::Output;
use super::super::backend::Backend;
use super::super::statements::Statement;
use super::{Message, Session, Step};
use crate::sql::listen::{self, Channel, Step as Act};
use crate::sql::{Encoding, quote_ident};
use crate::wire::names::{self, Target};
use crate::wire::{FrontendTag, HEADER_LEN, TxStatus};

/// What a text that was sent is still to do.
pub(in crate::flow) type Script = Box<VecDeque<Act>>;

/// What a client listens to, and what its transaction may change of that.
#[derive(Debug, Default)]
pub struct Channels {
    /// As of its last commit.
    heard: BTreeSet<Channel>,
    /// What the open transaction has done.
    done: Vec<Act>,
    /// It has failed, as far as that was not rolled back.
    failed: bool,
    portals: Vec<(Box<[u8]>, Rc<Statement>)>,
    /// Of the message that is being walked.
    script: Option<Script>,
    /// Channels that the message next to be walked wants to be heard.
    wanted: Vec<Channel>,
    /// They are heard, and what was heard before the message came has arrived.
    pub prepared: bool,
    /// The server connection is to listen as well: it is about to be asked what
    /// it listens to.
    recite: bool,
    /// `heard` has changed, or might have.
    changed: bool,
    /// The client has been promised that what its transactions send comes with
    /// its own process id.
    pub reserved: bool,
    /// What it is told when the notifications have come that were sent before.
    pub held: Vec<u8>,
    pub wait: Wait,
}

/// What the client waits for, of the connection that listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    #[default]
    No,
    /// That channels are heard that its next message wants.
    Prepare,
    /// That what others have sent over its server connection has arrived.
    Reserve,
    /// The same of what it has sent itself.
    Settle,
}

impl Channels {
    /// What its client listens to, outside of transactions.
    pub fn heard(&self) -> &BTreeSet<Channel> {
        &self.heard
    }

    /// What it waits for to be heard.
    pub fn take_wanted(&mut self) -> Vec<Channel> {
        std::mem::take(&mut self.wanted)
    }

    /// Whether [`Channels::heard`] may be another one than when last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether the open transaction has a LISTEN in it.
    fn is_pending(&self) -> bool {
        self.done.iter().any(|act| matches!(act, Act::Listen(_)))
    }

    /// A statement has ended with this tag; `act`: what it was.
    pub(in crate::flow) fn follow(&mut self, tag: &[u8], act: Option<Act>) {
        match (tag, act) {
            (b"ROLLBACK", Some(Act::RollbackTo(name))) => {
                let kept = self.savepoint(&name).map_or(0, |at| at + 1);
                self.done.truncate(kept);
                self.failed = false;
            }
            (b"COMMIT", _) => self.commit(),
            // What comes behind it before the next Sync is another transaction
            // (postgres.c, XACT_FLAGS_NEEDIMMEDIATECOMMIT).
            (b"DISCARD ALL", _) => {
                self.done.push(Act::UnlistenAll);
                self.commit();
            }
            (b"ROLLBACK" | b"PREPARE TRANSACTION", _) => self.roll_back(),
            (_, Some(Act::Release(name))) => {
                // Those within it go with it, and all of them if it is older.
                let first = self.savepoint(&name).unwrap_or(0);
                let mut at = 0;
                self.done.retain(|act| {
                    at += 1;
                    at <= first || !matches!(act, Act::Savepoint(_))
                });
            }
            (_, Some(act)) => self.done.push(act),
            (_, None) => {}
        }
    }

    fn savepoint(&self, wanted: &Channel) -> Option<usize> {
        let is_it = |act: &Act| matches!(act, Act::Savepoint(name) if name == wanted);
        self.done.iter().rposition(is_it)
    }

    pub(in crate::flow) fn fail(&mut self) {
        self.failed = true;
    }

    /// ReadyForQuery. True: the client is to get it when the notifications have
    /// arrived that it must not be without.
    pub(in crate::flow) fn ready(&mut self, status: TxStatus) -> bool {
        if status != TxStatus::Idle {
            return false;
        }
        match self.failed {
            true => self.roll_back(),
            false => self.commit(),
        }
        !self.heard.is_empty()
    }

    fn commit(&mut self) {
        self.changed |= !self.done.is_empty();
        for act in self.done.drain(..) {
            match act {
                Act::Listen(channel) => {
                    self.heard.insert(channel);
                }
                Act::Unlisten(channel) => {
                    self.heard.remove(&channel);
                }
                Act::UnlistenAll => self.heard.clear(),
                Act::Savepoint(_) | Act::Release(_) | Act::RollbackTo(_) | Act::End => {}
            }
        }
        self.failed = false;
    }

    fn roll_back(&mut self) {
        // Also if nothing was done: a channel may have been prepared in vain.
        self.changed = true;
        self.done.clear();
        self.failed = false;
    }
}

impl Session {
    /// Whether LISTEN is carried over server connections.
    #[inline]
    pub fn carries_channels(&self) -> bool {
        self.carries() && self.follows()
    }

    /// Whether a LISTEN of this text leaves nothing on the server connection.
    pub(super) fn takes_over(&self, text: &[u8]) -> bool {
        self.carries_channels() && {
            let steps = listen::steps(text, self.dialect());
            steps.is_some_and(|steps| steps.iter().any(|act| matches!(act, Act::Listen(_))))
        }
    }

    /// Once it has used LISTEN.
    pub fn channels(&self) -> Option<&Channels> {
        self.names.as_ref()?.channels.as_deref()
    }

    pub fn channels_mut(&mut self) -> Option<&mut Channels> {
        self.names.as_mut()?.channels.as_deref_mut()
    }

    /// Whether notifications are to come.
    pub fn is_listening(&self) -> bool {
        self.channels().is_some_and(|c| !c.heard.is_empty())
    }

    /// What it waits for, of the connection that listens.
    pub fn listener_wait(&self) -> Wait {
        self.channels().map_or(Wait::No, |channels| channels.wait)
    }

    /// Whether [`Session::look_for_channels`] has to look at a message.
    #[inline]
    pub(super) fn may_concern_channels(&self, message: &Message<'_>) -> bool {
        let may_listen = || {
            let text = match (message.tag, message.bytes.get(HEADER_LEN..)) {
                (FrontendTag::Query, Some(text)) => text,
                (FrontendTag::Parse, Some(parse)) => {
                    names::split_nul(parse).map_or(&b""[..], |(_, text)| text)
                }
                _ => return false,
            };
            listen::may_listen(text)
        };
        self.carries_channels() && (self.channels().is_some() || may_listen())
    }

    /// Notes what the message does to channels. A step: it is not its turn yet.
    pub(super) fn look_for_channels(
        &mut self,
        message: &Message<'_>,
        backend: Option<&mut Backend>,
        out: &mut Output<'_>,
    ) -> Option<Step> {
        let ignored = match &backend {
            Some(backend) => backend.skipping || backend.copy_in,
            None => self.skipping,
        };
        if ignored {
            return None;
        }
        if backend.as_deref().is_none_or(Backend::is_at_rest)
            && let Some(channels) = self.channels_mut()
        {
            // They have ended with their transaction.
            channels.portals.clear();
        }
        match message.tag {
            FrontendTag::Query => {
                let Some(body) = message.body() else {
                    return Some(Step::Hold);
                };
                let (text, _) = names::split_nul(body)?;
                let waits = backend.as_deref().is_some_and(|b| b.replies.may_fail());
                if let Some(step) = self.note_question(text, backend, out) {
                    return Some(step);
                }
                let script = listen::steps(text, self.dialect());
                self.prepare_channels(script?, waits)
            }
            FrontendTag::Parse => {
                let view = names::parse(message.body()?)?;
                let (text, _) = names::split_nul(view.definition)?;
                if listen::may_listen(text) {
                    let names = self.names.get_or_insert_default();
                    names.channels.get_or_insert_default();
                }
                self.note_question(text, backend, out)
            }
            FrontendTag::Bind => {
                let view = names::bind(message.bytes.get(HEADER_LEN..)?)?;
                let statement = match view.statement.is_empty() {
                    true => self.unnamed.clone(),
                    false => self.named(view.statement).cloned(),
                };
                let text = statement.as_deref().and_then(text_of).unwrap_or_default();
                if let Some(step) = self.note_question(text, backend, out) {
                    return Some(step);
                }
                let script = listen::steps(text, self.dialect());
                let matters = script.is_some_and(|script| !script.is_empty());
                let channels = self.channels_mut()?;
                channels.portals.retain(|(name, _)| **name != *view.portal);
                if let Some(statement) = statement.filter(|_| matters) {
                    channels.portals.push((view.portal.into(), statement));
                }
                None
            }
            FrontendTag::Execute => {
                let (name, _) = names::split_nul(message.body()?)?;
                let mut portals = self.channels()?.portals.iter();
                let portal = portals.find(|(portal, _)| **portal == *name);
                let text = portal.and_then(|(_, statement)| text_of(statement));
                let script = listen::steps(text.unwrap_or_default(), self.dialect());
                let waits = backend.is_some_and(|b| b.replies.may_fail());
                self.prepare_channels(script?, waits)
            }
            FrontendTag::Close => {
                if let Target::Portal(portal) = names::target(message.body()?)? {
                    let channels = self.channels_mut()?;
                    channels.portals.retain(|(name, _)| **name != *portal);
                }
                None
            }
            _ => None,
        }
    }

    /// What comes after the message must be heard, and nothing that came before it:
    /// that is asked for if it may make a LISTEN come into force. Before an UNLISTEN
    /// the client gets what was sent up to now. `waits`: transactions before this one
    /// are not over, and may notify, too.
    fn prepare_channels(&mut self, script: VecDeque<Act>, waits: bool) -> Option<Step> {
        let listens = script.iter().filter_map(|act| match act {
            Act::Listen(channel) => Some(channel.clone()),
            _ => None,
        });
        let wanted: Vec<_> = listens.collect();
        if wanted.is_empty() && self.channels().is_none() {
            return None;
        }
        let names = self.names.get_or_insert_default();
        let channels = names.channels.get_or_insert_default();
        let listens = !wanted.is_empty() || channels.is_pending();
        let ends = || {
            let ends = |act: &Act| matches!(act, Act::Unlisten(_) | Act::UnlistenAll);
            !channels.heard.is_empty() && script.iter().any(ends)
        };
        if !channels.prepared && (listens || ends()) {
            if waits {
                return Some(Step::Wait);
            }
            channels.wanted = wanted;
            return Some(Step::AskListener);
        }
        channels.script = (!script.is_empty()).then(|| Box::new(script));
        None
    }

    /// What the message does that is about to be sent.
    pub(super) fn take_script(&mut self) -> Option<Script> {
        let channels = self.channels_mut()?;
        channels.prepared = false;
        channels.script.take()
    }

    /// A text that asks the server what the session listens to
    /// (`pg_listening_channels`) gets the client's answer if it begins a transaction.
    /// A step: the one before is not over.
    fn note_question(
        &mut self,
        text: &[u8],
        backend: Option<&mut Backend>,
        out: &mut Output<'_>,
    ) -> Option<Step> {
        let channels = self.channels_mut()?;
        let asks = || listen::mentions(text, b"pg_listening_channels");
        if channels.heard.is_empty() || !asks() {
            return None;
        }
        match backend {
            None => channels.recite = true,
            Some(backend) if backend.replies.may_fail() => return Some(Step::Wait),
            Some(backend) if backend.is_at_rest() && !backend.listens_itself() => {
                channels.recite = true;
                backend.recite(self, out);
            }
            Some(_) => {}
        }
        None
    }

    /// What a server session is to listen to, so that it answers such a text.
    pub(in crate::flow) fn recital(&mut self) -> Option<&BTreeSet<Channel>> {
        let channels = self.channels_mut()?;
        let asked = std::mem::take(&mut channels.recite);
        asked.then_some(&channels.heard)
    }
}

/// A text with a `LISTEN` or `UNLISTEN` for each of these. Names that cannot be
/// quoted are left out.
pub fn each_channel<'a>(
    verb: &str,
    channels: impl IntoIterator<Item = &'a Channel>,
    encoding: Encoding,
) -> Vec<u8> {
    let mut sql = Vec::new();
    for channel in channels {
        let before = sql.len();
        sql.extend_from_slice(verb.as_bytes());
        sql.push(b' ');
        match quote_ident(channel, encoding, &mut sql) {
            Ok(()) => sql.push(b';'),
            Err(_) => sql.truncate(before),
        }
    }
    sql
}

fn text_of(statement: &Statement) -> Option<&[u8]> {
    Some(names::split_nul(&statement.definition)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Dialect;

    /// What is heard after texts of which the server has run these statements, and
    /// then said E for an error, and its status.
    fn heard(texts: &[(&str, &str)]) -> String {
        let mut channels = Channels::default();
        for (text, answer) in texts {
            let mut script = listen::steps(text.as_bytes(), Dialect::default()).unwrap();
            for part in answer.split(", ") {
                match part {
                    "E" => channels.fail(),
                    "Zi" | "Zt" | "Ze" => {
                        let status = part.as_bytes()[1].to_ascii_uppercase();
                        channels.ready(TxStatus::from_byte(status).unwrap());
                    }
                    tag => {
                        let tag = tag.as_bytes();
                        let act = script.pop_front_if(|act| act.ends_with(tag));
                        channels.follow(tag, act);
                    }
                }
            }
        }
        let heard: Vec<_> = channels.heard.iter().map(|c| c.to_vec()).collect();
        String::from_utf8(heard.join(&b' ')).unwrap()
    }

    #[test]
    fn a_commit_makes_it_so() {
        assert_eq!(heard(&[("listen a", "LISTEN, Zi")]), "a");
        assert_eq!(heard(&[("listen a; select 1/0", "LISTEN, E, Zi")]), "");
        let begun = ("begin; listen b; unlisten c", "BEGIN, LISTEN, UNLISTEN, Zt");
        let before = ("listen a; listen c", "LISTEN, LISTEN, Zi");
        assert_eq!(heard(&[before, begun]), "a c");
        assert_eq!(heard(&[before, begun, ("end", "COMMIT, Zi")]), "a b");
        assert_eq!(heard(&[before, begun, ("end", "ROLLBACK, Zi")]), "a c");
        assert_eq!(heard(&[before, begun, ("abort", "ROLLBACK, Zi")]), "a c");
        // A deferred constraint.
        assert_eq!(heard(&[before, begun, ("commit", "E, Zi")]), "a c");
        let gone = (
            "begin; listen b; unlisten *; listen d; commit; listen e; selekt",
            "BEGIN, LISTEN, UNLISTEN, LISTEN, COMMIT, LISTEN, E, Zi",
        );
        assert_eq!(heard(&[before, gone]), "d");
        assert_eq!(heard(&[before, ("discard all", "DISCARD ALL, Zi")]), "");
        assert_eq!(heard(&[before, ("discard all", "DISCARD ALL, E, Zi")]), "");
    }

    #[test]
    fn savepoints_take_back_what_came_after_them() {
        let begun = (
            "begin; listen a; savepoint s; listen b",
            "BEGIN, LISTEN, SAVEPOINT, LISTEN, Zt",
        );
        let commit = ("commit", "COMMIT, Zi");
        let failed = ("selekt", "E, Ze");
        let back = ("rollback to s", "ROLLBACK, Zt");
        assert_eq!(heard(&[begun, commit]), "a b");
        assert_eq!(heard(&[begun, failed, ("commit", "ROLLBACK, Zi")]), "");
        assert_eq!(heard(&[begun, failed, back, commit]), "a");
        assert_eq!(
            heard(&[begun, back, ("listen c", "LISTEN, Zt"), back, commit]),
            "a"
        );
        // The savepoint was there before anything that matters.
        let older = ("rollback to older", "ROLLBACK, Zt");
        assert_eq!(heard(&[begun, older, commit]), "");
        let released = ("release s", "RELEASE, Zt");
        assert_eq!(heard(&[begun, released, commit]), "a b");
        let inner = (
            "savepoint s; listen c; savepoint t; listen d",
            "SAVEPOINT, LISTEN, SAVEPOINT, LISTEN, Zt",
        );
        assert_eq!(heard(&[begun, inner, back, commit]), "a b");
        assert_eq!(heard(&[begun, inner, released, back, commit]), "a");
    }

    #[test]
    fn names_are_quoted() {
        let channels = [&b"a"[..], b"B \"x\""].map(Channel::from);
        let sql = each_channel("LISTEN", &channels, Encoding::AsciiSafe);
        assert_eq!(sql, b"LISTEN \"a\";LISTEN \"B \"\"x\"\"\";");
        let odd = [Channel::from(&b"\x83\x5c"[..])];
        assert_eq!(each_channel("LISTEN", &odd, Encoding::AsciiTrail), b"");
    }
}
