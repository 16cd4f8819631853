//! A small HTTP/1 server, bounded in everything: it listens for the operator,
//! but may be reached by anybody.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::metrics;
use crate::process::Handle;

/// What `/healthz` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// New clients are let in.
    Serving,
    /// New clients should go elsewhere, and why.
    Stopping(String),
}

/// Connections at a time; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 16;
const PATIENCE: Patience = Patience {
    header: Duration::from_secs(5),
    connection: Duration::from_secs(10),
};
/// How long the workers may take to answer.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(3);
/// A scrape within this time after another gets the same answer.
const CACHED_FOR: Duration = Duration::from_secs(1);
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// Pause after a connection could not be accepted (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy)]
struct Patience {
    /// How long a client may take to send its request.
    header: Duration,
    /// How long a connection may last. Each carries one request.
    connection: Duration,
}

const INDEX: &str = "<!DOCTYPE html>\n<title>pgweir</title>\n<h1>pgweir</h1>\n\
    <p><a href=\"/metrics\">/metrics</a> for Prometheus</p>\n\
    <p><a href=\"/healthz\">/healthz</a> for load balancers</p>\n";

const TEXT: &str = "text/plain; charset=utf-8";

type Reply = Response<Full<Bytes>>;

struct Port<H> {
    handle: Handle,
    health: H,
    patience: Patience,
    cached: Mutex<Option<(Instant, Bytes)>>,
}

/// Serves until dropped, which also ends all its connections. Runs on any
/// tokio runtime; meant for the control thread's, away from the workers.
/// `health` is asked at each request of `/healthz`.
pub async fn serve<H>(listener: TcpListener, handle: Handle, health: H)
where
    H: Fn() -> Health + Send + Sync + 'static,
{
    serve_with(PATIENCE, listener, handle, health).await;
}

async fn serve_with<H>(patience: Patience, listener: TcpListener, handle: Handle, health: H)
where
    H: Fn() -> Health + Send + Sync + 'static,
{
    let port = Arc::new(Port {
        handle,
        health,
        patience,
        cached: Mutex::new(None),
    });
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                connections.spawn(timeout(
                    patience.connection,
                    connection(stream, port.clone()),
                ));
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(reason = %error, "cannot accept on stats_listen");
                }
                failing = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<H>(stream: TcpStream, port: Arc<Port<H>>)
where
    H: Fn() -> Health + Send + Sync + 'static,
{
    let patience = port.patience;
    let service = service_fn(move |request| {
        let port = port.clone();
        async move { Ok::<_, Infallible>(port.reply(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.header)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(reason = %error, "connection to stats_listen failed");
    }
}

impl<H: Fn() -> Health> Port<H> {
    async fn reply(&self, request: &Request<Incoming>) -> Reply {
        let path = request.uri().path();
        if !["/", "/metrics", "/healthz"].contains(&path) {
            return reply(StatusCode::NOT_FOUND, TEXT, "not found\n");
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let text = "only GET and HEAD\n";
            let mut refused = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            let allowed = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(ALLOW, allowed);
            return refused;
        }
        match path {
            "/metrics" => self.metrics().await,
            "/healthz" => match (self.health)() {
                Health::Serving => reply(StatusCode::OK, TEXT, "ok\n"),
                Health::Stopping(why) => unavailable(&why),
            },
            _ => reply(StatusCode::OK, "text/html; charset=utf-8", INDEX),
        }
    }

    async fn metrics(&self) -> Reply {
        // Held while the workers are asked: who comes meanwhile gets the same.
        let mut cached = self.cached.lock().await;
        if let Some((at, body)) = cached.as_ref()
            && at.elapsed() < CACHED_FOR
        {
            return scrape(body.clone());
        }
        let snapshot = match timeout(SNAPSHOT_TIMEOUT, self.handle.snapshot()).await {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => return unavailable("pgweir is stopping"),
            Err(_) => return unavailable("the workers did not answer in time"),
        };
        match metrics::render(&snapshot) {
            Ok(text) => {
                let body = Bytes::from(text);
                *cached = Some((Instant::now(), body.clone()));
                scrape(body)
            }
            Err(error) => {
                let text = format!("{error}\n");
                reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
            }
        }
    }
}

fn scrape(body: Bytes) -> Reply {
    reply(StatusCode::OK, prometheus::TEXT_FORMAT, body)
}

fn unavailable(why: &str) -> Reply {
    reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n"))
}

fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

#[cfg(test)]
mod tests;
