//! Listening sockets.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use listenfd::ListenFd;
use nix::unistd::{Group, chown};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use thiserror::Error;

use super::Stream;
use crate::reactor::{self, Listening};

/// A socket could not be opened for listening.
#[derive(Debug, Error)]
#[error("cannot listen on {place}: {source}")]
pub struct ListenError {
    pub place: String,
    source: io::Error,
}

/// A bound socket, not yet known to a reactor.
#[derive(Debug)]
pub enum Bound {
    Tcp(std::net::TcpListener, SocketAddr),
    Unix(std::os::unix::net::UnixListener, UnixPath),
}

/// Removes the socket's file when dropped. Abstract sockets have none.
#[derive(Debug)]
pub struct UnixPath {
    path: Option<PathBuf>,
    /// Not as long as it is somebody else's.
    ours: Arc<AtomicBool>,
}

impl UnixPath {
    fn ours(path: Option<PathBuf>) -> UnixPath {
        let ours = Arc::new(AtomicBool::new(true));
        UnixPath { path, ours }
    }

    /// A file that is somebody else's until `ours` says that it is not.
    pub fn inherited(path: Option<PathBuf>, ours: &Arc<AtomicBool>) -> UnixPath {
        let ours = ours.clone();
        UnixPath { path, ours }
    }

    pub fn get(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|_| self.ours.load(Relaxed)) {
            // It may have been removed by somebody else already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The sockets that a service manager has opened for this process (LISTEN_FDS,
/// sd_listen_fds(3)); none: it has opened none. Takes them out of the environment:
/// to be called once, before there are threads.
///
/// # Errors
/// One of them is not a listening TCP or Unix socket.
pub fn inherited() -> Result<Vec<Bound>, ListenError> {
    let mut passed = ListenFd::from_env();
    let numbers = 0..passed.len();
    let mut take = |number| match passed.take_tcp_listener(number) {
        Ok(socket) => socket.map(Bound::tcp).transpose(),
        Err(_) => {
            let socket = passed.take_unix_listener(number)?;
            socket
                .map(|socket| Bound::unix(socket, UnixPath::ours(None)))
                .transpose()
        }
    };
    let bound = |number| {
        let failed = |source| ListenError {
            place: format!("socket {number} of the service manager"),
            source,
        };
        take(number).map_err(failed).transpose()
    };
    numbers.filter_map(bound).collect()
}

/// Sockets at every address that `host` resolves to, which do not listen yet
/// ([`Bound::listen`]); `*` is every address of the machine. `shared`: other processes
/// of the same user may have them, too (`SO_REUSEPORT`).
pub fn tcp(host: &str, port: u16, shared: bool) -> Result<Vec<Bound>, ListenError> {
    let failed = |place: String| move |source| ListenError { place, source };
    if host == "*" {
        // One socket for both families where there is IPv6, else IPv4 alone.
        let any6 = SocketAddr::from(([0u16; 8], port));
        let any4 = SocketAddr::from(([0u8; 4], port));
        let socket = tcp_socket(any6, shared, true).or_else(|_| tcp_socket(any4, shared, false));
        return Ok(vec![socket.map_err(failed(format!("*:{port}")))?]);
    }
    let place = format!("{host}:{port}");
    let addrs = (host, port).to_socket_addrs().map_err(failed(place))?;
    let bind = |addr: SocketAddr| tcp_socket(addr, shared, false).map_err(failed(addr.to_string()));
    addrs.map(bind).collect()
}

fn tcp_socket(addr: SocketAddr, shared: bool, both_families: bool) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    let listener = std::net::TcpListener::from(socket);
    let local = listener.local_addr()?;
    Ok(Bound::Tcp(listener, local))
}

/// Listens on `<dir>/.s.PGSQL.<port>`, or the abstract `@name/.s.PGSQL.<port>`.
/// A socket file that nobody listens on any more is replaced.
pub fn unix(
    dir: &str,
    port: u16,
    mode: u32,
    group: Option<&str>,
    backlog: u32,
) -> Result<Bound, ListenError> {
    unix_at(&format!("{dir}/.s.PGSQL.{port}"), mode, group, backlog)
}

/// The same at any path.
pub fn unix_at(
    path: &str,
    mode: u32,
    group: Option<&str>,
    backlog: u32,
) -> Result<Bound, ListenError> {
    unix_socket(path, mode, group, backlog).map_err(|source| ListenError {
        place: path.to_owned(),
        source,
    })
}

/// Connects to such a path.
pub fn connect_unix(path: &str) -> io::Result<std::os::unix::net::UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match path.strip_prefix('@') {
        Some(name) => socket.connect(&SockAddr::unix(format!("\0{name}"))?)?,
        None => socket.connect(&SockAddr::unix(path)?)?,
    }
    Ok(socket.into())
}

fn unix_socket(path: &str, mode: u32, group: Option<&str>, backlog: u32) -> io::Result<Bound> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let backlog = backlog.min(i32::MAX as u32) as i32;
    let file = match path.strip_prefix('@') {
        Some(name) => {
            socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
            socket.listen(backlog)?;
            None
        }
        None => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // Nobody sees it under its name before it listens and has its
            // permissions.
            let unfinished = format!("{path}.{}", std::process::id());
            socket.bind(&SockAddr::unix(&unfinished)?)?;
            let hidden = UnixPath::ours(Some(unfinished.into()));
            let unfinished = hidden.path.as_deref().unwrap_or(Path::new(path));
            if let Some(group) = group {
                let unknown = || io::Error::new(io::ErrorKind::NotFound, "no such group");
                let group = Group::from_name(group)?.ok_or_else(unknown)?;
                chown(unfinished, None, Some(group.gid))?;
            }
            std::fs::set_permissions(unfinished, std::fs::Permissions::from_mode(mode))?;
            socket.listen(backlog)?;
            std::fs::rename(unfinished, path)?;
            Some(Path::new(path).to_owned())
        }
    };
    Ok(Bound::Unix(socket.into(), UnixPath::ours(file)))
}

/// A listening socket of a reactor.
#[derive(Debug)]
pub enum Listener {
    Tcp(Listening),
    Unix(Listening, UnixPath),
}

impl Listener {
    /// For the reactor of this thread.
    pub fn new(bound: Bound) -> io::Result<Listener> {
        Ok(match bound {
            Bound::Tcp(listener, _) => Listener::Tcp(Listening::new(listener)?),
            Bound::Unix(listener, path) => Listener::Unix(Listening::new(listener)?, path),
        })
    }

    /// The next connection. Cancel safe.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?)),
            Listener::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?)),
        }
    }

    /// Somebody else has the socket, too: it is left as it is, with all who wait
    /// there.
    pub fn leave(self) {
        match &self {
            Listener::Tcp(listener) => listener.leave(),
            Listener::Unix(listener, file) => {
                listener.leave();
                file.ours.store(false, Relaxed);
            }
        }
    }

    /// Closes the socket, and gives `take` the connections that wait there: the
    /// kernel would reset them.
    ///
    /// # Errors
    /// They cannot be taken, as when no file descriptor is left.
    pub fn close(self, mut take: impl FnMut(Stream)) -> io::Result<()> {
        let Listener::Tcp(listener) = self else {
            return Ok(());
        };
        // Not by the reactor: it looks only where the kernel has reported something.
        let listener = std::net::TcpListener::from(listener.into_file()?);
        loop {
            match listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(true)?;
                    take(Stream::Tcp(reactor::Socket::new(socket)?));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

impl Bound {
    /// A socket that listens already.
    pub fn tcp(socket: std::net::TcpListener) -> io::Result<Bound> {
        prepare(SockRef::from(&socket))?;
        let addr = socket.local_addr()?;
        Ok(Bound::Tcp(socket, addr))
    }

    /// The same, with its file.
    pub fn unix(socket: std::os::unix::net::UnixListener, file: UnixPath) -> io::Result<Bound> {
        prepare(SockRef::from(&socket))?;
        Ok(Bound::Unix(socket, file))
    }

    /// Lets clients connect to a TCP socket.
    pub fn listen(&self, backlog: u32) -> Result<(), ListenError> {
        let Bound::Tcp(socket, _) = self else {
            return Ok(());
        };
        let backlog = backlog.min(i32::MAX as u32) as i32;
        let listening = SockRef::from(socket).listen(backlog);
        listening.map_err(|source| {
            let place = self.place();
            ListenError { place, source }
        })
    }

    /// For the log.
    pub fn place(&self) -> String {
        match self {
            Bound::Tcp(_, addr) => addr.to_string(),
            Bound::Unix(socket, file) => {
                let addr = socket.local_addr();
                let addr = addr.as_ref().ok().and_then(|addr| addr.as_pathname());
                match file.path.as_deref().or(addr) {
                    Some(path) => format!("unix:{}", path.display()),
                    None => "an abstract Unix socket".to_owned(),
                }
            }
        }
    }
}

fn prepare(socket: SockRef<'_>) -> io::Result<()> {
    if !socket.is_listener()? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it does not listen",
        ));
    }
    socket.set_nonblocking(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(port: u16, shared: bool) -> Result<Vec<Bound>, ListenError> {
        let bound = tcp("127.0.0.1", port, shared)?;
        bound.iter().try_for_each(|socket| socket.listen(16))?;
        Ok(bound)
    }

    fn port_of(bound: &[Bound]) -> u16 {
        match bound {
            [Bound::Tcp(_, addr)] => addr.port(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_port_is_shared_only_by_those_who_say_so() {
        let first = listen(0, true).unwrap();
        let port = port_of(&first);
        assert_eq!(port_of(&listen(port, true).unwrap()), port);
        let error = listen(port, false).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
    }

    #[test]
    fn who_waits_is_accepted_before_the_socket_closes() {
        reactor::run(async {
            let mut bound = listen(0, false).unwrap();
            let port = port_of(&bound);
            let connect = || std::net::TcpStream::connect(("127.0.0.1", port));
            let waiting = [connect().unwrap(), connect().unwrap(), connect().unwrap()];
            let mut taken = Vec::new();
            let listener = Listener::new(bound.remove(0)).unwrap();
            listener.close(|stream| taken.push(stream)).unwrap();
            assert!(connect().is_err(), "it is closed");
            let own = |stream: &std::net::TcpStream| stream.local_addr().unwrap().into();
            let came: Vec<_> = taken.iter().map(Stream::peer_addr).collect();
            assert_eq!(came, waiting.each_ref().map(own));
        });
    }
}
