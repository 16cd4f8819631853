//! Real programs in transaction mode, each with more clients than server
//! connections, so that consecutive transactions of a client move between
//! them.

use crate::support::{Pooler, Program, Setup, eventually, node, pgbench, psql, python};

/// Two connections that take turns for however many clients.
fn small_pool() -> Pooler {
    Setup::new()
        .pool_size(2)
        .set("server_round_robin", true)
        .start()
}

/// Runs one scenario of a driver's script through a small pool.
#[track_caller]
fn drive(run: impl Fn(&str) -> Program) {
    let pooler = small_pool();
    assert_eq!(run(&pooler.dsn()).succeed(), "ok");
    let backends = pooler.backends().len();
    assert!(backends <= 2, "{backends} server connections");
    // What the program left behind is in order.
    assert_eq!(pooler.login().value("select 1"), "1");
}

macro_rules! scenarios {
    ($runner:ident, $script:literal: $($name:ident)*) => {
        $(#[test]
        fn $name() {
            super::drive(|dsn| super::$runner($script, stringify!($name), dsn));
        })*
    };
}

mod psycopg3 {
    scenarios!(python, "psycopg3.py":
        prepared pipeline copy transactions cancel asynchronous encodings listen);
}

mod asyncpg {
    scenarios!(python, "asyncpg_client.py":
        prepared types transactions pipeline copy cancel pool listen);
}

mod node_postgres {
    scenarios!(node, "node_postgres.js":
        prepared transactions queued copying cancel pool listen);
}

mod pgbench_load {
    use super::{Pooler, pgbench, psql, small_pool};

    /// A pool with pgbench's tables in it, loaded through the pool.
    fn loaded() -> Pooler {
        let pooler = small_pool();
        pgbench(&["-i", "-q", "-s", "1"], &pooler.dsn()).succeed();
        pooler
    }

    /// Eight clients, each in a thread of its own: prepared TPC-B with fewer
    /// threads blocks itself, because pgbench prepares synchronously while
    /// other clients of the thread hold transactions.
    #[track_caller]
    fn run(pooler: &Pooler, arguments: &[&str]) {
        let mut all = vec!["-n", "-c", "8", "-j", "8", "-t", "100"];
        all.extend(arguments);
        let output = pgbench(&all, &pooler.dsn()).succeed();
        assert!(output.contains("actually processed: 800/800"), "{output}");
        assert!(!output.contains("aborted"), "{output}");
        assert!(pooler.backends().len() <= 2);
    }

    /// What TPC-B leaves true if no statement went astray.
    #[track_caller]
    fn adds_up(pooler: &Pooler, transactions: u32) {
        let sql = "select (select sum(abalance) from pgbench_accounts) = s \
                   and (select sum(bbalance) from pgbench_branches) = s \
                   and (select sum(tbalance) from pgbench_tellers) = s, n \
                   from (select sum(delta) s, count(*) n from pgbench_history) h";
        let row = psql(&pooler.dsn()).args(&["-c", sql]).succeed();
        assert_eq!(row, format!("t|{transactions}"));
    }

    #[test]
    fn select_only() {
        let pooler = loaded();
        for protocol in ["simple", "extended", "prepared"] {
            run(&pooler, &["-S", "-M", protocol]);
        }
    }

    #[test]
    fn tpc_b() {
        let pooler = loaded();
        for (runs, protocol) in ["simple", "extended", "prepared"].iter().enumerate() {
            run(&pooler, &["-M", protocol]);
            adds_up(&pooler, 800 * (runs as u32 + 1));
        }
    }

    #[test]
    fn pipelines() {
        let pooler = loaded();
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("pipeline.sql");
        let script = "\\set a random(1, 1000)\n\\startpipeline\n\
            select abalance from pgbench_accounts where aid = :a;\n\
            begin;\nupdate pgbench_branches set bbalance = bbalance + 0;\nselect 1;\nend;\n\
            select abalance from pgbench_accounts where aid = :a + 1;\n\\endpipeline\n";
        std::fs::write(&path, script).expect("script");
        for protocol in ["extended", "prepared"] {
            run(
                &pooler,
                &["-M", protocol, "-f", &path.display().to_string()],
            );
        }
    }

    #[test]
    fn a_connection_for_each_transaction() {
        let pooler = loaded();
        run(&pooler, &["-C", "-S", "-M", "extended"]);
    }
}

mod psql_session {
    use nix::sys::signal::Signal;

    use super::{eventually, psql, small_pool};

    #[test]
    fn scripts_and_meta_commands() {
        let pooler = small_pool();
        let dir = tempfile::tempdir().expect("directory");
        let data = dir.path().join("data");
        std::fs::write(&data, "1\tone\n2\ttwo\n").expect("data");
        let script = dir.path().join("script.sql");
        let text = format!(
            "create table t (a int, b text);\n\\copy t from '{0}'\n\
             insert into t values (3, $q$three; 'quoted'$q$) returning b;\n\
             begin; update t set b = upper(b); savepoint s; delete from t; rollback to s; commit;\n\
             select format('select %L', b) from t order by a \\gexec\n\
             \\copy (select b from t order by a) to '{0}'\n\\d t\n\\dt\n\\df pg_sleep\n\
             select count(*) from t \\gset\n\\echo counted :count\n",
            data.display()
        );
        std::fs::write(&script, text).expect("script");
        let file = script.display().to_string();
        let output = psql(&pooler.dsn()).args(&["-f", &file]).succeed();
        let expected = "three; 'quoted'\nONE\nTWO\nTHREE; 'QUOTED'\n";
        assert!(output.starts_with(expected), "{output}");
        assert!(output.ends_with("counted 3"), "{output}");
        let copied = std::fs::read_to_string(&data).expect("data");
        assert_eq!(copied, "ONE\nTWO\nTHREE; 'QUOTED'\n");
    }

    #[test]
    fn errors_and_single_transactions() {
        let pooler = small_pool();
        let dsn = pooler.dsn();
        let error = psql(&dsn).args(&["-c", "select 1/0"]).fail();
        assert!(error.contains("division by zero"), "{error}");
        let error = psql(&dsn)
            .args(&[
                "-1",
                "-c",
                "create table t (a int)",
                "-c",
                "select * from missing",
            ])
            .fail();
        assert!(
            error.contains("relation \"missing\" does not exist"),
            "{error}"
        );
        assert!(
            error.contains("LINE 1"),
            "the position is passed on: {error}"
        );
        assert_eq!(
            psql(&dsn)
                .args(&["-c", "select to_regclass('t')"])
                .succeed(),
            ""
        );
    }

    #[test]
    fn connection_strings_and_notices() {
        let pooler = small_pool();
        let url = format!(
            "postgresql://app@{}:{}/{}?application_name=via%20url&options=-c%20work_mem%3D1234kB",
            pooler.address.host(),
            pooler.address.port(),
            pooler.database
        );
        let show = "select current_setting('application_name'), current_setting('work_mem')";
        assert_eq!(psql(&url).args(&["-c", show]).succeed(), "via url|1234kB");
        let socket = pooler
            .dsn()
            .replace(&pooler.address.host(), &pooler.socket.host());
        assert_eq!(psql(&socket).args(&["-c", "select 42"]).succeed(), "42");
        let output = psql(&socket)
            .args(&["-c", "do $$ begin raise notice 'heard'; end $$"])
            .run();
        assert!(output.stderr.contains("NOTICE:  heard"), "{output:?}");
    }

    #[test]
    fn interrupted_with_control_c() {
        let pooler = small_pool();
        let dsn = pooler.dsn();
        let running = psql(&dsn).args(&["-c", "select pg_sleep(600)"]).start();
        let sql = "select count(*) from pg_stat_activity where datname = current_database() \
                   and wait_event = 'PgSleep'";
        eventually("psql waits", "1".to_owned(), || pooler.admin().value(sql));
        running.signal(Signal::SIGINT);
        let stderr = running.finish().stderr;
        assert!(
            stderr.contains("canceling statement due to user request"),
            "{stderr}"
        );
        assert_eq!(psql(&dsn).args(&["-c", "select 42"]).succeed(), "42");
    }
}
