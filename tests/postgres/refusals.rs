//! What somebody is told who does not log in as one should: from a pgbouncer.ini
//! PgBouncer's words and its one SQLSTATE, otherwise the same words and
//! PostgreSQL's SQLSTATE.

use crate::support::{Failure, Frontend, Message, Pooler, RawClient, Setup};

/// The same configuration read from both kinds of file.
fn both(setup: impl Fn() -> Setup) -> [(Pooler, bool); 2] {
    [true, false].map(|ini| (setup().in_format(ini).start(), ini))
}

/// The last thing that is said to who sends this.
fn last_words(pooler: &Pooler, bytes: &[u8]) -> Failure {
    let mut client = RawClient::connect(&pooler.address);
    client.send_bytes(bytes);
    let said = client.read_to_end();
    said.last().expect("an answer").failure()
}

#[track_caller]
fn is_refusal(failure: &Failure, ini: bool, sqlstate: &str, message: &str) {
    assert_eq!(failure.message(), message);
    assert_eq!(failure.severity(), "FATAL", "{message}");
    let sqlstate = if ini { "08P01" } else { sqlstate };
    assert_eq!(failure.sqlstate(), sqlstate, "{message}");
}

fn packet(version: (u16, u16), body: &[u8]) -> Vec<u8> {
    let length = 8 + body.len() as u32;
    let (major, minor) = version;
    let head = [length, u32::from(major) << 16 | u32::from(minor)];
    [head.map(u32::to_be_bytes).concat().as_slice(), body].concat()
}

#[test]
fn startup_packets() {
    const SSL_REQUEST: (u16, u16) = (1234, 5679);
    let ssl = packet(SSL_REQUEST, b"");
    let long = format!("user\0{}\0\0", "x".repeat(128));
    let cases = [
        (packet((3, 0), b"\0"), "28000", "no username supplied"),
        (
            packet((3, 0), b"user\0\0\0"),
            "28000",
            "no username supplied",
        ),
        (
            packet((3, 0), long.as_bytes()),
            "08P01",
            "username too long",
        ),
        (
            packet((3, 0), b"user\0app\0\0x"),
            "08P01",
            "invalid startup packet layout: expected terminator as last byte",
        ),
        (
            packet((2, 0), &[0; 288]),
            "0A000",
            "old V2 protocol not supported",
        ),
        (
            [ssl.clone(), ssl.clone()].concat(),
            "08P01",
            "client re-sent startup pkt",
        ),
    ];
    for (pooler, ini) in both(Setup::new) {
        for (bytes, sqlstate, message) in &cases {
            let mut client = RawClient::connect(&pooler.address);
            // Who asks for TLS waits for the answer.
            let rest = match bytes.strip_prefix(ssl.as_slice()) {
                Some(rest) => {
                    client.send_bytes(&ssl);
                    assert_eq!(client.read_byte(), b'N');
                    rest
                }
                None => bytes,
            };
            client.send_bytes(rest);
            let said = client.read_to_end();
            let failure = said.last().expect("an answer").failure();
            is_refusal(&failure, ini, sqlstate, message);
        }
        assert_eq!(pooler.login().value("select 1"), "1");
    }
}

fn startup(pooler: &Pooler, user: &str) -> Vec<u8> {
    let parameters = [("user", user), ("database", pooler.database.as_str())];
    Frontend::new().startup((3, 0), &parameters).bytes
}

/// Asks for a login as `app` and answers each request with the next of `answers`.
fn answer(pooler: &Pooler, answers: &[&[u8]]) -> Failure {
    let mut client = RawClient::connect(&pooler.address);
    client.send_bytes(&startup(pooler, "app"));
    for answer in answers {
        let Message { tag, .. } = client.read();
        assert_eq!(tag, b'R');
        client.send(&Frontend::new().password(answer));
    }
    client.read_to_end().last().expect("an answer").failure()
}

#[test]
fn passwords() {
    for (pooler, ini) in both(|| Setup::new().set("auth_type", "plain")) {
        let cases: [(&[u8], &str, &str); 2] = [
            (b"\0", "28P01", "empty password returned by client"),
            (b"wrong\0", "28P01", "password authentication failed"),
        ];
        for (password, sqlstate, message) in cases {
            is_refusal(&answer(&pooler, &[password]), ini, sqlstate, message);
        }
    }
    for (pooler, ini) in both(|| Setup::new().set("auth_type", "scram-sha-256")) {
        let mechanism = "client selected an invalid SASL authentication mechanism";
        let failure = answer(&pooler, &[b"SCRAM-SHA-1\0\0\0\0\x05n,,n="]);
        is_refusal(&failure, ini, "08P01", mechanism);
        let refused = RawClient::try_login(&pooler.address, "app", &pooler.database, Some("wrong"));
        let failure = refused.expect_err("refused");
        is_refusal(&failure, ini, "28P01", "SASL authentication failed");
    }
    for (pooler, ini) in both(Setup::new) {
        let failure = last_words(&pooler, &startup(&pooler, "nobody"));
        is_refusal(&failure, ini, "28000", "\"trust\" authentication failed");
    }
}

#[test]
fn databases() {
    for (pooler, ini) in both(Setup::new) {
        let parameters = [("user", "app"), ("database", "nowhere")];
        let packet = Frontend::new().startup((3, 0), &parameters).bytes;
        let failure = last_words(&pooler, &packet);
        is_refusal(&failure, ini, "3D000", "no such database: nowhere");

        let database = pooler.database.clone();
        pooler.console().query(&format!("disable {database}"));
        let failure = last_words(&pooler, &startup(&pooler, "app"));
        let message = format!("database \"{database}\" is disabled");
        is_refusal(&failure, ini, "08P01", &message);
    }
}
