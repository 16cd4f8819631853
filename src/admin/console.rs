//! A client of database `pgbouncer`: one command per Query, or per prepared
//! statement.

use std::borrow::Cow;
use std::io;
use std::pin::pin;

use bytes::{Buf, BytesMut};
use pgwire::messages::startup::{Authentication, ParameterStatus};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::PGBOUNCER_VERSION;
use super::command::{self, Command};
use super::extended::{Described, Extended};
use super::reply::{self, CONFIG_FILE_ERROR, Failure, Formats, PROTOCOL_VIOLATION};
use super::show::{CONSOLE, Show};
use super::snapshot::Snapshot;
use super::table::Column;
use super::view::ConsoleView;
use crate::config::Settings;
use crate::process::{Control, Handle, ShutdownMode};

/// Who is at the console.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user as logged in.
    pub user: String,
    /// Member of `admin_users` (or the process's own user on the Unix socket):
    /// may do what changes something. Others may only look.
    pub admin: bool,
    /// The connection's name in the log, as in `C-7`.
    pub conn: String,
    /// The client's address in the log.
    pub addr: String,
    /// `log_pooler_errors`: whether errors are logged.
    pub log_errors: bool,
    /// An ini's log has refused commands twice, as PgBouncer's.
    pub of_ini: bool,
}

/// Why a client of the console is no longer there, in PgBouncer's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    pub reason: Cow<'static, str>,
    /// It was sent this as an error.
    pub told: bool,
}

impl Over {
    fn of(reason: &'static str) -> Over {
        Over {
            reason: reason.into(),
            told: false,
        }
    }
}

/// A message of a client is a command and fits easily; type byte and length
/// not counted.
const MAX_BODY: usize = 64 * 1024;
/// Type byte and length.
const HEADER: usize = 5;
/// A long table is written in pieces of about this size.
const PIECE: usize = 64 * 1024;

/// The parameters that PgBouncer follows, in the order in which it tells them.
pub const FOLLOWED: [&str; 5] = [
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "standard_conforming_strings",
    "application_name",
];

/// What a client gets when it has logged in: AuthenticationOk, the console's
/// parameters, those of its own that PgBouncer follows, `key_data` (an encoded BackendKeyData, or nothing) and
/// ReadyForQuery. Then it is [`serve`]'s.
pub fn welcome(asked: &[(&str, String)], key_data: &[u8]) -> io::Result<BytesMut> {
    let server_version = format!("{PGBOUNCER_VERSION}/bouncer");
    let parameters = [
        ("server_version", server_version.as_str()),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "on"),
    ];
    let mut out = BytesMut::new();
    reply::put(&Authentication::Ok, &mut out)?;
    let asked = asked.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in parameters.into_iter().chain(asked) {
        let status = ParameterStatus::new(name.to_owned(), value.to_owned());
        reply::put(&status, &mut out)?;
    }
    out.extend_from_slice(key_data);
    reply::ready(&mut out)?;
    Ok(out)
}

/// Serves a client that has been welcomed, until it leaves or breaks the
/// protocol. Returns why; an error is one of `io`. `view` is called for each table with the
/// snapshot that it shows (an empty one where none is needed). `asks` is
/// told when a message is being dealt with and when it has been. When `dismissed`
/// resolves, the client is told so and closed.
///
/// Dropping the future may cut a reply short: only `io` can be given up then.
pub async fn serve<S, V>(
    io: S,
    who: Identity,
    (handle, view): (Handle, V),
    (asks, dismissed): (impl Fn(bool), impl Future<Output = ()>),
) -> io::Result<Over>
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: Fn(&Snapshot) -> ConsoleView,
{
    let mut console = Console {
        io,
        who,
        handle,
        view,
        pending: BytesMut::new(),
        extended: Extended::default(),
        skipping: false,
    };
    let mut input = BytesMut::new();
    let mut dismissed = pin!(dismissed);
    let over = loop {
        let received = tokio::select! {
            received = next_message(&mut console.io, &mut input) => received?,
            () = &mut dismissed => {
                break console.fatal("admin forced disconnect".into()).await?;
            }
        };
        match received {
            Received::Message(kind, body) => {
                asks(true);
                let end = console.message(kind, &body).await?;
                asks(false);
                if let Some(over) = end {
                    break over;
                }
            }
            Received::Eof => break Over::of("client unexpected eof"),
            Received::Bad(message) => break console.fatal(message.into()).await?,
        }
    };
    // The peer may be gone already; the reason says so where it matters.
    let _ = console.io.shutdown().await;
    Ok(over)
}

enum Received {
    Message(u8, BytesMut),
    Eof,
    /// Nothing sensible can follow.
    Bad(String),
}

/// Reads one whole message. Memory grows with what has arrived, not with what
/// the header announces.
async fn next_message(
    io: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
) -> io::Result<Received> {
    loop {
        if let Some((header, rest)) = input.split_at_checked(HEADER)
            && let [kind, length @ ..] = header
            && let Ok(length) = <[u8; 4]>::try_from(length)
        {
            let kind = *kind;
            // The length counts itself.
            let Some(body) = u32::from_be_bytes(length).checked_sub(4) else {
                let message = format!("bad packet header: '{}'", hex(header));
                return Ok(Received::Bad(message));
            };
            let body = usize::try_from(body).unwrap_or(usize::MAX);
            if body > MAX_BODY {
                return Ok(Received::Bad(format!(
                    "packet too large: the console takes at most {MAX_BODY} bytes"
                )));
            }
            if rest.len() >= body {
                input.advance(HEADER);
                let body = input.split_to(body);
                if input.is_empty() {
                    // An idle console keeps no buffer.
                    *input = BytesMut::new();
                }
                return Ok(Received::Message(kind, body));
            }
        }
        input.reserve(1024);
        if io.read_buf(input).await? == 0 {
            return Ok(Received::Eof);
        }
    }
}

struct Console<S, V> {
    io: S,
    who: Identity,
    handle: Handle,
    view: V,
    /// Answers that have not been sent yet: a driver asks for them with Sync or
    /// Flush.
    pending: BytesMut,
    extended: Extended,
    /// After an error everything up to the next Sync is passed over.
    skipping: bool,
}

/// How a command's result is to be sent.
struct Form {
    formats: Formats,
    /// With a RowDescription: the simple protocol.
    described: bool,
    /// In one piece, to be cut later.
    whole: bool,
}

/// What became of a command.
enum Outcome {
    /// The reply up to CommandComplete, or its last piece.
    Reply(BytesMut),
    Failed(Failure),
    /// There is no reply: the process is leaving.
    Leaving,
}

impl<S, V> Console<S, V>
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: Fn(&Snapshot) -> ConsoleView,
{
    /// Answers one message; `Some` is why to close.
    async fn message(&mut self, kind: u8, body: &[u8]) -> io::Result<Option<Over>> {
        match kind {
            b'X' => return Ok(Some(Over::of("client close request"))),
            b'S' => {
                self.skipping = false;
                self.extended.sync();
                reply::ready(&mut self.pending)?;
                self.flush().await?;
            }
            _ if self.skipping => {}
            b'Q' => {
                self.extended.simple_query();
                return self.query(body).await;
            }
            b'H' => self.flush().await?,
            b'P' | b'B' | b'D' | b'C' => {
                if let Err(failure) = self.prepare(kind, body)? {
                    self.skip_after(&failure).await?;
                }
            }
            b'E' => return self.execute(body).await,
            other => {
                let text = format!("unsupported packet type for admin console: {other}");
                self.failed(&error(text)).await?;
                return self.fatal("bad packet".into()).await.map(Some);
            }
        }
        Ok(None)
    }

    /// Parse, Bind, Describe or Close; the answer waits for Sync or Flush.
    fn prepare(&mut self, kind: u8, body: &[u8]) -> io::Result<Result<(), Failure>> {
        let done = match kind {
            b'P' => self.extended.parse(body).map(|()| b"1\0\0\0\x04"),
            b'B' => self.extended.bind(body).map(|()| b"2\0\0\0\x04"),
            b'C' => self.extended.close(body).map(|()| b"3\0\0\0\x04"),
            _ => {
                let (extended, view) = (&self.extended, &self.view);
                return match extended.describe(body) {
                    Ok(described) => describe(&described, view, &mut self.pending),
                    Err(failure) => Ok(Err(failure)),
                };
            }
        };
        Ok(done.map(|message| self.pending.extend_from_slice(message)))
    }

    /// Execute; `Some` is why to close.
    async fn execute(&mut self, body: &[u8]) -> io::Result<Option<Over>> {
        let (rest, command, form, limit) = match self.extended.execute(body) {
            Ok((portal, limit)) => {
                let form = Form {
                    formats: portal.formats.clone(),
                    described: false,
                    whole: limit > 0,
                };
                (portal.take_rest(), portal.command.clone(), form, limit)
            }
            Err(failure) => {
                self.skip_after(&failure).await?;
                return Ok(None);
            }
        };
        let outcome = match (rest, command) {
            (Some(rest), _) => Outcome::Reply(rest),
            // EmptyQueryResponse.
            (None, None) => Outcome::Reply(b"I\0\0\0\x04"[..].into()),
            (None, Some(command)) => self.obey(command, &form).await?,
        };
        match outcome {
            Outcome::Failed(failure) => self.skip_after(&failure).await?,
            Outcome::Leaving => return self.wait_for_the_end().await.map(Some),
            Outcome::Reply(reply) if limit == 0 => self.pending.extend_from_slice(&reply),
            Outcome::Reply(reply) => {
                if let Ok((portal, limit)) = self.extended.execute(body) {
                    let (part, suspended) = portal.split(reply, limit);
                    self.pending.extend_from_slice(&part);
                    if suspended {
                        self.pending.extend_from_slice(b"s\0\0\0\x04");
                    }
                }
            }
        }
        Ok(None)
    }

    async fn query(&mut self, body: &[u8]) -> io::Result<Option<Over>> {
        let Some(end) = memchr::memchr(0, body) else {
            return self.fatal("incomplete query".into()).await.map(Some);
        };
        let text = String::from_utf8_lossy(body.get(..end).unwrap_or_default());
        let form = Form {
            formats: Formats::default(),
            described: true,
            whole: false,
        };
        let outcome = match command::parse(&text) {
            Ok(command) => self.obey(command, &form).await?,
            Err(mistake) => Outcome::Failed(mistake.into()),
        };
        match outcome {
            Outcome::Reply(reply) => {
                self.pending.extend_from_slice(&reply);
                reply::ready(&mut self.pending)?;
                self.flush().await?;
            }
            Outcome::Failed(failure) => self.failed(&failure).await?,
            Outcome::Leaving => return self.wait_for_the_end().await.map(Some),
        }
        Ok(None)
    }

    /// Runs a command for those who may.
    async fn obey(&mut self, command: Command, form: &Form) -> io::Result<Outcome> {
        if command.admin_only() && !self.who.admin {
            return Ok(Outcome::Failed(error("admin access needed")));
        }
        self.run(command, form).await
    }

    async fn run(&mut self, command: Command, form: &Form) -> io::Result<Outcome> {
        let mut out = BytesMut::new();
        match command {
            Command::Help => {
                reply::notice("Console usage", Some(help()), &mut out)?;
                reply::done("SHOW", &mut out)?;
            }
            Command::Show(show) => return self.show(show, form).await,
            Command::ShowParameter(parameter) => {
                let columns = std::slice::from_ref(&parameter.column);
                if let Err(failure) = form.begin(columns, &mut out)? {
                    return Ok(Outcome::Failed(failure));
                }
                reply::row(columns, &[parameter.value.into()], &form.formats, &mut out)?;
                reply::done("SHOW", &mut out)?;
            }
            Command::SetParameter(_) => {
                reply::notice("SET ignored", None, &mut out)?;
                reply::done("SET", &mut out)?;
            }
            Command::Reload => {
                tracing::info!("RELOAD command issued");
                if let Err(mistakes) = self.handle.reload().await {
                    return Ok(Outcome::Failed(Failure {
                        code: CONFIG_FILE_ERROR,
                        detail: Some(mistakes),
                        ..error("RELOAD failed, see logs for additional details")
                    }));
                }
                reply::done("RELOAD", &mut out)?;
            }
            Command::Shutdown(mode) => {
                tracing::info!("{} command issued", shutdown_words(mode));
                self.handle.shutdown(mode);
                if mode == ShutdownMode::Immediate {
                    return Ok(Outcome::Leaving);
                }
                // Workers answer this when they have stopped listening: whoever
                // connects from now on is refused.
                let _ = self.handle.snapshot().await;
                reply::done("SHUTDOWN", &mut out)?;
            }
            Command::Set { key, value } => {
                let tag = format!("SET {key}={value}");
                if self.who.of_ini && !Settings::has(&key) {
                    tracing::error!(name = key, "unknown parameter");
                }
                if let Err(mistakes) = self.handle.set(key, value).await {
                    return Ok(Outcome::Failed(error("SET failed").detail(mistakes)));
                }
                reply::done(&tag, &mut out)?;
            }
            Command::Control(control) => return self.control(control).await,
        }
        Ok(Outcome::Reply(out))
    }

    async fn control(&mut self, control: Control) -> io::Result<Outcome> {
        let tag = control.word();
        if let Err(refused) = self.handle.control(control).await {
            return Ok(Outcome::Failed(error(refused.to_string())));
        }
        let mut out = BytesMut::new();
        reply::done(tag, &mut out)?;
        Ok(Outcome::Reply(out))
    }

    async fn show(&mut self, show: Show, form: &Form) -> io::Result<Outcome> {
        let snapshot = if !show.needs_snapshot() {
            Snapshot::default()
        } else if let Some(snapshot) = self.handle.snapshot().await {
            snapshot
        } else {
            return Ok(Outcome::Failed(error("pooler is shutting down")));
        };
        let view = (self.view)(&snapshot);
        let table = show.table(&snapshot, &view);
        let mut out = BytesMut::new();
        if let Err(failure) = form.begin(table.columns, &mut out)? {
            return Ok(Outcome::Failed(failure));
        }
        for values in &table.rows {
            reply::row(table.columns, values, &form.formats, &mut out)?;
            if out.len() >= PIECE && !form.whole {
                self.io
                    .write_all(&std::mem::take(&mut self.pending))
                    .await?;
                self.io.write_all(&out).await?;
                out.clear();
            }
        }
        reply::done("SHOW", &mut out)?;
        Ok(Outcome::Reply(out))
    }

    /// Sends an error that leaves the console open.
    async fn failed(&mut self, failure: &Failure) -> io::Result<()> {
        self.log(&failure.message);
        failure.put(&mut self.pending)?;
        reply::ready(&mut self.pending)?;
        self.flush().await
    }

    /// The same in the extended protocol.
    async fn skip_after(&mut self, failure: &Failure) -> io::Result<()> {
        self.log(&failure.message);
        self.skipping = true;
        failure.put(&mut self.pending)?;
        self.flush().await
    }

    /// Sends the last message of this connection.
    async fn fatal(&mut self, reason: Cow<'static, str>) -> io::Result<Over> {
        Failure::fatal(reason.clone()).put(&mut self.pending)?;
        self.flush().await?;
        Ok(Over { reason, told: true })
    }

    async fn flush(&mut self) -> io::Result<()> {
        // An idle console keeps no buffer.
        let bytes = std::mem::take(&mut self.pending);
        self.io.write_all(&bytes).await?;
        self.io.flush().await
    }

    /// The connection stays open until the process has gone, as with
    /// PgBouncer: its end is the reply.
    async fn wait_for_the_end(&mut self) -> io::Result<Over> {
        let mut ignored = [0; 512];
        while self.io.read(&mut ignored).await? > 0 {}
        Ok(Over::of("client unexpected eof"))
    }

    fn log(&self, reason: &str) {
        let Identity {
            user, conn, addr, ..
        } = &self.who;
        if self.who.of_ini {
            tracing::error!(reason, "console error");
        }
        if !self.who.log_errors {
            return;
        }
        tracing::warn!(%conn, db = CONSOLE, %user, %addr, reason, "pooler error");
    }
}

impl Form {
    /// Begins a result with these columns, if it can be had in these formats.
    fn begin(&self, columns: &[Column], out: &mut BytesMut) -> io::Result<Result<(), Failure>> {
        if self.described {
            reply::columns(columns, &self.formats, out)?;
        }
        Ok(self.formats.check(columns.len()))
    }
}

/// Answers Describe: what a statement's result will look like.
fn describe(
    described: &Described<'_>,
    view: &impl Fn(&Snapshot) -> ConsoleView,
    out: &mut BytesMut,
) -> io::Result<Result<(), Failure>> {
    let text = Formats::default();
    let formats = described.formats.unwrap_or(&text);
    if described.formats.is_none() {
        // ParameterDescription: none.
        out.extend_from_slice(b"t\0\0\0\x06\0\0");
    }
    let columns = match described.command {
        Some(Command::Show(show)) => {
            let nothing = Snapshot::default();
            show.table(&nothing, &view(&nothing)).columns
        }
        Some(Command::ShowParameter(parameter)) => std::slice::from_ref(&parameter.column),
        _ => {
            // NoData.
            out.extend_from_slice(b"n\0\0\0\x04");
            return Ok(Ok(()));
        }
    };
    if let Err(failure) = formats.check(columns.len()) {
        return Ok(Err(failure));
    }
    reply::columns(columns, formats, out)?;
    Ok(Ok(()))
}

/// Nearly everything has the same SQLSTATE, as with PgBouncer.
fn error(message: impl Into<String>) -> Failure {
    Failure::error(PROTOCOL_VIOLATION, message)
}

/// What SHOW HELP says: exactly what is built.
fn help() -> String {
    let shows = Show::ALL.map(Show::word).join("|");
    format!(
        "\n\tSHOW HELP|{shows}\n\tSET key = arg\n\tRELOAD\n\tPAUSE [<db>]\n\tRESUME [<db>]\n\tDISABLE <db>\n\tENABLE <db>\n\
         \tRECONNECT [<db>]\n\tKILL [<db>]\n\tKILL_CLIENT <client_id>\n\tWAIT_CLOSE [<db>]\n\tSHUTDOWN\n\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS"
    )
}

fn shutdown_words(mode: ShutdownMode) -> &'static str {
    match mode {
        ShutdownMode::Immediate => "SHUTDOWN",
        ShutdownMode::WaitForServers => "SHUTDOWN WAIT_FOR_SERVERS",
        ShutdownMode::WaitForClients => "SHUTDOWN WAIT_FOR_CLIENTS",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
