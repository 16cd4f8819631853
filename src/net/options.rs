//! Options of TCP sockets.

use std::io;
use std::os::fd::AsFd;

use socket2::{SockRef, TcpKeepalive};

use crate::config::TcpConfig;

/// Sets TCP_NODELAY (always: a pooler writes whole bursts) and what the
/// `tcp_*` settings ask for.
pub fn apply<S: AsFd>(socket: &S, config: &TcpConfig) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(config.keepalive)?;
    if config.keepalive {
        let mut keepalive = TcpKeepalive::new();
        if let Some(idle) = config.keepidle {
            keepalive = keepalive.with_time(idle);
        }
        if let Some(interval) = config.keepintvl {
            keepalive = keepalive.with_interval(interval);
        }
        if config.keepcnt > 0 {
            keepalive = keepalive.with_retries(config.keepcnt);
        }
        if config.keepidle.is_some() || config.keepintvl.is_some() || config.keepcnt > 0 {
            socket.set_tcp_keepalive(&keepalive)?;
        }
    }
    if config.user_timeout.is_some() {
        socket.set_tcp_user_timeout(config.user_timeout)?;
    }
    if config.socket_buffer > 0 {
        socket.set_send_buffer_size(config.socket_buffer as usize)?;
        socket.set_recv_buffer_size(config.socket_buffer as usize)?;
    }
    Ok(())
}
