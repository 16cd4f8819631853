//! What a server still owes: one entry for each message that was sent to it
//! and will be answered, in order.

use std::collections::VecDeque;
use std::rc::Rc;

use super::statements::Statement;

/// A query that pgweir sends on its own account; its answer is swallowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnQuery {
    /// Brings the session's parameters in line with the client's.
    Parameters,
    /// Anything that is run while no client is linked: check, reset, rollback,
    /// `connect_query`.
    Housekeeping,
}

/// How to take back what a Parse or Close changed in a client's names, if the
/// server skips the message because of an earlier error, or refuses it.
#[derive(Debug, Default)]
pub(super) enum Undo {
    #[default]
    Nothing,
    Named(Box<NamedUndo>),
    Unnamed(Option<Rc<Statement>>),
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
    /// BindComplete.
    Bind { alias: Alias },
    /// NoData, or RowDescription; before it ParameterDescription.
    Describe { alias: Alias },
    /// CloseComplete. `evicted`: the statement that is gone with it.
    Close {
        own: bool,
        evicted: Option<Rc<Statement>>,
    },
    /// Rows or COPY, and CommandComplete, EmptyQueryResponse or
    /// PortalSuspended.
    Execute,
    /// ReadyForQuery, after whatever the text gives.
    Query,
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
    fn changes_names(&self) -> bool {
        matches!(
            self,
            Reply::Parse {
                undo: Undo::Named(_),
                ..
            } | Reply::Local {
                undo: Undo::Named(_),
                ..
            }
        )
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Replies {
    queue: VecDeque<Reply>,
    /// How many of them would have to be undone in the client's names.
    naming: usize,
}

impl Replies {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn front(&self) -> Option<&Reply> {
        self.queue.front()
    }

    pub fn front_mut(&mut self) -> Option<&mut Reply> {
        self.queue.front_mut()
    }

    /// Whether an error could still take back a change of the client's names.
    pub fn changes_names(&self) -> bool {
        self.naming > 0
    }

    pub fn push(&mut self, reply: Reply) {
        self.naming += usize::from(reply.changes_names());
        self.queue.push_back(reply);
    }

    pub fn pop(&mut self) -> Option<Reply> {
        let reply = self.queue.pop_front()?;
        self.naming -= usize::from(reply.changes_names());
        Some(reply)
    }

    /// Takes away what a server skips after an error: everything before the
    /// next Sync. Last first, so that names can be put back. The second value
    /// says whether there is a Sync.
    pub fn skip_to_sync(&mut self) -> (Vec<Reply>, bool) {
        let sync = self.queue.iter().position(|r| matches!(r, Reply::Sync));
        let skipped = self.queue.drain(..sync.unwrap_or(self.queue.len()));
        let skipped: Vec<Reply> = skipped.rev().collect();
        self.naming -= skipped.iter().filter(|reply| reply.changes_names()).count();
        (skipped, sync.is_some())
    }

    /// The server has entered copy-in mode for the front entry: it ignores
    /// the Syncs that stand before the end of the copy (copyfromparse.c,
    /// `CopyGetData`). They are taken away.
    pub fn enter_copy_in(&mut self) -> CopyInSyncs {
        let end = self.queue.iter().position(|r| matches!(r, Reply::CopyEnd));
        let before = self.queue.len();
        let mut at = 0;
        self.queue.retain(|reply| {
            at += 1;
            end.is_some_and(|end| at > end) || !matches!(reply, Reply::Sync)
        });
        CopyInSyncs {
            ignored: self.queue.len() < before,
            end_sent: end.is_some(),
            sync_follows: self.queue.iter().any(|r| matches!(r, Reply::Sync)),
        }
    }
}

/// What is known of the Syncs around a COPY that begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopyInSyncs {
    /// There were Syncs that the server ignores.
    pub ignored: bool,
    /// CopyDone or CopyFail is already on its way.
    pub end_sent: bool,
    /// So is the Sync after it.
    pub sync_follows: bool,
}
