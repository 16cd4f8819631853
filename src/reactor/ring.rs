//! Many sends by one system call, where the kernel lets us: io_uring(7).
//!
//! Each send wakes somebody, and the way back from a system call is where the kernel may
//! give the processor to whom it has woken. With one way back for all of a turn's sends
//! the turn is not taken apart: pgweir is put off the processor once in ten
//! transactions instead of once in two (docs/performance.md).
//!
//! The ring is for nothing else. Its requests do not outlive the call that makes them.

#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::os::fd::RawFd;

use io_uring::{IoUring, Probe, opcode, types};
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

/// So many sends at once.
pub(super) const MOST: usize = 128;

/// Whether this process may have a ring now.
///
/// # Errors
/// The reason, if not.
pub fn has_ring() -> io::Result<()> {
    Ring::new().map(drop)
}

pub(super) struct Ring {
    /// None after an error: what it was asked for may still be in its queue.
    ring: Option<IoUring>,
}

/// What became of a send: how many bytes were taken, or why none. `None`: it was not
/// tried.
pub(super) type Outcome = Option<Result<usize, Errno>>;

impl Ring {
    /// # Errors
    /// The kernel has no io_uring, or not for us; it is too old (before 5.6) to send by it.
    pub fn new() -> io::Result<Ring> {
        let ring = IoUring::builder().dontfork().build(MOST as u32)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Send::CODE) {
            return Err(ErrorKind::Unsupported.into());
        }
        Ok(Ring { ring: Some(ring) })
    }

    /// One that the kernel does not serve any more.
    #[cfg(test)]
    pub fn broken() -> Ring {
        Ring { ring: None }
    }

    /// Sends what the sockets take at once, `MOST` of them at most, each at most once.
    ///
    /// # Errors
    /// The kernel does not serve the ring any more. It is of no use from then on; what
    /// has an outcome nevertheless was sent.
    pub fn send<'a>(
        &mut self,
        letters: impl Iterator<Item = (RawFd, &'a [u8])>,
        outcomes: &mut [Outcome],
    ) -> io::Result<()> {
        let Some(mut ring) = self.ring.take() else {
            return Err(ErrorKind::Unsupported.into());
        };
        // On errors it is dropped here, and its queue with it.
        send(&mut ring, letters, outcomes)?;
        self.ring = Some(ring);
        Ok(())
    }
}

fn send<'a>(
    ring: &mut IoUring,
    letters: impl Iterator<Item = (RawFd, &'a [u8])>,
    outcomes: &mut [Outcome],
) -> io::Result<()> {
    // Without waiting: who is not ready for it says so at once.
    let flags = (MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).bits();
    let mut queue = ring.submission();
    let mut open = 0;
    for (number, (file, bytes)) in letters.take(MOST).enumerate() {
        let length = u32::try_from(bytes.len()).map_err(|_| ErrorKind::InvalidInput)?;
        let send = opcode::Send::new(types::Fd(file), bytes.as_ptr(), length);
        let send = send.flags(flags).build().user_data(number as u64);
        // SAFETY: the kernel reads `bytes` until the request is complete. This function
        // returns when all are, or with an error, upon which the ring is closed: what
        // the kernel had not taken from the queue then is never taken, and what it had
        // taken was complete when the call came back, because of MSG_DONTWAIT.
        unsafe { queue.push(&send) }.map_err(io::Error::other)?;
        open += 1;
    }
    drop(queue);
    while open > 0 {
        match ring.submit_and_wait(open) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                take(ring, outcomes);
                return Err(error);
            }
        }
        open -= take(ring, outcomes);
    }
    Ok(())
}

/// Takes what the kernel has to say, and returns of how many.
fn take(ring: &mut IoUring, outcomes: &mut [Outcome]) -> usize {
    let mut count = 0;
    for completion in ring.completion() {
        let outcome = match completion.result() {
            n @ 0.. => Ok(n as usize),
            error => Err(Errno::from_raw(error.wrapping_neg())),
        };
        if let Some(place) = outcomes.get_mut(completion.user_data() as usize) {
            *place = Some(outcome);
        }
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn send(letters: &[(RawFd, &[u8])]) -> Vec<Result<usize, Errno>> {
        let mut ring = Ring::new().unwrap();
        let mut outcomes = vec![None; letters.len()];
        ring.send(letters.iter().copied(), &mut outcomes).unwrap();
        outcomes.into_iter().flatten().collect()
    }

    #[test]
    fn each_socket_says_what_it_has_taken() {
        let ((first, mut far), (closed, gone)) =
            (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let (full, _unread) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        while io::Write::write(&mut &full, &[0; 4096]).is_ok() {}
        drop(gone);
        let to = |socket: &UnixStream, text: &'static str| (socket.as_raw_fd(), text.as_bytes());
        let outcomes = send(&[
            to(&closed, "nobody"),
            to(&first, "somebody"),
            to(&full, "no room"),
            (-1, b"nothing"),
        ]);
        let expected = [
            Err(Errno::EPIPE),
            Ok(8),
            Err(Errno::EAGAIN),
            Err(Errno::EBADF),
        ];
        assert_eq!(outcomes, expected);
        let mut read = [0; 9];
        assert_eq!(far.read(&mut read).unwrap(), 8);
        assert_eq!(&read[..8], b"somebody");
    }

    /// A blocking socket does not block either.
    #[test]
    fn nobody_is_waited_for() {
        let (full, _unread) = UnixStream::pair().unwrap();
        let bytes = vec![0; 1 << 22];
        let file = full.as_raw_fd();
        assert!(matches!(send(&[(file, &bytes)])[..], [Ok(n)] if n < bytes.len()));
        assert_eq!(send(&[(file, &bytes)]), [Err(Errno::EAGAIN)]);
    }
}
