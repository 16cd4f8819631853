//! Load balancers tell whom they connect for.

use nix::sys::signal::Signal;

use crate::support::{Frontend, Pooler, RawClient, Setup, eventually, patiently, secs};

/// The tests are the load balancer.
fn setup() -> Setup {
    Setup::new().set("proxy_protocol_networks", "127.0.0.0/30, 10.9.9.9")
}

/// The pooler answers at its Unix socket, which has no such header: starting does
/// not depend on it, nor does the console here.
fn console(pooler: &Pooler) -> RawClient {
    RawClient::login(&pooler.socket, "admin", "pgbouncer")
}

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 6432\r\n";

/// Version 2, for an IPv6 client, with a TLV.
fn binary() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x28".to_vec();
    let address = |last: u8| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat();
    header.extend([address(1), address(2)].concat());
    header.extend([0x12, 0x34, 0x19, 0x20]);
    header.extend(b"\x04\0\x01x");
    header
}

const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn through(pooler: &Pooler, header: &[u8]) -> RawClient {
    let mut client = RawClient::connect(&pooler.address);
    let parameters = [("user", "app"), ("database", &*pooler.database)];
    let startup = Frontend::new().startup((3, 0), &parameters);
    client.send_bytes(&[header, &startup.bytes].concat());
    client.finish_login("app", None).expect("login");
    client
}

/// Address and port of both ends of the only client that is not at the console.
fn shown(pooler: &Pooler) -> [String; 4] {
    let answer = console(pooler).query("SHOW CLIENTS");
    let names = answer.messages[0].column_names();
    let place = |name: &str| names.iter().position(|n| n == name).expect("column");
    let rows = answer.rows().into_iter();
    let row = rows.map(|row| row.into_iter().flatten().collect::<Vec<_>>());
    let own: Vec<_> = row.filter(|row| row[place("user")] == "app").collect();
    assert_eq!(own.len(), 1, "{own:?}");
    ["addr", "port", "local_addr", "local_port"].map(|name| own[0][place(name)].clone())
}

#[test]
fn the_address_in_the_header_is_the_clients() {
    let pooler = setup().set("application_name_add_host", true).start();
    let mut client = through(&pooler, LINE);
    assert_eq!(
        client.value("show application_name"),
        "app - 192.0.2.7:56324"
    );
    let expected = ["192.0.2.7", "56324", "198.51.100.1", "6432"];
    assert_eq!(shown(&pooler), expected);
    let logged = |text: &str| {
        let log = pooler.log();
        log.lines()
            .any(|line| line.contains(text) && line.contains("192.0.2.7:56324"))
    };
    assert!(logged("login attempt"), "{}", pooler.log());
    drop(client);
    eventually("it has gone", true, || logged("closing because"));
    let _client = through(&pooler, &binary());
    let expected = ["2001:db8::1", "4660", "2001:db8::2", "6432"];
    assert_eq!(shown(&pooler), expected);
}

#[test]
fn a_load_balancer_may_connect_for_itself() {
    let pooler = setup().start();
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let client = through(&pooler, header);
        assert_eq!(shown(&pooler)[0], "127.0.0.1");
        drop(client);
        eventually("it has gone", 1, || {
            console(&pooler).query("SHOW CLIENTS").rows().len()
        });
    }
    // A health check that says nothing is no failure.
    RawClient::connect(&pooler.address).send_bytes(LOCAL);
    drop(RawClient::connect(&pooler.address));
    assert!(!pooler.log().contains("pooler error"), "{}", pooler.log());
}

#[test]
fn without_a_header_nobody_gets_in() {
    let pooler = setup().set("client_login_timeout", secs(1.0)).start();
    let refusal = |bytes: &[u8]| {
        let mut client = RawClient::connect(&pooler.address);
        client.send_bytes(bytes);
        let messages = client.read_to_end();
        messages
            .first()
            .expect("an error")
            .failure()
            .message()
            .to_owned()
    };
    let ssl_request = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
    assert_eq!(refusal(&ssl_request), "no PROXY protocol header");
    assert_eq!(refusal(b"GET / HTTP/1.1\r\n"), "no PROXY protocol header");
    let malformed = "malformed PROXY protocol header";
    assert_eq!(refusal(b"PROXY TCP4 192.0.2.7 1 2\r\n"), malformed);
    let too_long = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
    assert_eq!(refusal(&too_long), "PROXY protocol header is too long");
    // One that does not come is not waited for longer than a login.
    assert_eq!(refusal(b"PROXY TCP4 192"), "client_login_timeout");
    // A second one is no startup packet.
    assert_eq!(
        refusal(&[LINE, LINE].concat()),
        "invalid length of startup packet"
    );
}

#[test]
fn a_header_from_elsewhere_is_not_believed() {
    let mut pooler = Setup::new()
        .set("proxy_protocol_networks", "10.9.9.9")
        .start();
    let mut client = RawClient::connect(&pooler.address);
    client.send_bytes(LINE);
    let messages = client.read_to_end();
    let failure = messages.first().expect("an error").failure();
    assert_eq!(failure.message(), "invalid length of startup packet");
    assert_eq!(pooler.login().value("select 1"), "1");
    // From the next connection on.
    let mut before = pooler.login();
    pooler.rewrite(|setup| setup.set("proxy_protocol_networks", "127.0.0.1"));
    pooler.signal(Signal::SIGHUP);
    patiently("a header is asked for", || {
        RawClient::try_login(&pooler.address, "app", &pooler.database, None).err()
    });
    assert_eq!(before.value("select 1"), "1");
    through(&pooler, LINE).query("select 1");
}

#[test]
fn tls_begins_behind_the_header() {
    let pooler = setup().offer_tls("require").start();
    let mut client = RawClient::connect(&pooler.address);
    client.send_bytes(LINE);
    let mut client = client.try_encrypt().expect("TLS");
    let parameters = [("user", "app"), ("database", &*pooler.database)];
    client.send(&Frontend::new().startup((3, 0), &parameters));
    client.finish_login("app", None).expect("login");
    assert_eq!(client.value("select 1"), "1");
    assert_eq!(shown(&pooler)[0], "192.0.2.7");
    let key = client.key.clone();
    client.send(&Frontend::new().query("select pg_sleep(60)"));
    let running = "select count(*) from pg_stat_activity where state = 'active'
        and query = 'select pg_sleep(60)'";
    let mut admin = pooler.admin();
    eventually("it runs", "1".to_owned(), || admin.value(running));
    let mut cancel = RawClient::connect(&pooler.address);
    cancel.send_bytes(&[LINE, &Frontend::new().cancel(&key).bytes].concat());
    assert_eq!(cancel.read_to_end(), []);
    assert_eq!(client.answer().error().sqlstate(), "57014");
}
