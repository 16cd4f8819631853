//! `stats_listen`: metrics for Prometheus and a health check.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{PATIENCE, Pooler, Setup, eventually, free_port};

struct Response {
    status: String,
    headers: String,
    body: String,
}

fn request(port: u16, request: &str) -> Response {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.write_all(request.as_bytes()).expect("send");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("response");
    let (head, body) = text.split_once("\r\n\r\n").expect("an empty line");
    let (status, headers) = head.split_once("\r\n").expect("headers");
    Response {
        status: status.to_owned(),
        headers: headers.to_lowercase(),
        body: body.to_owned(),
    }
}

/// What /metrics says.
pub fn metrics(port: u16) -> String {
    get(port, "/metrics").body
}

fn get(port: u16, path: &str) -> Response {
    request(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    )
}

fn with_stats_port() -> (Pooler, u16) {
    let port = free_port();
    let setup = Setup::new().set("stats_listen", &*format!("127.0.0.1:{port}"));
    (setup.start(), port)
}

/// The samples by name and labels; every line must be one or a comment.
fn samples(body: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in body.lines().filter(|line| !line.is_empty()) {
        if line.starts_with("# HELP ") || line.starts_with("# TYPE ") {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let value = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(
            samples.insert(name.to_owned(), value).is_none(),
            "twice: {line}"
        );
    }
    samples
}

/// The sum over a family's samples that mention the test's database.
fn sum(samples: &BTreeMap<String, f64>, part: &str, database: &str) -> f64 {
    let label = format!("database=\"{database}\"");
    let mine = samples
        .iter()
        .filter(|(name, _)| name.contains(part) && name.contains(&label));
    mine.map(|(_, value)| value).sum()
}

#[test]
fn metrics_count() {
    let (pooler, port) = with_stats_port();
    let mut client = pooler.login();
    client.query("select 1");
    let before = get(port, "/metrics");
    assert_eq!(before.status, "HTTP/1.1 200 OK");
    assert!(
        before
            .headers
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        before.headers
    );
    assert!(before.body.contains("# TYPE "));
    assert!(before.body.contains("# HELP "));
    for _ in 0..10 {
        client.query("select 1");
    }
    let before = samples(&before.body);
    assert!(
        before
            .keys()
            .all(|name| name.starts_with("pgweir_") || name.starts_with("process_"))
    );
    for part in ["pgweir_queries_total{", "pgweir_transactions_total{"] {
        let of = |samples: &BTreeMap<String, f64>| sum(samples, part, &pooler.database);
        // What is shown may be a moment old.
        eventually(part, true, || {
            of(&samples(&get(port, "/metrics").body)) >= of(&before) + 10.0
        });
    }
}

#[test]
fn health() {
    let (pooler, port) = with_stats_port();
    assert_eq!(get(port, "/healthz").status, "HTTP/1.1 200 OK");
    assert!(get(port, "/no/such/path").status.contains("404"));
    let post =
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(request(port, post).status.contains("405"));
    assert!(request(port, "garbage\r\n\r\n").status.contains("400"));
    assert_eq!(get(port, "/healthz").status, "HTTP/1.1 200 OK");
    assert_eq!(pooler.login().value("select 1"), "1");
}
