//! Sockets of this thread's reactor, with as little around a system call as there can be.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use socket2::{SockAddr, SockRef, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::{Reactor, Wake};
use super::outbox::{self, LONGEST};
use super::sources::{Place, Waiter, Way};

/// A stream socket, TCP or Unix.
#[derive(Debug)]
pub struct Socket(Source);

/// A listening socket, TCP or Unix.
#[derive(Debug)]
pub struct Listening(Source);

/// A socket that the reactor knows.
#[derive(Debug)]
struct Source {
    /// Left before the file is closed, which it is used with.
    place: Seat,
    file: OwnedFd,
}

/// Its place there, which belongs to one thread.
#[derive(Debug)]
struct Seat(Place, PhantomData<*const ()>);

impl Drop for Seat {
    fn drop(&mut self) {
        // None is left on a thread that is ending.
        if let Some(reactor) = Reactor::try_current() {
            reactor.forget(self.0);
        }
    }
}

/// Whether the task that runs may go on with what is ready. If not, it has been told
/// that there was nothing, and will be woken at once: it must give way to others.
#[inline]
pub fn has_budget() -> bool {
    Reactor::current().budget.get() > 0
}

impl Source {
    /// `file` must not block.
    fn new(file: OwnedFd, writable: bool) -> io::Result<Source> {
        let place = Reactor::current().register(file.as_raw_fd(), writable)?;
        let place = Seat(place, PhantomData);
        Ok(Source { file, place })
    }

    fn into_file(self) -> io::Result<OwnedFd> {
        if !self.is_sent() {
            return Err(outbox::unsent());
        }
        Reactor::current().deregister(self.file.as_raw_fd())?;
        Ok(self.file)
    }

    /// Sends what was written, and tells whether the kernel has taken all of it.
    fn is_sent(&self) -> bool {
        let reactor = Reactor::current();
        reactor.send_posted();
        !reactor.outbox.borrow().has_rest(self.place())
    }

    /// See [`Socket::leave`].
    fn leave(&self) {
        let left = Reactor::current().deregister(self.file.as_raw_fd());
        debug_assert!(left.is_ok(), "{left:?}");
    }

    fn place(&self) -> Place {
        self.place.0
    }

    /// Pending: the task is woken when it may be ready.
    #[inline(always)]
    fn poll_ready(&self, cx: &mut Context<'_>, way: Way) -> Poll<()> {
        let reactor = Reactor::current();
        if reactor.sources.borrow().is_ready(self.place(), way) {
            return Poll::Ready(());
        }
        let waiter = reactor.waiter(cx);
        self.wait(way, waiter);
        Poll::Pending
    }

    #[inline]
    fn wait(&self, way: Way, waiter: Waiter) {
        let reactor = Reactor::current();
        let before = reactor.sources.borrow_mut().wait(self.place(), way, waiter);
        drop(before);
    }

    /// Moves bytes as soon as the socket is ready, `most` at most. What moves less than
    /// that has left the socket exhausted: the next attempt need not find that out. What
    /// comes later is an edge that epoll(7) tells.
    #[inline(always)]
    fn poll_transfer(
        &self,
        cx: &mut Context<'_>,
        way: Way,
        most: usize,
        mut transfer: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready(cx, way));
            match transfer(self.file.as_fd()) {
                Err(Errno::AGAIN) => {
                    let reactor = Reactor::current();
                    reactor.sources.borrow_mut().blocked(self.place(), way);
                }
                Err(Errno::INTR) => {}
                Ok(n) => {
                    if n > 0 && n < most {
                        let reactor = Reactor::current();
                        reactor.sources.borrow_mut().exhausted(self.place(), way);
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

/// Takes one from what the task may do; false: it has been woken to go on later.
#[inline]
fn spend(cx: &Context<'_>) -> bool {
    let budget = &Reactor::current().budget;
    match budget.get().checked_sub(1) {
        Some(rest) => {
            budget.set(rest);
            true
        }
        None => {
            cx.waker().wake_by_ref();
            false
        }
    }
}

impl Socket {
    /// A connection, which must not block.
    ///
    /// # Errors
    /// The kernel does not tell of it.
    pub fn new(file: impl Into<OwnedFd>) -> io::Result<Socket> {
        Ok(Socket(Source::new(file.into(), true)?))
    }

    /// Connects. Not cancel safe: dropping the future closes the socket.
    ///
    /// # Errors
    /// Those of connect(2). A Unix socket whose backlog is full is one of them.
    pub async fn connect(address: &SockAddr) -> io::Result<Socket> {
        let socket = socket2::Socket::new(address.domain(), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let connected = match socket.connect(address) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => false,
            Err(error) => return Err(error),
        };
        let socket = Socket(Source::new(socket.into(), connected)?);
        std::future::poll_fn(|cx| socket.0.poll_ready(cx, Way::Write)).await;
        match SockRef::from(&socket).take_error()? {
            Some(error) => Err(error),
            None => Ok(socket),
        }
    }

    /// The socket without the reactor.
    ///
    /// # Errors
    /// The kernel does not know that it told of it.
    pub fn into_file(self) -> io::Result<OwnedFd> {
        self.0.into_file()
    }

    /// To be called before it is dropped while another process has the socket, too: the
    /// kernel tells of a socket until it is closed everywhere, and would not let it be
    /// registered again under the same number when it comes back.
    pub fn leave(&self) {
        self.0.leave();
    }

    /// Reads what is there; Ready(0) is the end. Cancel safe: nothing is lost when it
    /// is pending. A task that finds its socket full time and again is made to give way
    /// to others.
    #[inline(always)]
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !has_budget() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = buffer.len();
        let read = self.0.poll_transfer(cx, Way::Read, most, |file| {
            recv(file, &mut *buffer, RecvFlags::empty()).map(|(_, n)| n)
        });
        if matches!(read, Poll::Ready(Ok(n)) if n == most) {
            spend(cx);
        }
        read
    }

    /// Writes what the socket takes. Cancel safe. Short ones are sent when the tasks that
    /// are ready have run; an error that comes of that is the next read's.
    #[inline(always)]
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let reactor = Reactor::current();
        if bytes.len() <= LONGEST {
            ready!(self.0.poll_ready(cx, Way::Write));
            reactor.post(self.0.place(), self.0.file.as_raw_fd(), bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        reactor.send_posted();
        self.0.poll_transfer(cx, Way::Write, bytes.len(), |file| {
            send(file, bytes, SendFlags::NOSIGNAL)
        })
    }

    /// Writes what the socket takes at once.
    ///
    /// # Errors
    /// `WouldBlock` is one of them.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_sent() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(send(self, bytes, SendFlags::NOSIGNAL)?)
    }

    /// Whether the kernel has taken all that was written. False: the other end does not
    /// read.
    pub fn is_sent(&self) -> bool {
        self.0.is_sent()
    }

    /// False: a read would be pending, as far as the reactor knows. Whoever it was
    /// pending for last is still woken by the next byte.
    #[inline]
    pub fn may_be_readable(&self) -> bool {
        let sources = Reactor::current().sources.borrow();
        sources.is_ready(self.0.place(), Way::Read)
    }

    /// The next byte wakes this task, and nobody else; so does the end.
    #[inline]
    pub fn wake_when_readable(&self, task: Wake) {
        self.0.wait(Way::Read, task.waiter());
    }

    /// How many bytes could be read, of one; 0 is the end. Nothing is taken. Cancel
    /// safe.
    pub async fn peek(&self) -> io::Result<usize> {
        let mut byte = [0];
        let peek = |cx: &mut Context<'_>| {
            // Nothing has moved: the socket is as ready as it was.
            self.0.poll_transfer(cx, Way::Read, 1, |file| {
                recv(file, &mut byte, RecvFlags::PEEK).map(|(_, n)| n)
            })
        };
        std::future::poll_fn(peek).await
    }

    /// Whether bytes have arrived that nobody has read yet.
    pub fn has_unread(&self) -> bool {
        let mut byte = [0];
        let mut peeked = || recv(self, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        self.may_be_readable() && matches!(peeked(), Ok((_, 1..)))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(Socket::poll_read(&self, cx, buf.initialize_unfilled()))?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Socket::poll_write(&self, cx, bytes)
    }

    /// What was written is on its way without that.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_sent() {
            ready!(self.0.poll_ready(cx, Way::Write));
        }
        Poll::Ready(shutdown(&*self, Shutdown::Write).map_err(io::Error::from))
    }
}

impl Listening {
    /// A socket that listens and must not block.
    ///
    /// # Errors
    /// The kernel does not tell of it.
    pub fn new(file: impl Into<OwnedFd>) -> io::Result<Listening> {
        Ok(Listening(Source::new(file.into(), false)?))
    }

    /// The next connection. Cancel safe. A task to which they come without an end is
    /// made to give way to others.
    ///
    /// # Errors
    /// Those of accept(2).
    pub async fn accept(&self) -> io::Result<Socket> {
        let next = |cx: &mut Context<'_>| {
            if !spend(cx) {
                return Poll::Pending;
            }
            loop {
                ready!(self.0.poll_ready(cx, Way::Read));
                match accept(&self.0.file) {
                    Err(Errno::AGAIN) => {
                        let reactor = Reactor::current();
                        let mut sources = reactor.sources.borrow_mut();
                        sources.blocked(self.0.place(), Way::Read);
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Poll::Ready(Err(error.into())),
                    Ok(file) => return Poll::Ready(Socket::new(file)),
                }
            }
        };
        std::future::poll_fn(next).await
    }

    /// As [`Socket::leave`].
    pub fn leave(&self) {
        self.0.leave();
    }

    /// The socket without the reactor.
    ///
    /// # Errors
    /// The kernel does not know that it told of it.
    pub fn into_file(self) -> io::Result<OwnedFd> {
        self.0.into_file()
    }
}

/// A connection that does not block and is not inherited.
#[cfg(not(target_vendor = "apple"))]
fn accept(listening: &OwnedFd) -> Result<OwnedFd, Errno> {
    use rustix::net::{SocketFlags, accept_with};
    accept_with(listening, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
}

#[cfg(target_vendor = "apple")]
fn accept(listening: &OwnedFd) -> Result<OwnedFd, Errno> {
    let file = rustix::net::accept(listening)?;
    rustix::io::ioctl_fioclex(&file)?;
    rustix::io::ioctl_fionbio(&file, true)?;
    Ok(file)
}
