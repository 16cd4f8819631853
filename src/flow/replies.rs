//! What a server still owes: one entry for each message that was sent to it
//! and will be answered, in order.

use std::collections::VecDeque;
use std::rc::Rc;

use super::session::{Role, Script};
use super::statements::Statement;

/// A query that pgweir sends on its own account; its answer is swallowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnQuery {
    /// Brings the session's parameters in line with the client's.
    Parameters,
    /// Anything that is run while no client is linked: check, reset, rollback,
    /// `connect_query`.
    Housekeeping,
    /// Its answer is kept, see [`Finding`](super::Finding).
    LookUp,
    /// What the client has left in the session.
    Stock,
    /// Gives settings that the client has reset the values that it began with.
    Restore,
    /// A Sync behind extended messages of our own, so that an error among them is
    /// nobody's. It counts as answered from the beginning.
    Guard,
}

/// How to take back what a message changed for its client, names above all, if
/// the server skips it because of an earlier error, or refuses it.
#[derive(Debug, Default)]
pub(super) enum Undo {
    #[default]
    Nothing,
    Named(Box<NamedUndo>),
    Unnamed(Option<Rc<Statement>>),
    Role(Role),
}

#[derive(Debug)]
pub(super) struct NamedUndo {
    pub name: Box<[u8]>,
    pub before: Option<Rc<Statement>>,
}

/// A name that the client used and that must stand in the server's error text
/// instead of the name on the server.
pub(super) type Alias = Option<Box<[u8]>>;

#[derive(Debug)]
pub(super) enum Reply {
    /// ParseComplete. `id` is the statement that the server then has, 0 for
    /// the unnamed one; `own`: not asked for by the client, swallowed.
    Parse {
        own: bool,
        id: u64,
        undo: Undo,
        alias: Alias,
    },
    /// BindComplete. `id` as above.
    Bind { id: u64, alias: Alias },
    /// NoData, or RowDescription; before it ParameterDescription. `id`: 0 also if
    /// it is not known whose portal it is.
    Describe { own: bool, id: u64, alias: Alias },
    /// CloseComplete. `evicted`: the statement that is gone with it.
    Close {
        own: bool,
        evicted: Option<Rc<Statement>>,
    },
    /// Rows or COPY, and CommandComplete, EmptyQueryResponse or
    /// PortalSuspended.
    Execute { script: Option<Script> },
    /// An error; the client gets this one in its place.
    Refused { error: Vec<u8> },
    /// ReadyForQuery, after whatever the text gives. It drops the unnamed
    /// statement, which was this.
    Query {
        unnamed: Option<Rc<Statement>>,
        script: Option<Script>,
    },
    /// FunctionCallResponse and ReadyForQuery.
    FunctionCall,
    /// ReadyForQuery.
    Sync,
    /// CopyDone or CopyFail: no answer of its own, but a Sync before it is
    /// ignored by a server in copy-in mode.
    CopyEnd,
    /// A reply that pgweir gives itself when its turn comes.
    Local { bytes: &'static [u8], undo: Undo },
    /// A query of our own, swallowed until its ReadyForQuery. `answered`: its
    /// CommandComplete (or error) has come; a ReadyForQuery before that is a
    /// stray one.
    Own {
        query: OwnQuery,
        answered: bool,
        error: Option<Vec<u8>>,
    },
}

impl Reply {
    /// Whether the client did not ask for it.
    pub fn is_own(&self) -> bool {
        matches!(
            self,
            Reply::Own { .. }
                | Reply::Parse { own: true, .. }
                | Reply::Describe { own: true, .. }
                | Reply::Close { own: true, .. }
        )
    }

    /// Whether the server, once it has met an error, goes on behind it.
    fn is_sync(&self) -> bool {
        matches!(self, Reply::Sync) || self.is_guard()
    }

    fn is_guard(&self) -> bool {
        let guard = OwnQuery::Guard;
        matches!(self, Reply::Own { query, .. } if *query == guard)
    }

    /// Whether it is the reply to what may do anything, and is answered without a Sync.
    fn is_simple(&self) -> bool {
        matches!(self, Reply::Query { .. } | Reply::FunctionCall)
    }

    fn changes_a_name(&self) -> bool {
        match self {
            Reply::Parse { id, .. } => *id != 0,
            Reply::Close { evicted, .. } => evicted.is_some(),
            Reply::Local { undo, .. } => matches!(undo, Undo::Named(_)),
            _ => false,
        }
    }

    fn changes_the_unnamed(&self) -> bool {
        match self {
            Reply::Parse { id, .. } => *id == 0,
            // Ours, not the client's of a portal.
            Reply::Close { own, evicted } => *own && evicted.is_none(),
            Reply::Local { undo, .. } => matches!(undo, Undo::Unnamed(_)),
            Reply::Query { .. } => true,
            _ => false,
        }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Replies {
    queue: VecDeque<Reply>,
    // Counted, because each message of a pipeline asks.
    /// How many entries change what a name means.
    names: usize,
    /// How many are simple queries or function calls.
    simple: usize,
}

impl Replies {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is owed to a client.
    pub fn are_own(&self) -> bool {
        let mut queue = self.queue.iter();
        queue.all(Reply::is_own)
    }

    pub fn front(&self) -> Option<&Reply> {
        self.queue.front()
    }

    pub fn back(&self) -> Option<&Reply> {
        self.queue.back()
    }

    pub fn front_mut(&mut self) -> Option<&mut Reply> {
        self.queue.front_mut()
    }

    pub fn push(&mut self, reply: Reply) {
        self.names += usize::from(reply.changes_a_name());
        self.simple += usize::from(reply.is_simple());
        self.queue.push_back(reply);
    }

    pub fn pop(&mut self) -> Option<Reply> {
        let reply = self.queue.pop_front()?;
        self.names -= usize::from(reply.changes_a_name());
        self.simple -= usize::from(reply.is_simple());
        Some(reply)
    }

    /// Takes away what a server skips after an error: everything before the
    /// next Sync. Last first, so that names can be put back. The second value
    /// says whether there is a Sync.
    pub fn skip_to_sync(&mut self) -> (Vec<Reply>, bool) {
        let sync = self.queue.iter().position(Reply::is_sync);
        let skipped = self.queue.drain(..sync.unwrap_or(self.queue.len()));
        let skipped: Vec<_> = skipped.rev().collect();
        self.names -= skipped.iter().filter(|r| r.changes_a_name()).count();
        self.simple -= skipped.iter().filter(|r| r.is_simple()).count();
        (skipped, sync.is_some())
    }

    /// Whether an error now would be that of a message of our own, which nobody is to
    /// hear of.
    pub fn are_guarded(&self) -> bool {
        self.queue
            .iter()
            .find(|r| r.is_sync())
            .is_some_and(Reply::is_guard)
    }

    /// Whether a name was changed by a message that may yet be skipped while
    /// one that is sent now is not: there is a Sync between them.
    pub fn names_in_doubt(&self) -> bool {
        self.names > 0 && self.before_last_sync(Reply::changes_a_name)
    }

    /// The same for the unnamed statement, as long as nothing since then has
    /// replaced it.
    pub fn unnamed_in_doubt(&self) -> bool {
        let mut latest = self.queue.iter().rev();
        let replaced = latest.position(Reply::changes_the_unnamed);
        replaced.is_some_and(|ago| {
            let since = self.queue.iter().rev().take(ago);
            since.into_iter().any(|r| matches!(r, Reply::Sync))
        })
    }

    /// Whether a transaction may fail before a message that is sent now, and
    /// that message not be skipped.
    pub fn may_fail(&self) -> bool {
        let ends = |r: &Reply| matches!(r, Reply::Query { .. } | Reply::FunctionCall | Reply::Sync);
        self.queue.iter().any(ends)
    }

    /// How many ReadyForQuery are to come.
    pub fn readies(&self) -> usize {
        let ends = |r: &&Reply| {
            matches!(
                r,
                Reply::Query { .. } | Reply::FunctionCall | Reply::Sync | Reply::Own { .. }
            )
        };
        self.queue.iter().filter(ends).count()
    }

    /// Whether something is under way that may do anything, and answers without a
    /// Sync.
    pub fn owe_simple_query(&self) -> bool {
        self.simple > 0
    }

    fn before_last_sync(&self, wanted: impl Fn(&Reply) -> bool) -> bool {
        match self.queue.iter().position(wanted) {
            Some(at) => self.queue.iter().skip(at).any(Reply::is_sync),
            None => false,
        }
    }

    /// What the first message that replaces the unnamed statement goes back to
    /// if it fails.
    pub fn unnamed_undo(&mut self) -> Option<&mut Option<Rc<Statement>>> {
        self.queue.iter_mut().find_map(|reply| match reply {
            Reply::Parse {
                undo: Undo::Unnamed(before),
                ..
            }
            | Reply::Local {
                undo: Undo::Unnamed(before),
                ..
            }
            | Reply::Query {
                unnamed: before, ..
            } => Some(before),
            _ => None,
        })
    }

    /// The server has entered copy-in mode for the front entry: it ignores
    /// the Syncs that stand before the end of the copy (copyfromparse.c,
    /// `CopyGetData`). They are taken away. `None`: something else stands
    /// there, which no COPY survives, so that this one must have failed before
    /// it has read anything, or the connection is lost.
    pub fn enter_copy_in(&mut self) -> Option<CopyInSyncs> {
        let of_copy = |r: &Reply| matches!(r, Reply::Sync | Reply::Local { .. });
        let next = self.queue.iter().skip(1).position(|r| !of_copy(r));
        let end_sent = match next.and_then(|at| self.queue.get(at + 1)) {
            Some(Reply::CopyEnd) => true,
            Some(_) => return None,
            None => false,
        };
        let end = next.map_or(self.queue.len(), |at| at + 1);
        let before = self.queue.len();
        let mut at = 0;
        self.queue.retain(|reply| {
            at += 1;
            at > end || !matches!(reply, Reply::Sync)
        });
        Some(CopyInSyncs {
            ignored: before - self.queue.len(),
            end_sent,
            sync_follows: self.queue.iter().any(|r| matches!(r, Reply::Sync)),
        })
    }
}

/// What is known of the Syncs around a COPY that begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopyInSyncs {
    /// So many Syncs are ignored by the server.
    pub ignored: usize,
    /// CopyDone or CopyFail is already on its way.
    pub end_sent: bool,
    /// So is the Sync after it.
    pub sync_follows: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_queries_are_owed_until_they_are_answered_or_skipped() {
        let mut replies = Replies::default();
        replies.push(Reply::Sync);
        assert!(!replies.owe_simple_query());
        replies.push(Reply::FunctionCall);
        replies.push(Reply::FunctionCall);
        replies.push(Reply::Sync);
        assert!(replies.owe_simple_query());
        replies.pop();
        replies.pop();
        assert!(replies.owe_simple_query());
        replies.skip_to_sync();
        assert!(!replies.owe_simple_query());
        replies.pop();
        assert!(replies.is_empty());
    }
}
