use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::*;
use crate::route::State;
use crate::stats::Totals;

fn busy_pool() -> PoolRow {
    PoolRow {
        cl_active: 1,
        cl_waiting: 2,
        sv_active: 5,
        sv_login: 11,
        maxwait: Duration::from_millis(2500),
        totals: distinct(),
        ..PoolRow::idle("app", "alice")
    }
}

/// Every counter another value.
fn distinct() -> Totals {
    Totals {
        server_assignment_count: 101,
        xact_count: 102,
        query_count: 103,
        bytes_received: 104,
        bytes_sent: 105,
        xact_time: 106_000_000,
        query_time: 107_500_000,
        wait_time: 108_000_000,
        client_parse_count: 109,
        server_parse_count: 110,
        bind_count: 111,
        client_login_count: 112,
        server_connect_count: 113,
        server_connect_failed_count: 114,
        server_close_count: 115,
        parameter_sync_count: 116,
        state_question_count: 151,
        query_wait_timeout_count: 117,
        cleanup_count: 118,
        cleanup_failed_count: 119,
        cancel_count: 120,
        server_error_count: 121,
        server_handover_count: 122,
        replica_read_count: 123,
        primary_read_out_count: 124,
        primary_read_lag_count: 134,
        primary_read_consistency_count: 128,
        primary_read_policy_count: 129,
        primary_read_hint_count: 130,
        primary_read_unproved_count: 131,
        unserved_read_count: 132,
        refused_read_count: 125,
        lost_read_count: 126,
        hint_mistake_count: 127,
        pin_temporary_count: 137,
        pin_cursor_count: 138,
        pin_advisory_lock_count: 139,
        pin_prepare_count: 140,
        pin_listen_count: 141,
        pin_authorization_count: 142,
        pin_sequence_count: 143,
        pin_seed_count: 144,
        pin_backend_pid_count: 145,
        pin_setting_count: 146,
        pin_library_count: 147,
        notification_count: 135,
        stale_statement_count: 136,
    }
}

fn listener(id: u64, channels: usize) -> SocketRow<ClientState> {
    SocketRow {
        database: "app".to_owned(),
        user: "alice".to_owned(),
        channels,
        ..SocketRow::new(id, ClientState::Idle, SystemTime::now())
    }
}

fn rendered() -> String {
    let snapshot = Snapshot {
        pools: vec![busy_pool(), PoolRow::idle("we\"b\n", "bob")],
        hosts: vec![HostRow {
            state: State::Lagging,
            lag: 500,
            delay: Duration::from_millis(250),
            outstanding: 4,
            reads: 30,
            failures: 7,
            ejections: 5,
            role_changes: 6,
            ..HostRow::replica("app", "db2", 5433)
        }],
        clients: vec![listener(1, 2), listener(2, 0), listener(3, 1)],
        servers: vec![SocketRow {
            database: "app".to_owned(),
            ..SocketRow::new(4, ServerState::Listening, SystemTime::now())
        }],
        login_clients: 3,
        ..Snapshot::default()
    };
    render(&snapshot).unwrap()
}

#[test]
fn every_counter_is_there_in_its_unit() {
    let text = rendered();
    for (name, value) in distinct().each() {
        let value = match name {
            "xact_time" => "106".to_owned(),
            "query_time" => "107.5".to_owned(),
            "wait_time" => "108".to_owned(),
            _ => value.to_string(),
        };
        let value = format!("user=\"alice\"}} {value}");
        let is_sample =
            |line: &&str| line.contains("_total{database=\"app\"") && line.ends_with(&value);
        let samples = text.lines().filter(is_sample).count();
        assert_eq!(samples, 1, "{name}:\n{text}");
    }
    let line = "pgweir_query_seconds_total{database=\"app\",user=\"alice\"} 107.5\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn gauges_of_pools_and_clients() {
    let text = rendered();
    for line in [
        "pgweir_clients{state=\"login\"} 3\n",
        "pgweir_clients{state=\"waiting\"} 0\n",
        "pgweir_listening_clients{database=\"app\",user=\"alice\"} 2\n",
        "pgweir_listening_servers{database=\"app\"} 1\n",
        "pgweir_pool_clients{database=\"app\",state=\"waiting\",user=\"alice\"} 2\n",
        "pgweir_pool_servers{database=\"app\",state=\"login\",user=\"alice\"} 11\n",
        "pgweir_pool_size{database=\"app\",user=\"alice\"} 20\n",
        "pgweir_pool_max_wait_seconds{database=\"app\",user=\"alice\"} 2.5\n",
        // A name from outside stays inside its label.
        "pgweir_queries_total{database=\"we\\\"b\\n\",user=\"bob\"} 0\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let version = format!("{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version), "{text}");
}

#[test]
fn hosts_as_in_show_hosts() {
    let text = rendered();
    for line in [
        "state{database=\"app\",host=\"db2:5433\",role=\"replica\",state=\"lagging\"} 1\n",
        "lag_bytes{database=\"app\",host=\"db2:5433\"} 500\n",
        "lag_seconds{database=\"app\",host=\"db2:5433\"} 0.25\n",
        "outstanding{database=\"app\",host=\"db2:5433\"} 4\n",
        "reads_total{database=\"app\",host=\"db2:5433\"} 30\n",
        "failures_total{database=\"app\",host=\"db2:5433\"} 7\n",
        "ejections_total{database=\"app\",host=\"db2:5433\"} 5\n",
        "role_changes_total{database=\"app\",host=\"db2:5433\"} 6\n",
    ] {
        assert!(
            text.contains(&format!("pgweir_host_{line}")),
            "{line}{text}"
        );
    }
}

#[test]
fn families_are_named_and_described_well() {
    let text = rendered();
    let mut names = HashSet::new();
    for family in &FAMILIES {
        let name = family.name;
        assert!(names.insert(name), "{name} stands twice");
        assert!(name.starts_with("pgweir_"), "{name}");
        let counter = family.kind == Kind::Counter;
        assert_eq!(name.ends_with("_total"), counter, "{name}");
        assert!(family.help.ends_with(['.', '0']), "{name}");
        assert!(text.contains(&format!("# HELP {name} {}\n", family.help)));
        let kind = if counter { "counter" } else { "gauge" };
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
    }
}

#[test]
fn docs_list_every_family() {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for family in &FAMILIES {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let labels = family.labels.join(", ");
        table += &format!(
            "| `{}` | {kind} | {labels} | {} |\n",
            family.name, family.help
        );
    }
    let docs = include_str!("../../../docs/metrics.md");
    let written: String = docs
        .lines()
        .filter(|line| line.starts_with("| ") || line.starts_with("|-"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(
        written == table,
        "docs/metrics.md must have this table:\n{table}"
    );
}
