use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Command {
    parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn refused(text: &str) -> String {
    match parse(text) {
        Ok(command) => panic!("{text:?} was taken for {command:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_table_by_its_word() {
    for show in Show::ALL {
        assert_eq!(
            parsed(&format!("SHOW {}", show.word())),
            Command::Show(show)
        );
    }
}

#[test]
fn shapes_that_are_taken() {
    for text in [
        "SHOW POOLS",
        "show pools",
        "Show Pools;",
        "  show\t pools \r\n;\n ",
        "SELECT pools",
        "\"show\" \"pools\"",
        "show \"POOLS\";",
    ] {
        assert_eq!(parsed(text), Command::Show(Show::Pools), "{text:?}");
    }
    assert_eq!(parsed("show help"), Command::Help);
    assert_eq!(parsed("reload"), Command::Reload);
    assert_eq!(parsed("reload \"\""), Command::Reload);
    let shutdowns = [
        ("SHUTDOWN", ShutdownMode::Immediate),
        ("shutdown wait_for_servers;", ShutdownMode::WaitForServers),
        ("Shutdown Wait_For_Clients", ShutdownMode::WaitForClients),
    ];
    for (text, mode) in shutdowns {
        assert_eq!(parsed(text), Command::Shutdown(mode));
    }
}

#[test]
fn shapes_that_are_invalid() {
    for text in [
        "",
        ";",
        "pools",
        "select 1",
        "select version()",
        "show",
        "show ;;",
        "show pools;;",
        "show pools; show stats",
        "show pools x",
        "show all pools",
        "\"show\"pools",
        "show 'pools'",
        "show \"pools",
        "-- show pools",
        "show\u{a0}pools",
        "reload now",
        "shutdown later",
        "suspend app",
        "set",
        "set a",
        "set a b",
        "set a = ",
        "set a = 'b",
        "set a = 'b' c",
        "BEGIN",
        "aaaaaaaaaaaaaaa",
    ] {
        let expected = format!("invalid command '{text}', use SHOW HELP;");
        assert_eq!(refused(text), expected);
    }
}

#[test]
fn words_that_are_too_long() {
    let long = |n| "x".repeat(n);
    let invalid = |text: &str| refused(text).starts_with("invalid command");
    assert_eq!(refused(&long(16)), "bad arguments");
    assert_eq!(refused(&format!("show {}", long(64))), "bad arguments");
    assert!(invalid(&format!("show {}", long(63))));
    // Quotes count.
    assert_eq!(refused(&format!("show \"{}\"", long(62))), "bad arguments");
    assert!(invalid(&format!("show \"{}\"", long(61))));
    assert_eq!(refused(&format!("set {} = 1", long(64))), "bad arguments");
    assert_eq!(
        refused(&format!("set a = '{}'", long(254))),
        "bad arguments"
    );
    assert_eq!(refused("set \"\" = 1"), "bad arguments");
    let set = Command::Set {
        key: "a".to_owned(),
        value: long(253),
    };
    assert!(set.admin_only());
    assert_eq!(parsed(&format!("set a = '{}'", long(253))), set);
}

#[test]
fn parameters_are_faked() {
    for text in ["show client_encoding", "SELECT Client_Encoding;"] {
        match parsed(text) {
            Command::ShowParameter(p) => {
                assert_eq!((p.column.0, p.value), ("client_encoding", "UTF-8"));
            }
            other => panic!("{other:?}"),
        }
    }
    for text in [
        "SET datestyle='ISO'",
        "set DateStyle = iso;",
        "set datestyle to 'ISO, ''MDY'''",
        "set \"datestyle\" to \"ISO\" ;",
        "set datestyle toiso",
    ] {
        match parsed(text) {
            Command::SetParameter(p) => assert_eq!(p.column.0, "datestyle", "{text:?}"),
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

#[test]
fn controls_with_and_without_a_database() {
    let app = || Some("app".to_owned());
    let cases = [
        ("pause", Control::Pause(None)),
        ("PAUSE app;", Control::Pause(app())),
        ("pause \"App\"", Control::Pause(Some("App".to_owned()))),
        ("resume", Control::Resume(None)),
        ("RESUME app", Control::Resume(app())),
        ("kill", Control::Kill(None)),
        ("kill app", Control::Kill(app())),
        ("reconnect", Control::Reconnect(None)),
        ("reconnect app", Control::Reconnect(app())),
        ("wait_close", Control::WaitClose(None)),
        ("wait_close app", Control::WaitClose(app())),
        ("disable app", Control::Disable(app())),
        ("disable", Control::Disable(None)),
        ("enable app", Control::Enable(app())),
        ("kill_client 7", Control::KillClient(Some(7))),
        ("kill_client 7up", Control::KillClient(Some(7))),
        ("kill_client \" +7\"", Control::KillClient(Some(7))),
        ("kill_client \"-1\"", Control::KillClient(Some(u64::MAX))),
        (
            "kill_client 18446744073709551616",
            Control::KillClient(Some(u64::MAX)),
        ),
        ("kill_client \"-\"", Control::KillClient(None)),
        ("kill_client", Control::KillClient(None)),
        ("kill_client up7", Control::KillClient(None)),
    ];
    for (text, control) in cases {
        let command = parsed(text);
        assert!(command.admin_only(), "{text}");
        assert_eq!(command, Command::Control(control), "{text}");
    }
}

#[test]
fn looking_needs_no_admin() {
    assert!(!parsed("show clients").admin_only());
    assert!(!parsed("show help").admin_only());
    assert!(!parsed("set timezone = utc").admin_only());
    assert!(parsed("reload").admin_only());
    assert!(parsed("shutdown").admin_only());
    assert!(parsed("show fds").admin_only());
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*") {
        let _ = parse(&text);
    }

    #[test]
    fn no_near_miss_panics(text in "[ \t]*(set|show|reload)?[ \"';=to_a-zß]{0,40}") {
        let _ = parse(&text);
    }

    /// What is quoted right comes back as it was.
    #[test]
    fn quoting_is_undone(key in "[^\0]{1,20}", value in "[^\0]{0,40}") {
        let text = format!(
            "SET \"{}\" = '{}'",
            key.replace('"', "\"\""),
            value.replace('\'', "''")
        );
        let (k, v) = Scanner::new(&text).set().unwrap();
        prop_assert_eq!((k.text, v.text), (key, value));
    }
}
