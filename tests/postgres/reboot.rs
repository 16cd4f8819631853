//! A new process takes the place of a running one.

mod clients;
mod from_pgbouncer;
mod servers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tempfile::TempDir;

use crate::restart::End;
use crate::support::{
    Address, Frontend, Pooler, RawClient, Setup, eventually, free_port, pgbench, pgweir, secs,
};

/// Processes that follow each other.
struct Line {
    poolers: Vec<Pooler>,
    socket: Address,
    dir: TempDir,
}

impl Line {
    fn begin(change: impl Fn(Setup) -> Setup) -> Line {
        let port = free_port();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        let setup = Setup::new().set("unix_socket_dir", &*path);
        let setup = setup.set("pidfile", &*format!("{path}/pid"));
        Line {
            poolers: vec![change(setup).start_on(port)],
            socket: Address::Unix(dir.path().to_owned(), port),
            dir,
        }
    }

    fn last(&self) -> &Pooler {
        self.poolers.last().expect("the first")
    }

    /// Starts one more in place of the last.
    fn go_on(&mut self) {
        let port = self.last().address.port();
        let setup = self.poolers[0].setup.clone().argument("--reboot");
        self.poolers.push(setup.start_on(port));
        let log = || self.poolers[self.poolers.len() - 2].log();
        let told = "a new process serves in this one's place";
        eventually("it was told", true, || log().contains(told));
    }

    /// A client over TLS.
    fn encrypted(&self, name: &str) -> RawClient {
        let last = self.last();
        let mut client = RawClient::try_connect_tls(&last.address).expect("TLS");
        let database = ("database", &*last.database);
        let names = [("user", "app"), database, ("application_name", name)];
        client.send(&Frontend::new().startup((3, 0), &names));
        client.finish_login("app", None).expect("login");
        client
    }

    fn pid_in_file(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("pid")).expect("pidfile")
    }
}

#[test]
fn transactions_go_on_and_new_clients_go_to_the_new_process() {
    let stats = format!("127.0.0.1:{}", free_port());
    let mut line = Line::begin(|setup| setup.set("stats_listen", &*stats));
    let mut old = line.last().login();
    old.query("begin");
    line.go_on();
    let [first, second] = [line.poolers[0].id(), line.poolers[1].id()];
    assert_eq!(line.pid_in_file(), format!("{second}\n"));
    let database = line.last().database.clone();
    let new = line.last();
    for address in [&new.address, &line.socket] {
        eventually("the new process serves", true, || {
            let before = new.log().matches("login attempt").count();
            assert_eq!(
                RawClient::login(address, "app", &database).value("select 1"),
                "1"
            );
            new.log().matches("login attempt").count() > before
        });
    }

    assert_eq!(old.query("select 1").status(), 'T');
    old.query("commit");
    drop(old);
    assert_eq!(line.poolers[0].wait(), 0);
    // Whatever it had is its successor's.
    assert_eq!(line.pid_in_file(), format!("{second}\n"));
    assert_ne!(first, second);
    let console = RawClient::login(&line.socket, "admin", "pgbouncer").query("SHOW CLIENTS");
    assert_eq!(console.rows().len(), 1);
    RawClient::connect(&Address::local(
        stats.rsplit(':').next().unwrap().parse().unwrap(),
    ));
    let files = std::fs::read_dir(line.dir.path()).unwrap();
    let name = |file: std::fs::DirEntry| file.file_name().into_string().unwrap();
    let mut names: Vec<_> = files.map(|file| name(file.unwrap())).collect();
    names.sort();
    let port = line.last().address.port();
    let socket = format!(".s.PGSQL.{port}");
    assert_eq!(
        names,
        [socket.clone(), format!("{socket}.reboot"), "pid".to_owned()]
    );
}

#[test]
fn nobody_is_refused_while_process_follows_process() {
    let mut line = Line::begin(|setup| setup.in_ini());
    let script = line.last().config().with_file_name("script.sql");
    std::fs::write(&script, "select 1;").expect("write");
    let script = script.display().to_string();
    // A connection for each transaction.
    let arguments = ["-n", "-C", "-c", "4", "-j", "4", "-T", "5", "-f", &script];
    let bench = pgbench(&arguments, &line.last().dsn()).start();
    let over = AtomicBool::new(false);
    let (socket, database) = (line.socket.clone(), line.last().database.clone());
    thread::scope(|scope| {
        let end = End(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let mut client = RawClient::login(&socket, "app", &database);
                assert_eq!(client.value("select 1"), "1");
            }
        });
        for _ in 0..3 {
            line.go_on();
            let old = line.poolers.len() - 2;
            assert_eq!(line.poolers[old].wait(), 0);
        }
        drop(end);
    });
    let output = bench.finish();
    assert!(output.success, "{}", output.stderr);
    let failed = "number of failed transactions: 0 (0.000%)";
    assert!(output.stdout.contains(failed), "{}", output.stdout);
}

#[test]
fn without_a_running_process_it_is_an_ordinary_start() {
    let pooler = Setup::new().argument("-R").start();
    assert_eq!(pooler.login().value("select 1"), "1");
    let text = "old process not found, try to continue normally";
    assert!(pooler.log().contains(text), "{}", pooler.log());
}

#[test]
fn one_that_cannot_start_changes_nothing() {
    let mut line = Line::begin(|setup| setup.set("shutdown_timeout", secs(1.0)));
    // Its own stats port is in the way.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stats = taken.local_addr().unwrap().to_string();
    let running = &mut line.poolers[0];
    running.rewrite(|setup| setup.set("stats_listen", &*stats));
    let config = running.config().display().to_string();
    let error = pgweir(&["run", "--reboot", &config]).fail();
    running.rewrite(|setup| setup.unset("stats_listen"));
    assert!(error.contains("cannot listen on stats_listen"), "{error}");
    let own = line.last().id();
    assert_eq!(line.pid_in_file(), format!("{own}\n"));
    for address in [line.last().address.clone(), line.socket.clone()] {
        let mut client = RawClient::login(&address, "app", &line.last().database);
        assert_eq!(client.value("select 1"), "1");
    }
    line.go_on();
}
