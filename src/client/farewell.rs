//! How a session ends, and what the client is told.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{error, info, warn};

use super::info::{ClientInfo, Order};
use super::session::TimeLimit;
use crate::config::{Config, Source};
use crate::flow::{ClientFault, Misuse, ServerFault};
use crate::net::{Outgoing, PeerAddr, Stream};
use crate::reactor;
use crate::server::Farewell;
use crate::wire::build::Refusal;

/// How long a client that is thrown out may take to read why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// PgBouncer's words.
const BAD_HEADER: &str = "bad pkt header";
const OUTDATED: &str = "database configuration changed";
const CRASHED: &str = "server conn crashed?";

/// Why a session is over.
pub(super) enum End {
    /// It said goodbye.
    Terminate,
    /// Its socket was closed, or broke.
    Gone(Option<io::Error>),
    Fault(ClientFault),
    ServerGone(Option<io::Error>),
    ServerFault(ServerFault),
    Farewell(Arc<Farewell>),
    /// Nobody can listen for it.
    CannotListen(Arc<str>),
    Ordered(Order),
    /// It took longer than it was allowed.
    TimedOut(TimeLimit, Duration),
    /// Its server connection is out of date, and it is for replication or
    /// `server_fast_close` is on.
    Outdated,
}

impl End {
    /// What the client is told, if it can be, and what the log says.
    pub fn last_words(&self, server_said_goodbye: bool, config: &Config) -> (Vec<u8>, String) {
        let refusal = match self {
            End::Terminate => return (Vec::new(), "client close request".into()),
            End::Gone(None) => return (Vec::new(), "client unexpected eof".into()),
            End::Gone(Some(error)) => {
                return (Vec::new(), format!("client socket failed: {error}"));
            }
            End::Farewell(farewell) => return (farewell.message.clone(), farewell.reason.clone()),
            End::ServerGone(_) if server_said_goodbye => {
                return (Vec::new(), CRASHED.into());
            }
            End::TimedOut(limit, allowed) => {
                let setting = limit.setting();
                Refusal::fatal("08P01", limit.text())
                    .detail(format!("{setting} is {} s.", allowed.as_secs_f64()))
                    .hint(format!("Raise {setting}, globally or for this user."))
            }
            End::Fault(fault) => of_fault(*fault, config),
            End::ServerGone(error) => {
                let why = match error {
                    Some(error) => error.to_string(),
                    None => "end of file".into(),
                };
                Refusal::fatal("08P01", CRASHED)
                    .detail(format!("The server closed the connection: {why}."))
                    .hint("The server's log has the reason.")
            }
            End::ServerFault(ServerFault::Parameters(error)) => {
                Refusal::fatal("08P01", "invalid server parameter").detail(error.clone())
            }
            End::ServerFault(fault @ ServerFault::TransactionInStatementMode) => {
                Refusal::fatal("08P01", fault.to_string())
                    .hint("Use pool_mode = transaction for this database or user.")
            }
            End::ServerFault(ServerFault::Frame(error)) => Refusal::fatal("08P01", BAD_HEADER)
                .detail(error.to_string())
                .hint(format!(
                    "max_packet_size is {} bytes.",
                    config.general.max_packet_size
                )),
            End::Outdated => Refusal::fatal("08P01", OUTDATED)
                .hint("Connect again; replication ends for this, and other sessions by server_fast_close."),
            End::ServerFault(fault) => Refusal::fatal("08P01", CRASHED).detail(fault.to_string()),
            End::Ordered(Order::DatabaseRemoved) => Refusal::fatal("08P01", "database removed")
                .hint("It is no longer in the configuration."),
            End::Ordered(Order::DatabaseKilled) => Refusal::fatal("08P01", "database removed")
                .hint("An administrator said KILL; nobody is served until RESUME."),
            End::Ordered(Order::NotFlushed) => Refusal::fatal("08P01", "suspend_timeout")
                .detail("The client did not read its answers in time for a SUSPEND."),
            End::CannotListen(reason) => Refusal::fatal("08006", "cannot listen to notifications")
                .detail(format!(
                    "The server connection that listens for all clients of the database: {reason}."
                ))
                .hint("Connect again."),
            End::Ordered(Order::NotificationsLost) => {
                Refusal::fatal("57P01", "terminating connection because notifications may be lost")
                    .detail(
                        "The server connection that listens for all clients of the database was \
                         lost.",
                    )
                    .hint("Connect and LISTEN again.")
            }
            End::Ordered(Order::TooManyNotifications) => {
                Refusal::fatal("57P01", "terminating connection because of too many notifications")
                    .detail(format!(
                        "The client has not taken more than {} bytes of them \
                         (notification_buffer).",
                        config.general.notification_buffer
                    ))
                    .hint("Read notifications while idle, outside of transactions.")
            }
            End::Ordered(Order::Dismissed) => Refusal::fatal("08P01", "admin forced disconnect"),
            End::Ordered(Order::PrimaryReplaced) => {
                Refusal::fatal("08006", "the primary was replaced during the transaction")
                    .detail("Another host was promoted; this one no longer counts (SHOW HOSTS).")
                    .hint("Whether a COMMIT under way was carried out, the new primary can tell.")
            }
            End::Ordered(_) => Refusal::fatal(
                "57P01",
                "terminating connection due to administrator command",
            )
            .detail("pgweir is shutting down, or the connection was closed by an administrator."),
        };
        let mut message = Vec::new();
        refusal.encode(&mut message);
        (message, refusal.message)
    }

    /// Why the server connection is closed too, for the log.
    pub fn of_server(&self) -> Option<&'static str> {
        Some(match self {
            End::TimedOut(limit, _) => limit.text(),
            End::Outdated => OUTDATED,
            End::ServerGone(_) => CRASHED,
            End::ServerFault(ServerFault::Frame(_)) => BAD_HEADER,
            End::ServerFault(ServerFault::Parameters(_)) => "invalid server parameter",
            End::ServerFault(ServerFault::TransactionInStatementMode) => {
                "transaction blocks not allowed in statement pooling mode"
            }
            End::ServerFault(_) => CRASHED,
            _ => return None,
        })
    }
}

/// What a client is told that broke the protocol: PgBouncer's words from an ini,
/// PostgreSQL's otherwise.
fn of_fault(fault: ClientFault, config: &Config) -> Refusal {
    let ini = config.source == Source::Ini;
    let refusal = |words: String| {
        let message = if ini { words } else { fault.to_string() };
        Refusal::fatal("08P01", message)
    };
    match fault {
        ClientFault::Length(front) => {
            let refusal = refusal(format!("bad packet header: '{front}'"));
            let max = config.general.max_packet_size;
            match front.length() >= max {
                true => refusal
                    .detail(format!(
                        "The message has {} bytes, and max_packet_size is {max}.",
                        u64::from(front.length()) + 1
                    ))
                    .hint("Raise max_packet_size."),
                false => refusal,
            }
        }
        ClientFault::Type(_) => refusal("unknown pkt".to_owned()),
        ClientFault::Misuse(_) => Refusal::fatal("08P01", fault.to_string())
            .detail("A pgbouncer.ini keeps PgBouncer's way: the session ends.")
            .hint("With a pgweir.toml it goes on after the server's own error."),
        ClientFault::SimpleQuery => Refusal::fatal("08P01", fault.to_string())
            .hint("disable_pqexec allows the extended query protocol only."),
    }
}

/// A client as the log names it.
#[derive(Clone, Copy)]
pub(super) struct Who<'a> {
    pub id: u64,
    pub db: Option<&'a str>,
    pub user: Option<&'a str>,
    pub peer: PeerAddr,
    /// That of its process, at the Unix socket.
    pub pid: u32,
}

impl Who<'_> {
    /// Its address as the log has it.
    pub fn address(&self, config: &Config) -> String {
        address(self.peer, self.pid, config)
    }

    /// The end of its connection. `told`: it was sent an error.
    pub fn log_end(&self, reason: &str, age: Duration, told: bool, config: &Config) {
        let (ended, failed) = (
            config.general.log_disconnections,
            told && config.general.log_pooler_errors,
        );
        if !ended && !failed {
            return;
        }
        let conn = format!("C-{}", self.id);
        let (db, user) = (self.db, self.user);
        let addr = self.address(config);
        if ended {
            let age = age.as_secs();
            info!(%conn, db, user, %addr, reason, age, "closing because");
        }
        if failed {
            warn!(%conn, db, user, %addr, reason, "pooler error");
        }
    }
}

fn who(info: &ClientInfo) -> Who<'_> {
    Who {
        id: info.id,
        db: Some(info.database()),
        user: Some(info.user()),
        peer: info.peer,
        pid: info.peer_pid,
    }
}

/// What a client did wrong, as PgBouncer has it in its log besides the reason of the
/// end; `statement` is the one that it has named.
pub(super) fn log_fault(
    fault: ClientFault,
    statement: Option<&[u8]>,
    info: &ClientInfo,
    config: &Config,
) {
    if config.source != Source::Ini {
        return;
    }
    let (who, conn) = (who(info), format!("C-{}", info.id));
    let (db, user, addr) = (who.db, who.user, who.address(config));
    let name = String::from_utf8_lossy(statement.unwrap_or_default());
    match fault {
        ClientFault::Type(tag) => {
            let kind = format!("{tag}/{tag:#x}");
            error!(%conn, db, user, %addr, kind, "unknown pkt from client");
        }
        ClientFault::Misuse(Misuse::Missing) => {
            error!(%conn, db, user, %addr, %name, "prepared statement not found");
        }
        ClientFault::Misuse(Misuse::Taken) => {
            error!(%conn, db, user, %addr, %name, "prepared statement was already prepared");
        }
        _ => {}
    }
}

/// The end of a client that had logged in. `told`: it was sent an error.
pub(super) fn log_end(info: &ClientInfo, reason: &str, told: bool, config: &Config) {
    let who = who(info);
    let age = info.connect_time().elapsed().unwrap_or_default();
    who.log_end(reason, age, told, config);
}

/// The address of a client as the log has it: `unix(PID):PORT` at the Unix socket.
pub fn address(peer: PeerAddr, pid: u32, config: &Config) -> String {
    match peer {
        PeerAddr::Unix => format!("unix({pid}):{}", config.general.listen_port),
        tcp => tcp.to_string(),
    }
}

/// What is left to be sent to a client that is leaving.
#[derive(Debug)]
pub(super) struct Goodbye {
    pub output: Outgoing,
    pub refusal: Vec<u8>,
}

impl Goodbye {
    pub fn is_empty(&self) -> bool {
        self.output.is_empty() && self.refusal.is_empty()
    }

    /// Says it. A client that does not read is not waited for.
    pub async fn say(mut self, stream: &mut Stream) {
        let said = async {
            let mut refusal = Some(self.refusal);
            poll_fn(|cx| {
                if let Some(refusal) = refusal.take() {
                    self.output.write(stream, cx, &refusal)?;
                }
                self.output.poll_flush(stream, cx)
            })
            .await?;
            close_gently(stream).await
        };
        let _ = reactor::timeout(LAST_WORDS, said).await;
    }
}

/// Ends our direction and reads what the client still sends: closing a TCP
/// socket with unread bytes would reset the connection, and the last message
/// with it. Cancel safe.
pub(super) async fn close_gently(stream: &mut Stream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut nowhere = [0; 512];
    while stream.read(&mut nowhere).await? > 0 {}
    Ok(())
}
