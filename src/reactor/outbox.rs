//! What tasks have written, to be sent when those that are ready have run.
//!
//! A message's way through the kernel is long: TCP, the loopback interface or a driver,
//! and waking who waits for it. One send after the other finds it in the processor's
//! caches, where tasks and receives between them would have pushed it out: of the CPU per
//! transaction that saves 2 to 6 % (docs/performance.md).
//!
//! For who writes it is as if the kernel had taken it. What it does not take stays
//! here, at most one turn's writes for a socket: the socket is not writable until that
//! is gone. Errors come where they would come for bytes that the kernel has, with the
//! next read.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags};

use super::sources::Place;

/// Longer ones are sent at once: to copy them costs more than it saves.
pub(super) const LONGEST: usize = 2048;
/// So many wait at most, so that the first does not wait for long.
const MOST: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The letters' contents, one after the other.
    bytes: Vec<u8>,
    letters: Vec<Letter>,
    /// What sockets have not taken. Those are blocked.
    rests: HashMap<Place, Rest>,
}

/// Its socket is open: who closes one sends what is here before.
#[derive(Debug)]
struct Letter {
    to: Place,
    file: RawFd,
    /// Where it ends in `bytes`.
    end: usize,
}

#[derive(Debug)]
struct Rest {
    file: RawFd,
    bytes: Vec<u8>,
}

impl Outbox {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.letters.len() >= MOST
    }

    #[inline]
    pub fn post(&mut self, to: Place, file: RawFd, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        self.letters.push(Letter { to, file, end });
    }

    /// Sends all. `blocked` gets the sockets that have not taken everything.
    pub fn send(&mut self, mut blocked: impl FnMut(Place)) {
        let mut begin = 0;
        for Letter { to, file, end } in self.letters.drain(..) {
            let bytes = self.bytes.get(begin..end).unwrap_or_default();
            begin = end;
            if !self.rests.is_empty()
                && let Some(rest) = self.rests.get_mut(&to)
            {
                rest.bytes.extend_from_slice(bytes);
                continue;
            }
            let left = send(file, bytes);
            if !left.is_empty() {
                let bytes = left.to_vec();
                self.rests.insert(to, Rest { file, bytes });
                blocked(to);
            }
        }
        self.bytes.clear();
    }

    /// Whether a socket has not taken everything yet.
    #[inline]
    pub fn has_rest(&self, of: Place) -> bool {
        !self.rests.is_empty() && self.rests.contains_key(&of)
    }

    /// The socket takes more. Whether nothing is left for it.
    #[inline]
    pub fn send_rest(&mut self, of: Place) -> bool {
        if self.rests.is_empty() {
            return true;
        }
        let Some(rest) = self.rests.get_mut(&of) else {
            return true;
        };
        let left = send(rest.file, &rest.bytes).len();
        rest.bytes.drain(..rest.bytes.len() - left);
        if left == 0 {
            self.rests.remove(&of);
        }
        left == 0
    }

    /// The socket is being closed.
    pub fn forget(&mut self, place: Place) {
        if !self.rests.is_empty() {
            self.rests.remove(&place);
        }
    }
}

/// Sends what the socket takes, and returns the rest. To a socket that is broken there
/// is nothing to be sent; its reader is told.
#[inline]
fn send(file: RawFd, mut bytes: &[u8]) -> &[u8] {
    while !bytes.is_empty() {
        // Rust's runtime ignores SIGPIPE, which some systems cannot be told here.
        match socket::send(file, bytes, MsgFlags::empty()) {
            Ok(n) if n > 0 => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::EAGAIN) => break,
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => {
                // Not all errors (ENOBUFS) would come with an event.
                let _ = socket::shutdown(file, socket::Shutdown::Both);
                return &[];
            }
        }
    }
    bytes
}

/// What a socket cannot be taken elsewhere with.
pub(super) fn unsent() -> io::Error {
    io::Error::other("the other end has not taken what was sent last")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::io::{ErrorKind, Read};
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::task::Poll;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::reactor::{Socket, run, sleep, spawn};

    fn pair() -> (Socket, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        (Socket::new(near).unwrap(), far)
    }

    async fn write(socket: &Socket, bytes: &[u8]) {
        let n = poll_fn(|cx| socket.poll_write(cx, bytes)).await.unwrap();
        assert_eq!(n, bytes.len());
    }

    /// What is there.
    fn received(far: &mut UnixStream) -> Vec<u8> {
        let mut all = vec![0; 1 << 20];
        match far.read(&mut all) {
            Ok(n) => all.truncate(n),
            Err(error) if error.kind() == ErrorKind::WouldBlock => all.clear(),
            Err(error) => panic!("{error}"),
        }
        all
    }

    async fn turn() {
        sleep(std::time::Duration::from_millis(1)).await;
    }

    #[test]
    fn short_ones_wait_for_the_end_of_the_turn_and_long_ones_come_behind_them() {
        run(async {
            let ((first, mut to_first), (second, mut to_second)) = (pair(), pair());
            write(&first, b"one ").await;
            write(&second, b"two").await;
            assert_eq!(received(&mut to_first), b"");
            turn().await;
            assert_eq!(received(&mut to_second), b"two");
            write(&first, b"three ").await;
            let long = [b'x'; LONGEST + 1];
            write(&first, &long).await;
            write(&first, b" four").await;
            turn().await;
            let expected = [b"one three ", &long[..], b" four"].concat();
            assert_eq!(received(&mut to_first), expected);
        });
    }

    #[test]
    fn not_too_many_wait() {
        run(async {
            let (socket, mut far) = pair();
            for _ in 0..=MOST {
                write(&socket, b"x").await;
            }
            assert_eq!(received(&mut far), [b'x'; MOST]);
        });
    }

    #[test]
    fn a_socket_that_is_closed_or_goes_elsewhere_has_sent_it() {
        run(async {
            let (socket, mut far) = pair();
            write(&socket, b"last words").await;
            drop(socket);
            assert_eq!(received(&mut far), b"last words");
            assert_eq!(far.read(&mut [0]).unwrap(), 0);
            let (socket, mut far) = pair();
            write(&socket, b"before").await;
            let _file = socket.into_file().unwrap();
            assert_eq!(received(&mut far), b"before");
        });
    }

    #[test]
    fn the_end_of_the_first_task_is_the_end_of_a_turn() {
        let mut far = run(async {
            let (socket, far) = pair();
            write(&socket, b"done").await;
            std::mem::forget(socket);
            far
        });
        assert_eq!(received(&mut far), b"done");
    }

    /// Fills it until it takes no more, and returns what it has taken.
    async fn fill(socket: &Socket) -> Vec<u8> {
        let mut sent = Vec::new();
        for n in 0.. {
            let bytes = [n as u8; 1000];
            let ready = poll_fn(|cx| match socket.poll_write(cx, &bytes) {
                Poll::Ready(n) => Poll::Ready(n.unwrap() > 0),
                Poll::Pending => Poll::Ready(false),
            });
            if !ready.await {
                break;
            }
            sent.extend_from_slice(&bytes);
            turn().await;
        }
        sent
    }

    #[test]
    fn what_is_not_taken_at_once_comes_in_order_and_blocks_the_socket() {
        run(async {
            let (socket, mut far) = pair();
            let mut expected = fill(&socket).await;
            assert!(!socket.is_sent());
            // Who asks for it is told as much.
            assert!(socket.try_write(b"!").is_err());
            let (socket, done) = (Rc::new(socket), Rc::new(Cell::new(false)));
            let (socket_of_it, done_of_it) = (socket.clone(), done.clone());
            spawn(async move {
                write(&socket_of_it, b"the end").await;
                done_of_it.set(true);
            });
            turn().await;
            assert!(!done.get());
            let mut came = Vec::new();
            while came.len() < expected.len() + 7 {
                came.extend(received(&mut far));
                turn().await;
            }
            expected.extend_from_slice(b"the end");
            assert!(came == expected && done.get() && socket.is_sent());
        });
    }

    #[test]
    fn the_end_is_not_told_before_all_is_sent() {
        run(async {
            let (mut socket, mut far) = pair();
            let sent = fill(&socket).await.len();
            spawn(async move { socket.shutdown().await.unwrap() });
            let mut came = 0;
            while came < sent {
                came += received(&mut far).len();
                turn().await;
            }
            turn().await;
            assert_eq!((came, far.read(&mut [0]).unwrap()), (sent, 0));
        });
    }

    #[test]
    fn who_cannot_be_written_to_is_at_its_end() {
        run(async {
            let (socket, far) = pair();
            drop(far);
            write(&socket, b"nobody reads this").await;
            let end = poll_fn(|cx| socket.poll_read(cx, &mut [0; 10])).await;
            assert!(!matches!(end, Ok(1..)));
        });
    }

    /// Those that have not gone out go to nobody, as those that the kernel has.
    #[test]
    fn a_new_socket_in_the_place_of_a_blocked_one_gets_nothing_of_it() {
        run(async {
            let (socket, far) = pair();
            fill(&socket).await;
            drop(socket);
            drop(far);
            let (socket, mut far) = pair();
            assert!(socket.is_sent());
            write(&socket, b"mine").await;
            turn().await;
            assert_eq!(received(&mut far), b"mine");
        });
    }
}
