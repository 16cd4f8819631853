//! Reads from and writes to plain sockets, with as little around the system call as
//! there can be: tokio is asked to wake the task only when there is nothing to do.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;

/// What TCP and Unix sockets have in common.
pub trait Socket: AsFd {
    /// Runs `io` if the socket is ready, as far as the runtime knows. It is not any
    /// more when that would block.
    fn try_io<T>(&self, interest: Interest, io: impl FnOnce() -> io::Result<T>) -> io::Result<T>;

    /// Has the task woken when there is something to read.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Has the task woken when there is room to write.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

macro_rules! socket {
    ($type:ty) => {
        impl Socket for $type {
            #[inline]
            fn try_io<T>(
                &self,
                interest: Interest,
                io: impl FnOnce() -> io::Result<T>,
            ) -> io::Result<T> {
                self.try_io(interest, io)
            }

            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// Reads what is there; Ready(0) is the end. Cancel safe: nothing is lost when it is
/// pending. A task that finds its socket full time and again is made to give way to
/// others, as tokio's own reads do.
#[inline(always)]
pub fn poll_read<S: Socket>(
    socket: &S,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    if coop::has_budget_remaining()
        && let Some(read) = read_now(socket, buffer)
    {
        if matches!(read, Ok(n) if n == buffer.len())
            && let Poll::Ready(turn) = coop::poll_proceed(cx)
        {
            turn.made_progress();
        }
        return Poll::Ready(read);
    }
    loop {
        ready!(socket.poll_read_ready(cx))?;
        if let Some(read) = read_now(socket, buffer) {
            return Poll::Ready(read);
        }
    }
}

/// Writes what the socket takes. Cancel safe.
#[inline(always)]
pub fn poll_write<S: Socket>(
    socket: &S,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    loop {
        let sent = transfer(socket, Interest::WRITABLE, bytes.len(), || {
            send(socket, bytes, SendFlags::NOSIGNAL)
        });
        match sent {
            Some(sent) => return Poll::Ready(sent),
            None => ready!(socket.poll_write_ready(cx))?,
        }
    }
}

#[inline(always)]
fn read_now<S: Socket>(socket: &S, buffer: &mut [u8]) -> Option<io::Result<usize>> {
    transfer(socket, Interest::READABLE, buffer.len(), || {
        recv(socket, &mut *buffer, RecvFlags::empty()).map(|(_, n)| n)
    })
}

/// `None`: the socket was not ready. What moves less than it could have, of `most`
/// bytes, has left the socket so: the next attempt need not find that out. What comes
/// later is an edge that epoll(7) tells.
#[inline(always)]
fn transfer<S: Socket>(
    socket: &S,
    interest: Interest,
    most: usize,
    io: impl FnOnce() -> Result<usize, Errno>,
) -> Option<io::Result<usize>> {
    let mut moved = Err(Errno::AGAIN);
    // Only tells the runtime whether the socket is still ready.
    let _ = socket.try_io(interest, || {
        moved = io();
        match moved {
            Ok(n) if n == 0 || n == most => Ok(()),
            Ok(_) | Err(Errno::AGAIN) => Err(ErrorKind::WouldBlock.into()),
            Err(_) => Ok(()),
        }
    });
    match moved {
        Err(Errno::AGAIN) => None,
        moved => Some(moved.map_err(io::Error::from)),
    }
}
