use std::fs;
use std::time::Duration;

use tracing::subscriber::with_default;

use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_210_991_042)
}

struct Log {
    dir: tempfile::TempDir,
    handle: LogHandle,
}

impl Log {
    fn path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn apply(&self, level: &str, logfile: Option<PathBuf>) -> Result<(), LogError> {
        self.handle.apply(&Options {
            format: LogFormat::Text,
            level: level.to_owned(),
            stderr: false,
            logfile,
            syslog: None,
        })
    }

    fn text(&self) -> String {
        let pid = format!("[{}]", std::process::id());
        fs::read_to_string(self.path())
            .unwrap()
            .replace(&pid, "[PID]")
    }
}

/// Runs `events` with a log of its own.
fn logged(format: LogFormat, level: &str, events: impl FnOnce(&Log)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        format,
        level: level.to_owned(),
        stderr: false,
        logfile: Some(dir.path().join("log")),
        syslog: None,
    };
    let (subscriber, handle) = subscriber(&options, now).unwrap();
    let log = Log { dir, handle };
    with_default(subscriber, || events(&log));
    log.text()
}

fn some_events(_: &Log) {
    let addr = "10.0.0.1:5000";
    tracing::info!(
        conn = "C-7", db = "app", user = "alice", %addr,
        tls = "no", replication = "no", "login attempt"
    );
    tracing::info!(
        conn = "C-7",
        db = "app",
        user = "alice",
        addr,
        reason = "client close request",
        age = 12,
        "closing because"
    );
    tracing::warn!(
        conn = "C-8",
        addr,
        reason = "no such database: x",
        "pooler error"
    );
    tracing::error!(fatal = true, path = "/a b", "cannot go on");
    tracing::debug!(port = 6432, "a message of ours");
    tracing::trace!("noise");
}

#[test]
fn pgbouncers_lines() {
    assert_eq!(
        logged(LogFormat::Pgbouncer, "trace", some_events),
        "2026-11-20 21:43:11.042 UTC [PID] LOG C-0x7: app/alice@10.0.0.1:5000 login attempt: db=app user=alice tls=no replication=no\n\
         2026-11-20 21:43:11.042 UTC [PID] LOG C-0x7: app/alice@10.0.0.1:5000 closing because: client close request (age=12s)\n\
         2026-11-20 21:43:11.042 UTC [PID] WARNING C-0x8: (nodb)/(nouser)@10.0.0.1:5000 pooler error: no such database: x\n\
         2026-11-20 21:43:11.042 UTC [PID] FATAL cannot go on path=\"/a b\"\n\
         2026-11-20 21:43:11.042 UTC [PID] DEBUG a message of ours port=6432\n\
         2026-11-20 21:43:11.042 UTC [PID] NOISE noise\n"
    );
}

#[test]
fn text_lines() {
    assert_eq!(
        logged(LogFormat::Text, "trace", some_events),
        "2026-11-20T21:43:11.042Z INFO  login attempt conn=C-7 db=app user=alice addr=10.0.0.1:5000 tls=no replication=no\n\
         2026-11-20T21:43:11.042Z INFO  closing because conn=C-7 db=app user=alice addr=10.0.0.1:5000 reason=\"client close request\" age=12\n\
         2026-11-20T21:43:11.042Z WARN  pooler error conn=C-8 addr=10.0.0.1:5000 reason=\"no such database: x\"\n\
         2026-11-20T21:43:11.042Z FATAL cannot go on path=\"/a b\"\n\
         2026-11-20T21:43:11.042Z DEBUG a message of ours port=6432\n\
         2026-11-20T21:43:11.042Z TRACE noise\n"
    );
}

/// The documentation shows one of the lines above in each format.
#[test]
fn docs_show_real_lines() {
    let docs = include_str!("../../../docs/logging.md");
    for format in [LogFormat::Text, LogFormat::Pgbouncer] {
        let log = logged(format, "info", some_events).replace("[PID]", "[4711]");
        let line = log.lines().nth(1).unwrap();
        assert!(docs.contains(line), "docs/logging.md must show {line}");
    }
}

#[test]
fn json_lines() {
    let log = logged(LogFormat::Json, "info", some_events);
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    let mut closing = lines[1].clone();
    let timestamp = closing
        .as_object_mut()
        .unwrap()
        .remove("timestamp")
        .unwrap();
    assert!(timestamp.as_str().unwrap().ends_with('Z'));
    assert_eq!(
        closing,
        serde_json::json!({
            "level": "INFO",
            "target": "pgweir::process::logging::tests",
            "message": "closing because",
            "conn": "C-7",
            "db": "app",
            "user": "alice",
            "addr": "10.0.0.1:5000",
            "reason": "client close request",
            "age": 12,
        })
    );
}

#[test]
fn nobody_can_forge_a_line() {
    let forged = "x\n2026-11-20 21:43:11.042 UTC [1] LOG all is well\x1b[31m";
    let event = |_: &Log| {
        tracing::info!(conn = "C-1", user = forged, addr = "a", "hello");
        tracing::info!("{forged}");
    };
    for format in [LogFormat::Pgbouncer, LogFormat::Text, LogFormat::Json] {
        let log = logged(format, "info", event);
        assert_eq!(log.lines().count(), 2, "{log}");
        assert!(!log.contains('\x1b'), "{log}");
    }
    let log = logged(LogFormat::Pgbouncer, "info", event);
    assert!(log.contains(" LOG C-0x1: (nodb)/x\\n2026"), "{log}");
}

#[test]
fn a_message_that_lacks_its_fields_is_written_plainly() {
    let event = |_: &Log| {
        tracing::info!(reason = "it was time", "closing because");
        tracing::info!(
            conn = "C-1",
            db = "d",
            user = "u",
            addr = "a",
            "login attempt: already worded"
        );
        tracing::info!(db = "d", "no connection, so no prefix");
    };
    assert_eq!(
        logged(LogFormat::Pgbouncer, "info", event)
            .replace("2026-11-20 21:43:11.042 UTC [PID] LOG ", "- "),
        "- closing because reason=\"it was time\"\n\
         - C-0x1: d/u@a login attempt: already worded\n\
         - no connection, so no prefix db=d\n"
    );
}

#[test]
fn the_line_of_stats() {
    let average = Average {
        server_assignment_count: 99,
        xact_count: 1,
        query_count: 2,
        bytes_received: 3,
        bytes_sent: 4,
        xact_time: 5,
        query_time: 6,
        wait_time: 7,
        client_parse_count: 8,
        server_parse_count: 9,
        bind_count: 10,
        client_login_count: 99,
    };
    assert_eq!(
        logged(LogFormat::Pgbouncer, "info", |_| stats(&average)),
        "2026-11-20 21:43:11.042 UTC [PID] LOG stats: 1 xacts/s, 2 queries/s, 8 client parses/s, \
         9 server parses/s, 10 binds/s, in 3 B/s, out 4 B/s, xact 5 us, query 6 us, wait 7 us\n"
    );
}

#[test]
fn the_level_changes_at_run_time() {
    let mut settings = Settings::default();
    let log = logged(LogFormat::Text, &directives(&settings), |log| {
        tracing::debug!("unseen");
        settings.verbose = 1;
        log.apply(&directives(&settings), Some(log.path())).unwrap();
        tracing::debug!("seen");
        tracing::trace!("unseen");
        tracing::debug!(target: "hyper", "unseen");
        assert!(log.apply("info,=,", Some(log.path())).is_err());
        tracing::debug!("seen still");
    });
    let messages: Vec<_> = log.lines().map(|line| &line[31..]).collect();
    assert_eq!(messages, ["seen", "seen still"]);
}

#[test]
fn the_level_is_log_level_or_what_verbose_asks_for() {
    for (log_level, verbose, expected) in [
        (LogLevel::Info, 0, "info,pgweir=info"),
        (LogLevel::Warn, 0, "warn,pgweir=warn"),
        (LogLevel::Trace, 0, "info,pgweir=trace"),
        (LogLevel::Warn, 1, "info,pgweir=debug"),
        (LogLevel::Trace, 1, "info,pgweir=trace"),
        (LogLevel::Info, 2, "info,pgweir=trace"),
    ] {
        let settings = Settings {
            log_level,
            verbose,
            ..Settings::default()
        };
        assert_eq!(directives(&settings), expected);
    }
}

#[test]
fn the_file_is_opened_anew_after_it_was_moved() {
    logged(LogFormat::Text, "info", |log| {
        let moved = log.dir.path().join("log.1");
        tracing::info!("one");
        fs::rename(log.path(), &moved).unwrap();
        tracing::info!("two");
        log.handle.reopen().unwrap();
        tracing::info!("three");
        assert_eq!(fs::read_to_string(&moved).unwrap().lines().count(), 2);
        assert!(log.text().ends_with(" three\n"));

        // A file that cannot be opened changes nothing.
        let missing = log.dir.path().join("missing/log");
        let error = log.apply("error", Some(missing)).unwrap_err();
        assert!(error.to_string().contains("missing/log"), "{error}");
        tracing::info!("four");
        assert_eq!(log.text().lines().count(), 2);

        log.apply("info", None).unwrap();
        tracing::info!("five");
        assert_eq!(log.text().lines().count(), 2);
    });
}

#[test]
fn syslog_gets_the_lines_of_pgbouncer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.socket");
    let daemon = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    daemon.set_nonblocking(true).unwrap();
    let received = || {
        let mut buffer = [0; 1000];
        let length = daemon.recv(&mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        Some(text.replace(&format!("[{}]", std::process::id()), "[PID]"))
    };
    let options = Options {
        format: LogFormat::Json,
        level: "info".to_owned(),
        stderr: false,
        logfile: None,
        syslog: Some(Syslog {
            ident: "pooler".to_owned(),
            facility: crate::config::SyslogFacility::Local1,
            socket: path,
        }),
    };
    let (subscriber, handle) = subscriber(&options, now).unwrap();
    with_default(subscriber, || {
        tracing::warn!(conn = "C-8", addr = "unix", reason = "no", "pooler error");
        let line = "<140>pooler[PID]: C-0x8: (nodb)/(nouser)@unix pooler error: no";
        assert_eq!(received().as_deref(), Some(line));
        tracing::debug!("not asked for");
        tracing::error!(fatal = true, "the end");
        assert_eq!(received().as_deref(), Some("<139>pooler[PID]: the end"));
        let off = Options {
            syslog: None,
            ..options.clone()
        };
        handle.apply(&off).unwrap();
        tracing::error!("to nobody");
        assert_eq!(received(), None);
        handle.apply(&options).unwrap();
        tracing::info!("again");
        assert_eq!(received().as_deref(), Some("<142>pooler[PID]: again"));
    });
}

#[test]
fn what_cannot_be_is_refused() {
    let options = Options {
        format: LogFormat::Text,
        level: "info".to_owned(),
        stderr: false,
        logfile: Some(PathBuf::from("/missing/log")),
        syslog: None,
    };
    assert!(matches!(
        subscriber(&options, now),
        Err(LogError::Open { .. })
    ));
    for level in ["inof", "info,pgweir=chatty", ""] {
        let options = Options {
            level: level.to_owned(),
            logfile: None,
            ..options.clone()
        };
        let error = subscriber(&options, now).map(|_| ()).unwrap_err();
        assert!(matches!(error, LogError::Level { .. }), "{level:?}");
    }
}

#[test]
fn every_wording_names_its_fields() {
    for (message, wording) in wording::WORDING {
        assert!(
            wording::worded(message, |_| Some("x")).is_some(),
            "{wording}"
        );
    }
}
