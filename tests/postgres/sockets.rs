//! The pooler's TCP sockets as the kernel sees them: their options, and how
//! often they are written to.

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use crate::support::{Frontend, Pooler, RawClient, Setup, patiently, secs};

/// What `ss` says of the pooler's established socket with these ports.
fn ss(local: &str, peer: &str) -> String {
    let filter = format!("sport = :{local} and dport = :{peer}");
    let output = Command::new("ss")
        .args(["-tinomH", "state", "established", &filter])
        .output()
        .expect("ss (iproute2)");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The pooler's socket to its only client, and its socket to the server.
fn both(pooler: &Pooler) -> (String, String) {
    let row = |what: &str| {
        let rows = pooler.show(what).into_iter();
        let mut own = rows.filter(|row| row["database"] == pooler.database);
        own.next().expect("a row")
    };
    let (client, server) = (row("CLIENTS"), row("SERVERS"));
    (
        ss(&client["local_port"], &client["port"]),
        ss(&server["local_port"], &server["port"]),
    )
}

/// Segments with data that a socket has sent: as many as there were writes, as
/// long as these are small, TCP_NODELAY is set and the peer has room.
fn written(socket: &str) -> u64 {
    let field = socket
        .split_whitespace()
        .find_map(|word| word.strip_prefix("data_segs_out:"));
    field.map_or(0, |count| count.parse().expect("number"))
}

/// The numbers of writes to the client and to the server that an exchange costs.
fn writes(pooler: &Pooler, client: &mut RawClient, script: &Frontend, ready: usize) -> (u64, u64) {
    let before = both(pooler);
    client.send(script);
    (0..ready).for_each(|_| drop(client.read_until(b'Z')));
    let after = both(pooler);
    let more = |before: &str, after: &str| written(after) - written(before);
    (more(&before.0, &after.0), more(&before.1, &after.1))
}

#[test]
fn a_pipeline_costs_no_more_writes_than_a_single_statement() {
    let pooler = Setup::new().pool_size(1).start();
    let mut client = pooler.login();
    client.query("select 1");
    let run = |script: Frontend| script.run("select $1::text", &["x"]);
    let single = run(Frontend::new()).sync();
    let pipeline = (0..5).fold(Frontend::new(), |script, _| run(script)).sync();
    assert_eq!(writes(&pooler, &mut client, &single, 1), (1, 1));
    assert_eq!(writes(&pooler, &mut client, &pipeline, 1), (1, 1));
    // Prepared ones are rewritten on their way.
    let parse = Frontend::new().parse("s", "select $1::int").sync();
    assert_eq!(writes(&pooler, &mut client, &parse, 1), (1, 1));
    let execute = |script: Frontend| script.bind("", "s", &["1"]).execute("", 0);
    let pipeline = (0..5)
        .fold(Frontend::new(), |script, _| execute(script))
        .sync();
    assert_eq!(writes(&pooler, &mut client, &pipeline, 1), (1, 1));
    // Five transactions are five answers of the server, but one request.
    let each = |script: Frontend| execute(script).sync();
    let transactions = (0..5).fold(Frontend::new(), |script, _| each(script));
    let (to_client, to_server) = writes(&pooler, &mut client, &transactions, 5);
    assert_eq!(to_server, 1);
    assert!(to_client <= 5, "{to_client}");
}

#[test]
fn keepalive_on_both_sides_as_set() {
    let setup = Setup::new().set("tcp_keepidle", secs(1234.0)).pool_size(1);
    let pooler = setup.start();
    let mut client = pooler.login();
    client.query("select 1");
    // Until what was sent is acknowledged there is another timer.
    let timers = patiently("keepalive timers", || {
        std::thread::sleep(Duration::from_millis(50));
        let (client, server) = both(&pooler);
        let timer = |socket: &str| Some(socket.split_once("timer:(keepalive,")?.1.to_owned());
        Some([timer(&client)?, timer(&server)?])
    });
    for timer in timers {
        assert!(timer.starts_with("20min"), "{timer}");
    }
    let pooler = Setup::new().set("tcp_keepalive", false).start();
    pooler.login().query("select 1");
    let _client = pooler.login();
    let (client, server) = both(&pooler);
    assert!(!client.contains("keepalive"), "{client}");
    assert!(!server.contains("keepalive"), "{server}");
}

#[test]
fn buffers_on_both_sides_as_set() {
    let pooler = Setup::new().set("tcp_socket_buffer", 50_000).start();
    let mut client = pooler.login();
    client.query("select 1");
    let (client, server) = both(&pooler);
    for socket in [client, server] {
        // Linux doubles them for its own bookkeeping: socket(7).
        for buffer in ["rb100000", "tb100000"] {
            assert!(socket.contains(buffer), "{buffer}: {socket}");
        }
    }
}

#[test]
fn the_unix_socket_has_its_permissions() {
    let setup = Setup::new().in_ini().set("unix_socket_mode", "0750");
    let root = nix::unistd::geteuid().is_root();
    // Only root may give a file to any group.
    let group = if root {
        1
    } else {
        nix::unistd::getegid().as_raw()
    };
    let name = nix::unistd::Group::from_gid(group.into());
    let name = name.expect("groups").expect("a group").name;
    let pooler = setup.set("unix_socket_group", &*name).start();
    let path = format!("{}/.s.PGSQL.{}", pooler.socket.host(), pooler.socket.port());
    let file = patiently("the socket", || std::fs::metadata(&path).ok());
    assert_eq!(file.mode() & 0o7777, 0o750);
    assert_eq!(file.gid(), group);
}

#[test]
fn as_many_as_set_may_wait_to_be_accepted() {
    let pooler = Setup::new().set("listen_backlog", 77).start();
    let filter = format!("sport = :{}", pooler.address.port());
    let output = Command::new("ss").args(["-ltnH", &filter]).output();
    let output = output.expect("ss (iproute2)").stdout;
    let text = String::from_utf8_lossy(&output);
    // Of a socket that listens, the second queue is the backlog: ss(8).
    let queues: Vec<_> = text.split_whitespace().take(3).collect();
    assert_eq!(queues, ["LISTEN", "0", "77"], "{text}");
}
