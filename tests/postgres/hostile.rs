//! Bad input gets an ErrorResponse with SQLSTATE and ends at most the client
//! that sent it: nobody else notices.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::support::{Frontend, Message, Pooler, RawClient, Setup, patiently, tags};

/// A client in the middle of a transaction, and the pool around it.
struct Witness {
    pooler: Pooler,
    client: RawClient,
    backend: String,
}

impl Witness {
    fn new(setup: Setup) -> Witness {
        let pooler = setup.start();
        let mut client = pooler.login();
        client.query("begin");
        let backend = client.value("select pid from pg_backend_pid() as pid");
        Witness {
            pooler,
            client,
            backend,
        }
    }

    /// The witness's transaction goes on, and others are served.
    #[track_caller]
    fn notices_nothing(&mut self) {
        let answer = self.client.query("select pid from pg_backend_pid() as pid");
        assert_eq!(answer.value(), self.backend);
        assert_eq!(answer.status(), 'T');
        assert_eq!(self.pooler.login().value("select 42"), "42");
    }
}

/// The messages must be a single error with a SQLSTATE.
#[track_caller]
fn is_refused(messages: &[Message], what: &str) {
    assert_eq!(tags(messages), "E", "{what}");
    let failure = messages[0].failure();
    assert_eq!(failure.severity(), "FATAL", "{what}: {failure:?}");
    assert_eq!(failure.sqlstate().len(), 5, "{what}: {failure:?}");
    assert!(!failure.message().is_empty(), "{what}");
}

fn packet(length: u32, rest: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes(), rest].concat()
}

#[test]
fn garbage_instead_of_a_startup_packet() {
    let mut witness = Witness::new(Setup::new());
    let long = vec![b'x'; 20_000];
    let version = [0, 3, 0, 0];
    for (what, bytes) in [
        ("length 0", packet(0, &[])),
        ("length 3", packet(3, &[])),
        ("length 7", packet(7, &[0, 3, 0])),
        ("length of 2 GB", packet(0x7fff_ffff, &version)),
        ("length of 4 GB", packet(0xffff_ffff, &version)),
        ("longer than 10 kB", packet(20_004, &long)),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (
            "TLS without asking",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh".to_vec(),
        ),
        (
            "no user",
            Frontend::new().startup((3, 0), &[("database", "x")]).bytes,
        ),
        ("no terminator", packet(17, b"\0\x03\0\0user\0app\0")),
        ("a name without a value", packet(14, b"\0\x03\0\0user\0\0")),
        ("text without an end", packet(16, b"\0\x03\0\0user\0app")),
        ("unknown special code", packet(8, &[4, 0xd2, 0x16, 0x99])),
        (
            "a cancel request without a key",
            packet(8, &[4, 0xd2, 0x16, 0x2e]),
        ),
    ] {
        let mut client = RawClient::connect(&witness.pooler.address);
        client.send_bytes(&bytes);
        let answer = client.read_to_end();
        if what != "a cancel request without a key" {
            is_refused(&answer, what);
        }
        witness.notices_nothing();
    }
}

#[test]
fn garbage_instead_of_a_password() {
    let setup = Setup::new().set("auth_type", "plain");
    let pooler = setup.user("plain", "password", "secret of plain").start();
    for (what, bytes) in [
        ("a query", Frontend::new().query("select 1").bytes),
        ("length 0", b"p\0\0\0\0".to_vec()),
        (
            "longer than 64 kB",
            Frontend::new().password(&[b'x'; 70_000]).bytes,
        ),
        (
            "2 GB",
            [b"p".as_slice(), &packet(0x7fff_ffff, &[])].concat(),
        ),
        ("empty body", Frontend::new().password(&[]).bytes),
        ("no end", Frontend::new().password(b"secret of plain").bytes),
    ] {
        let mut client = RawClient::connect(&pooler.address);
        let parameters = [("user", "plain"), ("database", pooler.database.as_str())];
        client.send(&Frontend::new().startup((3, 0), &parameters));
        assert_eq!(
            client.read().body,
            [0, 0, 0, 3],
            "cleartext password asked for"
        );
        // The pooler may have closed while the last bytes were sent.
        let _ = client.try_send(&bytes);
        let answer = client.read_to_end();
        if !answer.is_empty() {
            is_refused(&answer, what);
        }
    }
    let ok = RawClient::try_login(
        &pooler.address,
        "plain",
        &pooler.database,
        Some("secret of plain"),
    );
    assert_eq!(ok.expect("login").value("select 1"), "1");
}

#[test]
fn garbage_in_scram_messages() {
    let setup = Setup::new().set("auth_type", "scram-sha-256");
    let pooler = setup.user("scram", "password", "secret of scram").start();
    let mechanism = b"SCRAM-SHA-256\0".as_slice();
    let first = |text: &[u8]| [mechanism, &(text.len() as u32).to_be_bytes(), text].concat();
    for body in [
        b"".to_vec(),
        b"\0".to_vec(),
        mechanism.to_vec(),
        b"NO-SUCH-MECHANISM\0\0\0\0\0".to_vec(),
        [mechanism, &0xffff_ffff_u32.to_be_bytes()].concat(),
        [mechanism, &100_u32.to_be_bytes(), b"n,,"].concat(),
        first(b""),
        first(b"n"),
        first(b"n,,"),
        first(b"n,,n=\xff\xfe,r=\0"),
        first(b"p=tls-unique,,n=,r=abc"),
        first(b"y,a=other,n=,r=abc"),
        first(&vec![b'r'; 60_000]),
    ] {
        let mut client = RawClient::connect(&pooler.address);
        let parameters = [("user", "scram"), ("database", pooler.database.as_str())];
        client.send(&Frontend::new().startup((3, 0), &parameters));
        assert_eq!(client.read().body[..4], [0, 0, 0, 10], "SASL asked for");
        let _ = client.try_send(&Frontend::new().password(&body).bytes);
        is_refused(&client.read_to_end(), &body.escape_ascii().to_string());
    }
    let ok = RawClient::try_login(
        &pooler.address,
        "scram",
        &pooler.database,
        Some("secret of scram"),
    );
    assert_eq!(ok.expect("login").value("select 1"), "1");
}

#[test]
fn broken_messages_after_login() {
    let mut witness = Witness::new(Setup::new());
    let raw = |tag: u8, length: u32| [&[tag][..], &length.to_be_bytes()].concat();
    for (what, bytes) in [
        ("unknown tag", raw(b'z', 4)),
        ("tag of the server", raw(b'D', 4)),
        ("tag 0", raw(0, 4)),
        ("length 0", raw(b'Q', 0)),
        ("length 3", raw(b'S', 3)),
        ("negative length", raw(b'Q', 0xffff_fff0)),
        ("2 GB query", raw(b'Q', 0x7fff_ffff)),
        ("2 GB sync", raw(b'S', 0x7fff_ffff)),
        (
            "password after login",
            Frontend::new().password(b"x\0").bytes,
        ),
        (
            "query without end",
            Frontend::new().message(b'Q', b"select 1").bytes,
        ),
        ("empty query body", Frontend::new().message(b'Q', b"").bytes),
        (
            "sync with a body",
            Frontend::new().message(b'S', b"body").bytes,
        ),
        ("short parse", Frontend::new().message(b'P', b"x").bytes),
        (
            "parse without types",
            Frontend::new().message(b'P', b"\0select 1\0").bytes,
        ),
        (
            "bind without end",
            Frontend::new().message(b'B', b"\0").bytes,
        ),
        (
            "bind with a huge count",
            Frontend::new().message(b'B', b"\0\0\xff\xff").bytes,
        ),
        (
            "describe of nothing",
            Frontend::new().message(b'D', b"").bytes,
        ),
        ("describe of an x", Frontend::new().describe(b'x', "").bytes),
        ("close of an x", Frontend::new().close(b'x', "").bytes),
        (
            "close without a name",
            Frontend::new().message(b'C', b"S").bytes,
        ),
        (
            "execute without a count",
            Frontend::new().message(b'E', b"\0").bytes,
        ),
        (
            "short function call",
            Frontend::new().message(b'F', b"\0\0").bytes,
        ),
        (
            "startup packet again",
            Frontend::new().startup((3, 0), &[("user", "app")]).bytes,
        ),
    ] {
        let mut client = witness.pooler.login();
        let _ = client.try_send(&bytes);
        // What PostgreSQL lives on with must be followed by an answer to Sync.
        let _ = client.try_send(&Frontend::new().sync().bytes);
        let mut messages = Vec::new();
        while let Some(message) = client.read_or_end() {
            let ready = message.tag == b'Z';
            messages.push(message);
            if ready {
                break;
            }
        }
        let error = messages.iter().find(|m| m.tag == b'E');
        let error = error.unwrap_or_else(|| panic!("{what}: no error in {messages:?}"));
        assert_eq!(error.failure().sqlstate().len(), 5, "{what}: {error:?}");
        witness.notices_nothing();
    }
}

#[test]
fn claimed_lengths_take_no_memory() {
    let pooler = Setup::new().pool_size(5).start();
    pooler.login().query("select 1");
    let before = pooler.memory();
    let mut clients = Vec::new();
    for tag in [b'Q', b'P', b'B', b'd', b'S'] {
        for length in [0x3fff_ffff_u32, 0x7fff_ffff] {
            let mut client = pooler.login();
            let _ = client.try_send(&[&[tag][..], &length.to_be_bytes(), b"begin"].concat());
            clients.push(client);
        }
    }
    for _ in 0..20 {
        let mut client = RawClient::connect(&pooler.address);
        client.send_bytes(&packet(0x7fff_ffff, &[0, 3, 0, 0]));
        clients.push(client);
    }
    assert_eq!(pooler.login().value("select 1"), "1");
    let grown = pooler.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "grown by {grown} bytes");
}

#[test]
fn early_close_at_every_byte() {
    let mut witness = Witness::new(Setup::new());
    let parameters = [
        ("user", "app"),
        ("database", witness.pooler.database.as_str()),
    ];
    let bytes = Frontend::new()
        .startup((3, 0), &parameters)
        .run("select generate_series(1, 1000)", &[])
        .sync()
        .query("begin; create temp table gone (a int)")
        .bytes;
    for end in 0..bytes.len() {
        let mut client = RawClient::connect(&witness.pooler.address);
        client.send_bytes(&bytes[..end]);
    }
    witness.notices_nothing();
    // The other connection of the pool is clean.
    let left = "select count(*) from pg_class where relname = 'gone'";
    let locks = "select count(*) from pg_locks join pg_database on database = pg_database.oid \
                 where datname = current_database() and pid <> pg_backend_pid()";
    let mut client = witness.pooler.login();
    assert_eq!(client.value(left), "0");
    assert_eq!(client.value(locks), "0");
}

#[test]
fn silent_connections_keep_nobody_out() {
    let pooler = Setup::new().set("max_client_conn", 10).start();
    let silent: Vec<_> = (0..200)
        .map(|_| RawClient::connect(&pooler.address))
        .collect();
    assert_eq!(pooler.login().value("select 1"), "1");
    drop(silent);
}

/// As when a pooler is replaced: all come back at the same moment.
#[test]
fn all_clients_may_log_in_at_once() {
    const CLIENTS: usize = 1200;
    let pooler = Setup::new().set("max_client_conn", 1300).start();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| RawClient::connect(&pooler.address))
        .collect();
    let startup = [("user", "app"), ("database", pooler.database.as_str())];
    for client in &mut clients {
        client.send(&Frontend::new().startup((3, 0), &startup));
    }
    for client in &mut clients {
        client.finish_login("app", None).expect("login");
    }
    drop(clients);

    let pooler = Setup::new()
        .set("max_unauthenticated_connections", 3)
        .start();
    // By TCP the kernel would not show them before they say something.
    let connect = |_| RawClient::connect(&pooler.socket);
    let mut clients: Vec<_> = (0..4).map(connect).collect();
    // Each goes to its worker: the last to connect need not be the last to be counted.
    let moment = Duration::from_millis(10);
    let refused = patiently("one too many", || {
        clients.iter_mut().position(|c| !c.is_silent_for(moment))
    });
    let failure = clients[refused].read().failure();
    assert_eq!(failure.sqlstate(), "53300");
    assert_eq!(failure.message(), "too many unauthenticated connections");
}

#[test]
fn random_bytes() {
    let mut witness = Witness::new(Setup::new());
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..300 {
        let mut bytes = vec![0; random.random_range(1..200)];
        random.fill_bytes(&mut bytes);
        let mut client = if round % 2 == 0 {
            RawClient::connect(&witness.pooler.address)
        } else {
            let mut client = witness.pooler.login();
            // A plausible message with a random body, then anything.
            let tags = b"QPBDECFSHdcfXp";
            let tag = tags[random.random_range(0..tags.len())];
            let _ = client.try_send(&Frontend::new().message(tag, &bytes).bytes);
            client
        };
        let _ = client.try_send(&bytes);
        if round % 3 == 0 {
            client.shutdown_write();
        }
        if round % 20 == 0 {
            witness.notices_nothing();
        }
    }
    witness.notices_nothing();
}
