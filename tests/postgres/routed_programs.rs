//! Real programs with a primary and two replicas behind one address: each sees
//! what it would see with one server, and replicas do their share.

use super::replicas::{Trio, known, port, start};
use crate::support::{Pooler, Program, node, pgbench, psql, python, secs};

/// What the replicas have served so far, in reads.
fn served(trio: &Trio, pooler: &Pooler) -> [usize; 2] {
    let hosts = pooler.show("HOSTS");
    trio.replicas.each_ref().map(|replica| {
        let row = hosts.iter().find(|row| row["port"] == port(replica));
        row.expect("a row")["reads"].parse().expect("a number")
    })
}

/// A pool of two connections to each server.
fn pooler(trio: &Trio, consistency: &str) -> Pooler {
    let setup = trio
        .setup()
        .set("host_check_period", secs(0.02))
        .set("read_consistency", consistency);
    start(trio, setup)
}

type Driver = fn(&str, &str, &str) -> Program;

/// Runs scenarios of a driver's script, and returns what the replicas have
/// served meanwhile.
#[track_caller]
fn drive(run: Driver, script: &str, consistency: &str, scenarios: &[&str]) -> [usize; 2] {
    let trio = Trio::shared();
    let pooler = pooler(trio, consistency);
    let before = served(trio, &pooler);
    for scenario in scenarios {
        assert_eq!(run(script, scenario, &pooler.dsn()).succeed(), "ok");
    }
    let after = served(trio, &pooler);
    let more = [after[0] - before[0], after[1] - before[1]];
    eprintln!("{script}, {scenarios:?}: the replicas have served {more:?} reads");
    more
}

/// Nothing is written that another connection reads.
mod scenarios_that_read {
    use super::{Driver, drive, node, python};

    #[track_caller]
    fn everywhere(run: Driver, script: &str, scenarios: &[&str]) {
        let served = drive(run, script, "eventual", scenarios);
        assert!(served[0] > 100 && served[1] > 100, "{served:?}");
    }

    #[test]
    fn psycopg3() {
        let scenarios = ["prepared", "asynchronous", "encodings"];
        everywhere(python, "psycopg3.py", &scenarios);
    }

    #[test]
    fn asyncpg() {
        everywhere(python, "asyncpg_client.py", &["prepared", "pool"]);
    }

    #[test]
    fn node_postgres() {
        let scenarios = ["prepared", "queued", "pool"];
        everywhere(node, "node_postgres.js", &scenarios);
    }
}

/// One connection reads what another has written; whose that is they do not say,
/// so all of them have to wait for all that was written.
mod scenarios_that_write {
    use super::{drive, node, python};

    #[test]
    fn psycopg3() {
        let scenarios = ["pipeline", "copy", "transactions"];
        drive(python, "psycopg3.py", "global", &scenarios);
    }

    #[test]
    fn asyncpg() {
        let scenarios = ["types", "transactions", "pipeline", "copy"];
        drive(python, "asyncpg_client.py", "global", &scenarios);
    }

    #[test]
    fn node_postgres() {
        let scenarios = ["transactions", "copying"];
        drive(node, "node_postgres.js", "global", &scenarios);
    }
}

/// Each connection writes, reads what it wrote, and rests until replicas have it.
mod notes {
    use super::{Driver, drive, node, python};

    #[track_caller]
    fn on_replicas(run: Driver, script: &str) {
        let served = drive(run, script, "session", &["notes"]);
        assert!(served[0] > 0 && served[1] > 0, "{served:?}");
    }

    #[test]
    fn psycopg3() {
        on_replicas(python, "psycopg3.py");
    }

    #[test]
    fn asyncpg() {
        on_replicas(python, "asyncpg_client.py");
    }

    #[test]
    fn node_postgres() {
        on_replicas(node, "node_postgres.js");
    }
}

/// Fails with a division by zero if a transfer shows only in part.
const ADDS_UP: &str = "select 1 / ((select sum(abalance) from pgbench_accounts) \
    = (select sum(bbalance) from pgbench_branches) and (select sum(abalance) from pgbench_accounts) \
    = (select sum(tbalance) from pgbench_tellers))::int;\n";
const READ_ONLY: &str = "\\set aid random(1, 100000)\nbegin read only;\n\
    select abalance from pgbench_accounts where aid = :aid;\n\
    select bbalance from pgbench_branches where bid = 1;\ncommit;\n";

#[test]
fn pgbench_with_writes_and_reads() {
    const TRANSACTIONS: usize = 200;
    let trio = Trio::shared();
    let pooler = pooler(trio, "session");
    pgbench(&["-i", "-q", "-s", "1"], &pooler.dsn()).succeed();
    known(trio, &pooler, "pgbench_history");
    let dir = tempfile::tempdir().expect("directory");
    let script = |name: &str, text: &str, weight: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("script");
        format!("{}@{weight}", path.display())
    };
    let adds_up = script("adds_up.sql", ADDS_UP, 1);
    let read_only = script("read_only.sql", READ_ONLY, 4);
    for protocol in ["simple", "extended", "prepared"] {
        let before = served(trio, &pooler);
        let each = TRANSACTIONS.to_string();
        let clients = ["-n", "-c", "8", "-j", "8", "-t", &each, "-M", protocol];
        let scripts = ["-b", "tpcb-like@8", "-b", "select-only@20"];
        let own = ["-f", &adds_up, "-f", &read_only];
        let arguments = [&clients[..], &scripts, &own].concat();
        let output = pgbench(&arguments, &pooler.dsn()).succeed();
        let processed = format!("actually processed: {0}/{0}", 8 * TRANSACTIONS);
        assert!(output.contains(&processed), "{output}");
        assert!(!output.contains("aborted"), "{output}");
        let after = served(trio, &pooler);
        let more = [after[0] - before[0], after[1] - before[1]];
        eprintln!("pgbench -M {protocol}: the replicas have served {more:?} reads");
        assert!(more[0] > 0 && more[1] > 0, "{more:?}");
        // No statement went astray: what was moved is the same everywhere, and
        // every server has it.
        trio.catch_up();
        for server in [&trio.primary, &trio.replicas[0], &trio.replicas[1]] {
            let sql = "select count(*) > 0 and sum(delta) = (select sum(abalance) from pgbench_accounts) \
                and sum(delta) = (select sum(bbalance) from pgbench_branches) \
                and sum(delta) = (select sum(tbalance) from pgbench_tellers) from pgbench_history";
            assert_eq!(server.admin(&pooler.database).value(sql), "t");
        }
    }
}

#[test]
fn pgbench_with_nothing_but_reads() {
    let trio = Trio::shared();
    let pooler = pooler(trio, "session");
    pgbench(&["-i", "-q", "-s", "1"], &pooler.dsn()).succeed();
    known(trio, &pooler, "pgbench_accounts");
    for protocol in ["simple", "extended", "prepared"] {
        let before = served(trio, &pooler);
        let arguments = [
            "-n", "-S", "-c", "8", "-j", "8", "-t", "100", "-M", protocol,
        ];
        let output = pgbench(&arguments, &pooler.dsn()).succeed();
        assert!(output.contains("actually processed: 800/800"), "{output}");
        let after = served(trio, &pooler);
        let more = [after[0] - before[0], after[1] - before[1]];
        eprintln!("pgbench -S -M {protocol}: the replicas have served {more:?} of 800 reads");
        // Nobody has written anything, so nothing keeps them from a replica.
        assert!(more[0] + more[1] >= 800, "{more:?}");
    }
    let shown = "select count(*) from pgbench_accounts";
    assert_eq!(psql(&pooler.dsn()).args(&["-c", shown]).succeed(), "100000");
}
