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
    latest: Latest,
}

/// The last entry of each kind, because every message of a pipeline asks and the queue
/// may be long. Entries have numbers, from 1 as they come; 0: there was none.
#[derive(Debug, Default)]
struct Latest {
    entry: u64,
    /// A simple query or a function call.
    simple: u64,
    /// The client's.
    sync: u64,
    /// Changes what a name means.
    name: u64,
    /// The same, with a Sync behind it.
    name_before_sync: u64,
    /// Changes what the unnamed statement is.
    unnamed: u64,
}

impl Latest {
    fn note(&mut self, reply: &Reply) {
        self.entry += 1;
        if reply.is_simple() {
            self.simple = self.entry;
        }
        if reply.is_sync() {
            self.name_before_sync = self.name;
        }
        if matches!(reply, Reply::Sync) {
            self.sync = self.entry;
        }
        if reply.changes_a_name() {
            self.name = self.entry;
        }
        if reply.changes_the_unnamed() {
            self.unnamed = self.entry;
        }
    }
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
        self.latest.note(&reply);
        self.queue.push_back(reply);
    }

    pub fn pop(&mut self) -> Option<Reply> {
        self.queue.pop_front()
    }

    /// Whether the entry with this number is still there. They go in order.
    fn owe(&self, entry: u64) -> bool {
        entry + self.queue.len() as u64 > self.latest.entry
    }

    /// Takes away what a server skips after an error: everything before the
    /// next Sync. Last first, so that names can be put back. The second value
    /// says whether there is a Sync.
    pub fn skip_to_sync(&mut self) -> (Vec<Reply>, bool) {
        let sync = self.queue.iter().position(Reply::is_sync);
        let skipped = self.queue.drain(..sync.unwrap_or(self.queue.len()));
        (skipped.rev().collect(), sync.is_some())
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
        self.owe(self.latest.name_before_sync)
    }

    /// The same for the unnamed statement, as long as nothing since then has
    /// replaced it.
    pub fn unnamed_in_doubt(&self) -> bool {
        self.owe(self.latest.unnamed) && self.latest.sync > self.latest.unnamed
    }

    /// Whether a transaction may fail before a message that is sent now, and
    /// that message not be skipped.
    pub fn may_fail(&self) -> bool {
        self.owe_simple_query() || self.owe(self.latest.sync)
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
        self.owe(self.latest.simple)
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
        if self.queue.len() < before {
            self.latest = Latest::default();
            self.queue.iter().for_each(|reply| self.latest.note(reply));
        }
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
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What a look at the whole queue says.
    fn walked(replies: &Replies) -> [bool; 4] {
        let queue: Vec<_> = replies.queue.iter().collect();
        let is_client_sync = |r: &&Reply| matches!(r, Reply::Sync);
        let name = queue.iter().position(|r| r.changes_a_name());
        let unnamed = queue.iter().rposition(|r| r.changes_the_unnamed());
        let simple = queue.iter().any(|r| r.is_simple());
        [
            name.is_some_and(|at| queue[at..].iter().any(|r| r.is_sync())),
            unnamed.is_some_and(|at| queue[at..].iter().any(is_client_sync)),
            simple || queue.iter().any(is_client_sync),
            simple,
        ]
    }

    fn reply(kind: u32) -> Reply {
        let undo = |undo| Reply::Local { bytes: &[], undo };
        let parse = |id| Reply::Parse {
            own: false,
            id,
            undo: Undo::Nothing,
            alias: None,
        };
        let own = |query| Reply::Own {
            query,
            answered: true,
            error: None,
        };
        match kind {
            0 => parse(0),
            1 => parse(1),
            2 => Reply::Bind { id: 1, alias: None },
            3 => Reply::Execute { script: None },
            4 => Reply::Close {
                own: true,
                evicted: None,
            },
            5 => Reply::Query {
                unnamed: None,
                script: None,
            },
            6 => Reply::FunctionCall,
            7 => own(OwnQuery::Guard),
            8 => own(OwnQuery::Housekeeping),
            9 => Reply::CopyEnd,
            10 => undo(Undo::Unnamed(None)),
            11 => undo(Undo::Named(Box::new(NamedUndo {
                name: Box::default(),
                before: None,
            }))),
            12 => undo(Undo::Nothing),
            _ => Reply::Sync,
        }
    }

    proptest! {
        #[test]
        fn the_last_entries_say_what_the_whole_queue_does(
            steps in vec((0..4_u32, 0..16_u32), 0..60),
        ) {
            let mut replies = Replies::default();
            for (step, kind) in steps {
                match (step, kind) {
                    (0, 0) => _ = replies.skip_to_sync(),
                    (0, 1) => _ = replies.enter_copy_in(),
                    (0, _) => _ = replies.pop(),
                    _ => replies.push(reply(kind)),
                }
                let told = [
                    replies.names_in_doubt(),
                    replies.unnamed_in_doubt(),
                    replies.may_fail(),
                    replies.owe_simple_query(),
                ];
                prop_assert_eq!(told, walked(&replies), "{:?}", replies.queue);
            }
        }
    }
}
