//! What is said about a statement, and why.

use std::fmt::{self, Display};

/// What a text does, as far as it can be proved from the text and a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No statement.
    Empty,
    /// Reads what every server of the database has; it changes nothing, also
    /// not in the session. Several statements may be one read.
    Read,
    /// `SHOW`: reads a setting of the session or of the server it runs on.
    Show,
    /// Begins, ends or shapes a transaction.
    Transaction(Transaction),
    /// Changes the session or depends on what is in it: `SET`, `LISTEN`,
    /// `PREPARE`, cursors, advisory locks.
    Session,
    /// The text itself says that it writes or locks.
    Write,
    /// Nothing is proved. It may write, and it may be anything above.
    Unknown,
}

/// Transaction control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// `BEGIN`, `START TRANSACTION`
    Begin(Modes),
    /// `SET TRANSACTION`, but for `SET TRANSACTION SNAPSHOT`.
    Set(Modes),
    /// `COMMIT`, `END`
    Commit {
        /// `AND CHAIN`
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`
    Rollback {
        /// `AND CHAIN`
        chain: bool,
    },
    /// `SAVEPOINT`
    Savepoint,
    /// `RELEASE`
    Release,
    /// `ROLLBACK TO`
    RollbackTo,
    /// `PREPARE TRANSACTION`, `COMMIT PREPARED`, `ROLLBACK PREPARED`
    TwoPhase,
}

/// Transaction modes; of each the last one in the text counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// `READ ONLY` or `READ WRITE`
    pub read_only: Option<bool>,
    /// `ISOLATION LEVEL`
    pub isolation: Option<Isolation>,
    /// `DEFERRABLE` or `NOT DEFERRABLE`
    pub deferrable: Option<bool>,
}

/// A transaction's isolation level. A server in recovery refuses
/// `Serializable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

/// A kind and the reason for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// What the text does.
    pub kind: Kind,
    /// Why that is so.
    pub reason: Reason<'a>,
}

/// Why a text is of its kind. Names are as they stand in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// No statement.
    Empty,
    /// Nothing in a query that could write.
    Query,
    /// The command, in the text's own spelling, says it all.
    Command(&'a [u8]),
    /// `EXPLAIN` without `ANALYZE` plans and runs nothing.
    Planned,
    /// `FOR UPDATE` and the like.
    Locking,
    /// `SELECT INTO`
    Into,
    /// `INSERT`, `UPDATE`, `DELETE` or `MERGE` in or after a `WITH`.
    DataChanging(&'a [u8]),
    /// `COPY FROM`, and `COPY TO` a file or program.
    CopyTarget,
    /// Several statements, of which not each is a read.
    Several,
    /// A function that may not be called.
    Function(&'a [u8], Fault),
    /// An operator that may not be used.
    Operator(&'a [u8], Fault),
    /// A type that may not be named.
    Type(&'a [u8], Fault),
    /// A relation that may not be read.
    Relation(&'a [u8], Fault),
    /// The database has a volatile cast or comparison that no text shows.
    Implicit,
    /// A name whose folding only the server knows.
    Name(&'a [u8]),
    /// The token does not belong here, as far as known.
    Unexpected(&'a [u8]),
    /// The text ends too early, or has a token without an end, or bytes that
    /// only the server can read.
    Unreadable,
    /// Deeper, or with more names, than is looked at.
    TooComplex,
}

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The catalog does not know it.
    Unknown,
    /// It is volatile, or reaches what is, so it may write.
    Volatile,
    /// It belongs to the session.
    Session,
    /// It is another thing on each server.
    Local,
}

impl Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.reason)
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Empty => "empty",
            Kind::Read => "read",
            Kind::Show => "show",
            Kind::Transaction(_) => "transaction control",
            Kind::Session => "session",
            Kind::Write => "write",
            Kind::Unknown => "unknown",
        })
    }
}

impl Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        match *self {
            Reason::Empty => f.write_str("no statement"),
            Reason::Query => f.write_str("a query in which nothing writes"),
            Reason::Command(name) => f.write_str(&text(name).to_ascii_uppercase()),
            Reason::Planned => f.write_str("EXPLAIN without ANALYZE runs nothing"),
            Reason::Locking => f.write_str("locking clause"),
            Reason::Into => f.write_str("SELECT INTO"),
            Reason::DataChanging(name) => {
                write!(f, "data-changing WITH: {}", text(name).to_ascii_uppercase())
            }
            Reason::CopyTarget => f.write_str("COPY that is not TO STDOUT"),
            Reason::Several => f.write_str("several statements, not each a read"),
            Reason::Function(name, fault) => write!(f, "function {} {fault}", text(name)),
            Reason::Operator(name, fault) => write!(f, "operator {} {fault}", text(name)),
            Reason::Type(name, fault) => write!(f, "type {} {fault}", text(name)),
            Reason::Relation(name, fault) => write!(f, "relation {} {fault}", text(name)),
            Reason::Implicit => {
                f.write_str("the database has a volatile cast or comparison of built-in types")
            }
            Reason::Name(name) => write!(f, "the name {} is not plain ASCII", text(name)),
            Reason::Unexpected(token) => write!(f, "not understood at {}", text(token)),
            Reason::Unreadable => f.write_str("the text cannot be read to its end"),
            Reason::TooComplex => f.write_str("too complex"),
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Unknown => "is not known",
            Fault::Volatile => "may write",
            Fault::Session => "belongs to the session",
            Fault::Local => "is not the same on every server",
        })
    }
}
