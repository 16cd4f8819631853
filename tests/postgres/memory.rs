//! Rows and COPY data of any size pass in constant memory.

use crate::support::{Frontend, Pooler, Setup};

const MB: u64 = 1 << 20;
/// What may come on top, whatever passes through.
const ALLOWED: u64 = 8 * MB;

/// A pooler whose code and buffers are warm, and its memory.
fn warm() -> (Pooler, u64) {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("create table t (a text)");
    client.query("select repeat('x', 1000) from generate_series(1, 1000)");
    pooler.peak_memory();
    let memory = pooler.memory();
    (pooler, memory)
}

#[track_caller]
fn assert_flat(pooler: &Pooler, before: u64) {
    let grown = pooler.peak_memory().saturating_sub(before);
    assert!(grown < ALLOWED, "grown by {grown} bytes");
}

#[test]
fn one_gigabyte_of_copy_out() {
    let (pooler, before) = warm();
    let mut client = pooler.login();
    let row = 1_000_000;
    let sql =
        format!("copy (select repeat('x', {row} - 1) from generate_series(1, 1000)) to stdout");
    client.send(&Frontend::new().query(&sql));
    assert_eq!(client.read().tag, b'H');
    for _ in 0..1000 {
        assert_eq!(client.read_header(), (b'd', row));
        client.skip_bytes(row);
    }
    assert_eq!(client.answer().tags(), "cCZ");
    assert_flat(&pooler, before);
}

#[test]
fn one_value_of_500_megabytes() {
    let (pooler, before) = warm();
    let mut client = pooler.login();
    let size = 500 * MB as usize;
    let sql = format!("select repeat('x', {size})");
    client.send(&Frontend::new().run(&sql, &[]).sync());
    assert_eq!([client.read().tag, client.read().tag], [b'1', b'2']);
    assert_eq!(client.read_header(), (b'D', size + 6));
    client.skip_bytes(size + 6);
    assert_eq!(client.answer().tags(), "CZ");
    assert_flat(&pooler, before);
}

#[test]
fn many_rows_to_a_client_that_does_not_read() {
    let (pooler, before) = warm();
    let mut client = pooler.login();
    let sql = "select repeat('x', 10000) from generate_series(1, 100000)";
    client.send(&Frontend::new().query(sql));
    client.skip_bytes(10_000_000);
    // Another client's long way through the same process gives the server time
    // to send whatever anybody would take.
    let mut other = pooler.login();
    for _ in 0..500 {
        other.query("select repeat('y', 10000)");
    }
    assert_flat(&pooler, before);
    assert_eq!(pooler.login().value("select 1"), "1");
}

#[test]
fn copy_in_of_200_megabytes() {
    let (pooler, before) = warm();
    let mut client = pooler.login();
    client.query(
        "create function nothing() returns trigger language plpgsql as 'begin return null; end'",
    );
    client
        .query("create trigger nothing before insert on t for each row execute function nothing()");
    client.send(&Frontend::new().query("copy t from stdin"));
    assert_eq!(client.read().tag, b'G');
    let line = [vec![b'x'; 999_999], vec![b'\n']].concat();
    let data = Frontend::new().copy_data(&line);
    for _ in 0..200 {
        client.send(&data);
    }
    let answer = client.exchange(&Frontend::new().copy_done());
    assert_eq!(answer.command_tags(), ["COPY 0"]);
    assert_flat(&pooler, before);
}

#[test]
fn large_parameters_and_queries_arrive() {
    let (pooler, _) = warm();
    let mut client = pooler.login();
    let value = "ä".repeat(32 * MB as usize);
    let script = Frontend::new()
        .run("select length($1), md5($1)", &[&value])
        .sync();
    let row = client.exchange(&script).rows().remove(0);
    assert_eq!(row[0].as_deref(), Some("33554432"));
    let expected = pooler
        .admin()
        .value(&format!("select md5(repeat('ä', {}))", 32 * MB));
    assert_eq!(row[1].as_deref(), Some(expected.as_str()));

    let query = format!("select length('{}')", "x".repeat(20 * MB as usize));
    assert_eq!(client.value(&query), (20 * MB).to_string());
    // A comment can be long as well, in a statement that is kept.
    let text = format!("select 7 /* {} */", "y".repeat(2 * MB as usize));
    let script = Frontend::new()
        .parse("long", &text)
        .bind("", "long", &[])
        .execute("", 0)
        .sync();
    assert_eq!(client.exchange(&script).value(), "7");
}

#[test]
fn memory_is_given_back() {
    let (pooler, before) = warm();
    for _ in 0..3 {
        let mut client = pooler.login();
        let big = "x".repeat(8 * MB as usize);
        let script = Frontend::new().run("select $1", &[&big]).sync();
        assert_eq!(client.exchange(&script).value().len(), big.len());
        let parse = Frontend::new()
            .parse("s", &format!("select 1 --{big}"))
            .sync();
        client.exchange(&parse);
    }
    assert_eq!(pooler.login().value("select 1"), "1");
    let grown = pooler.memory().saturating_sub(before);
    assert!(grown < 40 * MB, "grown by {grown} bytes");
}

/// Closing a name needs no answer of the server's, so nothing but the pooler
/// itself can stop a client that goes on.
#[test]
fn requests_behind_a_long_query() {
    let (pooler, before) = warm();
    let mut client = pooler.login();
    let pid = client
        .query("begin; select pid from pg_backend_pid() as pid")
        .value();
    client.send(&Frontend::new().query("select pg_sleep(600)"));
    let closes = Frontend::new().close(b'S', "a").bytes.repeat(8 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| client.try_send(&closes));
        std::thread::sleep(std::time::Duration::from_secs(2));
        let grown = pooler.memory().saturating_sub(before);
        pooler
            .admin()
            .query(&format!("select pg_terminate_backend({pid})"));
        assert!(grown < ALLOWED, "grown by {grown} bytes");
    });
}

#[test]
fn a_pipeline_of_any_length_is_answered() {
    let (pooler, _) = warm();
    let mut client = pooler.login();
    let mut script = Frontend::new().run("select 1", &[]);
    for _ in 0..50_000 {
        script = script.close(b'S', "a");
    }
    let answer = client.exchange(&script.run("select 2", &[]).sync());
    assert_eq!(answer.rows().len(), 2);
    assert_eq!(answer.tags().matches('3').count(), 50_000);
}
