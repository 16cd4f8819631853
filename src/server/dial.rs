//! Opens sockets to servers.

use std::io;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use crate::config::{Host, TcpConfig};
use crate::net::{Stream, apply_tcp_options};

/// Connects to the first address of `host` that answers. Has no time limit.
/// Cancel safe.
pub async fn connect(host: &Host, tcp: &TcpConfig) -> io::Result<Stream> {
    match host {
        Host::Tcp { host, port } => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "name has no address");
            for addr in lookup_host((host.as_str(), *port)).await? {
                match TcpStream::connect(addr).await {
                    Ok(stream) => {
                        apply_tcp_options(&stream, tcp)?;
                        return Ok(Stream::Tcp(stream));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        Host::Unix { dir, port } => {
            let path = format!("{dir}/.s.PGSQL.{port}");
            match path.strip_prefix('@') {
                None => Ok(Stream::Unix(UnixStream::connect(path).await?)),
                Some(name) => {
                    // A local connect does not wait unless the backlog is full.
                    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                    socket.set_nonblocking(true)?;
                    socket.connect(&SockAddr::unix(format!("\0{name}"))?)?;
                    Ok(Stream::Unix(UnixStream::from_std(socket.into())?))
                }
            }
        }
    }
}

/// The host as people write it.
pub fn place(host: &Host) -> String {
    match host {
        Host::Tcp { host, port } => format!("{host}:{port}"),
        Host::Unix { dir, port } => format!("{dir}/.s.PGSQL.{port}"),
    }
}
