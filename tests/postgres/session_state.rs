//! What a client has left in its session is there in its next transaction,
//! whichever server connection that gets, and nobody else finds it.

use crate::stats_port::metrics;
use crate::support::{
    Cluster, Frontend, Pooler, RawClient, Setup, eventually, free_port, patiently,
};

/// Two clients over two connections, so that each could be given the other's.
fn start() -> Pooler {
    Setup::new().one_worker().pool_size(2).pinning().start()
}

/// Each client gets the connection that another has used.
fn one_connection() -> Pooler {
    Setup::new().pool_size(1).pinning().start()
}

/// Has `others` take and change every connection that is free.
fn shuffle(others: &mut [RawClient]) {
    for other in others.iter_mut() {
        other.query("begin");
        other.query("set local work_mem = '3MB'");
    }
    for other in others.iter_mut() {
        other.query("commit");
        other.query("set work_mem = '4MB'");
    }
}

/// Tests share the server, but not their databases.
fn create_role(pooler: &Pooler) {
    let create = "create role some_role; exception when duplicate_object then null;";
    let mut admin = pooler.admin();
    admin.query(&format!("do $$ begin {create} end $$"));
    admin.query("grant some_role to app");
}

#[track_caller]
fn expect_pin(pooler: &Pooler, reason: &str) {
    // The client has its answer before the server is asked.
    eventually("pin_reason", vec![reason.to_owned()], || pins(pooler));
}

fn pins(pooler: &Pooler) -> Vec<String> {
    let rows = pooler.show("clients");
    let reasons = rows.into_iter().map(|row| row["pin_reason"].clone());
    reasons.filter(|reason| !reason.is_empty()).collect()
}

#[test]
fn settings_that_are_not_reported_follow_their_client() {
    let pooler = one_connection();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    let default = second.value("show work_mem");
    for (set, name, value) in [
        ("set work_mem = '3MB'", "work_mem", "3MB"),
        (
            "set search_path to a, \"B b\", pg_catalog",
            "search_path",
            "a, \"B b\", pg_catalog",
        ),
        ("set my.own = 'it''s'", "my.own", "it's"),
        (
            "select set_config('statement_timeout', '70s', false)",
            "statement_timeout",
            "70s",
        ),
        (
            "set session characteristics as transaction isolation level serializable",
            "default_transaction_isolation",
            "serializable",
        ),
        ("set schema 'x'", "search_path", "x"),
        (
            "select pg_catalog.set_config('search_path', '', false)",
            "search_path",
            "",
        ),
        (
            "begin; set enable_seqscan = off; commit",
            "enable_seqscan",
            "off",
        ),
        (
            "begin; savepoint a; set enable_sort = off; release a; commit",
            "enable_sort",
            "off",
        ),
    ] {
        first.query(set);
        assert_eq!(first.value(&format!("show {name}")), value, "{set}");
        let theirs = second.value(&format!("select current_setting('{name}', true)"));
        assert_ne!(theirs, value, "{set}");
        assert_eq!(first.value(&format!("show {name}")), value, "{set}");
    }
    // The extended protocol.
    first.exchange(&Frontend::new().run("set work_mem = '5MB'", &[]).sync());
    assert_eq!(second.value("show work_mem"), default);
    assert_eq!(first.value("show work_mem"), "5MB");
    first.query("reset work_mem");
    assert_eq!(first.value("show work_mem"), default);
    first.query("set work_mem = '6MB'");
    first.query("discard all");
    assert_eq!(first.value("show work_mem"), default);
    assert_eq!(pooler.backends().len(), 1);
    assert!(pins(&pooler).is_empty());
}

#[test]
fn what_was_rolled_back_was_not_set() {
    let pooler = one_connection();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    first.query("set work_mem = '3MB'");
    for text in [
        "begin; set work_mem = '4MB'; rollback",
        "begin; set work_mem = '4MB'; select 1/0; commit",
        "begin; savepoint a; set work_mem = '4MB'; rollback to a; commit",
        "set work_mem = 'nonsense'",
        "set work_mem = '4MB'; select 1/0",
        "set max_connections = 5",
        "begin; reset all; rollback",
        "begin; set local work_mem = '4MB'; commit",
    ] {
        first.try_query(text);
        if first.try_query("select 1").status() != 'I' {
            first.query("rollback");
        }
        assert_eq!(first.value("show work_mem"), "3MB", "{text}");
        second.value("show work_mem");
        assert_eq!(first.value("show work_mem"), "3MB", "{text}");
    }
}

#[test]
fn reset_goes_back_to_what_the_session_began_with() {
    let pooler = one_connection();
    let options = [("TimeZone", "Asia/Tokyo"), ("options", "-c work_mem=3MB")];
    let (mut first, mut second) = (pooler.login_with(&options), pooler.login());
    for reset in [
        "reset timezone",
        "reset all",
        "discard all",
        "set timezone to default",
    ] {
        first.query("set timezone = 'America/New_York'");
        first.query(reset);
        assert_eq!(first.value("show timezone"), "Asia/Tokyo", "{reset}");
        assert_eq!(first.parameters["TimeZone"], "Asia/Tokyo", "{reset}");
        second.query("select 1");
        assert_eq!(first.value("show timezone"), "Asia/Tokyo", "{reset}");
    }
    first.query("set work_mem = '5MB'");
    first.query("reset work_mem");
    assert_eq!(first.value("show work_mem"), "3MB");
    assert_ne!(second.value("show work_mem"), "3MB");
}

#[test]
fn a_reset_goes_back_on_a_connection_that_is_kept_as_well() {
    let pooler = Setup::new().pinning().start();
    let mut client = pooler.login_with(&[("options", "-c search_path=mine -c app.a=1")]);
    client.query("create temp table t (a int)");
    client.query("set search_path = other");
    for reset in ["reset all", "reset search_path"] {
        client.query(reset);
        assert_eq!(client.value("show search_path"), "mine", "{reset}");
        assert_eq!(client.value("show app.a"), "1", "{reset}");
    }
    client.query("select * from t");
}

#[test]
fn a_reset_is_reported_as_the_session_knows_it() {
    let pooler = one_connection();
    let mut client = pooler.login_with(&[("TimeZone", "Asia/Tokyo")]);
    for reset in ["reset all", "reset timezone", "discard all"] {
        client.parameters.clear();
        client.query(reset);
        client.query("select 1");
        assert!(
            client.parameters.is_empty(),
            "{reset}: {:?}",
            client.parameters
        );
        client.query("set timezone = 'UTC'");
        client.query(reset);
        client.query("select 1");
        assert_eq!(client.parameters["TimeZone"], "Asia/Tokyo", "{reset}");
    }
}

#[test]
fn a_session_does_not_begin_with_what_a_transaction_has_set() {
    let pooler = Setup::new().pinning().start();
    let mut client = pooler.login_with(&[("TimeZone", "Asia/Tokyo")]);
    client.query("begin");
    client.query("set local timezone = 'America/New_York'");
    client.query("set work_mem = '3MB'");
    client.query("commit");
    client.query("reset all");
    assert_eq!(client.value("show timezone"), "Asia/Tokyo");
    assert_eq!(client.parameters["TimeZone"], "Asia/Tokyo");
}

#[test]
fn a_role_follows_its_client() {
    let pooler = one_connection();
    let user = pooler.login().value("select current_user");
    create_role(&pooler);
    let (mut first, mut second) = (pooler.login(), pooler.login());
    first.query("set role some_role");
    assert_eq!(first.value("select current_user"), "some_role");
    assert_eq!(second.value("select current_user"), user);
    assert_eq!(first.value("select current_user"), "some_role");
    // It hides nothing from what sets the other settings.
    first.query("set work_mem = '3MB'");
    second.query("set enable_sort = off");
    assert_eq!(
        first.value("select current_user || current_setting('work_mem')"),
        "some_role3MB"
    );
    first.query("reset all");
    assert_eq!(first.value("select current_user"), "some_role");
    first.query("reset role");
    assert_eq!(first.value("select current_user"), user);
    assert!(pins(&pooler).is_empty());
}

#[test]
fn a_role_that_no_text_names_is_nobody_elses() {
    let pooler = Setup::new().pool_size(1).pinning().start();
    create_role(&pooler);
    let user = pooler.login().value("select current_user");
    for hidden in [
        "do $$ begin execute 'set role some_role'; end $$",
        "select set_config('ro' || 'le', 'some_role', false)",
    ] {
        let mut first = pooler.login();
        first.query(hidden);
        assert_eq!(first.value("select current_user"), "some_role", "{hidden}");
        first.query("discard all");
        first.query(hidden);
        drop(first);
        let current = pooler.login().value("select current_user");
        assert_eq!(current, user, "{hidden}");
    }
    let (mut first, mut second) = (pooler.login(), pooler.login());
    first.query("do $$ begin execute 'set role some_role'; end $$");
    assert_eq!(second.value("select current_user"), user);
    assert_eq!(first.value("select current_user"), "some_role");
}

#[test]
fn an_empty_setting_is_set_nevertheless() {
    let pooler = one_connection();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    first.query("set app.empty = ''");
    second.query("set app.other = 'x'");
    pooler.console().query("reconnect");
    assert_eq!(first.value("select current_setting('app.empty') = ''"), "t");
}

/// Where the library is loaded an empty text is no number.
#[test]
fn a_setting_of_a_library_is_reset_wherever_the_library_is() {
    let pooler = start();
    pooler.direct().query("create extension pg_trgm");
    let (mut client, mut other) = (pooler.login(), pooler.login());
    for reset in ["reset pg_trgm.similarity_threshold", "reset all"] {
        client.query("set pg_trgm.similarity_threshold = 0.5");
        client.query(reset);
        other.query("begin; select show_limit()");
        assert_eq!(client.value("select show_limit()"), "0.3");
        other.query("commit");
        other.query("set work_mem = '5MB'");
        shuffle(&mut [pooler.login(), pooler.login()]);
        for _ in 0..4 {
            assert_eq!(client.value("select show_limit()"), "0.3");
            other.query("select show_limit()");
        }
    }
}

/// What is empty where the database says otherwise has been set so.
#[test]
fn an_empty_setting_has_precedence_over_a_default() {
    let pooler = one_connection();
    let database = pooler.direct().value("select current_database()");
    let alter = format!("alter database \"{database}\" set app.tenant = 'default'");
    pooler.admin().query(&alter);
    let (mut first, mut second) = (pooler.login(), pooler.login());
    first.query("set app.tenant = ''");
    assert_eq!(second.value("show app.tenant"), "default");
    assert_eq!(first.value("show app.tenant"), "");
    first.query("reset app.tenant");
    assert_eq!(second.value("show app.tenant"), "default");
    assert_eq!(first.value("show app.tenant"), "default");
}

#[test]
fn changed_defaults_of_a_role_hold_for_the_next_login() {
    let pooler = Setup::new().pinning().start();
    let database = pooler.direct().value("select current_database()");
    let mut client = pooler.login();
    let alter = format!("alter role app in database \"{database}\" set work_mem = '3MB'");
    client.query(&alter);
    eventually("work_mem", "3MB".to_owned(), || {
        pooler.login().value("show work_mem")
    });
}

#[test]
fn what_a_client_leaves_is_its_own_until_it_is_gone() {
    for (leave, look, expected, release, reason) in [
        (
            "create temp table t as select 7 as a",
            "select a from t",
            "7",
            "drop table t",
            "temporary object",
        ),
        (
            "select 7 as a into temp t",
            "select a from t",
            "7",
            "discard temp",
            "temporary object",
        ),
        (
            "create function pg_temp.f() returns int language sql as 'select 7'",
            "select pg_temp.f()",
            "7",
            "drop function pg_temp.f",
            "temporary object",
        ),
        (
            "begin; declare c scroll cursor with hold for select 7; commit",
            "fetch first from c",
            "7",
            "close c",
            "cursor with hold",
        ),
        (
            "select pg_advisory_lock(7)",
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
            "1",
            "select pg_advisory_unlock(7)",
            "advisory lock",
        ),
        (
            "prepare p as select 7",
            "execute p",
            "7",
            "deallocate p",
            "prepare",
        ),
        (
            // Other channels are heard by another connection.
            "listen U&\"a\"",
            "select pg_listening_channels()",
            "a",
            "unlisten a",
            "listen",
        ),
        (
            "do $$ begin create temp table t as select 7 as a; end $$",
            "select a from t",
            "7",
            "drop table t",
            "temporary object",
        ),
    ] {
        let pooler = start();
        create_role(&pooler);
        let mut client = pooler.login();
        let mut others = [pooler.login()];
        client.query(leave);
        expect_pin(&pooler, reason);
        for _ in 0..3 {
            shuffle(&mut others);
            assert_eq!(client.value(look), expected, "{leave}");
        }
        client.query(release);
        eventually("no pin", Vec::<String>::new(), || pins(&pooler));
        // Who leaves takes everything along.
        client.query(leave);
        drop(client);
        pooler.expect_backends(2);
        let mut fresh = [pooler.login(), pooler.login()];
        for one in &mut fresh {
            one.query("begin");
        }
        for one in &mut fresh {
            assert_eq!(
                one.value(
                    "select concat_ws(',', \
                     (select count(*) from pg_class where relnamespace = pg_my_temp_schema()), \
                     (select count(*) from pg_cursors), \
                     (select count(*) from pg_locks where locktype = 'advisory' \
                         and pid = pg_backend_pid()), \
                     (select count(*) from pg_prepared_statements), \
                     (select count(*) from pg_listening_channels()), \
                     (select string_agg(name, ' ') from pg_settings where source = 'session'), \
                     session_user, current_user)"
                ),
                "0,0,0,0,0,app,app",
                "{leave}"
            );
        }
    }
}

#[test]
fn functions_triggers_and_views_hide_nothing() {
    let pooler = start();
    let mut maker = pooler.login();
    maker.query(
        "create function hidden(text) returns text language sql
             as $$ select set_config('app.hidden', $1, false) $$;
         create function outer_one(text) returns text language sql as 'select hidden($1)';
         create function temporary_one() returns int language plpgsql
             as $$ begin create temp table t as select 7 as a; return 1; end $$;
         create function locks() returns trigger language plpgsql
             as $$ begin perform pg_advisory_lock(7); return new; end $$;
         create table locked (a int);
         create trigger locks before insert on locked for each row execute function locks();
         create table by_default (a text default hidden('default'));
         create table by_itself (a text default set_config('app.hidden', 'itself', false));
         create view seen as select set_config('app.hidden', 'view', false) as a;
         create view seen_through as select * from seen",
    );
    // When it is answered they are known.
    maker.query("select 1");
    let (mut client, mut others) = (pooler.login(), [pooler.login()]);
    for (text, value) in [
        ("select outer_one('function')", "function"),
        ("insert into by_default default values", "default"),
        ("insert into by_itself values (default)", "itself"),
        ("select * from seen_through", "view"),
    ] {
        client.query("set app.hidden = 'before'");
        client.query(text);
        for _ in 0..3 {
            shuffle(&mut others);
            assert_eq!(client.value("show app.hidden"), value, "{text}");
            let theirs =
                others[0].value("select coalesce(current_setting('app.hidden', true), '')");
            assert_eq!(theirs, "", "{text}");
        }
    }
    client.exchange(&Frontend::new().run("select temporary_one()", &[]).sync());
    expect_pin(&pooler, "temporary object");
    assert_eq!(client.value("select a from t"), "7");
    client.query("drop table t");
    eventually("no pin", Vec::<String>::new(), || pins(&pooler));
    client.query("insert into locked values (1)");
    expect_pin(&pooler, "advisory lock");
}

#[test]
fn nobody_is_told_of_the_sequences_of_others() {
    for pinning in [false, true] {
        let pooler = Setup::new()
            .pool_size(if pinning { 3 } else { 1 })
            .pinning()
            .set("pin_sequences", pinning)
            .start();
        let (mut first, mut second) = (pooler.login(), pooler.login());
        first.query("create table counted (id serial, a int)");
        first.query("insert into counted values (default, 1)");
        let undefined = |answer: crate::support::Answer| answer.error().sqlstate() == "55000";
        let by_name = "select currval('counted_id_seq')";
        assert!(undefined(second.try_query("select lastval()")));
        assert!(undefined(
            second.exchange(&Frontend::new().run(by_name, &[]).sync())
        ));
        drop(second);
        second = pooler.login();
        // Who has asked once is told from then on.
        if !pinning {
            assert!(undefined(first.try_query("select lastval()")));
            first.query("insert into counted values (default, 2)");
        }
        assert_eq!(
            first.value("select lastval()"),
            if pinning { "1" } else { "2" }
        );
        expect_pin(&pooler, "currval");
        first.query("discard sequences");
        eventually("no pin", Vec::<String>::new(), || pins(&pooler));
        // Within a transaction nobody else can come in between.
        let within = "begin; insert into counted values (default, 3); select lastval(); commit";
        assert_eq!(second.value(within), if pinning { "2" } else { "3" });
    }
}

#[test]
fn who_it_has_become_is_undone() {
    let cluster = Cluster::fresh();
    let pooler = Setup::with(&cluster).pool_size(2).pinning().start();
    create_role(&pooler);
    pooler.admin().query("alter role app superuser");
    let (mut client, mut others) = (pooler.login(), [pooler.login()]);
    client.query("set session authorization some_role");
    expect_pin(&pooler, "session authorization");
    for _ in 0..3 {
        shuffle(&mut others);
        let names = "select session_user || ' ' || current_user";
        assert_eq!(client.value(names), "some_role some_role");
        assert_eq!(others[0].value(names), "app app");
    }
    client.query("reset session authorization");
    eventually("no pin", Vec::<String>::new(), || pins(&pooler));
    assert_eq!(client.value("select session_user"), "app");
}

#[test]
fn a_feature_that_is_not_allowed_is_named() {
    let pooler = Setup::new().set("session_features", "error").start();
    let mut client = pooler.login();
    let hint = "Use pool_mode = session or session_features = pin for this database or user.";
    for (text, feature) in [
        ("create temp table t (a int)", "temporary object"),
        ("select pg_advisory_lock(1)", "advisory lock"),
        ("listen U&\"a\"", "listen"),
    ] {
        for answer in [
            client.try_query(text),
            client.exchange(&Frontend::new().run(text, &[]).sync()),
        ] {
            let error = answer.error();
            assert_eq!(error.sqlstate(), "0A000");
            let message = format!("session feature not allowed: {feature}");
            assert_eq!(error.message(), message);
            assert_eq!(error.fields[&'H'], hint);
            assert_eq!(answer.status(), 'I');
        }
        // As an error of the server would, it spoils the transaction.
        client.query("begin");
        assert_eq!(client.try_query(text).status(), 'E');
        client.query("rollback");
    }
    client.query("set work_mem = '3MB'");
    assert_eq!(client.value("show work_mem"), "3MB");
    assert!(pins(&pooler).is_empty());
}

#[test]
fn only_so_many_clients_are_pinned() {
    let port = free_port();
    let pooler = Setup::new()
        .pool_size(3)
        .pinning()
        .set("max_pinned_connections", 1)
        .set("stats_listen", &*format!("127.0.0.1:{port}"))
        .start();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    first.query("create temp table t (a int)");
    expect_pin(&pooler, "temporary object");
    let error = second.try_query("create temp table t (a int)").error();
    assert_eq!(error.sqlstate(), "0A000");
    assert_eq!(
        error.message(),
        "no place left for a session feature: temporary object"
    );
    assert!(error.detail().starts_with("max_pinned_connections = 1, "));
    let reason = "reason=\"temporary object\"";
    let metrics = metrics(port);
    let line = metrics
        .lines()
        .find(|line| line.contains("pins_total") && line.contains(reason));
    assert!(line.is_some_and(|line| line.ends_with(" 1")), "{line:?}");
    // Who is pinned may leave more.
    first.query("select pg_advisory_lock(1)");
    drop(first);
    let text = "create temp table t (a int)";
    patiently("a place", || {
        second.try_query(text).errors().is_empty().then_some(())
    });
}

#[test]
fn in_an_ini_the_next_client_finds_what_was_left() {
    let pooler = Setup::new().in_ini().pool_size(1).start();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    first.query("create temp table t (a int); set work_mem = '3MB'");
    second.query("select * from t");
    assert_eq!(second.value("show work_mem"), "3MB");
}

/// A connection on which temporary objects were used refuses it.
#[test]
fn temp_buffers_keep_their_connection() {
    let setup = Setup::new().one_worker().pool_size(2);
    let setup = setup.set("session_features", "pin");
    let pooler = setup.set("max_pinned_connections", 2).start();
    let mut client = pooler.login();
    client.query("set temp_buffers = 200");
    expect_pin(&pooler, "set_config");
    client.query("reset all");
    eventually("pins", Vec::new(), || pins(&pooler));
    client.query("select set_config('temp_buffers', '300', false)");
    expect_pin(&pooler, "set_config");
    let mut other = pooler.login();
    other.query("create temp table t (a int)");
    other.query("insert into t values (1)");
    other.query("discard temp");
    shuffle(&mut [other]);
    assert_eq!(client.value("show temp_buffers"), "2400kB");
}
