//! Whatever a client leaves behind, its server connection is cancelled, rolled
//! back, brought into step and used again: the same server process serves the
//! next client, and nothing of the first is left.

use crate::support::{Frontend, Pooler, RawClient, Setup, eventually};

const PID: &str = "select pid from pg_backend_pid() as pid";

/// A pool of one connection, a table, and a client which has used both.
struct Scene {
    pooler: Pooler,
    client: RawClient,
    pid: String,
}

impl Scene {
    fn new() -> Scene {
        let pooler = Setup::new().pool_size(1).start();
        pooler.direct().query("create table t (a int)");
        let mut client = pooler.login();
        let pid = client.value(PID);
        Scene {
            pooler,
            client,
            pid,
        }
    }

    /// The client disappears; the next one must find everything in order, on
    /// the same server process.
    #[track_caller]
    fn client_dies(self) {
        let Scene {
            pooler,
            client,
            pid,
        } = self;
        drop(client);
        let mut next = pooler.login();
        // Whatever the dead client had asked for must not be answered here.
        let answer = next.query("select 'next', pid from pg_backend_pid() as pid");
        assert_eq!(
            answer.rows(),
            [[Some("next".to_owned()), Some(pid.clone())]]
        );
        assert_eq!(answer.tags(), "TDCZ");
        assert_eq!(answer.status(), 'I');
        assert_eq!(next.value("select count(*) from t"), "0", "rolled back");
        let locks = "select count(*) from pg_locks where pid = pg_backend_pid() \
                     and locktype = 'relation' and relation = 't'::regclass";
        assert_eq!(next.value(locks), "0");
        // Extended protocol and COPY work, and nobody else is disturbed.
        let script = Frontend::new().run("select $1", &["x"]).sync();
        assert_eq!(next.exchange(&script).value(), "x");
        assert_eq!(next.query("copy t to stdout").tags(), "HcCZ");
        // What the test itself had connected to make the table may still be leaving.
        eventually("server processes", vec![pid], || pooler.backends());
        assert_eq!(next.query("begin; lock table t; commit").status(), 'I');
    }

    /// Waits until the server process does this.
    #[track_caller]
    fn expect_state(&self, state: &str) {
        let sql = format!(
            "select state from pg_stat_activity where pid = {}",
            self.pid
        );
        eventually("state", state.to_owned(), || {
            self.pooler.admin().value(&sql)
        });
    }

    /// Waits until the server process sleeps in pg_sleep.
    #[track_caller]
    fn expect_sleeping(&self) {
        let sql = format!(
            "select wait_event from pg_stat_activity where pid = {}",
            self.pid
        );
        eventually("sleeps", "PgSleep".to_owned(), || {
            self.pooler.admin().query(&sql).column().remove(0)
        });
    }
}

#[test]
fn in_mid_transaction() {
    let mut scene = Scene::new();
    scene
        .client
        .query("begin; insert into t values (1); lock table t");
    scene.client_dies();
}

#[test]
fn in_mid_transaction_with_terminate() {
    let mut scene = Scene::new();
    scene
        .client
        .query("begin; insert into t values (1); lock table t");
    scene.client.send(&Frontend::new().terminate());
    scene.client_dies();
}

#[test]
fn in_a_failed_transaction() {
    let mut scene = Scene::new();
    scene
        .client
        .try_query("begin; insert into t values (1); select 1/0");
    scene.client_dies();
}

#[test]
fn in_mid_query() {
    let mut scene = Scene::new();
    scene
        .client
        .send(&Frontend::new().query("insert into t select 1 from pg_sleep(600)"));
    scene.expect_sleeping();
    scene.client_dies();
}

#[test]
fn in_mid_query_of_a_transaction() {
    let mut scene = Scene::new();
    scene.client.query("begin; insert into t values (1)");
    let script = Frontend::new().run("select pg_sleep(600)", &[]).sync();
    scene.client.send(&script);
    scene.expect_sleeping();
    scene.client_dies();
}

#[test]
fn in_the_middle_of_rows() {
    let mut scene = Scene::new();
    let sql = "select repeat('x', 1000) from generate_series(1, 10000000)";
    scene.client.send(&Frontend::new().query(sql));
    scene.client.skip_bytes(100_000);
    scene.client_dies();
}

#[test]
fn in_mid_copy_in() {
    let mut scene = Scene::new();
    scene.client.send(
        &Frontend::new()
            .query("copy t from stdin")
            .copy_data(b"1\n2\n"),
    );
    assert_eq!(scene.client.read().tag, b'G');
    scene.expect_state("active");
    scene.client_dies();
}

#[test]
fn in_mid_copy_in_of_the_extended_protocol() {
    let mut scene = Scene::new();
    let script = Frontend::new()
        .run("copy t from stdin", &[])
        .copy_data(b"1\n")
        .flush();
    scene.client.send(&script);
    assert_eq!(scene.client.read_until(b'G').len(), 3);
    scene.client_dies();
}

/// So do programs end that run COPY FROM STDIN by mistake: libpq says goodbye
/// whatever the state is.
#[test]
fn in_mid_copy_in_with_terminate() {
    let mut scene = Scene::new();
    scene
        .client
        .send(&Frontend::new().query("copy t from stdin"));
    assert_eq!(scene.client.read().tag, b'G');
    scene.client.send(&Frontend::new().terminate());
    scene.client_dies();
}

#[test]
fn before_its_sync_with_terminate() {
    let mut scene = Scene::new();
    let script = Frontend::new()
        .run("insert into t values (1)", &[])
        .terminate();
    scene.client.send(&script);
    scene.client_dies();
}

#[test]
fn in_mid_copy_out() {
    let mut scene = Scene::new();
    let sql = "copy (select repeat('x', 1000) from generate_series(1, 10000000)) to stdout";
    scene.client.send(&Frontend::new().query(sql));
    scene.client.skip_bytes(100_000);
    scene.client_dies();
}

#[test]
fn in_mid_pipeline_without_sync() {
    let mut scene = Scene::new();
    let script = Frontend::new().run("insert into t values (1)", &[]).flush();
    scene.client.send(&script);
    assert_eq!(scene.client.read_until(b'C').len(), 3);
    scene.client_dies();
}

#[test]
fn in_mid_pipeline_after_an_error() {
    let mut scene = Scene::new();
    let script = Frontend::new().run("insert into t select 1/0", &[]).flush();
    scene.client.send(&script);
    scene.client.read_until(b'E');
    scene.client_dies();
}

#[test]
fn in_mid_pipeline_with_answers_unread() {
    let mut scene = Scene::new();
    let mut script = Frontend::new();
    for _ in 0..500 {
        script = script.run("select repeat('x', 5000)", &[]).sync();
    }
    let script = script
        .run("begin", &[])
        .run("insert into t values (1)", &[])
        .sync();
    scene.client.send(&script);
    scene.client.answer();
    scene.client_dies();
}

#[test]
fn after_parse_without_sync() {
    let mut scene = Scene::new();
    scene
        .client
        .send(&Frontend::new().parse("mine", "select 1").flush());
    assert_eq!(scene.client.read().tag, b'1');
    scene.client_dies();
}

/// Everything but the last `missing` bytes of these messages.
fn cut(messages: &Frontend, missing: usize) -> &[u8] {
    &messages.bytes[..messages.bytes.len() - missing]
}

#[test]
fn in_the_middle_of_a_query_message() {
    let mut scene = Scene::new();
    scene.client.query("begin; insert into t values (1)");
    let script = Frontend::new().query("select 'never complete'");
    scene.client.send_bytes(cut(&script, 3));
    scene.client_dies();
}

#[test]
fn in_the_middle_of_a_bind_message() {
    let mut scene = Scene::new();
    let script = Frontend::new()
        .parse("", "insert into t values ($1)")
        .bind("", "", &["123456"]);
    scene.client.send_bytes(cut(&script, 4));
    scene.client_dies();
}

#[test]
fn in_the_middle_of_a_header() {
    let mut scene = Scene::new();
    let script = Frontend::new().run("insert into t values (1)", &[]).sync();
    scene.client.send_bytes(cut(&script, 2));
    scene.client_dies();
}

#[test]
fn in_the_middle_of_copy_data() {
    let mut scene = Scene::new();
    let script = Frontend::new()
        .query("copy t from stdin")
        .copy_data(&b"1\n".repeat(50));
    scene.client.send_bytes(cut(&script, 10));
    assert_eq!(scene.client.read().tag, b'G');
    scene.client_dies();
}

/// A message too large to be held: half of it may have reached the server, who
/// waits for the rest. Then only the connection can go.
#[test]
fn in_the_middle_of_a_huge_message() {
    for begin in [
        Frontend::new()
            .query("copy t from stdin")
            .copy_data(&b"1\n".repeat(4 << 20)),
        Frontend::new().run(
            "insert into t values (length($1))",
            &["x".repeat(8 << 20).as_str()],
        ),
    ] {
        let Scene {
            pooler, mut client, ..
        } = Scene::new();
        client.send_bytes(cut(&begin, 1 << 20));
        drop(client);
        let mut next = pooler.login();
        assert_eq!(next.query("begin; lock table t; commit").status(), 'I');
        assert_eq!(next.value("select count(*) from t"), "0");
        assert_eq!(pooler.backends().len(), 1);
    }
}

#[test]
fn while_waiting_for_a_lock() {
    let mut scene = Scene::new();
    let mut blocker = scene.pooler.admin();
    blocker.query("begin; lock table t");
    scene
        .client
        .send(&Frontend::new().query("begin; select count(*) from t"));
    let sql = format!(
        "select wait_event_type from pg_stat_activity where pid = {}",
        scene.pid
    );
    eventually("waits", "Lock".to_owned(), || {
        blocker.query(&sql).column().remove(0)
    });
    // The table is free again only after the pooler has cancelled.
    let Scene {
        pooler,
        client,
        pid,
    } = scene;
    drop(client);
    let mut next = pooler.login();
    assert_eq!(next.value(PID), pid);
    blocker.query("rollback");
}

/// PostgreSQL is not asked to cancel what has already ended.
#[test]
fn after_everything_was_answered() {
    let mut scene = Scene::new();
    scene.client.query("select 1");
    scene.client_dies();
}

#[test]
fn many_deaths_leave_one_clean_connection() {
    let Scene { pooler, pid, .. } = Scene::new();
    for round in 0..40 {
        let mut client = pooler.login();
        let script = match round % 5 {
            0 => Frontend::new().query("begin; insert into t values (1)"),
            1 => Frontend::new().query("select pg_sleep(600)"),
            2 => Frontend::new()
                .run("copy t from stdin", &[])
                .copy_data(b"1\n"),
            3 => Frontend::new()
                .run("begin", &[])
                .run("insert into t values (1)", &[]),
            _ => Frontend::new().query("copy (select generate_series(1, 1000000)) to stdout"),
        };
        client.send(&script);
    }
    let mut next = pooler.login();
    assert_eq!(next.value("select count(*) from t"), "0");
    assert_eq!(pooler.backends(), [pid]);
}
