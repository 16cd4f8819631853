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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    fn socket() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    #[test]
    fn every_option_reaches_the_socket() {
        let seconds = |n| Some(Duration::from_secs(n));
        let config = TcpConfig {
            keepalive: true,
            keepcnt: 5,
            keepidle: seconds(77),
            keepintvl: seconds(11),
            user_timeout: seconds(33),
            socket_buffer: 50_000,
        };
        let stream = socket();
        apply(&stream, &config).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(77)
        );
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(11)
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 5);
        assert_eq!(socket.tcp_user_timeout().unwrap(), seconds(33));
        // Linux doubles it for its own bookkeeping: socket(7).
        assert_eq!(socket.send_buffer_size().unwrap(), 100_000);
        assert_eq!(socket.recv_buffer_size().unwrap(), 100_000);
    }

    #[test]
    fn what_is_not_set_stays_the_systems() {
        let (changed, system) = (socket(), socket());
        let config = TcpConfig {
            keepalive: true,
            ..TcpConfig::default()
        };
        apply(&changed, &config).unwrap();
        let (changed, system) = (SockRef::from(&changed), SockRef::from(&system));
        assert!(changed.tcp_nodelay().unwrap() && changed.keepalive().unwrap());
        let timing = |socket: &SockRef<'_>| {
            let idle = socket.tcp_keepalive_time().unwrap();
            let interval = socket.tcp_keepalive_interval().unwrap();
            let retries = socket.tcp_keepalive_retries().unwrap();
            (idle, interval, retries, socket.tcp_user_timeout().unwrap())
        };
        assert_eq!(timing(&changed), timing(&system));

        apply(&*changed, &TcpConfig::default()).unwrap();
        assert!(!changed.keepalive().unwrap());
    }
}
