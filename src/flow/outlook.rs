//! Whether a request can still be repeated: on another server if it only reads,
//! or on the same one.

use super::error_fields::{self, Severity};

/// What has come of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outlook {
    /// An answer that counts, or nobody wants to repeat it: what comes is for
    /// the client.
    #[default]
    Served,
    /// Nothing yet but what a repetition says again: that a statement was
    /// parsed, what columns it has, a notice.
    Open,
    /// The same, but it may only be repeated on this server, and only if a
    /// statement was stale.
    Here,
    /// In place of an answer an error which another server may not have.
    Failed(Setback),
}

/// Why a server did not answer a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// A standby does not do such a thing.
    Unable,
    /// What it read was taken away by what it replayed (manual, "Handling
    /// Query Conflicts").
    Conflict,
    /// It has gone, or is about to.
    Lost,
    /// A prepared statement is no longer what it was when the server parsed it. It
    /// will parse it again if it is asked again.
    Stale,
}

impl Outlook {
    /// Whether the client is to be told nothing yet.
    #[inline]
    pub fn is_open(self) -> bool {
        matches!(self, Outlook::Open | Outlook::Here)
    }

    /// The body of an ErrorResponse has come; `stale`: of a stale statement.
    pub(super) fn after_error(self, body: &[u8], stale: bool) -> Outlook {
        match self {
            Outlook::Open | Outlook::Here if stale => Outlook::Failed(Setback::Stale),
            Outlook::Open => Outlook::of_error(body),
            Outlook::Here => Outlook::Served,
            over => over,
        }
    }

    fn of_error(body: &[u8]) -> Outlook {
        let fatal = error_fields::severity(body) == Severity::Fatal;
        match error_fields::sqlstate(body) {
            // Shutdown, crash, a conflict that ends the session, and whatever else the
            // server leaves by: it was about to answer.
            b"57P01" | b"57P02" | b"57P03" | b"40001" | b"40P01" if fatal => {
                Outlook::Failed(Setback::Lost)
            }
            _ if fatal => Outlook::Served,
            // "cannot execute ... during recovery" (utility.c), and of a
            // transaction that only reads.
            b"25006" => Outlook::Failed(Setback::Unable),
            // "cannot access temporary or unlogged relations during recovery"
            // (plancat.c); "recovery is in progress" (xlogfuncs.c, lock.c).
            b"0A000" | b"55000" => Outlook::Failed(Setback::Unable),
            // "canceling statement due to conflict with recovery" (postgres.c).
            b"40001" | b"40P01" => Outlook::Failed(Setback::Conflict),
            _ => Outlook::Served,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(severity: &str, sqlstate: &str) -> Outlook {
        let body = format!("S{severity}\0V{severity}\0C{sqlstate}\0Mtext\0\0");
        Outlook::of_error(body.as_bytes())
    }

    #[test]
    fn what_only_this_server_says() {
        for (severity, sqlstate, outlook) in [
            ("ERROR", "25006", Outlook::Failed(Setback::Unable)),
            ("ERROR", "0A000", Outlook::Failed(Setback::Unable)),
            ("ERROR", "55000", Outlook::Failed(Setback::Unable)),
            ("ERROR", "40001", Outlook::Failed(Setback::Conflict)),
            ("ERROR", "40P01", Outlook::Failed(Setback::Conflict)),
            ("FATAL", "40001", Outlook::Failed(Setback::Lost)),
            ("FATAL", "57P01", Outlook::Failed(Setback::Lost)),
            ("PANIC", "57P02", Outlook::Failed(Setback::Lost)),
            ("ERROR", "57014", Outlook::Served),
            ("ERROR", "42P01", Outlook::Served),
            ("FATAL", "57P05", Outlook::Served),
        ] {
            assert_eq!(of(severity, sqlstate), outlook, "{severity} {sqlstate}");
        }
        assert_eq!(Outlook::of_error(b""), Outlook::Served);
    }
}
