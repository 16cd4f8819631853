use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::*;
use crate::admin::snapshot::Snapshot;
use crate::process::Command;

struct Served {
    address: SocketAddr,
    /// Snapshots that were asked for.
    asked: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    process: JoinHandle<()>,
    server: JoinHandle<()>,
}

async fn served() -> Served {
    served_with(PATIENCE).await
}

async fn served_with(patience: Patience) -> Served {
    let (handle, commands) = Handle::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let process = tokio::spawn(process(commands, asked.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = Arc::new(AtomicBool::new(false));
    let health = {
        let stopping = stopping.clone();
        move || match stopping.load(Ordering::Relaxed) {
            false => Health::Serving,
            true => Health::Stopping("waiting for clients".to_owned()),
        }
    };
    Served {
        address,
        asked,
        stopping,
        process,
        server: tokio::spawn(serve_with(patience, listener, handle, health)),
    }
}

async fn process(mut commands: UnboundedReceiver<Command>, asked: Arc<AtomicUsize>) {
    while let Some(Command::Snapshot(tx)) = commands.recv().await {
        asked.fetch_add(1, Ordering::Relaxed);
        let snapshot = Snapshot {
            login_clients: 7,
            ..Snapshot::default()
        };
        tx.send(snapshot).unwrap();
    }
}

impl Served {
    async fn request(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: pgweir\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }
}

fn body(reply: &str) -> &str {
    reply.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn metrics_are_scraped_and_kept_for_a_second() {
    let served = served().await;
    let reply = served.request("GET /metrics").await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(
        reply.contains("content-type: text/plain; version=0.0.4\r\n"),
        "{reply}"
    );
    assert!(
        body(&reply).contains("pgweir_clients{state=\"login\"} 7\n"),
        "{reply}"
    );
    let again = served.request("GET /metrics?x=y").await;
    assert_eq!(body(&again), body(&reply));
    assert_eq!(served.asked.load(Ordering::Relaxed), 1);
    sleep(CACHED_FOR).await;
    served.request("GET /metrics").await;
    assert_eq!(served.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn health_follows_the_process() {
    let served = served().await;
    let reply = served.request("GET /healthz").await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert_eq!(body(&reply), "ok\n");
    served.stopping.store(true, Ordering::Relaxed);
    let reply = served.request("GET /healthz").await;
    assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
    assert_eq!(body(&reply), "waiting for clients\n");
    assert_eq!(served.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn without_the_process_there_are_no_metrics() {
    let served = served().await;
    served.process.abort();
    while !served.process.is_finished() {
        tokio::task::yield_now().await;
    }
    let reply = served.request("GET /metrics").await;
    assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
    assert_eq!(body(&reply), "pgweir is stopping\n");
}

#[tokio::test]
async fn index_head_and_what_is_not_there() {
    let served = served().await;
    let index = served.request("GET /").await;
    assert!(index.starts_with("HTTP/1.1 200 OK\r\n"), "{index}");
    assert!(body(&index).contains("href=\"/metrics\""), "{index}");
    for path in ["/", "/metrics", "/healthz"] {
        let reply = served.request(&format!("HEAD {path}")).await;
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
        assert!(reply.contains("content-length: "), "{reply}");
        assert_eq!(body(&reply), "", "{path}");
    }
    let reply = served.request("POST /metrics").await;
    assert!(reply.starts_with("HTTP/1.1 405 "), "{reply}");
    assert!(reply.contains("allow: GET, HEAD\r\n"), "{reply}");
    for line in ["GET /metrics/", "GET /../etc/passwd", "POST /x"] {
        let reply = served.request(line).await;
        assert!(reply.starts_with("HTTP/1.1 404 "), "{line}: {reply}");
    }
}

#[tokio::test]
async fn garbage_and_long_heads_are_refused() {
    let served = served().await;
    let reply = served.request("\x16\x03\x01garbage").await;
    assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
    let reply = served
        .request(&format!("GET /{}", "x".repeat(2 * MAX_HEAD)))
        .await;
    assert!(reply.starts_with("HTTP/1.1 4"), "{reply}");
    assert_eq!(body(&served.request("GET /healthz").await), "ok\n");
}

/// Silent connections take all places, and lose them after a while.
#[tokio::test]
async fn silent_connections_are_bounded_and_end() {
    let (short, long) = (Duration::from_millis(200), Duration::from_secs(60));
    let header = Patience {
        header: short,
        connection: long,
    };
    let connection = Patience {
        header: long,
        connection: short,
    };
    for patience in [header, connection] {
        let served = served_with(patience).await;
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(served.address).await.unwrap());
        }
        let started = Instant::now();
        let reply = timeout(long / 6, served.request("GET /healthz")).await;
        assert_eq!(body(&reply.unwrap()), "ok\n");
        assert!(started.elapsed() >= short / 2);
    }
}

/// Connections end with the server.
#[tokio::test]
async fn dropping_the_server_closes_everything() {
    let served = served().await;
    let mut open = TcpStream::connect(served.address).await.unwrap();
    open.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    sleep(Duration::from_millis(20)).await;
    served.server.abort();
    let mut rest = Vec::new();
    // Closed or reset, and not after a timeout.
    let ended = timeout(Duration::from_secs(2), open.read_to_end(&mut rest)).await;
    assert!(ended.is_ok());
    assert!(rest.is_empty());
}
