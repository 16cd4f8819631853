//! What Prometheus gets. Every family stands once, in [`FAMILIES`]: name,
//! help, labels and where its values come from; `docs/metrics.md` is tested
//! against it.
//!
//! Labels are database, user and a fixed set of states: as many series as
//! pools, never as many as clients.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::{CounterVec, GaugeVec, Opts, Registry, TextEncoder};

use crate::admin::snapshot::{ClientState, HostRow, PoolRow, ServerState, Snapshot, SocketRow};
use crate::sql::effects::Features;

/// Whether a value may fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// One metric with all its series.
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    samples: fn(&Snapshot, &mut Put<'_>),
}

/// Takes label values, in the order of the labels, and a value.
type Put<'a> = dyn FnMut(&[&str], f64) + 'a;

const POOL: &[&str] = &["database", "user"];
const POOL_STATE: &[&str] = &["database", "user", "state"];

const HOST: &[&str] = &["database", "host"];

const MICROSECONDS: f64 = 1e-6;

/// A counter of each pool.
macro_rules! pool_counter {
    ($name:literal, $field:ident, $help:literal) => {
        pool_counter!($name, $field * 1.0, $help)
    };
    ($name:literal, $field:ident * $scale:expr, $help:literal) => {
        Family {
            name: $name,
            kind: Kind::Counter,
            labels: POOL,
            help: $help,
            samples: |snapshot, put| {
                for pool in &snapshot.pools {
                    put(&pool_labels(pool), pool.totals.$field as f64 * $scale);
                }
            },
        }
    };
}

/// What SHOW HOSTS has of each host.
macro_rules! of_host {
    ($name:literal, $kind:ident, |$host:ident| $value:expr, $help:literal) => {
        Family {
            name: $name,
            kind: Kind::$kind,
            labels: HOST,
            help: $help,
            samples: |snapshot, put| {
                for $host in &snapshot.hosts {
                    put(&[&$host.database, &host_and_port($host)], $value);
                }
            },
        }
    };
}

/// Every family there is.
pub static FAMILIES: [Family; 48] = [
    Family {
        name: "pgweir_build_info",
        kind: Kind::Gauge,
        labels: &["version"],
        help: "Always 1; the label is the version that runs.",
        samples: |_, put| put(&[env!("CARGO_PKG_VERSION")], 1.0),
    },
    Family {
        name: "pgweir_clients",
        kind: Kind::Gauge,
        labels: &["state"],
        help: "Client connections, those of the console included: login, idle, active (linked to \
               a server connection) or waiting (for one).",
        samples: clients,
    },
    Family {
        name: "pgweir_pool_clients",
        kind: Kind::Gauge,
        labels: POOL_STATE,
        help: "Clients of a pool by state as in SHOW POOLS: active (idle ones included), waiting, \
               active_cancel_req, waiting_cancel_req.",
        samples: pool_clients,
    },
    Family {
        name: "pgweir_listening_clients",
        kind: Kind::Gauge,
        labels: POOL,
        help: "Clients of a pool that listen to channels over the connection that does so for all.",
        samples: listening_clients,
    },
    Family {
        name: "pgweir_listening_servers",
        kind: Kind::Gauge,
        labels: &["database"],
        help: "Server connections that listen to channels for the clients of a database.",
        samples: listening_servers,
    },
    Family {
        name: "pgweir_pool_servers",
        kind: Kind::Gauge,
        labels: POOL_STATE,
        help: "Server connections of a pool by state as in SHOW POOLS: active, active_cancel, \
               being_canceled, idle, used, tested, login.",
        samples: pool_servers,
    },
    Family {
        name: "pgweir_pool_size",
        kind: Kind::Gauge,
        labels: POOL,
        help: "The pool's pool_size; 0 is no limit.",
        samples: |snapshot, put| {
            for pool in &snapshot.pools {
                put(&pool_labels(pool), pool.pool_size.into());
            }
        },
    },
    Family {
        name: "pgweir_pool_max_wait_seconds",
        kind: Kind::Gauge,
        labels: POOL,
        help: "How long the first client in the pool's queue has waited so far; 0 with nobody in it.",
        samples: |snapshot, put| {
            for pool in &snapshot.pools {
                put(&pool_labels(pool), pool.maxwait.as_secs_f64());
            }
        },
    },
    pool_counter!(
        "pgweir_server_assignments_total",
        server_assignment_count,
        "Server connections given to clients."
    ),
    pool_counter!(
        "pgweir_transactions_total",
        xact_count,
        "Transactions that ended."
    ),
    pool_counter!("pgweir_queries_total", query_count, "Queries that ended."),
    pool_counter!(
        "pgweir_client_received_bytes_total",
        bytes_received,
        "Bytes received from clients."
    ),
    pool_counter!(
        "pgweir_client_sent_bytes_total",
        bytes_sent,
        "Bytes sent to clients."
    ),
    pool_counter!(
        "pgweir_transaction_seconds_total",
        xact_time * MICROSECONDS,
        "Time in which clients held a transaction."
    ),
    pool_counter!(
        "pgweir_query_seconds_total",
        query_time * MICROSECONDS,
        "Time in which servers worked on queries."
    ),
    pool_counter!(
        "pgweir_client_wait_seconds_total",
        wait_time * MICROSECONDS,
        "Time in which clients waited for a server connection."
    ),
    pool_counter!(
        "pgweir_client_parses_total",
        client_parse_count,
        "Named statements that clients prepared."
    ),
    pool_counter!(
        "pgweir_server_parses_total",
        server_parse_count,
        "Named statements prepared on servers."
    ),
    pool_counter!(
        "pgweir_binds_total",
        bind_count,
        "Bind messages to named statements."
    ),
    pool_counter!(
        "pgweir_client_logins_total",
        client_login_count,
        "Logins that succeeded."
    ),
    pool_counter!(
        "pgweir_server_connects_total",
        server_connect_count,
        "Server connections opened."
    ),
    pool_counter!(
        "pgweir_server_connect_failures_total",
        server_connect_failed_count,
        "Server connections that could not be opened."
    ),
    pool_counter!(
        "pgweir_server_closes_total",
        server_close_count,
        "Server connections closed, for whatever reason."
    ),
    pool_counter!(
        "pgweir_server_handovers_total",
        server_handover_count,
        "Server connections handed over to another worker."
    ),
    pool_counter!(
        "pgweir_notifications_total",
        notification_count,
        "Notifications that clients were sent which listen in transaction or statement mode."
    ),
    pool_counter!(
        "pgweir_replica_reads_total",
        replica_read_count,
        "Reads that were sent to a replica (route_reads)."
    ),
    Family {
        name: "pgweir_primary_reads_total",
        kind: Kind::Counter,
        labels: &["database", "user", "reason"],
        help: "Statements that went to the primary although reads are routed: because no replica \
               was in use (no_replica), each was too far behind (lag) or had not replayed what the \
               read must see (consistency); or because of the setting reads (policy), of a hint \
               (hint), or because it is not proved that they only read (not_proved).",
        samples: primary_reads,
    },
    pool_counter!(
        "pgweir_unserved_reads_total",
        unserved_read_count,
        "Reads that failed because no replica could have them (reads_without_replica)."
    ),
    pool_counter!(
        "pgweir_refused_reads_total",
        refused_read_count,
        "Reads that a replica refused (25006, recovery conflict, ...), repeated on the primary."
    ),
    pool_counter!(
        "pgweir_lost_reads_total",
        lost_read_count,
        "Reads whose replica was lost before it answered, repeated on another server."
    ),
    pool_counter!(
        "pgweir_stale_statements_total",
        stale_statement_count,
        "Requests that were repeated because the server had to parse a prepared statement anew, \
         after a change of the schema."
    ),
    pool_counter!(
        "pgweir_hint_mistakes_total",
        hint_mistake_count,
        "Statements with a hint that was not understood; it had no effect."
    ),
    pool_counter!(
        "pgweir_parameter_syncs_total",
        parameter_sync_count,
        "Times that a client's parameters were set on a server connection ahead of its request."
    ),
    pool_counter!(
        "pgweir_state_questions_total",
        state_question_count,
        "Questions to a server what a transaction has left in its session; each is a query of its own."
    ),
    pool_counter!(
        "pgweir_query_wait_timeouts_total",
        query_wait_timeout_count,
        "Clients dropped or refused because of query_wait_timeout."
    ),
    pool_counter!(
        "pgweir_server_cleanups_total",
        cleanup_count,
        "Server connections cleaned after their client vanished."
    ),
    pool_counter!(
        "pgweir_server_cleanup_failures_total",
        cleanup_failed_count,
        "Server connections closed because they could not be cleaned."
    ),
    pool_counter!(
        "pgweir_cancel_requests_total",
        cancel_count,
        "Cancel requests forwarded to a server."
    ),
    pool_counter!(
        "pgweir_server_errors_total",
        server_error_count,
        "Errors that servers reported to clients."
    ),
    Family {
        name: "pgweir_host_state",
        kind: Kind::Gauge,
        labels: &["database", "host", "role", "state"],
        help: "1 for the role and the state that a host has, as in SHOW HOSTS.",
        samples: |snapshot, put| {
            for host in &snapshot.hosts {
                let (role, state) = (host.role.word(), host.state.word());
                put(&[&host.database, &host_and_port(host), role, state], 1.0);
            }
        },
    },
    Family {
        name: "pgweir_pins_total",
        kind: Kind::Counter,
        labels: &["database", "user", "reason"],
        help: "Times that a client began to keep its server connection for what it has left there, by pin_reason.",
        samples: pins,
    },
    of_host!(
        "pgweir_host_lag_bytes",
        Gauge,
        |host| host.lag as f64,
        "Bytes of WAL that a replica had not replayed when it was last checked."
    ),
    of_host!(
        "pgweir_host_lag_seconds",
        Gauge,
        |host| host.delay.as_secs_f64(),
        "For how long the primary had been further ahead when a replica was last checked."
    ),
    of_host!(
        "pgweir_host_outstanding",
        Gauge,
        |host| host.outstanding as f64,
        "Clients that have a connection to a host or wait for one."
    ),
    of_host!(
        "pgweir_host_reads_total",
        Counter,
        |host| host.reads as f64,
        "Reads that a host got, as a replica or in place of one."
    ),
    of_host!(
        "pgweir_host_failures_total",
        Counter,
        |host| host.failures as f64,
        "Checks of a host that failed, and connections to a replica that could not be opened."
    ),
    of_host!(
        "pgweir_host_ejections_total",
        Counter,
        |host| host.ejections as f64,
        "Times that a replica got no more reads because of a failure (replica_eject_time)."
    ),
    of_host!(
        "pgweir_host_role_changes_total",
        Counter,
        |host| host.role_changes as f64,
        "Times that the role of a host changed, or whether it is in use."
    ),
];

/// A snapshot in Prometheus' text format.
pub fn render(snapshot: &Snapshot) -> prometheus::Result<String> {
    let registry = Registry::new();
    for family in &FAMILIES {
        let opts = Opts::new(family.name, family.help);
        match family.kind {
            Kind::Counter => {
                let counter = CounterVec::new(opts, family.labels)?;
                fill(snapshot, family, |labels, value| {
                    counter.get_metric_with_label_values(labels)?.inc_by(value);
                    Ok(())
                })?;
                register(&registry, counter)?;
            }
            Kind::Gauge => {
                let gauge = GaugeVec::new(opts, family.labels)?;
                fill(snapshot, family, |labels, value| {
                    gauge.get_metric_with_label_values(labels)?.set(value);
                    Ok(())
                })?;
                register(&registry, gauge)?;
            }
        }
    }
    TextEncoder::new().encode_to_string(&registry.gather())
}

fn fill(
    snapshot: &Snapshot,
    family: &Family,
    put: impl Fn(&[&str], f64) -> prometheus::Result<()>,
) -> prometheus::Result<()> {
    let mut result = Ok(());
    (family.samples)(snapshot, &mut |labels, value| {
        if result.is_ok() {
            result = put(labels, value);
        }
    });
    result
}

fn register(registry: &Registry, metric: impl Collector + 'static) -> prometheus::Result<()> {
    registry.register(Box::new(metric))
}

fn pool_labels(pool: &PoolRow) -> [&str; 2] {
    [&pool.database, &pool.user]
}

fn host_and_port(host: &HostRow) -> String {
    format!("{}:{}", host.host, host.port)
}

fn primary_reads(snapshot: &Snapshot, put: &mut Put<'_>) {
    for pool in &snapshot.pools {
        let totals = &pool.totals;
        for (reason, count) in [
            ("no_replica", totals.primary_read_out_count),
            ("lag", totals.primary_read_lag_count),
            ("consistency", totals.primary_read_consistency_count),
            ("policy", totals.primary_read_policy_count),
            ("hint", totals.primary_read_hint_count),
            ("not_proved", totals.primary_read_unproved_count),
        ] {
            put(&[&pool.database, &pool.user, reason], count as f64);
        }
    }
}

fn pins(snapshot: &Snapshot, put: &mut Put<'_>) {
    for pool in &snapshot.pools {
        let totals = &pool.totals;
        for (feature, count) in [
            (Features::TEMPORARY, totals.pin_temporary_count),
            (Features::CURSOR, totals.pin_cursor_count),
            (Features::ADVISORY_LOCK, totals.pin_advisory_lock_count),
            (Features::PREPARE, totals.pin_prepare_count),
            (Features::LISTEN, totals.pin_listen_count),
            (Features::AUTHORIZATION, totals.pin_authorization_count),
            (Features::SEQUENCE, totals.pin_sequence_count),
            (Features::SEED, totals.pin_seed_count),
            (Features::BACKEND_PID, totals.pin_backend_pid_count),
            (Features::SETTING, totals.pin_setting_count),
            (Features::LIBRARY, totals.pin_library_count),
        ] {
            put(&[&pool.database, &pool.user, feature.label()], count as f64);
        }
    }
}

fn clients(snapshot: &Snapshot, put: &mut Put<'_>) {
    let count = |state| {
        let clients = snapshot.clients.iter();
        clients.filter(|client| client.state == state).count() as f64
    };
    put(&["login"], snapshot.login_clients as f64);
    put(&["idle"], count(ClientState::Idle));
    put(&["active"], count(ClientState::Active));
    put(&["waiting"], count(ClientState::Waiting));
}

fn pool_clients(snapshot: &Snapshot, put: &mut Put<'_>) {
    for pool in &snapshot.pools {
        for (state, count) in [
            ("active", pool.cl_active),
            ("waiting", pool.cl_waiting),
            ("active_cancel_req", pool.cl_active_cancel_req),
            ("waiting_cancel_req", pool.cl_waiting_cancel_req),
        ] {
            put(&[&pool.database, &pool.user, state], count as f64);
        }
    }
}

/// Only where there are any.
fn listening_clients(snapshot: &Snapshot, put: &mut Put<'_>) {
    let mut counts = BTreeMap::new();
    for row in snapshot.clients.iter().filter(|row| row.channels > 0) {
        *counts.entry([&*row.database, &*row.user]).or_insert(0.0) += 1.0;
    }
    for (labels, count) in counts {
        put(&labels, count);
    }
}

fn listening_servers(snapshot: &Snapshot, put: &mut Put<'_>) {
    let mut counts = BTreeMap::new();
    let listening = |row: &&SocketRow<_>| row.state == ServerState::Listening;
    for row in snapshot.servers.iter().filter(listening) {
        *counts.entry(&*row.database).or_insert(0.0) += 1.0;
    }
    for (database, count) in counts {
        put(&[database], count);
    }
}

fn pool_servers(snapshot: &Snapshot, put: &mut Put<'_>) {
    for pool in &snapshot.pools {
        for (state, count) in [
            ("active", pool.sv_active),
            ("active_cancel", pool.sv_active_cancel),
            ("being_canceled", pool.sv_being_canceled),
            ("idle", pool.sv_idle),
            ("used", pool.sv_used),
            ("tested", pool.sv_tested),
            ("login", pool.sv_login),
        ] {
            put(&[&pool.database, &pool.user, state], count as f64);
        }
    }
}

#[cfg(test)]
mod tests;
