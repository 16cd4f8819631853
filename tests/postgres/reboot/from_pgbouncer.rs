//! pgweir takes the place of a running PgBouncer: the real one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::restart::End;
use crate::support::{
    Address, Certificates, Cluster, Frontend, Pooler, Program, RawClient, Setup, TLS, Target,
    eventually, free_port, pgbench, pgweir, server_user, temp_dir,
};

/// Debian's, which scripts/install-test-deps.sh installs.
const PGBOUNCER: &str = "/usr/sbin/pgbouncer";

fn pgbouncer() -> PathBuf {
    std::env::var_os("PGWEIR_TEST_PGBOUNCER").map_or(PGBOUNCER.into(), Into::into)
}

/// A PgBouncer, and the pgweir that takes its place.
struct Swap {
    old: Pooler,
    setup: Setup,
    socket: Address,
    dir: TempDir,
}

impl Swap {
    fn begin(setup: Setup) -> Swap {
        let port = free_port();
        let dir = temp_dir("swap");
        let path = dir.path().display().to_string();
        let mut setup = setup.set("unix_socket_dir", &*path);
        setup = setup.set("pidfile", &*format!("{path}/pid"));
        if server_user().is_some() {
            // It would not run as root.
            setup = setup.set("user", &*name_of_server_user());
        }
        let old = setup.clone().by(Target::Pgbouncer(pgbouncer()));
        Swap {
            old: old.start_on(port),
            setup: setup.by(Target::Pgweir {
                program: env!("CARGO_BIN_EXE_pgweir").into(),
                ini: true,
            }),
            socket: Address::Unix(dir.path().to_owned(), port),
            dir,
        }
    }

    fn log_in(&self, name: &str) -> RawClient {
        self.old.login_with(&[("application_name", name)])
    }

    /// The old one has gone then.
    fn swap(&mut self) -> Pooler {
        let setup = self.setup.clone().argument("--reboot");
        let new = setup.start_on(self.old.address.port());
        assert_eq!(self.old.wait(), 0);
        new
    }

    /// What pgweir says that cannot take the old one's place, with another configuration.
    fn fail(&mut self, change: impl Fn(Setup) -> Setup) -> String {
        self.old.rewrite(change);
        let config = self.old.config().display().to_string();
        pgweir(&["run", "--reboot", &config]).fail()
    }
}

fn name_of_server_user() -> String {
    let (uid, _) = server_user().expect("we are root");
    let user = nix::unistd::User::from_uid(uid.into()).expect("users");
    user.expect("it was found by its name").name
}

/// Who has logged in at the new one.
fn logins(new: &Pooler) -> usize {
    let log = new.log();
    let attempts = log.lines().filter(|line| line.contains("login attempt"));
    attempts.filter(|line| line.contains("user=app")).count()
}

fn clients(new: &Pooler) -> usize {
    let rows = new.show("CLIENTS");
    rows.iter().filter(|row| row["user"] == "app").count()
}

/// Twenty clients, of whom each has a server connection in the first case.
#[test]
fn nothing_fails_under_load_and_nobody_connects_again() {
    let transactions = "begin;\nselect 1;\n\\sleep 2 ms\nselect 2;\ncommit;\nselect 3;\n";
    for (mode, size, text) in [
        ("simple", 20, transactions),
        ("extended", 20, transactions),
        ("simple", 3, "select 1;\n"),
        ("extended", 3, "select 1;\n"),
    ] {
        let mut swap = Swap::begin(Setup::new().pool_size(size));
        let script = swap.dir.path().join("script.sql");
        std::fs::write(&script, text).expect("write");
        let script = script.display().to_string();
        let arguments = [
            "-n", "-M", mode, "-c", "20", "-j", "2", "-T", "600", "-f", &script,
        ];
        let bench = pgbench(&arguments, &swap.old.dsn()).start();
        let all = || swap.old.log().matches("login attempt").count() > 20;
        eventually("all are here", true, all);
        thread::sleep(Duration::from_millis(500));
        let new = swap.swap();
        eventually("all are here", 20, || clients(&new));
        let output = bench.time_is_over();
        assert!(output.success, "{mode}: {}", output.stderr);
        let failed = "number of failed transactions: 0 (0.000%)";
        assert!(output.stdout.contains(failed), "{}", output.stdout);
        assert_eq!(logins(&new), 0, "somebody connected again");
        assert!(new.backends().len() <= size as usize);
    }
}

/// PgBouncer's own way is to throw them out after `suspend_timeout`.
#[test]
fn who_waits_for_others_is_not_thrown_out() {
    let mut swap = Swap::begin(Setup::new().pool_size(1));
    let mut holds = swap.log_in("holds");
    holds.query("begin");
    let mut waits = swap.log_in("waits");
    waits.send(&Frontend::new().query("select 'waited'"));
    let error = swap.fail(|setup| setup);
    assert!(
        error.contains("clients wait for server connections"),
        "{error}"
    );
    assert!(!swap.old.log().contains("suspend_timeout"));
    assert_eq!(holds.query("commit").command_tags(), ["COMMIT"]);
    assert_eq!(waits.answer().value(), "waited");
    let new = swap.swap();
    assert_eq!(waits.value("select 1"), "1");
    assert_eq!(holds.value("select 1"), "1");
    assert_eq!(logins(&new), 0);
}

#[test]
fn nobody_is_refused() {
    let mut swap = Swap::begin(Setup::new().pool_size(5));
    let script = swap.dir.path().join("script.sql");
    std::fs::write(&script, "select 1;").expect("write");
    let script = script.display().to_string();
    // A connection for each transaction.
    let arguments = ["-n", "-C", "-c", "4", "-j", "4", "-T", "4", "-f", &script];
    let bench = pgbench(&arguments, &swap.old.dsn()).start();
    let over = AtomicBool::new(false);
    let (socket, database) = (swap.socket.clone(), swap.old.database.clone());
    let new = thread::scope(|scope| {
        let end = End(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let mut client = RawClient::login(&socket, "app", &database);
                assert_eq!(client.value("select 1"), "1");
            }
        });
        thread::sleep(Duration::from_secs(1));
        let new = swap.swap();
        thread::sleep(Duration::from_secs(1));
        drop(end);
        new
    });
    let output = bench.finish();
    assert!(output.success, "{}", output.stderr);
    let failed = "number of failed transactions: 0 (0.000%)";
    assert!(output.stdout.contains(failed), "{}", output.stdout);
    // Both sockets are the new one's, and the files are there.
    assert!(logins(&new) > 0);
    let mut names: Vec<_> = std::fs::read_dir(swap.dir.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let socket = format!(".s.PGSQL.{}", new.address.port());
    let reboot = format!("{socket}.reboot");
    assert_eq!(names, [&*socket, &*reboot, "pid", "script.sql"]);
    let pid = std::fs::read_to_string(swap.dir.path().join("pid")).unwrap();
    assert_eq!(pid, format!("{}\n", new.id()));
}

#[test]
fn a_client_goes_on_with_its_settings_and_its_key() {
    let mut swap = Swap::begin(Setup::new());
    let mut client = swap.log_in("mover");
    client.query("set datestyle = 'SQL, DMY'");
    client.query("set timezone = 'Asia/Tokyo'");
    client.query("set client_encoding = 'LATIN1'");
    let mut by_socket = RawClient::login(&swap.socket, "app", &swap.old.database);
    assert_eq!(by_socket.value("select 1"), "1");
    let new = swap.swap();
    for _ in 0..2 {
        assert_eq!(client.value("show datestyle"), "SQL, DMY");
        assert_eq!(client.value("show timezone"), "Asia/Tokyo");
        assert_eq!(client.value("show client_encoding"), "LATIN1");
        assert_eq!(by_socket.value("show datestyle"), "ISO, MDY");
    }
    for client in [&mut client, &mut by_socket] {
        client.send(&Frontend::new().query("select pg_sleep(30)"));
        new.expect_sleeping(1);
        client.cancel();
        assert_eq!(client.answer().error().sqlstate(), "57014");
    }
    let named = Frontend::new().parse("p", "select 'named ' || $1").sync();
    client.exchange(&named);
    assert_eq!((clients(&new), logins(&new)), (2, 0));
    // And it moves as others do.
    drop(by_socket);
    let port = new.address.port();
    let newer = swap.setup.clone().argument("--reboot").start_on(port);
    eventually("it has moved", 1, || clients(&newer));
    assert_eq!(client.value("show datestyle"), "SQL, DMY");
}

#[test]
fn a_transaction_goes_on() {
    let mut swap = Swap::begin(Setup::new().pool_size(5));
    let mut open = swap.log_in("open");
    open.query("begin");
    open.query("create temp table kept on commit drop as select 'kept' as what");
    open.query("set local timezone = 'Asia/Tokyo'");
    let backend = open.value("select pg_backend_pid()");
    let mut failed = swap.log_in("failed");
    failed.query("begin");
    failed.try_query("select 1/0");
    let mut busy = swap.log_in("busy");
    busy.send(&Frontend::new().query("select 'slept', pg_sleep(4)"));
    let mut endless = swap.log_in("endless");
    endless.send(&Frontend::new().query("select pg_sleep(60)"));
    let mut copies = swap.log_in("copies");
    copies.query("create table copied (line text)");
    copies.send(&Frontend::new().query("copy copied from stdin"));
    copies.read_until(b'G');
    copies.send(&Frontend::new().copy_data(b"one\n"));
    swap.old.expect_sleeping(2);
    let new = swap.swap();

    assert_eq!(open.value("select what from kept"), "kept");
    assert_eq!(open.value("select pg_backend_pid()"), backend);
    assert_eq!(open.query("commit").command_tags(), ["COMMIT"]);
    assert_eq!(
        open.value("show timezone"),
        new.direct().value("show timezone")
    );
    assert_ne!(open.value("select pg_backend_pid()"), backend);
    assert_eq!(failed.try_query("select 1").error().sqlstate(), "25P02");
    assert_eq!(failed.query("rollback").command_tags(), ["ROLLBACK"]);
    assert_eq!(failed.value("select 1"), "1");
    copies.send(&Frontend::new().copy_data(b"two\n").copy_done());
    assert_eq!(copies.answer().command_tags(), ["COPY 2"]);
    assert_eq!(copies.value("select count(*) from copied"), "2");
    endless.cancel();
    assert_eq!(endless.answer().error().sqlstate(), "57014");
    assert_eq!(endless.value("select 1"), "1");
    assert_eq!(busy.answer().rows()[0][0].as_deref(), Some("slept"));
    assert_eq!(busy.value("select 1"), "1");
    assert_eq!((clients(&new), logins(&new)), (5, 0));
    assert!(new.backends().len() <= 5);
}

#[test]
fn half_an_extended_query_is_finished() {
    let mut swap = Swap::begin(Setup::new().pool_size(3));
    let mut client = swap.log_in("half");
    client.send(&Frontend::new().parse("", "select 'half ' || $1").flush());
    client.read_until(b'1');
    let new = swap.swap();
    let rest = Frontend::new()
        .bind("", "", &["done"])
        .execute("", 0)
        .sync();
    assert_eq!(client.exchange(&rest).value(), "half done");
    assert_eq!(client.value("select 1"), "1");
    // Several requests at once, the first of them sent before.
    let mut swap = Swap::begin(Setup::new().pool_size(3));
    let mut pipelined = swap.log_in("pipelined");
    let slow = |n: &str| Frontend::new().run("select $1, pg_sleep(0.5)", &[n]).sync();
    pipelined.send(&slow("1"));
    pipelined.send(&slow("2"));
    thread::sleep(Duration::from_millis(200));
    let newer = swap.swap();
    pipelined.send(&slow("3"));
    for n in ["1", "2", "3"] {
        assert_eq!(pipelined.answer().rows()[0][0].as_deref(), Some(n));
    }
    assert_eq!(pipelined.value("select 1"), "1");
    drop((new, newer));
}

/// PgBouncer does not tell of them; its own `-R` throws their clients out.
#[test]
fn a_prepared_statement_is_lost_but_its_client_is_not() {
    let mut swap = Swap::begin(Setup::new());
    let mut client = swap.log_in("prepared");
    let parse = Frontend::new().parse("p", "select 'prepared'").sync();
    client.exchange(&parse);
    swap.setup = swap.setup.clone().set("max_prepared_statements", 100);
    let _new = swap.swap();
    let run = Frontend::new().bind("", "p", &[]).execute("", 0).sync();
    assert_eq!(client.exchange(&run).error().sqlstate(), "26000");
    client.exchange(&parse);
    assert_eq!(client.exchange(&run).value(), "prepared");
}

#[test]
fn a_session_keeps_its_server_connection() {
    let mut swap = Swap::begin(Setup::new().set("pool_mode", "session"));
    let mut client = swap.log_in("session");
    client.query("create temp table kept as select 'kept' as what");
    client.exchange(&Frontend::new().parse("p", "select what from kept").sync());
    let new = swap.swap();
    assert_eq!(client.value("select what from kept"), "kept");
    let named = Frontend::new().bind("", "p", &[]).execute("", 0).sync();
    assert_eq!(client.exchange(&named).value(), "kept");
    client.send(&Frontend::new().query("select pg_sleep(30)"));
    new.expect_sleeping(1);
    client.cancel();
    assert_eq!(client.answer().error().sqlstate(), "57014");
    assert_eq!(client.value("select what from kept"), "kept");
    drop(client);
    eventually("it has left", 0, || clients(&new));
    // Nobody gets what it has left there.
    eventually("no connection is left", 0, || new.backends().len());
}

/// Of a user who is not in the list PgBouncer has asked the server, or the client.
#[test]
fn what_pgbouncer_has_found_out_goes_with_its_client() {
    for (form, method) in [("md5", "md5"), ("scram-sha-256", "scram-sha-256")] {
        let user = format!("swapped_{}", &form[..3]);
        let mut admin = Cluster::shared().admin("postgres");
        admin.query(&format!("set password_encryption = '{form}'"));
        admin.query(&format!(
            "create role {user} login in role looked_up password 'found'"
        ));
        let query = "select rolname, rolpassword from pg_authid where rolname = $1";
        let setup = Setup::new()
            .set("auth_type", method)
            .set("auth_user", "app3")
            .set("auth_query", query);
        let mut swap = Swap::begin(setup);
        swap.old.admin().query("grant select on pg_authid to app3");
        let (address, database) = (&swap.old.address, &swap.old.database);
        let mut client = RawClient::try_login(address, &user, database, Some("found")).unwrap();
        assert_eq!(client.value("select 1"), "1");
        if pgbouncer() == Path::new(PGBOUNCER) {
            // That of the new one cannot be asked. (1.24 does not tell what it knows.)
            swap.setup = swap.setup.clone().set("auth_query", "select 1/0, $1");
        }
        let new = swap.swap();
        assert_eq!(client.value("select current_user"), user);
        drop((client, new));
    }
}

#[test]
fn one_that_cannot_take_over_changes_nothing() {
    let mut swap = Swap::begin(Setup::new().pool_size(5));
    let mut idle = swap.log_in("idle");
    idle.query("set datestyle = 'SQL, DMY'");
    let mut open = swap.log_in("open");
    open.query("begin");
    let mut busy = swap.log_in("busy");
    busy.send(&Frontend::new().query("select 'slept', pg_sleep(1)"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stats = taken.local_addr().unwrap().to_string();
    let error = swap.fail(|setup| setup.set("stats_listen", &*stats));
    assert!(error.contains("cannot listen on stats_listen"), "{error}");
    assert!(swap.old.is_running());
    let log = swap.old.log();
    assert!(log.contains("SUSPEND command issued"), "{log}");
    assert!(log.contains("RESUME command issued"), "{log}");
    assert_eq!(idle.value("show datestyle"), "SQL, DMY");
    assert_eq!(busy.answer().rows()[0][0].as_deref(), Some("slept"));
    assert_eq!(open.query("commit").command_tags(), ["COMMIT"]);
    for address in [swap.old.address.clone(), swap.socket.clone()] {
        let mut client = RawClient::login(&address, "app", &swap.old.database);
        assert_eq!(client.value("select 1"), "1");
    }
    let pid = std::fs::read_to_string(swap.dir.path().join("pid")).unwrap();
    assert_eq!(pid, format!("{}\n", swap.old.id()));
    // Nor is it the last attempt.
    let new = swap.swap();
    assert_eq!(idle.value("show datestyle"), "SQL, DMY");
    assert_eq!(logins(&new), 0);
}

#[test]
fn a_pgbouncer_of_somebody_else_is_left_alone() {
    if server_user().is_none() {
        return;
    }
    let mut swap = Swap::begin(Setup::new());
    let mut client = swap.log_in("stays");
    let error = swap.fail(|setup| setup.unset("user"));
    assert!(error.contains("the running process is user"), "{error}");
    assert!(swap.old.is_running());
    assert!(!swap.old.log().contains("SUSPEND"));
    assert_eq!(client.value("select 1"), "1");
}

/// Not so in newer versions, which do not tell of those clients at all.
#[test]
fn a_transaction_over_tls_is_waited_for() {
    let cluster = Cluster::with_settings(TLS);
    let setup = Setup::with(&cluster).set("server_tls_sslmode", "require");
    let mut swap = Swap::begin(setup);
    let mut open = swap.log_in("open");
    open.query("begin");
    let mut idle = swap.log_in("idle");
    assert_eq!(idle.value("select 1"), "1");
    let new = thread::scope(|scope| {
        let swapped = scope.spawn(|| swap.swap());
        for n in 0..20 {
            assert_eq!(open.value(&format!("select {n}")), n.to_string());
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(open.query("commit").command_tags(), ["COMMIT"]);
        swapped.join().expect("swapped")
    });
    for client in [&mut open, &mut idle] {
        assert_eq!(client.value("select 1"), "1");
    }
    assert_eq!((clients(&new), logins(&new)), (2, 0));
}

/// TLS towards clients, with files that PgBouncer may read.
fn offer_tls(setup: Setup) -> (TempDir, Setup) {
    let dir = temp_dir("keys");
    let copy = |name: &str| {
        let to = dir.path().join(name);
        std::fs::copy(Certificates::shared().path(name), &to).expect("copy");
        if let Some((uid, gid)) = server_user() {
            std::os::unix::fs::chown(&to, Some(uid), Some(gid)).expect("chown");
        }
        to.display().to_string()
    };
    let setup = setup
        .set("client_tls_sslmode", "allow")
        .set("client_tls_cert_file", &*copy("server.crt"))
        .set("client_tls_key_file", &*copy("server.key"));
    (dir, setup)
}

#[test]
fn clients_over_tls_lose_their_connection() {
    let (_keys, setup) = offer_tls(Setup::new());
    let mut swap = Swap::begin(setup);
    let mut plain = swap.log_in("plain");
    let mut encrypted = RawClient::try_connect_tls(&swap.old.address).expect("TLS");
    let names = [("user", "app"), ("database", &*swap.old.database)];
    encrypted.send(&Frontend::new().startup((3, 0), &names));
    encrypted.finish_login("app", None).expect("login");
    encrypted.query("begin");
    let new = swap.swap();
    assert!(encrypted.read_or_end().is_none());
    assert_eq!(plain.value("select 1"), "1");
    assert_eq!((clients(&new), logins(&new)), (1, 0));
    let log = new.log();
    assert!(
        log.contains("clients over TLS lose their connections"),
        "{log}"
    );
    assert!(log.contains("clients=1"), "{log}");
}

#[test]
fn a_client_without_a_database_is_told_so() {
    let mut swap = Swap::begin(Setup::new().alias("gone"));
    let mut client = RawClient::login(&swap.old.address, "app", "gone");
    let mut stays = swap.log_in("stays");
    swap.setup = swap.setup.clone().without_database("gone");
    let _new = swap.swap();
    let failure = client.expect_end();
    assert_eq!(failure.message(), "no such database: gone");
    assert_eq!(stays.value("select 1"), "1");
}

/// As its own command line would.
#[test]
fn the_program_may_be_called_pgbouncer() {
    let mut swap = Swap::begin(Setup::new());
    let mut client = swap.log_in("mover");
    let installed = temp_dir("installed");
    let program = installed.path().join("pgbouncer");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pgweir"), &program).expect("link");
    let config = swap.old.config().display().to_string();
    let running = Program::new(&program.display().to_string())
        .args(&["-R", &config])
        .start();
    assert_eq!(swap.old.wait(), 0);
    assert_eq!(client.value("select 1"), "1");
    drop(running);
}
