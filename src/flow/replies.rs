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

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Replies(VecDeque<Reply>);

impl Replies {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn front(&self) -> Option<&Reply> {
        self.0.front()
    }

    pub fn front_mut(&mut self) -> Option<&mut Reply> {
        self.0.front_mut()
    }

    pub fn push(&mut self, reply: Reply) {
        self.0.push_back(reply);
    }

    pub fn pop(&mut self) -> Option<Reply> {
        self.0.pop_front()
    }

    /// Takes away what a server skips after an error: everything before the
    /// next Sync. Last first, so that names can be put back. The second value
    /// says whether there is a Sync.
    pub fn skip_to_sync(&mut self) -> (Vec<Reply>, bool) {
        let sync = self.0.iter().position(|r| matches!(r, Reply::Sync));
        let skipped = self.0.drain(..sync.unwrap_or(self.0.len()));
        (skipped.rev().collect(), sync.is_some())
    }

    /// What the first message that replaces the unnamed statement goes back to
    /// if it fails.
    pub fn unnamed_undo(&mut self) -> Option<&mut Option<Rc<Statement>>> {
        self.0.iter_mut().find_map(|reply| match reply {
            Reply::Parse {
                undo: Undo::Unnamed(before),
                ..
            }
            | Reply::Local {
                undo: Undo::Unnamed(before),
                ..
            } => Some(before),
            _ => None,
        })
    }

    /// The server has entered copy-in mode for the front entry: it ignores
    /// the Syncs that stand before the end of the copy (copyfromparse.c,
    /// `CopyGetData`). They are taken away.
    pub fn enter_copy_in(&mut self) -> CopyInSyncs {
        let end = self.0.iter().position(|r| matches!(r, Reply::CopyEnd));
        let before = self.0.len();
        let mut at = 0;
        self.0.retain(|reply| {
            at += 1;
            end.is_some_and(|end| at > end) || !matches!(reply, Reply::Sync)
        });
        CopyInSyncs {
            ignored: self.0.len() < before,
            end_sent: end.is_some(),
            sync_follows: self.0.iter().any(|r| matches!(r, Reply::Sync)),
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
