//! Processes that are replaced lose nobody.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::peers::Group;
use crate::support::{Address, Frontend, RawClient, Setup, eventually, free_port, pgbench};

#[test]
fn processes_share_a_port() {
    let port = free_port();
    let setup = Setup::new().set("so_reuseport", true);
    let poolers = [setup.clone().start_on(port), setup.start_on(port)];
    let clients: Vec<_> = (0..40).map(|_| poolers[0].login()).collect();
    let served = poolers.each_ref().map(|pooler| {
        let mut console = RawClient::login(&pooler.socket, "admin", "pgbouncer");
        let rows = console.query("SHOW CLIENTS").rows();
        let is_app = |row: &Vec<Option<String>>| row[1].as_deref() == Some("app");
        rows.into_iter().filter(is_app).count()
    });
    assert_eq!(served.iter().sum::<usize>(), clients.len());
    // One in 2^39 runs has bad luck.
    assert!(served.iter().all(|&count| count > 0), "{served:?}");
}

/// The kernel would reset their connections.
#[test]
fn who_waits_to_be_accepted_is_served_although_the_process_stops() {
    let mut pooler = Setup::new().start();
    pooler.signal(Signal::SIGSTOP);
    let waiting: Vec<_> = (0..20)
        .map(|_| RawClient::connect(&pooler.address))
        .collect();
    pooler.signal(Signal::SIGTERM);
    pooler.signal(Signal::SIGCONT);
    for mut client in waiting {
        let login = [("user", "app"), ("database", &*pooler.database)];
        client.send(&Frontend::new().startup((3, 0), &login));
        client.finish_login("app", None).expect("login");
        assert_eq!(client.value("select 1"), "1");
    }
    assert_eq!(pooler.wait(), 0);
    eventually("it is closed", true, || {
        RawClient::try_connect(&pooler.address).is_err()
    });
}

/// Ends what loads the poolers, also if the test fails.
pub struct End<'a>(pub &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Connects, works, cancels a query of its own, and leaves; again and again.
fn work(address: &Address, database: &str, over: &AtomicBool) -> usize {
    let mut sessions = 0;
    while !over.load(Ordering::Relaxed) {
        let mut client = RawClient::login(address, "app", database);
        for _ in 0..10 {
            assert_eq!(client.value("select 1"), "1");
            thread::sleep(Duration::from_millis(10));
        }
        client.query("begin");
        let sent = Frontend::new().query("select pg_sleep(30)");
        client.send(&sent);
        // Early or late, it arrives at any of the processes. A server process that
        // has not begun yet takes no notice.
        thread::sleep(Duration::from_millis(50));
        client.cancel();
        while client.is_silent_for(Duration::from_secs(2)) {
            client.cancel();
        }
        assert_eq!(client.answer().error().sqlstate(), "57014");
        assert_eq!(client.query("rollback").status(), 'I');
        sessions += 1;
    }
    sessions
}

/// As PgBouncer, from an ini: a process waits for its clients.
#[test]
fn three_processes_are_replaced_under_load_and_nothing_fails() {
    let mut group = Group::start(3, |_, setup, _| setup.in_ini());
    let script = group.poolers[0].config().with_file_name("script.sql");
    std::fs::write(&script, "select 1;").expect("write");
    let script = script.display().to_string();
    let (address, database) = (
        group.poolers[0].address.clone(),
        group.poolers[0].database.clone(),
    );
    // A connection for each transaction.
    let arguments = [
        "-n", "-C", "-c", "3", "-j", "3", "-R", "60", "-T", "6", "-f", &script,
    ];
    let bench = pgbench(&arguments, &group.poolers[0].dsn()).start();
    let (over, sessions) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let end = End(&over);
        for _ in 0..4 {
            scope.spawn(|| {
                let count = work(&address, &database, &over);
                sessions.fetch_add(count, Ordering::Relaxed);
            });
        }
        for number in 1..=3 {
            thread::sleep(Duration::from_millis(500));
            group.replace(number);
        }
        thread::sleep(Duration::from_millis(500));
        drop(end);
    });
    let output = bench.finish();
    assert!(output.success, "{}", output.stderr);
    let failed = "number of failed transactions: 0 (0.000%)";
    assert!(output.stdout.contains(failed), "{}", output.stdout);
    assert!(sessions.into_inner() > 4);
}
