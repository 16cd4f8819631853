//! What tasks have written, to be sent when those that are ready have run.
//!
//! A message's way through the kernel is long: TCP, the loopback interface or a driver,
//! and waking who waits for it. One send after the other finds it in the processor's
//! caches, where tasks and receives between them would have pushed it out. With a ring
//! (`ring.rs`) all are one system call. docs/performance.md has what either saves.
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
use tracing::warn;

use super::ring::{MOST, Outcome, Ring};
use super::sources::Place;

/// Longer ones are sent at once: to copy them costs more than it saves.
pub(super) const LONGEST: usize = 2048;

#[derive(Default)]
pub(super) struct Outbox {
    /// The letters' contents, one after the other.
    bytes: Vec<u8>,
    /// No two to the same socket: a ring may send the second and not the first. So many
    /// at most that the first does not wait for long.
    letters: Vec<Letter>,
    /// What sockets have not taken. Those are blocked.
    rests: HashMap<Place, Rest>,
    /// Without one, each letter is a system call.
    ring: Option<Ring>,
    /// What the ring has done, while letters are being sent.
    outcomes: Vec<Outcome>,
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
    pub fn send_by(&mut self, ring: Ring) {
        self.ring = Some(ring);
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// What comes there must be sent before there is room for one more.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.letters.len() >= MOST
    }

    /// Adds to what waits for the socket already, if that is the last letter or a rest.
    #[inline]
    pub fn append(&mut self, to: Place, bytes: &[u8]) -> bool {
        if let Some(last) = self.letters.last_mut()
            && last.to == to
        {
            self.bytes.extend_from_slice(bytes);
            last.end = self.bytes.len();
            return true;
        }
        if !self.rests.is_empty()
            && let Some(rest) = self.rests.get_mut(&to)
        {
            rest.bytes.extend_from_slice(bytes);
            return true;
        }
        false
    }

    /// There must be no letter for it yet.
    #[inline]
    pub fn post(&mut self, to: Place, file: RawFd, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        self.letters.push(Letter { to, file, end });
    }

    /// Sends all. `sent` gets each socket, and whether it is blocked because it has not
    /// taken everything.
    pub fn send(&mut self, mut sent: impl FnMut(Place, bool)) {
        self.outcomes.resize(self.letters.len(), None);
        // The kernel takes longer to see to one request of a ring than to a send.
        if self.letters.len() > 1
            && let Some(ring) = &mut self.ring
            && let Err(error) = ring.send(each(&self.letters, &self.bytes), &mut self.outcomes)
        {
            warn!(
                reason = %error,
                "the kernel does not serve io_uring any more, each message is a system call again"
            );
            self.ring = None;
        }
        let contents = each(&self.letters, &self.bytes).map(|(_, bytes)| bytes);
        for ((letter, bytes), outcome) in self.letters.iter().zip(contents).zip(&self.outcomes) {
            let left = match outcome.unwrap_or(Ok(0)) {
                Ok(n) if n == bytes.len() => &[],
                Ok(n) => send(letter.file, bytes.get(n..).unwrap_or_default()),
                Err(Errno::EAGAIN) => bytes,
                Err(Errno::EINTR) => send(letter.file, bytes),
                Err(_) => give_up(letter.file),
            };
            sent(letter.to, !left.is_empty());
            if !left.is_empty() {
                let (file, bytes) = (letter.file, left.to_vec());
                self.rests.insert(letter.to, Rest { file, bytes });
            }
        }
        self.letters.clear();
        self.bytes.clear();
        self.outcomes.clear();
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

fn each<'a>(letters: &'a [Letter], bytes: &'a [u8]) -> impl Iterator<Item = (RawFd, &'a [u8])> {
    let mut begin = 0;
    letters.iter().map(move |letter| {
        let content = bytes.get(begin..letter.end).unwrap_or_default();
        begin = letter.end;
        (letter.file, content)
    })
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
            Ok(_) | Err(_) => return give_up(file),
        }
    }
    bytes
}

/// Nothing is left for it.
fn give_up<'a>(file: RawFd) -> &'a [u8] {
    // Not all errors (ENOBUFS) would come with an event.
    let _ = socket::shutdown(file, socket::Shutdown::Both);
    &[]
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
    use crate::reactor::core::Reactor;
    use crate::reactor::{Socket, run, run_both_ways, sleep, spawn};

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
        run_both_ways(|| async {
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
        run_both_ways(|| async {
            let mut pairs: Vec<_> = (0..=MOST).map(|_| pair()).collect();
            for (socket, _) in &pairs {
                write(socket, b"x").await;
            }
            let received = pairs.iter_mut().filter_map(|(_, far)| received(far).pop());
            assert_eq!(received.count(), MOST);
        });
    }

    /// The ring may send the second and not the first.
    #[test]
    fn a_socket_has_one_letter_at_most() {
        run_both_ways(|| async {
            let ((first, mut to_first), (second, mut to_second)) = (pair(), pair());
            for text in [b"one ", b"two "] {
                write(&first, text).await;
                write(&first, b"and ").await;
                write(&second, text).await;
            }
            assert_eq!(received(&mut to_first), b"one and ");
            assert_eq!(received(&mut to_second), b"one ");
            turn().await;
            assert_eq!(received(&mut to_first), b"two and ");
            assert_eq!(received(&mut to_second), b"two ");
        });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_ring_that_fails_takes_nothing_along() {
        run(async {
            let ((first, mut to_first), (second, mut to_second)) = (pair(), pair());
            Reactor::current()
                .outbox
                .borrow_mut()
                .send_by(Ring::broken());
            for text in [b"one", b"two"] {
                write(&first, text).await;
                write(&second, text).await;
                turn().await;
                assert_eq!(received(&mut to_first), text);
                assert_eq!(received(&mut to_second), text);
            }
            assert!(Reactor::current().outbox.borrow().ring.is_none());
        });
    }

    #[test]
    fn a_socket_that_is_closed_or_goes_elsewhere_has_sent_it() {
        run_both_ways(|| async {
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
        run_both_ways(|| async {
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
        run_both_ways(|| async {
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
        run_both_ways(|| async {
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
        run_both_ways(|| async {
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
