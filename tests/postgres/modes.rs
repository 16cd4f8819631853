//! When a server connection goes back to the pool.

use crate::support::{Frontend, RawClient, Setup, eventually};

const PID: &str = "select pid from pg_backend_pid() as pid";

#[test]
fn session_keeps_everything() {
    let pooler = Setup::new()
        .pool_size(1)
        .set("pool_mode", "session")
        .start();
    let mut client = pooler.login();
    let pid = client.value(PID);
    client.query("create temp table mine (a int); set work_mem = '1234kB'");
    client.query("prepare p as select 42; select pg_advisory_lock(3)");
    assert_eq!(client.value("execute p"), "42");
    assert_eq!(client.value("show work_mem"), "1234kB");
    assert_eq!(client.value("select count(*) from mine"), "0");

    // The next one waits until the first has gone, and finds nothing of it.
    let mut next = pooler.login();
    next.send(&Frontend::new().query(PID));
    pooler.expect_waiting(1);
    drop(client);
    assert_eq!(next.answer().value(), pid);
    assert_ne!(next.value("show work_mem"), "1234kB");
    assert_eq!(
        next.try_query("select count(*) from mine")
            .error()
            .sqlstate(),
        "42P01"
    );
    assert_eq!(next.try_query("execute p").error().sqlstate(), "26000");
    let locks =
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    assert_eq!(next.value(locks), "0");
}

#[test]
fn session_with_another_reset_query() {
    let setup = Setup::new().pool_size(1).set("pool_mode", "session");
    let pooler = setup.set("server_reset_query", "reset work_mem").start();
    let mut client = pooler.login();
    let pid = client.value(PID);
    client.query("set work_mem = '1234kB'; create temp table left_over (a int)");
    drop(client);
    let mut next = pooler.login();
    assert_eq!(next.value(PID), pid);
    assert_ne!(next.value("show work_mem"), "1234kB");
    assert_eq!(next.value("select count(*) from left_over"), "0");
}

#[test]
fn session_ended_within_a_transaction() {
    let pooler = Setup::new()
        .pool_size(1)
        .set("pool_mode", "session")
        .start();
    let mut client = pooler.login();
    client.query("begin; create table never (a int)");
    client.send(&Frontend::new().terminate());
    let mut next = pooler.login();
    assert_eq!(next.query("select to_regclass('never')").rows(), [[None]]);
}

#[test]
fn transaction_shares_between_transactions() {
    let pooler = Setup::new().pool_size(1).start();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    let pid = first.value(PID);
    assert_eq!(second.value(PID), pid);

    first.query("begin");
    second.send(&Frontend::new().query(PID));
    pooler.expect_waiting(1);
    first.query("savepoint a; select 1");
    assert_eq!(first.try_query("select 1/0").status(), 'E');
    assert_eq!(first.query("rollback to a").status(), 'T');
    pooler.expect_waiting(1);
    first.query("commit");
    assert_eq!(second.answer().value(), pid);
}

#[test]
fn transaction_holds_through_a_failed_transaction() {
    let pooler = Setup::new().pool_size(1).start();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    assert_eq!(first.try_query("begin; select 1/0").status(), 'E');
    second.send(&Frontend::new().query("select 1"));
    pooler.expect_waiting(1);
    assert_eq!(first.try_query("select 2").error().sqlstate(), "25P02");
    first.query("rollback");
    assert_eq!(second.answer().value(), "1");
}

#[test]
fn transaction_begun_in_a_pipeline() {
    let pooler = Setup::new().pool_size(1).start();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    let script = Frontend::new()
        .run("begin", &[])
        .run("select 1", &[])
        .sync();
    assert_eq!(first.exchange(&script).status(), 'T');
    second.send(&Frontend::new().query("select 1"));
    pooler.expect_waiting(1);
    assert_eq!(
        first
            .exchange(&Frontend::new().run("commit", &[]).sync())
            .status(),
        'I'
    );
    assert_eq!(second.answer().value(), "1");
}

#[test]
fn transaction_with_server_reset_query_always() {
    let setup = Setup::new()
        .pool_size(1)
        .set("session_features", "ignore")
        .set("server_reset_query_always", true);
    let pooler = setup.start();
    let mut client = pooler.login();
    client.query("create temp table mine (a int)");
    assert_eq!(
        client.try_query("select * from mine").error().sqlstate(),
        "42P01"
    );
}

#[test]
fn statement_refuses_transaction_blocks() {
    let pooler = Setup::new().set("pool_mode", "statement").start();
    let mut client = pooler.login();
    assert_eq!(client.value("select 1"), "1");
    assert_eq!(client.query("select 1; select 2").column(), ["1", "2"]);
    assert_eq!(
        client
            .exchange(&Frontend::new().run("select 3", &[]).sync())
            .value(),
        "3"
    );
    assert_eq!(client.try_query("selekt").error().sqlstate(), "42601");
    assert_eq!(client.value("select 4"), "4");
    for begin in [
        Frontend::new().query("begin"),
        Frontend::new().run("begin", &[]).sync(),
        Frontend::new().query("/* a */ start transaction"),
    ] {
        let mut client = pooler.login();
        client.send(&begin);
        let mut messages = client.read_to_end();
        messages.retain(|message| message.tag == b'E');
        let failure = messages.first().expect("an error").failure();
        let text = "transaction blocks not allowed in statement pooling mode";
        assert!(failure.message().contains(text), "{failure:?}");
        assert_eq!(pooler.login().query("select 1").status(), 'I');
    }
}

#[test]
fn per_database_and_per_user() {
    let setup = Setup::new().alias("by_session");
    let setup = setup.database("by_session", "pool_mode", "session");
    let pooler = setup.user("app2", "pool_mode", "statement").start();
    let modes = |database: &str, user: &str| {
        RawClient::login(&pooler.address, user, database).query("select 1");
        let pools = pooler.show("POOLS");
        let pool = pools
            .iter()
            .find(|p| p["database"] == database && p["user"] == user);
        pool.expect("a pool")["pool_mode"].clone()
    };
    assert_eq!(modes(&pooler.database, "app"), "transaction");
    assert_eq!(modes("by_session", "app"), "session");
    assert_eq!(modes(&pooler.database, "app2"), "statement");
    assert_eq!(modes("by_session", "app2"), "statement", "the user's wins");
    // And not only in what is shown.
    let mut session = RawClient::login(&pooler.address, "app", "by_session");
    session.query("create temp table mine (a int)");
    assert_eq!(session.value("select count(*) from mine"), "0");
}

#[test]
fn a_session_is_reset_although_the_mode_has_changed() {
    let mut pooler = Setup::new()
        .pool_size(1)
        .set("pool_mode", "session")
        .start();
    let mut client = pooler.login();
    client.query("create temporary table mine (a int)");
    pooler.rewrite(|setup| setup.set("pool_mode", "transaction"));
    pooler.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the reload", true, || {
        pooler.log().contains("configuration reloaded")
    });
    drop(client);
    let left = "select count(*) from pg_class where relname = 'mine'";
    assert_eq!(pooler.login().value(left), "0");
}
