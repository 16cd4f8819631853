use super::*;
use crate::wire::row::encoded;

/// The columns of PgBouncer 1.18.
const COLUMNS: [&str; 15] = [
    "fd",
    "task",
    "user",
    "database",
    "addr",
    "port",
    "cancel",
    "link",
    "client_encoding",
    "std_strings",
    "datestyle",
    "timezone",
    "password",
    "scram_client_key",
    "scram_server_key",
];

fn description(names: &[&str]) -> Vec<u8> {
    let mut body = (names.len() as u16).to_be_bytes().to_vec();
    for name in names {
        body.extend(name.bytes());
        body.extend([0; 19]);
    }
    body
}

/// Fields by their names; the others are NULL.
fn row(fields: &[(&str, &str)]) -> Result<Row, Mistake> {
    let of = |name: &&str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    let fields: Vec<_> = COLUMNS.iter().map(of).collect();
    let columns = Columns::read(&description(&COLUMNS))?;
    columns.row(&encoded(&fields))
}

fn pooler(fd: &str, addr: &str) -> Row {
    row(&[("fd", fd), ("task", "pooler"), ("addr", addr)]).unwrap()
}

fn client(fd: &str, link: &str) -> Row {
    let fields = [
        ("fd", fd),
        ("task", "client"),
        ("user", "ann"),
        ("database", "db"),
        ("addr", "127.0.0.1"),
        ("cancel", "18378098425807692892"),
        ("link", link),
        ("client_encoding", "UTF8"),
        ("timezone", "Europe/Berlin"),
    ];
    row(&fields).unwrap()
}

fn server(fd: &str, link: &str) -> Row {
    let fields = [
        ("fd", fd),
        ("task", "server"),
        ("cancel", "134121900559562"),
        ("link", link),
    ];
    row(&fields).unwrap()
}

fn sorted(rows: Vec<Row>) -> Result<Connections<usize>, Mistake> {
    sort(rows.into_iter().enumerate().map(|(n, r)| (r, n)).collect())
}

#[test]
fn what_pgbouncer_has_is_sorted() {
    let newcomer = row(&[("fd", "30"), ("task", "client")]).unwrap();
    let sorted = sorted(vec![
        pooler("7", "127.0.0.1"),
        pooler("8", "unix"),
        client("11", "0"),
        client("12", "14"),
        server("13", "0"),
        server("14", "12"),
        // Its client is one over TLS.
        server("15", "16"),
        newcomer,
    ])
    .unwrap();
    let listeners: Vec<_> = sorted
        .listeners
        .iter()
        .map(|l| (l.unix, l.socket))
        .collect();
    assert_eq!(listeners, [(false, 0), (true, 1)]);
    let servers = |taken: &Taken<usize>| taken.server.as_ref().map(|s| (s.socket, s.key));
    let clients: Vec<_> = sorted
        .clients
        .iter()
        .map(|c| (c.socket, servers(c)))
        .collect();
    let key = 134121900559562_u64.to_be_bytes();
    assert_eq!(clients, [(2, None), (3, Some((5, key)))]);
    assert_eq!(sorted.servers, [4, 6]);
    assert_eq!(sorted.newcomers, 1);
}

#[test]
fn a_client_is_what_pgbouncer_says_of_it() {
    let Task::Client { client, link: 0 } = client("11", "0").task else {
        panic!("not a client");
    };
    assert_eq!((&*client.database, &*client.user), ("db", "ann"));
    // More than a signed number can be.
    assert_eq!(client.key, 18378098425807692892_u64.to_be_bytes());
    let settings = [("client_encoding", "UTF8"), ("TimeZone", "Europe/Berlin")];
    let told: Vec<_> = client.settings.iter().map(|(k, v)| (*k, &**v)).collect();
    assert_eq!(told, settings);
    assert!(client.password.is_none() && client.scram_keys.is_none());

    let key = |digit: &str| format!("\\x{}", digit.repeat(64));
    let (one, two) = (key("1"), key("F"));
    let secrets = [
        ("fd", "1"),
        ("task", "client"),
        ("user", "ann"),
        ("database", "db"),
        ("cancel", "1"),
        ("link", "0"),
        ("password", "secret"),
        ("scram_client_key", &one),
        ("scram_server_key", &two),
    ];
    let Task::Client { client, .. } = row(&secrets).unwrap().task else {
        panic!("not a client");
    };
    assert_eq!(client.password.as_ref().unwrap().reveal(), "secret");
    let (one, two) = client.scram_keys.as_ref().unwrap();
    assert_eq!((one.reveal(), two.reveal()), (&[0x11; 32], &[0xff; 32]));
    // Nothing of it comes into a log.
    assert!(!format!("{client:?}").contains("secret"));
}

#[test]
fn columns_may_be_in_another_order_and_more_or_fewer() {
    let names = ["new", "link", "cancel", "fd", "task"];
    let columns = Columns::read(&description(&names)).unwrap();
    let fields = [Some("x"), Some("0"), Some("5"), Some("9"), Some("server")];
    assert!(columns.row(&encoded(&fields)).is_ok());
    let pooler = [None, None, None, Some("9"), Some("pooler")];
    let mistake = columns.row(&encoded(&pooler)).unwrap_err();
    assert_eq!(mistake, Mistake::NoColumn("addr"));
}

#[test]
fn what_cannot_be_is_a_mistake() {
    let mistake = |fields: &[(&str, &str)]| row(fields).unwrap_err();
    assert_eq!(mistake(&[]), Mistake::Field("fd"));
    assert_eq!(mistake(&[("fd", "x")]), Mistake::Field("fd"));
    assert_eq!(mistake(&[("fd", "1")]), Mistake::Field("task"));
    let horse = [("fd", "1"), ("task", "horse")];
    assert_eq!(mistake(&horse), Mistake::Field("task"));
    for cancel in ["-1", "18446744073709551616", ""] {
        let fields = [("fd", "1"), ("task", "server"), ("cancel", cancel)];
        assert_eq!(mistake(&fields), Mistake::Field("cancel"));
    }
    for (name, key) in [
        ("scram_client_key", "\\x11"),
        ("scram_client_key", "11"),
        ("scram_server_key", &format!("\\x{}", "1".repeat(66))),
        ("scram_server_key", &format!("\\x{}", "é".repeat(64))),
    ] {
        let fields = [
            ("fd", "1"),
            ("task", "client"),
            ("user", "u"),
            ("database", "d"),
            ("cancel", "1"),
            (name, key),
        ];
        assert_eq!(mistake(&fields), Mistake::Field(name));
    }
    let whole = description(&COLUMNS);
    for length in 0..whole.len() {
        assert!(Columns::read(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_client_without_its_server_is_not_taken() {
    let fails = |rows| sorted(rows).map(|_| ()).unwrap_err();
    assert_eq!(fails(vec![client("1", "2")]), Mistake::Unpaired);
    let another = vec![client("1", "2"), server("2", "3")];
    assert_eq!(fails(another), Mistake::Unpaired);
    let both = vec![client("1", "2"), client("3", "2"), server("2", "1")];
    assert_eq!(fails(both), Mistake::Unpaired);
    assert_eq!(
        fails(vec![client("1", "0"), server("1", "0")]),
        Mistake::Twice
    );
}
