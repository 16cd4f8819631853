//! One type for every kind of connection.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection to a client or a server.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// An address as the console shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            PeerAddr::Tcp(ip, port) => write!(f, "{ip}:{port}"),
            PeerAddr::Unix => f.write_str("unix"),
        }
    }
}

/// A connection that no runtime knows: on its way from one worker to another.
#[derive(Debug)]
pub enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Makes it known to the runtime of this thread.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Detached::Tcp(socket) => Stream::Tcp(TcpStream::from_std(socket)?),
            Detached::Unix(socket) => Stream::Unix(UnixStream::from_std(socket)?),
        })
    }
}

impl Stream {
    /// Takes it out of its runtime.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Stream::Tcp(socket) => Detached::Tcp(socket.into_std()?),
            Stream::Unix(socket) => Detached::Unix(socket.into_std()?),
        })
    }

    pub fn peer_addr(&self) -> PeerAddr {
        match self {
            Stream::Tcp(s) => s.peer_addr().map_or(PeerAddr::Unix, PeerAddr::from),
            Stream::Unix(_) => PeerAddr::Unix,
        }
    }

    pub fn local_addr(&self) -> PeerAddr {
        match self {
            Stream::Tcp(s) => s.local_addr().map_or(PeerAddr::Unix, PeerAddr::from),
            Stream::Unix(_) => PeerAddr::Unix,
        }
    }

    /// Pid of the process at the other end of a Unix socket; 0 otherwise.
    pub fn peer_pid(&self) -> u32 {
        let cred = match self {
            Stream::Tcp(_) => return 0,
            Stream::Unix(s) => s.peer_cred(),
        };
        let pid = cred.ok().and_then(|cred| cred.pid());
        pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
    }

    /// Resolves when the peer has closed its end, without reading anything;
    /// never if it has sent something first, since that hides the end. Cancel
    /// safe.
    pub async fn closed(&self) {
        loop {
            let mut byte = [MaybeUninit::uninit()];
            let peeked = match self {
                Stream::Tcp(s) => s.readable().await.and_then(|()| {
                    s.try_io(Interest::READABLE, || SockRef::from(s).peek(&mut byte))
                }),
                Stream::Unix(s) => s.readable().await.and_then(|()| {
                    s.try_io(Interest::READABLE, || SockRef::from(s).peek(&mut byte))
                }),
            };
            match peeked {
                Ok(0) => return,
                Ok(_) => return std::future::pending().await,
                // The readiness was that of an earlier read.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Reads what is there into `buffer`; Ready(0) is the end. Cancel safe:
    /// nothing is lost when it is pending.
    pub fn poll_read_some(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(self).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().len())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Unix(s) => Pin::new(s).poll_read(cx, buf),
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
            Stream::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets have no buffer of their own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
