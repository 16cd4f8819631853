//! Processes that share a port hand each other's cancel requests on.

use std::io::{ErrorKind, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::{Address, Frontend, Pooler, RawClient, Setup, eventually, free_port, secs};

/// Processes with the numbers from 1 on, each a peer of the others.
pub struct Group {
    pub poolers: Vec<Pooler>,
    sockets: Vec<Address>,
    /// Those that were replaced; their database is the others', too.
    ended: Vec<Pooler>,
    _dirs: Vec<TempDir>,
}

impl Group {
    /// `change` gets the number of each, and the sockets of all.
    pub fn start(count: usize, change: impl Fn(usize, Setup, &[Address]) -> Setup) -> Group {
        let port = free_port();
        let dirs: Vec<_> = (0..count).map(|_| tempfile::tempdir().unwrap()).collect();
        let socket = |dir: &TempDir| Address::Unix(dir.path().to_owned(), port);
        let sockets: Vec<_> = dirs.iter().map(socket).collect();
        let mut setup = Setup::new().set("so_reuseport", true).pool_size(20);
        for (number, socket) in (1..).zip(&sockets) {
            setup = peer(setup, number, socket);
        }
        let start = |(number, socket): (usize, &Address)| {
            let setup = setup.clone().set("peer_id", number as i32);
            let setup = setup.set("unix_socket_dir", &*socket.host());
            change(number, setup, &sockets).start_on(port)
        };
        Group {
            poolers: (1..).zip(&sockets).map(start).collect(),
            sockets,
            ended: Vec::new(),
            _dirs: dirs,
        }
    }

    /// Asks a process to end, waits until it has, and starts it anew.
    #[track_caller]
    pub fn replace(&mut self, number: usize) {
        let pooler = &mut self.poolers[number - 1];
        pooler.signal(Signal::SIGTERM);
        assert_eq!(pooler.wait(), 0);
        let new = pooler.setup.clone().start_on(pooler.address.port());
        self.ended.push(std::mem::replace(pooler, new));
    }

    fn database(&self) -> &str {
        &self.poolers[0].database
    }

    /// A client of one process.
    fn login(&self, number: usize) -> RawClient {
        RawClient::login(&self.sockets[number - 1], "app", self.database())
    }

    fn has_logged(&self, number: usize, text: &str, times: usize) {
        eventually(text, times, || {
            self.poolers[number - 1].log().matches(text).count()
        });
    }
}

fn peer(setup: Setup, number: u32, socket: &Address) -> Setup {
    let setup = setup.peer(number, "host", &*socket.host());
    setup.peer(number, "port", i32::from(socket.port()))
}

fn sleep(client: &mut RawClient) {
    client.send(&Frontend::new().query("select pg_sleep(600)"));
}

#[track_caller]
fn expect_sleeping(group: &Group, count: usize) {
    let sql = "select count(*) from pg_stat_activity \
               where datname = current_database() and wait_event = 'PgSleep'";
    let mut admin = group.poolers[0].admin();
    eventually("sleeping queries", count.to_string(), || admin.value(sql));
}

#[test]
fn a_cancel_request_finds_its_process() {
    let group = Group::start(2, |_, setup, _| setup);
    let mut other = group.login(2);
    sleep(&mut other);
    let mut short = group.login(1);
    let mut long = RawClient::connect(&group.sockets[0]);
    let parameters = [("user", "app"), ("database", group.database())];
    long.send(&Frontend::new().startup((3, 2), &parameters));
    long.finish_login("app", None).expect("login");
    for client in [&mut short, &mut long] {
        let key = client.key.clone();
        // PgBouncer's layout.
        assert_eq!((key[0] >> 7, key[1], key[2], key[7] & 3), (0, 1, 0, 3));
        sleep(client);
        expect_sleeping(&group, 2);
        // The random part decides, wherever it arrives.
        for changed in [0, 4, key.len() - 1] {
            let mut wrong = key.clone();
            wrong[changed] ^= 0x40;
            RawClient::cancel_key(&group.sockets[1], &wrong);
        }
        expect_sleeping(&group, 2);
        RawClient::cancel_key(&group.sockets[1], &key);
        assert_eq!(client.answer().error().sqlstate(), "57014");
    }
    assert!(other.is_silent_for(Duration::from_millis(50)));
}

#[test]
fn on_a_shared_port_each_hits_its_own() {
    let group = Group::start(3, |_, setup, _| setup);
    let login = || RawClient::login(&group.poolers[0].address, "app", group.database());
    let mut clients: Vec<_> = (0..16).map(|_| login()).collect();
    clients.iter_mut().for_each(sleep);
    expect_sleeping(&group, 16);
    for (left, client) in (0..16).rev().zip(&mut clients) {
        client.cancel();
        assert_eq!(client.answer().error().sqlstate(), "57014");
        expect_sleeping(&group, left);
    }
}

#[test]
fn loops_end() {
    // Both take the other for number 3.
    let group = Group::start(2, |number, setup, sockets| {
        peer(setup, 3, &sockets[2 - number])
    });
    let exhausted = "TTL was exhausted";
    let key = [1, 3, 0, 1, 9, 9, 9, 0b0111];
    // From 1 to 2, to 1, to 2.
    RawClient::cancel_key(&group.sockets[0], &key);
    group.has_logged(2, exhausted, 1);
    group.has_logged(1, exhausted, 0);
    let last = [1, 3, 0, 1, 9, 9, 9, 0b0100];
    RawClient::cancel_key(&group.sockets[0], &last);
    group.has_logged(1, exhausted, 1);
}

#[test]
fn reload_changes_who_is_a_peer() {
    let mut group = Group::start(2, |number, setup, _| match number {
        2 => setup.without_peers(),
        _ => setup,
    });
    let mut client = group.login(1);
    sleep(&mut client);
    expect_sleeping(&group, 1);
    RawClient::cancel_key(&group.sockets[1], &client.key);
    group.has_logged(2, "could not find peer to forward request to", 1);
    expect_sleeping(&group, 1);

    let peers = group.poolers[0].setup.clone();
    let own = group.sockets[1].host();
    group.poolers[1].rewrite(|_| peers.set("peer_id", 2).set("unix_socket_dir", &*own));
    let mut console = RawClient::login(&group.sockets[1], "admin", "pgbouncer");
    console.query("RELOAD");
    RawClient::cancel_key(&group.sockets[1], &client.key);
    assert_eq!(client.answer().error().sqlstate(), "57014");
}

/// The next connection, if one comes at once, and what it says.
fn accept(peer: &UnixListener) -> Option<(UnixStream, [u8; 16])> {
    let (mut stream, _) = match peer.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
        other => other.expect("accept"),
    };
    stream.set_nonblocking(false).expect("block");
    let mut packet = [0; 16];
    stream.read_exact(&mut packet).expect("a cancel request");
    Some((stream, packet))
}

#[test]
fn a_silent_peer_holds_up_few_and_not_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let silent = UnixListener::bind(dir.path().join(".s.PGSQL.7")).unwrap();
    silent.set_nonblocking(true).unwrap();
    let place = Address::Unix(dir.path().to_owned(), 7);
    let group = Group::start(1, |_, setup, _| {
        peer(setup, 0x0102, &place)
            .peer(0x0102, "pool_size", 2)
            .set("cancel_wait_timeout", secs(4.0))
    });
    let key = [1, 2, 1, 4, 5, 6, 7, 0xff];
    let socket = &group.sockets[0];
    thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| RawClient::cancel_key(socket, &key)))
            .collect();
        let mut taken = Vec::new();
        eventually("two have come", 2, || {
            taken.extend(accept(&silent));
            taken.len()
        });
        for (_, packet) in &taken {
            let one_hop_less = [0, 0, 0, 16, 4, 210, 22, 46, 1, 2, 1, 4, 5, 6, 7, 0xfe];
            assert_eq!(*packet, one_hop_less);
        }
        thread::sleep(Duration::from_millis(100));
        assert!(accept(&silent).is_none(), "pool_size=2");
        // Whose connection the peer closes makes room.
        taken.pop();
        eventually("the third has come", true, || accept(&silent).is_some());
        // The other ones are given up after cancel_wait_timeout.
        for client in clients {
            client.join().expect("it is closed");
        }
    });
    group.has_logged(1, "failed to forward cancel request", 1);
}
