//! Housekeeping on a server connection while no client holds it.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use thiserror::Error;
use tracing::warn;

use super::lease::Server;
use super::pool::Pool;
use crate::flow::{Finding, Output, OwnQuery, Params, Release, ServerFault, error_fields};
use crate::sql::effects::{Features, MOST_NAMES, MOST_SETTINGS, OLDEST, Suspects};

/// PgBouncer's words for a server that has closed a connection.
const CRASHED: &str = "server conn crashed?";

/// Why a connection could not be made usable again.
#[derive(Debug, Error)]
pub enum CleanupError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Fault(#[from] ServerFault),
    #[error("server closed the connection")]
    Closed,
    #[error("after DISCARD ALL there is still: {0}")]
    Remains(String),
    /// `body` is that of the ErrorResponse.
    #[error("{query:?} failed: {}", error_fields::summary(body))]
    Query { query: String, body: Vec<u8> },
}

impl CleanupError {
    /// What the log says of a connection that ends by it, in PgBouncer's words
    /// where it has some.
    pub fn end(&self) -> Cow<'static, str> {
        match self {
            CleanupError::Io(_) | CleanupError::Closed => CRASHED.into(),
            other => other.to_string().into(),
        }
    }
}

/// Brings an abandoned connection to a clean state: ends what its client left
/// open (COPY, pipeline), cancels what is running unless `let_finish`, reads
/// what is still owed, and rolls back.
pub async fn resynchronise(
    server: &mut Server,
    pool: &Pool,
    let_finish: bool,
) -> Result<(), CleanupError> {
    let mut out = Vec::new();
    server.backend.take_finding();
    server.backend.abandon(&mut out);
    send(server, &out).await?;
    if server.backend.is_busy() && !let_finish {
        let config = pool.config();
        // If it fails, the query is waited for instead.
        let hashing = pool.local().derived_keys.hashing();
        let limit = config.cancel_wait_timeout;
        let cancelled = super::cancel::cancel(&server.info, None, &config.tcp, hashing, limit);
        if let Err(error) = cancelled.await {
            tracing::warn!(conn = %pool.log_server(&server.info), %error, "cancel request failed");
        }
    }
    settle(server, pool).await?;
    // If a query of our own was interrupted, what it was to change is unknown.
    check(server, "the interrupted query")?;
    let mut out = Vec::new();
    if server.backend.rollback(&mut out) {
        send(server, &out).await?;
        settle(server, pool).await?;
        check(server, "ROLLBACK")?;
    }
    let mut out = Vec::new();
    if server.backend.unlisten(None, &mut out) {
        send(server, &out).await?;
        settle(server, pool).await?;
        check(server, "UNLISTEN")?;
    }
    Ok(())
}

/// Runs a query of our own; its rows are thrown away.
pub async fn run(server: &mut Server, pool: &Pool, query: &str) -> Result<(), CleanupError> {
    let mut out = Vec::new();
    server
        .backend
        .own_query(OwnQuery::Housekeeping, query.as_bytes(), &mut out);
    send(server, &out).await?;
    settle(server, pool).await?;
    check(server, query)
}

/// Takes away whatever its last client has left in the session, and has the
/// server confirm it.
pub async fn wipe(server: &mut Server, pool: &Pool) -> Result<(), CleanupError> {
    run(server, pool, "DISCARD ALL").await?;
    let mut out = Vec::new();
    pool.with_shared(|shared| server.backend.search(&mut out, shared));
    send(server, &out).await?;
    settle(server, pool).await?;
    let left = server.backend.pins();
    server.info.pins.set(left);
    match left.is_empty() {
        true => Ok(()),
        false => {
            let labels: Vec<_> = left.iter().map(Features::label).collect();
            Err(CleanupError::Remains(labels.join(", ")))
        }
    }
}

/// Finds out what leaves something in sessions unseen.
pub async fn look_for_suspects(server: &mut Server, pool: &Pool) -> Result<(), CleanupError> {
    let version = server.backend.params().get(b"server_version");
    if !can_be_asked(version.unwrap_or_default()) {
        if pool.suspects.is_first_warning() {
            let conn = pool.log_server(&server.info);
            warn!(%conn, "what functions, triggers and views leave in sessions is not followed: \
                that needs PostgreSQL {OLDEST}; a client that uses such ones wants pool_mode = session");
        }
        pool.suspects
            .replace(pool.suspects.ask(), Suspects::unknown());
        return Ok(());
    }
    let mut out = Vec::new();
    let backend = &mut server.backend;
    pool.with_shared(|shared| backend.look_for_suspects(&mut out, shared));
    send(server, &out).await?;
    settle(server, pool).await?;
    if pool.suspects.suspects().are_everything() && pool.suspects.is_first_warning() {
        let conn = pool.log_server(&server.info);
        warn!(%conn, "more than {MOST_NAMES} functions and relations, or {MOST_SETTINGS} settings \
            that they set, may leave something in sessions: every transaction is asked about. \
            session_features = ignore asks about none");
    }
    Ok(())
}

/// `version`: as the server reports it, `15.4 (Debian 15.4-1)` or `19devel`.
fn can_be_asked(version: &[u8]) -> bool {
    let digits = version.iter().take_while(|byte| byte.is_ascii_digit());
    let major = digits.fold(0u32, |n, digit| {
        n.saturating_mul(10) + u32::from(digit - b'0')
    });
    major >= OLDEST
}

/// Runs a query with one parameter for what it finds. Neither text may contain
/// NUL.
pub async fn look_up(
    server: &mut Server,
    pool: &Pool,
    query: &str,
    parameter: &str,
) -> Result<Finding, CleanupError> {
    let mut out = Vec::new();
    server
        .backend
        .look_up(query.as_bytes(), parameter.as_bytes(), &mut out);
    send(server, &out).await?;
    settle(server, pool).await?;
    let mut finding = server.backend.take_finding().unwrap_or_default();
    match finding.error.take() {
        None => Ok(*finding),
        Some(body) => Err(CleanupError::Query {
            query: query.to_owned(),
            body,
        }),
    }
}

/// Gives the session these parameters, and returns them as the server reports
/// them. If it refuses, the session is as before.
pub async fn set_parameters(
    server: &mut Server,
    pool: &Pool,
    wanted: &Rc<Params>,
) -> Result<Rc<Params>, CleanupError> {
    let before = server.backend.params().clone();
    pool.log_settings(server, wanted);
    let mut out = Vec::new();
    if server.backend.set_parameters(wanted, &mut out) {
        // It reports what it changes. A value that it has already may be asked for
        // in other words, and is not reported: 'utf-8' is UTF8.
        let silent = wanted.with_reported_of(&before);
        let silent = pool.local().params.borrow_mut().intern(silent);
        server.backend.assume(silent);
        send(server, &out).await?;
        settle(server, pool).await?;
        if let Err(error) = check(server, "set_config") {
            server.backend.assume(before);
            return Err(error);
        }
    }
    Ok(server.backend.params().clone())
}

fn check(server: &mut Server, query: &str) -> Result<(), CleanupError> {
    match server.backend.take_own_error() {
        None => Ok(()),
        Some(body) => Err(CleanupError::Query {
            query: query.to_owned(),
            body,
        }),
    }
}

async fn send(server: &mut Server, bytes: &[u8]) -> io::Result<()> {
    let mut bytes = Some(bytes);
    poll_fn(|cx| {
        if let Some(bytes) = bytes.take() {
            server.output.write(&mut server.stream, cx, bytes)?;
        }
        server.output.poll_flush(&mut server.stream, cx)
    })
    .await
}

/// Reads until nothing is owed.
async fn settle(server: &mut Server, pool: &Pool) -> Result<(), CleanupError> {
    while !server.backend.is_settled() {
        poll_fn(|cx| poll_discard(server, pool, cx)).await?;
        // A COPY that waits for data, or an error that waits for Sync, may
        // show only now.
        let mut out = Vec::new();
        server.backend.abandon(&mut out);
        if !out.is_empty() {
            send(server, &out).await?;
        }
    }
    Ok(())
}

/// Walks whatever has come from an idle connection (a ParameterStatus may), until
/// nothing more is there. An error: it is of no more use, and what the log says.
pub fn watch_idle(
    server: &mut Server,
    pool: &Pool,
    cx: &mut Context<'_>,
) -> Result<(), Cow<'static, str>> {
    loop {
        match poll_discard(server, pool, cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) if server.backend.release() == Release::Ready => {}
            // It has said why.
            Poll::Ready(Ok(())) if server.backend.is_ending() => return Err(CRASHED.into()),
            Poll::Ready(Ok(())) => return Err("unexpected message while idle".into()),
            Poll::Ready(Err(error)) => return Err(error.end()),
        }
    }
}

/// Reads once and walks what came; nobody gets it. Cancel safe.
fn poll_discard(
    server: &mut Server,
    pool: &Pool,
    cx: &mut Context<'_>,
) -> Poll<Result<(), CleanupError>> {
    let mut buffer = pool.local().read_buffer.borrow_mut();
    let read = ready!(server.stream.poll_read_some(cx, &mut buffer));
    if matches!(read, Ok(0) | Err(_)) {
        server.backend.set_lost();
    }
    let n = read?;
    if n == 0 {
        return Poll::Ready(Err(CleanupError::Closed));
    }
    server
        .input
        .extend_from_slice(buffer.get(..n).unwrap_or_default());
    let input = std::mem::take(&mut server.input);
    let taken = discard(server, &input, pool)?;
    server.input = input.get(taken..).unwrap_or_default().to_vec();
    Poll::Ready(Ok(()))
}

fn discard(server: &mut Server, input: &[u8], pool: &Pool) -> Result<usize, ServerFault> {
    let mut nowhere = Vec::new();
    let mut out = Output::new(input, &mut nowhere);
    let backend = &mut server.backend;
    pool.with_shared(|shared| backend.from_server(None, input, &mut out, shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_can_be_asked() {
        for version in ["14.0", "15.4 (Debian 15.4-1)", "19devel", "18beta1"] {
            assert!(can_be_asked(version.as_bytes()), "{version}");
        }
        for version in ["13.22", "9.6.24", "", "x"] {
            assert!(!can_be_asked(version.as_bytes()), "{version}");
        }
    }
}
