//! The sockets that clients connect to.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

use anyhow::Context;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::handover::Inheritance;
use super::{Handle, identity};
use crate::admin::view::ListenerRow;
use crate::config::Settings;
use crate::http::{self, Health};
use crate::net::PeerAddr;
use crate::net::listener::{self, Bound};
use crate::worker::Sockets;

/// Those of the process that is replaced, those that were `passed` by a service
/// manager, or else those of the configuration; and whose they are. The process
/// becomes its `user` meanwhile: root may open ports that others must not, but the
/// Unix socket's file is to be removed.
pub fn open(
    general: &Settings,
    inheritance: Option<&mut Inheritance>,
    passed: Vec<Bound>,
) -> anyhow::Result<(Vec<Bound>, Sockets)> {
    let own = passed.is_empty() && inheritance.is_none();
    let tcp = match own {
        true => bind_tcp(general)?,
        false => Vec::new(),
    };
    if let Some(user) = general.user.as_deref().filter(|user| !user.is_empty()) {
        identity::assume(user)?;
    }
    if let Some(inheritance) = inheritance {
        return Ok((std::mem::take(&mut inheritance.listeners), Sockets::Own));
    }
    if !own {
        ignore_addresses(general);
        return Ok((passed, Sockets::Others));
    }
    let mut bound = bind_unix(general)?;
    // Last, since who can connect expects everything else to be there.
    for socket in &tcp {
        socket.listen(general.listen_backlog)?;
    }
    bound.extend(tcp);
    anyhow::ensure!(
        !bound.is_empty(),
        "nothing to listen on: set listen_addr or unix_socket_dir"
    );
    Ok((bound, Sockets::Own))
}

/// As SHOW FDS has them. `port`: that of Unix sockets.
pub fn shown(listeners: &[Bound], port: u16) -> Vec<ListenerRow> {
    let row = |bound: &Bound| match bound {
        Bound::Tcp(socket, addr) => ListenerRow {
            fd: socket.as_raw_fd(),
            addr: addr.ip().to_string(),
            port: addr.port(),
        },
        Bound::Unix(socket, _) => ListenerRow {
            fd: socket.as_raw_fd(),
            addr: PeerAddr::Unix.host(),
            port,
        },
    };
    listeners.iter().map(row).collect()
}

/// The stats port: that of the process that is replaced, or a new one.
pub fn stats(
    general: &Settings,
    inheritance: Option<&mut Inheritance>,
) -> anyhow::Result<Option<TcpListener>> {
    let Some(addr) = &general.stats_listen else {
        return Ok(None);
    };
    let inherited = inheritance.and_then(|from| from.take_stats(addr));
    let socket = match inherited {
        Some(socket) => socket,
        None => TcpListener::bind(addr)
            .with_context(|| format!("cannot listen on stats_listen = {addr}"))?,
    };
    Ok(Some(socket))
}

/// Serves the stats port. Must be called inside a runtime.
pub fn serve_stats<H>(listener: TcpListener, handle: &Handle, health: H) -> io::Result<AbortHandle>
where
    H: Fn() -> Health + Send + Sync + 'static,
{
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    if let Ok(addr) = listener.local_addr() {
        info!(listen = %addr, "stats port");
    }
    Ok(tokio::spawn(http::serve(listener, handle.clone(), health)).abort_handle())
}

/// PgBouncer's words (src/pooler.c).
fn ignore_addresses(general: &Settings) {
    let default = Settings::default();
    if !general.listen_addr.is_empty() {
        warn!("sockets passed from service manager, listen_addr ignored");
    }
    if !["", &default.unix_socket_dir].contains(&&*general.unix_socket_dir) {
        warn!("sockets passed from service manager, unix_socket_dir ignored");
    }
}

fn bind_unix(general: &Settings) -> anyhow::Result<Vec<Bound>> {
    if general.unix_socket_dir.is_empty() {
        return Ok(Vec::new());
    }
    let bound = listener::unix(
        &general.unix_socket_dir,
        general.listen_port,
        general.unix_socket_mode.0,
        general.unix_socket_group.as_deref(),
        general.listen_backlog,
    );
    Ok(vec![match general.so_reuseport {
        true => bound.context("each process needs a unix_socket_dir of its own")?,
        false => bound?,
    }])
}

fn bind_tcp(general: &Settings) -> anyhow::Result<Vec<Bound>> {
    let mut bound = Vec::new();
    for host in &general.listen_addr {
        bound.extend(listener::tcp(
            host,
            general.listen_port,
            general.so_reuseport,
        )?);
    }
    Ok(bound)
}
