use std::cell::Cell;
use std::ops::AddAssign;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of one pool on one worker. Plain cells: they never
        /// leave their thread.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Cell<u64>,)*
        }

        /// A snapshot of [`Counters`], summable over pools and workers.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The present values.
            pub fn totals(&self) -> Totals {
                Totals { $($name: self.$name.get(),)* }
            }
        }

        impl AddAssign for Totals {
            fn add_assign(&mut self, other: Totals) {
                $(self.$name += other.$name;)*
            }
        }

        impl Totals {
            /// Every counter by name, in a fixed order.
            pub fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    // The twelve of PgBouncer's SHOW STATS, in its order. Times in microseconds.
    /// Server connections given to clients.
    server_assignment_count,
    /// Transactions that ended.
    xact_count,
    /// Queries that ended (simple: ReadyForQuery; extended: each Sync).
    query_count,
    /// Bytes received from clients.
    bytes_received,
    /// Bytes sent to clients.
    bytes_sent,
    /// Microseconds in which clients held a transaction.
    xact_time,
    /// Microseconds in which servers worked on queries.
    query_time,
    /// Microseconds in which clients waited for a server connection.
    wait_time,
    /// Parse messages of named statements received from clients.
    client_parse_count,
    /// Parse messages sent to servers for named statements.
    server_parse_count,
    /// Bind messages to named statements.
    bind_count,
    /// Logins that succeeded.
    client_login_count,
    // pgweir's own.
    /// Server connections opened.
    server_connect_count,
    /// Server connections that could not be opened.
    server_connect_failed_count,
    /// Server connections closed, for whatever reason.
    server_close_count,
    /// Server connections handed over to another worker.
    server_handover_count,
    /// Parameter replays (SET) sent ahead of a client's request.
    parameter_sync_count,
    /// Questions to servers what a transaction has left in the session.
    state_question_count,
    /// Clients dropped or refused because of `query_wait_timeout`.
    query_wait_timeout_count,
    /// Server connections cleaned after their client vanished.
    cleanup_count,
    /// ... of which could not be cleaned and were closed.
    cleanup_failed_count,
    /// Cancel requests forwarded to a server.
    cancel_count,
    /// Notifications that clients were sent which listen in transaction or
    /// statement mode.
    notification_count,
    /// Reads that were sent to a replica (`route_reads`).
    replica_read_count,
    /// Reads that went to the primary, or failed (`reads_without_replica`),
    /// because no replica could have them.
    primary_read_out_count,
    /// ... because each one was too far behind.
    primary_read_lag_count,
    /// ... because none had replayed what they must see.
    primary_read_consistency_count,
    /// Statements that went to the primary because `reads` says so.
    primary_read_policy_count,
    /// ... because of a hint.
    primary_read_hint_count,
    /// ... because it is not proved that they only read.
    primary_read_unproved_count,
    /// Reads that failed because no replica could have them
    /// (`reads_without_replica`).
    unserved_read_count,
    /// Reads that a replica could not do, and that went to the primary then.
    refused_read_count,
    /// Reads that were repeated elsewhere because their replica was lost.
    lost_read_count,
    /// Requests that were repeated because the server had to parse a prepared
    /// statement anew.
    stale_statement_count,
    /// Statements with a hint that was not understood.
    hint_mistake_count,
    /// Clients that keep their server connection, by what they have left there first:
    /// temporary objects,
    pin_temporary_count,
    /// cursors WITH HOLD,
    pin_cursor_count,
    /// advisory locks,
    pin_advisory_lock_count,
    /// statements of PREPARE,
    pin_prepare_count,
    /// channels,
    pin_listen_count,
    /// who they have become,
    pin_authorization_count,
    /// sequences,
    pin_sequence_count,
    /// a seed,
    pin_seed_count,
    /// the number of the process,
    pin_backend_pid_count,
    /// settings that are not known,
    pin_setting_count,
    /// a library.
    pin_library_count,
    /// ErrorResponse messages that servers sent to clients.
    server_error_count,
}

/// Adds to a cell.
pub fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get().wrapping_add(n));
}
