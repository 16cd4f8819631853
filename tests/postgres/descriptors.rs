//! File descriptors: each connection takes one, and the system gives a process
//! only so many.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Address, Frontend, Program, RawClient, Setup, eventually, free_port, patiently, secs,
};

const NO_MORE: &str = "cannot accept connections";

/// The pgweir just built, with this file, under a limit of open files.
fn limited(limit: u32, config: &std::path::Path) -> Program {
    let limit = format!("ulimit -n {limit}; exec \"$@\"");
    let config = config.display().to_string();
    let pgweir = env!("CARGO_BIN_EXE_pgweir");
    Program::new("sh").args(&["-c", &limit, "sh", pgweir, "run", &config])
}

#[test]
fn more_clients_than_files_is_an_error_at_start() {
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("pgweir.toml");
    let text = format!(
        "[pgweir]\nlisten_port = {}\nunix_socket_dir = {:?}\nworkers = 1\nmax_client_conn = 200\n\
         [databases.app]\nhost = \"db1\"\npool_size = 7\n[users.app]\npassword = \"x\"\n",
        free_port(),
        dir.path().display().to_string(),
    );
    std::fs::write(&config, text).expect("file");
    let said = limited(128, &config).fail();
    for word in [
        "max_client_conn=200",
        "200 clients, 7 server connections",
        "the process may open 128 at most",
        "LimitNOFILE=",
        "ulimit -n",
    ] {
        assert!(said.contains(word), "no {word} in\n{said}");
    }
}

#[test]
fn in_an_ini_it_is_a_warning_as_pgbouncer_starts_too() {
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("pgbouncer.ini");
    let port = free_port();
    let text = format!(
        "[databases]\napp = host=db1\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nmax_client_conn = 200\nauth_type = any\nadmin_users = admin\n",
    );
    std::fs::write(&config, text).expect("file");
    let running = limited(128, &config).start();
    let address = Address::local(port);
    patiently("it starts", || RawClient::try_connect(&address).ok());
    running.signal(Signal::SIGINT);
    let output = running.finish();
    assert!(output.success, "{}", output.stderr);
    let log = output.stdout + &output.stderr;
    let lines: Vec<_> = log.lines().filter(|l| l.contains("LimitNOFILE=")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("max_client_conn=200") && lines[0].contains("128 at most"));
}

#[test]
fn more_clients_than_files_is_refused_by_a_reload() {
    let setup = Setup::new().open_files(256).set("max_client_conn", 100);
    let mut pooler = setup.start();
    let mut client = pooler.login();
    pooler.rewrite(|setup| setup.set("max_client_conn", 500));
    let failure = pooler.console().try_query("RELOAD").errors();
    let value = |pooler: &crate::support::Pooler| {
        let mut rows = pooler.show("CONFIG").into_iter();
        let row = rows.find(|row| row["key"] == "max_client_conn");
        row.expect("a row")["value"].clone()
    };
    let log = pooler.log();
    assert!(log.contains("max_client_conn=500 does not fit"), "{log}");
    let ini = matches!(
        crate::support::target(),
        crate::support::Target::Pgweir { ini: true, .. }
    );
    match ini {
        true => assert_eq!((failure.len(), &*value(&pooler)), (0, "500")),
        false => assert_eq!((failure.len(), &*value(&pooler)), (1, "100")),
    }
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn without_files_nobody_comes_in_until_somebody_leaves() {
    let setup = Setup::new().open_files(100).set("max_client_conn", 20);
    let pooler = setup.set("client_login_timeout", secs(0.0)).start();
    let mut client = pooler.login();
    client.query("select 1");
    // Those who have not logged in take descriptors, too.
    let mut silent: Vec<_> = (0..150)
        .map(|_| RawClient::connect(&pooler.address))
        .collect();
    patiently("no file is left", || {
        pooler.log().contains(NO_MORE).then_some(())
    });
    let start = Instant::now();
    let mut answered = 0;
    while start.elapsed() < Duration::from_secs(3) {
        assert_eq!(client.value("select 1"), "1");
        answered += 1;
    }
    assert!(answered > 10, "{answered} queries in three seconds");
    // As some leave, others take their places, and the next has none again.
    for _ in 0..5 {
        silent.drain(..2);
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(pooler.log().matches(NO_MORE).count(), 1, "said once");

    let mut waiting = RawClient::connect(&pooler.address);
    let parameters = [("user", "app"), ("database", &*pooler.database)];
    waiting.send(&Frontend::new().startup((3, 0), &parameters));
    assert!(waiting.is_silent_for(Duration::from_millis(300)));
    silent.clear();
    waiting.finish_login("app", None).expect("login");
    assert_eq!(waiting.value("select 1"), "1");
    eventually("it says that it works again", 1, || {
        drop(RawClient::connect(&pooler.address));
        pooler.log().matches("accepting connections again").count()
    });
    assert_eq!(client.value("select 1"), "1");
}
