//! What the demo shows when the load is over.

use super::load::Outcome;
use super::pooler::{POOL_SIZE, Table};

const POOLS: [&str; 7] = [
    "database",
    "user",
    "cl_active",
    "cl_waiting",
    "sv_active",
    "sv_idle",
    "pool_mode",
];

const HOSTS: [&str; 6] = [
    "host",
    "port",
    "role",
    "reads",
    "refused_reads",
    "lag_bytes",
];

impl Outcome {
    /// Percentage of the transactions that found an open server connection.
    fn reuse(&self) -> f64 {
        let transactions = self.bench.transactions.max(1) as f64;
        100.0 * (1.0 - self.connections_opened as f64 / transactions)
    }

    /// What went wrong in the run, if anything did.
    pub fn fault(&self) -> Option<String> {
        let bench = &self.bench;
        if bench.aborted {
            return Some(format!("{}: pgbench gave up", self.title));
        }
        if bench.failed > 0 {
            let failed = bench.failed;
            return Some(format!("{}: {failed} transactions failed", self.title));
        }
        if self.connections_peak > POOL_SIZE {
            let peak = self.connections_peak;
            return Some(format!(
                "{}: {peak} server connections where pool_size is {POOL_SIZE}",
                self.title
            ));
        }
        None
    }
}

/// The tables after the last load; `hosts` is the answer of SHOW HOSTS.
pub fn text(outcomes: &[Outcome], hosts: &Table) -> String {
    let mut rows = vec![
        [
            "load",
            "connections in",
            "connections out",
            "transactions",
            "reuse",
            "tps",
            "latency",
            "errors",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for outcome in outcomes {
        let bench = &outcome.bench;
        rows.push(vec![
            outcome.title.to_owned(),
            outcome.connections_in.to_string(),
            outcome.connections_peak.to_string(),
            bench.transactions.to_string(),
            format!("{:.2} %", outcome.reuse()),
            format!("{:.0}", bench.tps),
            format!("{:.2} ms", bench.latency_ms),
            match bench.aborted {
                true => "aborted".to_owned(),
                false => bench.failed.to_string(),
            },
        ]);
    }
    let mut text = format!(
        "\nWhat happened (pool_size = {POOL_SIZE}; counted by pgbench and PostgreSQL)\n\n{}",
        align(&rows)
    );
    for outcome in outcomes {
        if let Some(pools) = &outcome.pools {
            let title = outcome.title;
            text += &format!("\nSHOW POOLS in the middle of \"{title}\"\n\n");
            text += &align(&pools.columns(&POOLS));
        }
    }
    text += "\nSHOW HOSTS: where the reads went\n\n";
    text + &align(&hosts.columns(&HOSTS))
}

/// Columns as wide as their widest cell; the first is words, the others may be
/// numbers and stand to the right.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from("  ");
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::load::Bench;
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            title: "reads",
            bench: Bench {
                transactions: 1000,
                latency_ms: 2.5,
                tps: 400.0,
                ..Bench::default()
            },
            connections_in: 100,
            connections_opened: 10,
            connections_peak: 10,
            pools: None,
        }
    }

    #[test]
    fn reuse_is_the_share_of_transactions_that_opened_nothing() {
        assert_eq!(outcome().reuse(), 99.0);
        let hosts = Table::parse("role\treads\nreplica\t77\n");
        let text = text(&[outcome()], &hosts);
        assert!(text.contains("77"));
        let row = text.lines().find(|line| line.contains("reads")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        let expected = [
            "reads", "100", "10", "1000", "99.00", "%", "400", "2.50", "ms", "0",
        ];
        assert_eq!(cells, expected);
    }

    #[test]
    fn failures_and_too_many_connections_are_faults() {
        assert_eq!(outcome().fault(), None);
        let mut failed = outcome();
        failed.bench.failed = 1;
        assert!(failed.fault().is_some());
        let mut aborted = outcome();
        aborted.bench.aborted = true;
        assert!(aborted.fault().is_some());
        let mut wide = outcome();
        wide.connections_peak = POOL_SIZE + 1;
        assert!(wide.fault().is_some());
    }
}
