//! SHOW STATS, STATS_TOTALS, STATS_AVERAGES and TOTALS.

use std::collections::BTreeMap;

use super::CONSOLE;
use crate::admin::snapshot::Snapshot;
use crate::admin::table::Type::{Numeric, Text};
use crate::admin::table::{Column, Table, Value, row};
use crate::admin::view::ConsoleView;
use crate::stats::{Average, Totals};

const STATS: [Column; 25] = [
    ("database", Text),
    ("total_server_assignment_count", Numeric),
    ("total_xact_count", Numeric),
    ("total_query_count", Numeric),
    ("total_received", Numeric),
    ("total_sent", Numeric),
    ("total_xact_time", Numeric),
    ("total_query_time", Numeric),
    ("total_wait_time", Numeric),
    ("total_client_parse_count", Numeric),
    ("total_server_parse_count", Numeric),
    ("total_bind_count", Numeric),
    ("total_client_login_count", Numeric),
    ("avg_server_assignment_count", Numeric),
    ("avg_xact_count", Numeric),
    ("avg_query_count", Numeric),
    ("avg_recv", Numeric),
    ("avg_sent", Numeric),
    ("avg_xact_time", Numeric),
    ("avg_query_time", Numeric),
    ("avg_wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
    ("avg_client_login_count", Numeric),
];

const TOTALS: [Column; 13] = [
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("client_parse_count", Numeric),
    ("server_parse_count", Numeric),
    ("bind_count", Numeric),
    ("client_login_count", Numeric),
];

/// Only the last four names say that they are averages.
const AVERAGES: [Column; 13] = [
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
    ("avg_client_login_count", Numeric),
];

const SUMS: [Column; 2] = [("name", Text), ("value", Numeric)];

/// The rows of SHOW TOTALS, each once as `total_` and once as `avg_`.
const SUM_NAMES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

/// The totals of each database: of its pools, and of those that are gone. The
/// console always has an entry. To be handed to
/// [`Averages::tick`](crate::stats::Averages::tick).
pub fn totals_by_database(snapshot: &Snapshot) -> BTreeMap<&str, Totals> {
    let mut sums: BTreeMap<&str, Totals> = BTreeMap::new();
    sums.insert(CONSOLE, Totals::default());
    for pool in &snapshot.pools {
        *sums.entry(&pool.database).or_default() += pool.totals;
    }
    for (database, totals) in &snapshot.past {
        *sums.entry(database).or_default() += *totals;
    }
    sums
}

pub fn stats<'a>(snapshot: &'a Snapshot, view: &ConsoleView) -> Table<'a> {
    by_database(&STATS, snapshot, |database, totals| {
        let average = view.averages.of(view.now, database, totals);
        [twelve(totals), averaged(&average)].concat()
    })
}

pub fn totals(snapshot: &Snapshot) -> Table<'_> {
    by_database(&TOTALS, snapshot, |_, totals| twelve(totals).to_vec())
}

pub fn averages<'a>(snapshot: &'a Snapshot, view: &ConsoleView) -> Table<'a> {
    by_database(&AVERAGES, snapshot, |database, totals| {
        averaged(&view.averages.of(view.now, database, totals)).to_vec()
    })
}

/// Everything summed up, one number per row.
pub fn sums<'a>(snapshot: &Snapshot, view: &ConsoleView) -> Table<'a> {
    let mut sum = Totals::default();
    for totals in totals_by_database(snapshot).into_values() {
        sum += totals;
    }
    let average = view.averages.overall(view.now, &sum);
    let rows = |prefix: &'static str, values: [u64; 12]| {
        SUM_NAMES
            .into_iter()
            .zip(values)
            .map(move |(name, value)| row![format!("{prefix}_{name}"), value])
    };
    let totals = rows("total", twelve(&sum));
    Table {
        columns: &SUMS,
        rows: totals.chain(rows("avg", averaged(&average))).collect(),
    }
}

fn by_database<'a>(
    columns: &'static [Column],
    snapshot: &'a Snapshot,
    numbers: impl Fn(&str, &Totals) -> Vec<u64>,
) -> Table<'a> {
    let rows = totals_by_database(snapshot)
        .into_iter()
        .map(|(database, totals)| {
            let numbers = numbers(database, &totals);
            let numbers = numbers.into_iter().map(Value::from);
            [Value::from(database)].into_iter().chain(numbers).collect()
        })
        .collect();
    Table { columns, rows }
}

/// The twelve numbers of PgBouncer in its order.
fn twelve(totals: &Totals) -> [u64; 12] {
    [
        totals.server_assignment_count,
        totals.xact_count,
        totals.query_count,
        totals.bytes_received,
        totals.bytes_sent,
        totals.xact_time,
        totals.query_time,
        totals.wait_time,
        totals.client_parse_count,
        totals.server_parse_count,
        totals.bind_count,
        totals.client_login_count,
    ]
}

fn averaged(average: &Average) -> [u64; 12] {
    [
        average.server_assignment_count,
        average.xact_count,
        average.query_count,
        average.bytes_received,
        average.bytes_sent,
        average.xact_time,
        average.query_time,
        average.wait_time,
        average.client_parse_count,
        average.server_parse_count,
        average.bind_count,
        average.client_login_count,
    ]
}
