//! What systemd does with a service, and expects of it; the tests do it themselves.

use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::{Address, Frontend, PATIENCE, RawClient, Setup, eventually, free_port};

#[test]
fn sockets_that_are_passed_outlive_the_process() {
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!(".s.PGSQL.{port}"));
    let tcp = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let mut pooler = Setup::new().passing(tcp, unix).start_on(port);
    let local = Address::Unix(dir.path().to_owned(), port);
    let addresses = [pooler.address.clone(), local];
    for address in &addresses {
        let mut client = RawClient::login(address, "app", &pooler.database);
        assert_eq!(client.value("select 1"), "1");
    }
    assert!(RawClient::try_connect(&pooler.socket).is_err(), "not used");
    let log = pooler.log();
    for setting in ["listen_addr", "unix_socket_dir"] {
        let ignored = format!("sockets passed from service manager, {setting} ignored");
        assert!(log.contains(&ignored), "{log}");
    }

    let mut last = RawClient::login(&addresses[0], "app", &pooler.database);
    last.query("begin");
    pooler.signal(Signal::SIGTERM);
    eventually("it stops", true, || pooler.log().contains("shutting down"));
    // Nothing tells from outside when it has let go of the sockets.
    thread::sleep(Duration::from_millis(300));
    let mut waiting = addresses.each_ref().map(RawClient::connect);
    last.query("commit");
    drop(last);
    assert_eq!(pooler.wait(), 0);
    assert!(path.exists(), "it is the service manager's");
    let _next = pooler.setup.clone().start_on(port);
    for client in &mut waiting {
        let login = [("user", "app"), ("database", &*pooler.database)];
        client.send(&Frontend::new().startup((3, 0), &login));
        client.finish_login("app", None).expect("login");
        assert_eq!(client.value("select 1"), "1");
    }
}

/// Where a process tells how it is.
struct Manager {
    socket: UnixDatagram,
    dir: TempDir,
}

impl Manager {
    fn new() -> Manager {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, dir }
    }

    fn watch(&self, setup: Setup) -> Setup {
        let place = self.dir.path().join("notify");
        setup.before(&format!("export NOTIFY_SOCKET={}", place.display()))
    }

    /// The next message.
    fn read(&self) -> String {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).expect("a message in time");
        String::from_utf8(message[..length].to_vec()).expect("text")
    }
}

#[test]
fn the_service_manager_is_told() {
    let manager = Manager::new();
    let mut pooler = manager.watch(Setup::new()).start();
    assert_eq!(manager.read(), "READY=1\nSTATUS=serving clients\n");

    let reloading = || {
        let message = manager.read();
        let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let time = time.unwrap_or_else(|| panic!("{message}"));
        time.trim_end().parse::<u64>().expect("a number");
        manager.read()
    };
    pooler.signal(Signal::SIGHUP);
    assert_eq!(reloading(), "READY=1\nSTATUS=serving clients\n");
    pooler.rewrite(|setup| setup.set("default_pool_size", "many"));
    pooler.signal(Signal::SIGHUP);
    let refused = reloading();
    let start = "READY=1\nSTATUS=serving clients; the last reload was refused: ";
    assert!(
        refused.starts_with(start) && refused.contains("default_pool_size"),
        "{refused}"
    );

    pooler.signal(Signal::SIGTERM);
    let leaving = "STOPPING=1\nSTATUS=shutting down: waiting for clients\n";
    assert_eq!(manager.read(), leaving);
    assert_eq!(pooler.wait(), 0);
}

#[test]
fn the_watchdog_hears_of_it_until_the_process_hangs() {
    let manager = Manager::new();
    let setup = manager.watch(Setup::new());
    let setup = setup.before("export WATCHDOG_USEC=400000 WATCHDOG_PID=$$");
    let begin = Instant::now();
    let pooler = setup.start();
    let mut heard = 0;
    while heard < 5 {
        heard += usize::from(manager.read() == "WATCHDOG=1\n");
    }
    assert!(
        begin.elapsed() >= Duration::from_millis(600),
        "twice as often as asked for"
    );
    pooler.signal(Signal::SIGSTOP);
    manager.socket.set_nonblocking(true).unwrap();
    while manager.socket.recv(&mut [0; 64]).is_ok() {}
    thread::sleep(Duration::from_millis(500));
    assert!(manager.socket.recv(&mut [0; 64]).is_err());
}
