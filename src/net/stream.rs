//! One type for every kind of connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, SockRef};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::peer;
use super::tls::{DetachedTls, Encryption, TlsStream};
use crate::reactor::{Socket, Wake};

/// A connection to a client or a server.
#[derive(Debug)]
pub enum Stream {
    Tcp(Socket),
    Unix(Socket),
    /// Boxed: others should not be larger for it.
    Tls(Box<TlsStream>),
    /// One of the others, with addresses that need not be asked for: the socket's, or
    /// what a load balancer has told.
    Known(Box<(Stream, Addresses)>),
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub peer: PeerAddr,
    pub local: PeerAddr,
}

/// A connection that no reactor knows: on its way from one worker to another.
#[derive(Debug)]
pub enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Tls(Box<DetachedTls>),
}

/// An address as the console shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerAddr {
    Tcp(IpAddr, u16),
    Unix,
}

impl From<SocketAddr> for PeerAddr {
    fn from(addr: SocketAddr) -> Self {
        PeerAddr::Tcp(addr.ip().to_canonical(), addr.port())
    }
}

impl PeerAddr {
    /// PgBouncer's `addr` column: the IP address, or `unix`.
    pub fn host(&self) -> String {
        match self {
            PeerAddr::Tcp(ip, _) => ip.to_string(),
            PeerAddr::Unix => "unix".to_owned(),
        }
    }

    /// The port; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        match self {
            PeerAddr::Tcp(_, port) => *port,
            PeerAddr::Unix => 0,
        }
    }
}

impl std::fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PeerAddr::Tcp(ip, port) => SocketAddr::new(*ip, *port).fmt(f),
            PeerAddr::Unix => f.write_str("unix"),
        }
    }
}

impl Stream {
    /// Takes the connection out of its reactor.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Stream::Tcp(s) => Detached::Tcp(s.into_file()?.into()),
            Stream::Unix(s) => Detached::Unix(s.into_file()?.into()),
            Stream::Tls(s) => Detached::Tls(Box::new(s.detach()?)),
            Stream::Known(inner) => return inner.0.detach(),
        })
    }

    /// The socket, if nothing but that is needed to go on with the connection
    /// elsewhere: not so with TLS, nor if it has not taken all that was written.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        let socket = self.plain().filter(|socket| socket.is_sent());
        socket.map(AsFd::as_fd)
    }

    /// To be called before it is dropped when another process goes on with the connection.
    pub fn leave(&self) {
        // Others go nowhere.
        if let Some(socket) = self.plain() {
            socket.leave();
        }
    }

    /// The number of the socket's descriptor, if it is a plain one.
    pub fn descriptor(&self) -> Option<i32> {
        self.plain().map(|socket| socket.as_fd().as_raw_fd())
    }

    fn plain(&self) -> Option<&Socket> {
        match self.bare() {
            Stream::Tcp(s) | Stream::Unix(s) => Some(s),
            Stream::Tls(_) | Stream::Known(_) => None,
        }
    }

    /// The connection itself, without what is known of it.
    pub fn unwrapped(self) -> Stream {
        match self {
            Stream::Known(inner) => inner.0,
            other => other,
        }
    }

    fn bare(&self) -> &Stream {
        match self {
            Stream::Known(inner) => &inner.0,
            other => other,
        }
    }

    /// Whether it came through a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.bare(), Stream::Unix(_))
    }

    /// Both ends.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            peer: self.peer_addr(),
            local: self.local_addr(),
        }
    }

    /// The other end's address; behind a load balancer the client's.
    pub fn peer_addr(&self) -> PeerAddr {
        if let Stream::Known(inner) = self {
            return inner.1.peer;
        }
        match self.tcp() {
            Some(s) => address(SockRef::from(s).peer_addr()),
            None => PeerAddr::Unix,
        }
    }

    /// Our end's address; behind a load balancer the one that the client knows.
    pub fn local_addr(&self) -> PeerAddr {
        if let Stream::Known(inner) = self {
            return inner.1.local;
        }
        match self.tcp() {
            Some(s) => address(SockRef::from(s).local_addr()),
            None => PeerAddr::Unix,
        }
    }

    /// The socket, unless it is a Unix socket.
    fn tcp(&self) -> Option<&Socket> {
        match self {
            Stream::Tcp(s) => Some(s),
            Stream::Tls(s) => Some(s.socket()),
            Stream::Known(inner) => inner.0.tcp(),
            Stream::Unix(_) => None,
        }
    }

    /// What a TLS connection has agreed on; `None` for a plain one.
    pub fn encryption(&self) -> Option<Encryption> {
        match self {
            Stream::Tls(s) => s.encryption(),
            Stream::Known(inner) => inner.0.encryption(),
            Stream::Tcp(_) | Stream::Unix(_) => None,
        }
    }

    /// Says that nothing more will come, where that takes a message, and does
    /// not wait for anything.
    pub fn say_goodbye(&mut self) {
        match self {
            Stream::Tls(s) => s.say_goodbye(),
            Stream::Known(inner) => inner.0.say_goodbye(),
            Stream::Tcp(_) | Stream::Unix(_) => {}
        }
    }

    /// Pid of the process at the other end of a Unix socket; 0 otherwise.
    pub fn peer_pid(&self) -> u32 {
        match self {
            Stream::Tcp(_) | Stream::Tls(_) => 0,
            Stream::Unix(s) => peer::process(s).unwrap_or(0),
            Stream::Known(inner) => inner.0.peer_pid(),
        }
    }

    /// User id of the process at the other end of a Unix socket.
    pub fn peer_uid(&self) -> Option<u32> {
        match self {
            Stream::Unix(s) => peer::user(s).ok(),
            Stream::Known(inner) => inner.0.peer_uid(),
            Stream::Tcp(_) | Stream::Tls(_) => None,
        }
    }

    /// The subject's common name in the certificate that the other end of a TLS
    /// connection has shown, if that was verified.
    pub fn peer_common_name(&self) -> Option<String> {
        match self {
            Stream::Tls(s) => s.peer_common_name(),
            Stream::Known(inner) => inner.0.peer_common_name(),
            Stream::Tcp(_) | Stream::Unix(_) => None,
        }
    }

    /// The hash of the certificate that the server at the other end of a TLS
    /// connection has shown, to bind a login to it.
    pub fn peer_end_point(&self) -> Option<Vec<u8>> {
        match self {
            Stream::Tls(s) => s.peer_end_point(),
            Stream::Known(inner) => inner.0.peer_end_point(),
            Stream::Tcp(_) | Stream::Unix(_) => None,
        }
    }

    /// Resolves when the peer has closed its end, without reading anything;
    /// never if it has sent something first, since that hides the end. Cancel
    /// safe.
    pub async fn closed(&self) {
        if self.heard().await {
            std::future::pending().await
        }
    }

    /// Resolves when the peer has sent something, which is not read (true), or has
    /// closed its end (false). Cancel safe.
    pub async fn heard(&self) -> bool {
        let socket = match self.bare() {
            Stream::Unix(s) => Some(s),
            other => other.tcp(),
        };
        match socket {
            Some(socket) => socket.peek().await.is_ok_and(|n| n > 0),
            None => false,
        }
    }

    /// Whether bytes have arrived that nobody has read yet.
    pub fn has_unread(&self) -> bool {
        match self {
            Stream::Tcp(s) | Stream::Unix(s) => s.has_unread(),
            Stream::Tls(s) => s.has_plaintext(),
            Stream::Known(inner) => inner.0.has_unread(),
        }
    }

    /// False: a read would be pending, as far as the reactor knows. Whoever it was
    /// pending for last is still woken by the next byte.
    #[inline]
    pub fn may_be_readable(&self) -> bool {
        match self {
            Stream::Tcp(s) | Stream::Unix(s) => s.may_be_readable(),
            Stream::Tls(_) => true,
            Stream::Known(inner) => inner.0.may_be_readable(),
        }
    }

    /// Has a task woken by the next byte or the end, and nobody else. False: there may
    /// be something to read already.
    #[inline]
    pub fn wake_when_readable(&self, task: Wake) -> bool {
        let socket = match self {
            Stream::Tcp(s) | Stream::Unix(s) => s,
            Stream::Tls(s) if s.has_plaintext() => return false,
            Stream::Tls(s) => s.socket(),
            Stream::Known(inner) => return inner.0.wake_when_readable(task),
        };
        socket.wake_when_readable(task);
        !socket.may_be_readable()
    }

    /// Reads what is there into `buffer`; Ready(0) is the end. Cancel safe:
    /// nothing is lost when it is pending.
    #[inline]
    pub fn poll_read_some(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(s) | Stream::Unix(s) => s.poll_read(cx, buffer),
            Stream::Tls(s) => {
                let mut buffer = ReadBuf::new(buffer);
                let read = Pin::new(&mut **s).poll_read(cx, &mut buffer);
                read.map_ok(|()| buffer.filled().len())
            }
            Stream::Known(inner) => inner.0.poll_read_some(cx, buffer),
        }
    }
}

/// What it cannot tell is not known to be anywhere else either.
fn address(asked: io::Result<SockAddr>) -> PeerAddr {
    let address = asked.ok().and_then(|address| address.as_socket());
    address.map_or(PeerAddr::Unix, PeerAddr::from)
}

impl Detached {
    /// A socket that comes from another process.
    pub fn from_file(file: OwnedFd) -> io::Result<Detached> {
        Ok(match SockRef::from(&file).domain()? {
            Domain::UNIX => Detached::Unix(file.into()),
            _ => Detached::Tcp(file.into()),
        })
    }

    /// Hands the connection to the reactor of this thread.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Detached::Tcp(s) => Stream::Tcp(Socket::new(s)?),
            Detached::Unix(s) => Stream::Unix(Socket::new(s)?),
            Detached::Tls(s) => Stream::Tls(Box::new(s.attach()?)),
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) | Stream::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(&mut **s).poll_read(cx, buf),
            Stream::Known(inner) => Pin::new(&mut inner.0).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(s) | Stream::Unix(s) => s.poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(&mut **s).poll_write(cx, buf),
            Stream::Known(inner) => Pin::new(&mut inner.0).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) | Stream::Unix(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(&mut **s).poll_flush(cx),
            Stream::Known(inner) => Pin::new(&mut inner.0).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) | Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(&mut **s).poll_shutdown(cx),
            Stream::Known(inner) => Pin::new(&mut inner.0).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::fcntl_dupfd_cloexec;

    use super::*;
    use crate::reactor;

    #[test]
    fn plain_connections_are_not_larger_for_tls() {
        enum Plain {
            _Tcp(Socket),
            _Unix(Socket),
            _Boxed(Box<()>),
        }
        assert_eq!(size_of::<Stream>(), size_of::<Plain>());
    }

    #[test]
    fn a_connection_may_come_back_under_its_old_number() {
        reactor::run(async {
            let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
            socket.set_nonblocking(true).unwrap();
            // Higher than those that other tests get meanwhile.
            let copy = || fcntl_dupfd_cloexec(&socket, 900).unwrap();
            let attach = |file| Detached::from_file(file).and_then(Detached::attach);
            let first = copy();
            let number = first.as_raw_fd();
            let stream = attach(first).unwrap();
            stream.leave();
            drop(stream);
            let second = copy();
            assert_eq!(second.as_raw_fd(), number);
            attach(second).unwrap();
        });
    }

    #[test]
    fn a_detached_connection_may_go_to_another_thread() {
        fn is_send<T: Send>() {}
        is_send::<Detached>();
    }
}
