use std::sync::Arc;
use std::time::Instant;

use tokio::io::DuplexStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::*;
use crate::admin::snapshot::{ClientState, SocketRow};
use crate::admin::view::PoolerState;
use crate::process;
use crate::stats::Averages;

type Served = JoinHandle<io::Result<Over>>;
type Commands = UnboundedReceiver<process::Command>;

/// A console over a pipe; the test plays the client and the process.
fn console(admin: bool) -> (DuplexStream, Served, Commands) {
    let (client, io) = tokio::io::duplex(256);
    let (handle, commands) = Handle::new();
    let who = Identity {
        user: "alice".to_owned(),
        admin,
        conn: "C-1".to_owned(),
        addr: "127.0.0.1:5000".to_owned(),
        log_errors: true,
        of_ini: true,
    };
    let served = tokio::spawn(serve(
        io,
        who,
        (handle, view),
        (|_| (), std::future::pending()),
    ));
    (client, served, commands)
}

fn view(_: &Snapshot) -> ConsoleView {
    let now = Instant::now();
    ConsoleView {
        now,
        console: crate::admin::view::console(&crate::config::Settings::default()),
        state: PoolerState::Active,
        names: Vec::new(),
        lookups: 0,
        databases: Vec::new(),
        users: Vec::new(),
        config: Vec::new(),
        averages: Arc::new(Averages::new(now)),
        memory: Vec::new(),
        listeners: Vec::new(),
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

/// Messages up to ReadyForQuery or the end, as kind and readable body.
async fn reply(client: &mut DuplexStream) -> Vec<(char, String)> {
    let mut messages = Vec::new();
    loop {
        let mut header = [0; 5];
        if client.read_exact(&mut header).await.is_err() {
            return messages;
        }
        let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        client.read_exact(&mut body).await.unwrap();
        let text = String::from_utf8_lossy(&body).replace('\0', "|");
        messages.push((header[0] as char, text));
        if header[0] == b'Z' {
            return messages;
        }
    }
}

async fn ask(client: &mut DuplexStream, text: &str) -> Vec<(char, String)> {
    client.write_all(&query(text)).await.unwrap();
    reply(client).await
}

fn error(text: &str) -> Vec<(char, String)> {
    vec![
        ('E', format!("SERROR|C08P01|M{text}||")),
        ('Z', "I".to_owned()),
    ]
}

fn fatal(text: &str) -> (char, String) {
    ('E', format!("SFATAL|C08P01|M{text}||"))
}

#[test]
fn welcome_is_byte_for_byte_pgbouncers() {
    let key = message(b'K', b"\0\0\0\x07secret!!");
    let expected = [
        b"R\0\0\0\x08\0\0\0\0".as_slice(),
        b"S\0\0\0\x22server_version\x001.25.2/bouncer\0",
        b"S\0\0\0\x19client_encoding\0UTF8\0",
        b"S\0\0\0\x19server_encoding\0UTF8\0",
        b"S\0\0\0\x12DateStyle\0ISO\0",
        b"S\0\0\0\x11TimeZone\0GMT\0",
        b"S\0\0\0#standard_conforming_strings\0on\0",
        b"S\0\0\0\x14is_superuser\0on\0",
        &key,
        b"Z\0\0\0\x05I",
    ]
    .concat();
    assert_eq!(welcome(&[], &key).unwrap(), expected);
}

#[tokio::test]
async fn a_table_is_byte_for_byte_pgbouncers() {
    let (mut client, _served, _commands) = console(false);
    client.write_all(&query("show state")).await.unwrap();
    let expected = [
        b"T\0\0\0\x34\0\x02".as_slice(),
        b"key\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
        b"value\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
        b"D\0\0\0\x17\0\x02\0\0\0\x06active\0\0\0\x03yes",
        b"D\0\0\0\x16\0\x02\0\0\0\x06paused\0\0\0\x02no",
        b"D\0\0\0\x19\0\x02\0\0\0\x09suspended\0\0\0\x02no",
        b"C\0\0\0\x09SHOW\0",
        b"Z\0\0\0\x05I",
    ]
    .concat();
    let mut got = vec![0; expected.len()];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(got, expected);
}

#[test]
fn types_and_nulls_on_the_wire() {
    let mut out = BytesMut::new();
    let columns = [
        ("n", crate::admin::table::Type::Int4),
        ("N", crate::admin::table::Type::Numeric),
    ];
    let text = Formats::default();
    reply::columns(&columns, &text, &mut out).unwrap();
    reply::row(
        &columns,
        &[crate::admin::table::Value::Null, 1234u64.into()],
        &text,
        &mut out,
    )
    .unwrap();
    let expected = [
        b"T\0\0\0\x2e\0\x02".as_slice(),
        b"n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0",
        b"N\0\0\0\0\0\0\0\0\0\x06\xa4\xff\xff\xff\xff\xff\xff\0\0",
        b"D\0\0\0\x12\0\x02\xff\xff\xff\xff\0\0\0\x041234",
    ]
    .concat();
    assert_eq!(out, expected);
}

#[tokio::test]
async fn commands_in_turn_until_terminate() {
    let (mut client, served, _commands) = console(false);
    let answer = ask(&mut client, "SHOW VERSION;").await;
    let kinds: String = answer.iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, "TDCZ");
    assert!(answer[1].1.contains("PgBouncer 1.25.2"), "{answer:?}");

    let set = [
        ('N', "SNOTICE|C00000|MSET ignored||".to_owned()),
        ('C', "SET|".to_owned()),
        ('Z', "I".to_owned()),
    ];
    assert_eq!(ask(&mut client, "SET client_encoding TO 'utf8'").await, set);
    let timezone = ask(&mut client, "SHOW TimeZone").await;
    assert!(timezone[0].1.contains("timezone"), "{timezone:?}");
    assert!(timezone[1].1.ends_with("GMT"), "{timezone:?}");

    client.write_all(&message(b'X', b"")).await.unwrap();
    assert!(reply(&mut client).await.is_empty());
    assert_eq!(
        served.await.unwrap().unwrap().reason,
        "client close request"
    );
}

#[tokio::test]
async fn help_names_everything_that_is_built() {
    let (mut client, _served, _commands) = console(false);
    let answer = ask(&mut client, "show help").await;
    assert!(
        answer[0]
            .1
            .starts_with("SNOTICE|C00000|MConsole usage|D\n\tSHOW HELP|")
    );
    for show in Show::ALL {
        assert!(
            answer[0].1.contains(&format!("|{}", show.word())),
            "{show:?}"
        );
    }
    assert_eq!(answer[1].1, "SHOW|");
}

#[tokio::test]
async fn mistakes_leave_the_console_open() {
    let (mut client, _served, _commands) = console(true);
    let text = "show databases; show pools";
    let invalid = error(&format!("invalid command '{text}', use SHOW HELP;"));
    assert_eq!(ask(&mut client, text).await, invalid);
    assert_eq!(
        ask(&mut client, "").await,
        error("invalid command '', use SHOW HELP;")
    );
    assert_eq!(
        ask(&mut client, "show_me_everything").await,
        error("bad arguments")
    );
    // A long one is cut before it is repeated, between two characters.
    let long = ask(&mut client, &format!("select  '{}'", "ü".repeat(3000))).await;
    assert_eq!(long[0].1.len(), "SERROR|C08P01|M".len() + 1022 + 2);
    assert_eq!(ask(&mut client, "show state").await.len(), 6);
}

#[tokio::test]
async fn who_is_no_admin_may_only_look() {
    let (mut client, _served, mut commands) = console(false);
    for text in [
        "reload",
        "shutdown",
        "pause",
        "show fds",
        "set pool_mode=session",
    ] {
        assert_eq!(
            ask(&mut client, text).await,
            error("admin access needed"),
            "{text}"
        );
    }
    // A wrong command is wrong for everybody.
    let invalid = error("invalid command 'reload x', use SHOW HELP;");
    assert_eq!(ask(&mut client, "reload x").await, invalid);
    assert!(commands.try_recv().is_err());
}

#[tokio::test]
async fn reload_succeeds_or_tells_why_not() {
    let (mut client, _served, mut commands) = console(true);
    tokio::spawn(async move {
        let mut answers = [Ok(()), Err("a.ini:3: no such key".to_owned())].into_iter();
        while let Some(process::Command::Reload(tx)) = commands.recv().await {
            tx.send(answers.next().unwrap()).unwrap();
        }
    });
    assert_eq!(
        ask(&mut client, "RELOAD").await[0],
        ('C', "RELOAD|".to_owned())
    );
    let failed = "SERROR|CF0000|MRELOAD failed, see logs for additional details|\
                  Da.ini:3: no such key||";
    assert_eq!(
        ask(&mut client, "RELOAD").await[0],
        ('E', failed.to_owned())
    );
}

#[tokio::test]
async fn shutdown_with_and_without_reply() {
    let (mut client, served, mut commands) = console(true);
    let shut = |command| match command {
        Some(process::Command::Shutdown(mode)) => mode,
        other => panic!("{other:?}"),
    };
    let wait = query("shutdown wait_for_clients");
    client.write_all(&wait).await.unwrap();
    assert_eq!(shut(commands.recv().await), ShutdownMode::WaitForClients);
    // It is answered when the workers have stopped listening.
    let Some(process::Command::Snapshot(stopped)) = commands.recv().await else {
        panic!("not waited for");
    };
    stopped.send(Snapshot::default()).unwrap();
    let answer = reply(&mut client).await;
    assert_eq!(answer[0], ('C', "SHUTDOWN|".to_owned()));

    client.write_all(&query("shutdown")).await.unwrap();
    assert_eq!(shut(commands.recv().await), ShutdownMode::Immediate);
    // Nothing more is answered, and the connection stays open.
    client.write_all(&query("show version")).await.unwrap();
    let silence = std::time::Duration::from_millis(50);
    assert!(
        tokio::time::timeout(silence, client.read_u8())
            .await
            .is_err()
    );
    drop(client);
    assert_eq!(
        served.await.unwrap().unwrap().reason,
        "client unexpected eof"
    );
}

#[tokio::test]
async fn tables_come_from_a_fresh_snapshot() {
    let (mut client, _served, mut commands) = console(false);
    let process = tokio::spawn(async move {
        let Some(process::Command::Snapshot(tx)) = commands.recv().await else {
            panic!("no snapshot asked for");
        };
        // More than fits into one piece.
        let clients = (0..2000).map(socket).collect();
        let snapshot = Snapshot {
            clients,
            ..Snapshot::default()
        };
        tx.send(snapshot).unwrap();
    });
    let answer = ask(&mut client, "show clients").await;
    assert_eq!(answer.len(), 1 + 2000 + 2);
    process.await.unwrap();
    // The process is gone now.
    assert_eq!(
        ask(&mut client, "show pools").await,
        error("pooler is shutting down")
    );
}

fn socket(id: u64) -> SocketRow<ClientState> {
    let now = std::time::SystemTime::now();
    SocketRow {
        user: "alice".to_owned(),
        database: "app".to_owned(),
        addr: "127.0.0.1".to_owned(),
        port: 1,
        local_addr: "127.0.0.1".to_owned(),
        local_port: 2,
        ..SocketRow::new(id, ClientState::Idle, now)
    }
}

#[tokio::test]
async fn other_messages_end_the_connection() {
    for (kind, number) in [(b'F', 70), (b'd', 100), (0, 0)] {
        let text = format!("unsupported packet type for admin console: {number}");
        let (mut client, served, _commands) = console(true);
        client.write_all(&message(kind, b"\0")).await.unwrap();
        assert_eq!(reply(&mut client).await, error(&text));
        assert_eq!(reply(&mut client).await, [fatal("bad packet")]);
        let over = served.await.unwrap().unwrap();
        assert_eq!((&*over.reason, over.told), ("bad packet", true));
    }
}

#[tokio::test]
async fn bad_frames_end_the_connection() {
    let frames: [(&[u8], &str); 4] = [
        (b"Q\0\0\0\x03", "bad packet header: '5100000003'"),
        (
            b"Q\xff\xff\xff\xff",
            "packet too large: the console takes at most 65536 bytes",
        ),
        (
            b"Q\0\x01\0\x05",
            "packet too large: the console takes at most 65536 bytes",
        ),
        (b"Q\0\0\0\x06ab", "incomplete query"),
    ];
    for (frame, text) in frames {
        let (mut client, served, _commands) = console(true);
        client.write_all(frame).await.unwrap();
        assert_eq!(reply(&mut client).await, [fatal(text)]);
        assert_eq!(served.await.unwrap().unwrap().reason, text);
    }
}

#[tokio::test]
async fn frames_may_be_split_and_joined_anywhere() {
    let (mut client, served, _commands) = console(true);
    let both = [query("show state"), query("\u{feff}show state")].concat();
    for byte in both {
        client.write_u8(byte).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(reply(&mut client).await.len(), 6);
    let invalid = error("invalid command '\u{feff}show state', use SHOW HELP;");
    assert_eq!(reply(&mut client).await, invalid);

    let joined = [query("show state"), query("show version")].concat();
    client.write_all(&joined).await.unwrap();
    assert_eq!(reply(&mut client).await.len(), 6);
    assert_eq!(reply(&mut client).await.len(), 4);
    client.write_all(b"Q\0\0").await.unwrap();
    drop(client);
    assert_eq!(
        served.await.unwrap().unwrap().reason,
        "client unexpected eof"
    );
}

#[tokio::test]
async fn text_that_is_not_utf8_is_no_command() {
    let (mut client, _served, _commands) = console(true);
    client
        .write_all(&message(b'Q', b"show \xff\0"))
        .await
        .unwrap();
    let invalid = error("invalid command 'show \u{fffd}', use SHOW HELP;");
    assert_eq!(reply(&mut client).await, invalid);
}

/// A driver of its own, which checks what the hand-made client above cannot.
#[tokio::test]
async fn tokio_postgres_understands_it() {
    let (ours, mut io) = tokio::io::duplex(256);
    let (handle, _commands) = Handle::new();
    let server = tokio::spawn(async move {
        let startup = io.read_u32().await.unwrap() as usize;
        io.read_exact(&mut vec![0; startup - 4]).await.unwrap();
        let key = message(b'K', b"\0\0\0\x07\0\0\0\x08");
        io.write_all(&welcome(&[], &key).unwrap()).await.unwrap();
        let who = Identity {
            user: "alice".to_owned(),
            admin: false,
            conn: "C-1".to_owned(),
            addr: "unix".to_owned(),
            log_errors: false,
            of_ini: false,
        };
        serve(io, who, (handle, view), (|_| (), std::future::pending()))
            .await
            .unwrap()
    });
    let mut config = tokio_postgres::Config::new();
    config.user("alice").dbname("pgbouncer");
    let (client, connection) = config
        .connect_raw(ours, tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);

    let states: Vec<_> = client
        .simple_query("SHOW STATE")
        .await
        .unwrap()
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some((
                row.get("key").unwrap().to_owned(),
                row.get("value").unwrap().to_owned(),
            )),
            _ => None,
        })
        .collect();
    let expected = [("active", "yes"), ("paused", "no"), ("suspended", "no")];
    assert_eq!(states, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));

    let refused = client.simple_query("RELOAD").await.unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!(refused.message(), "admin access needed");
    assert_eq!(refused.code().code(), "08P01");
    // Prepared, described, and the numbers binary.
    let extended = client.query("SHOW STATE", &[]).await.unwrap();
    let states: Vec<(&str, &str)> = extended
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(states, expected);
    drop(client);
    let _ = connection.await.unwrap();
    assert_eq!(server.await.unwrap().reason, "client close request");
}

proptest::proptest! {
    /// Neither garbage nor queries of garbage make it panic or hang.
    #[test]
    fn any_bytes_are_survived(
        garbage in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        text in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let reason = runtime.block_on(async {
            let (mut client, served, _commands) = console(true);
            let bytes = [message(b'Q', &text), garbage].concat();
            let (mut reader, mut writer) = tokio::io::split(&mut client);
            let write = async {
                // It may have closed by now.
                let _ = writer.write_all(&bytes).await;
                let _ = writer.shutdown().await;
            };
            let mut replies = Vec::new();
            let (_, read) = tokio::join!(write, reader.read_to_end(&mut replies));
            read.unwrap();
            served.await.unwrap()
        });
        proptest::prop_assert!(reason.is_ok(), "{reason:?}");
    }
}
