//! SUSPEND: everything stands still, and nothing is lost.

use std::time::Duration;

use crate::support::{Frontend, Pooler, RawClient, Setup, eventually, secs};

/// Long enough for an answer that must not come.
const WHILE: Duration = Duration::from_millis(200);

#[track_caller]
fn refused(console: &mut RawClient, command: &str, text: &str) {
    let error = console.try_query(command).error();
    let seen = (error.severity(), error.sqlstate(), error.message());
    assert_eq!(seen, ("ERROR", "08P01", text), "{command}");
}

fn states(console: &mut RawClient) -> Vec<String> {
    let rows = console.query("SHOW STATE").rows();
    rows.into_iter()
        .map(|row| row[1].clone().unwrap())
        .collect()
}

#[test]
fn nothing_is_read_until_resume() {
    let pooler = Setup::new().start();
    let mut console = pooler.console();
    let mut clients: Vec<_> = (0..4).map(|_| pooler.login()).collect();
    let mut admin = pooler.admin();
    admin.query("select pg_advisory_lock(1)");
    let busy = &mut clients[0];
    busy.query("begin");
    busy.send(&Frontend::new().query("select pg_advisory_xact_lock(1), 'served'"));
    let waits = "select count(*) from pg_stat_activity where wait_event = 'advisory' \
                 and datname = current_database()";
    eventually("it has been sent on", "1".to_owned(), || admin.value(waits));
    assert_eq!(console.query("SUSPEND").command_tags(), ["SUSPEND"]);
    admin.query("select pg_advisory_unlock(1)");
    assert_eq!(states(&mut console), ["no", "no", "yes"]);
    for client in &mut clients[1..] {
        client.send(&Frontend::new().query("select 1, 'served'"));
    }
    for client in &mut clients {
        assert!(client.is_silent_for(WHILE));
    }
    for again in ["SUSPEND", "PAUSE"] {
        refused(&mut console, again, "already suspended/paused");
    }
    assert_eq!(console.query("RESUME").command_tags(), ["RESUME"]);
    for client in &mut clients {
        let row = client.answer().rows().remove(0);
        assert_eq!(row[1].as_deref(), Some("served"));
    }
    refused(&mut console, "RESUME", "pooler is not paused/suspended");
    assert_eq!(states(&mut console), ["yes", "no", "no"]);
}

#[test]
fn not_while_a_database_is_paused() {
    let pooler = Setup::new().start();
    let mut console = pooler.console();
    let name = &pooler.database;
    console.query(&format!("PAUSE {name}"));
    let text = "cannot suspend with paused databases";
    refused(&mut console, "SUSPEND", text);
    console.query(&format!("RESUME {name}"));
    assert_eq!(console.query("SUSPEND").command_tags(), ["SUSPEND"]);
}

/// More than the kernel holds for a client that does not read.
const LONG: &str = "select repeat('x', 1000) from generate_series(1, 100000)";

/// Does not read on: pgweir has something that it cannot write.
fn slow_reader(pooler: &Pooler) -> RawClient {
    let mut client = pooler.login();
    client.send(&Frontend::new().query(LONG));
    client.read();
    // Until all buffers of the kernel are full: the server process does not come on.
    let stuck = "select count(*) from pg_stat_activity where wait_event = 'ClientWrite' \
                 and datname = current_database()";
    let mut admin = pooler.admin();
    let mut times = 0;
    eventually("the server waits", 50, || {
        times = if admin.value(stuck) == "1" {
            times + 1
        } else {
            0
        };
        times
    });
    client
}

#[test]
fn what_is_under_way_arrives_first() {
    let pooler = Setup::new().start();
    let mut slow = slow_reader(&pooler);
    let mut console = pooler.console();
    console.send(&Frontend::new().query("SUSPEND"));
    assert!(console.is_silent_for(WHILE), "the client does not read");
    // It takes what there is for it; the rest stays with the server.
    let mut read = 0;
    while console.is_silent_for(WHILE) {
        while !slow.is_silent_for(WHILE) {
            slow.skip_bytes(1);
            read += 1;
        }
    }
    assert!(read > 0);
    assert_eq!(console.answer().command_tags(), ["SUSPEND"]);
    console.query("RESUME");
    slow.skip_bytes(1);
    slow.close();
}

#[test]
fn who_takes_too_long_is_disconnected() {
    let setup = Setup::new().set("suspend_timeout", secs(1.0));
    let pooler = setup.start();
    let _slow = slow_reader(&pooler);
    let mut idle = pooler.login();
    let mut console = pooler.console();
    assert_eq!(console.query("SUSPEND").command_tags(), ["SUSPEND"]);
    assert!(pooler.log().contains("suspend_timeout"), "{}", pooler.log());
    console.query("RESUME");
    assert_eq!(idle.value("select 1"), "1");
}

/// As with PgBouncer, whatever the format of the file.
#[test]
fn it_ends_with_the_last_console() {
    for ini in [true, false] {
        let pooler = Setup::new().in_format(ini).start();
        let mut client = pooler.login();
        let mut first = pooler.console();
        let second = pooler.console();
        first.query("SUSPEND");
        drop(first);
        client.send(&Frontend::new().query("select 'served'"));
        assert!(client.is_silent_for(WHILE), "somebody can still resume");
        drop(second);
        assert_eq!(client.answer().rows()[0][0].as_deref(), Some("served"));
        assert_eq!(states(&mut pooler.console()), ["yes", "no", "no"]);
        let text = "admin disappeared when suspended, doing RESUME";
        assert!(pooler.log().contains(text), "{}", pooler.log());
        // A PAUSE stays.
        pooler.console().query("PAUSE");
        std::thread::sleep(WHILE);
        assert_eq!(states(&mut pooler.console()), ["no", "yes", "no"]);
    }
}

#[test]
fn a_cancel_request_of_the_console_resumes() {
    let pooler = Setup::new().start();
    let _slow = slow_reader(&pooler);
    let mut console = pooler.console();
    console.send(&Frontend::new().query("SUSPEND"));
    assert!(console.is_silent_for(WHILE));
    console.cancel();
    let text = "RESUME came before the SUSPEND was complete";
    assert_eq!(console.answer().error().message(), text);
    assert_eq!(pooler.login().value("select 1"), "1");
}
