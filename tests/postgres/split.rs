//! The network cuts where it likes: within a length, between two messages,
//! after each byte.

use std::time::Duration;

use crate::support::{Frontend, Message, Pooler, RawClient, Setup};

/// A whole connection in one piece: login, every kind of request, good-bye.
fn conversation(database: &str) -> Vec<u8> {
    let parameters = [
        ("user", "app"),
        ("database", database),
        ("DateStyle", "German"),
    ];
    Frontend::new()
        .startup((3, 0), &parameters)
        .query("select 'simple'")
        .parse("one", "select $1::text, 'extended'")
        .describe(b'S', "one")
        .bind("", "one", &["parameter"])
        .execute("", 0)
        .close(b'S', "one")
        .flush()
        .sync()
        .run("select 1/0", &[])
        .sync()
        .query("copy t from stdin")
        .copy_data(b"1\n2\n")
        .copy_done()
        .query("begin; delete from t; commit")
        .terminate()
        .bytes
}

/// Sends the pieces one after the other; returns what comes back, without what
/// is different each time.
fn converse<'a>(pooler: &Pooler, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Message> {
    let mut client = RawClient::connect(&pooler.address);
    for piece in pieces {
        client.send_bytes(piece);
        // Only makes it likely that the pieces arrive apart.
        std::thread::sleep(Duration::from_micros(300));
    }
    let mut messages = client.read_to_end();
    messages.retain(|message| message.tag != b'K');
    messages
}

fn with_table() -> Pooler {
    let pooler = Setup::new().start();
    pooler.direct().query("create table t (a int)");
    pooler
}

#[test]
fn at_every_byte_boundary() {
    let pooler = with_table();
    let bytes = conversation(&pooler.database);
    let whole = converse(&pooler, [bytes.as_slice()]);
    assert_eq!(whole.iter().filter(|m| m.tag == b'Z').count(), 6);
    for at in 1..bytes.len() {
        let (first, second) = bytes.split_at(at);
        let seen = converse(&pooler, [first, second]);
        assert_eq!(seen, whole, "split at {at} of {}", bytes.len());
    }
}

#[test]
fn byte_by_byte() {
    let pooler = with_table();
    let bytes = conversation(&pooler.database);
    let whole = converse(&pooler, [bytes.as_slice()]);
    assert_eq!(converse(&pooler, bytes.chunks(1)), whole);
    assert_eq!(converse(&pooler, bytes.chunks(3)), whole);
}

#[test]
fn rows_and_parameters_of_sizes_around_powers_of_two() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    for power in 8..=20 {
        for size in ((1usize << power) - 24)..((1 << power) + 24) {
            // One in three is enough for the large ones.
            if power > 13 && size % 3 != 0 {
                continue;
            }
            let sql = "select $1, length($1)";
            let script = Frontend::new()
                .run(sql, &["x".repeat(size).as_str()])
                .sync();
            let rows = client.exchange(&script).rows();
            let row = rows.first().expect("a row");
            assert_eq!(row[1], Some(size.to_string()));
            assert_eq!(row[0].as_ref().map(String::len), Some(size));
        }
    }
}

#[test]
fn behind_a_long_message_within_the_next() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    let sql = format!("select 'long' /* {} */", "x".repeat(1 << 20));
    let long = Frontend::new().parse("long", &sql).sync().bytes;
    let next = Frontend::new().run("select 'next'", &[]).sync().bytes;
    for at in 1..next.len() {
        let (tail, rest) = (long.len() - 20, &next[at..]);
        client.send_bytes(&long[..tail]);
        // The end of the long message and a part of the next in one piece.
        client.send_bytes(&[&long[tail..], &next[..at]].concat());
        assert_eq!(client.answer().tags(), "1Z", "cut at {at}");
        client.send_bytes(rest);
        assert_eq!(client.answer().value(), "next", "cut at {at}");
        client.exchange(&Frontend::new().close(b'S', "long").sync());
    }
}
