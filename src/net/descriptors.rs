//! Messages between processes that carry open files (`SCM_RIGHTS`, unix(7)).

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Files that one message can carry.
pub const MOST_FILES: usize = 128;

/// How long a message may be, in bytes.
pub const LONGEST: usize = 64 * 1024 * 1024;

/// How much is read at once.
const PIECE: usize = 16 * 1024;

/// The length of what follows, which the files come with.
type Head = [u8; 4];

/// Sends a message. The socket must block.
///
/// # Errors
/// Those of the socket; too many files.
pub fn send(mut socket: &UnixStream, message: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let many = files.len() > MOST_FILES;
    if many || !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "too many files"));
    }
    let too_long = |_| io::Error::new(ErrorKind::InvalidInput, "too long");
    let head: Head = u32::try_from(message.len())
        .map_err(too_long)?
        .to_be_bytes();
    // So few bytes are sent together, or not at all.
    let head = [IoSlice::new(&head)];
    retry_on_intr(|| sendmsg(socket, &head, &mut control, SendFlags::NOSIGNAL))?;
    socket.write_all(message)
}

/// The next message, with its files. The socket must block.
///
/// # Errors
/// Those of the socket; it was closed.
pub fn receive(mut socket: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut head = Head::default();
    let mut filled = 0;
    let mut files = Vec::new();
    while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let mut rest = [IoSliceMut::new(rest)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match retry_on_intr(|| recvmsg(socket, &mut rest, &mut control, flags))?.bytes {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights);
            }
        }
    }
    let length = u32::from_be_bytes(head);
    if length as usize > LONGEST {
        return Err(io::Error::new(ErrorKind::InvalidData, "too long"));
    }
    let mut message = Vec::new();
    // Memory grows with what arrives.
    (&mut socket)
        .take(length.into())
        .read_to_end(&mut message)?;
    if message.len() < length as usize {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok((message, files))
}

/// Appends bytes of a stream that is no such sequence of messages, as they come, and
/// tells which files came with them: never before the first byte that they were sent
/// with. Returns how many bytes there were; none: the end.
///
/// # Errors
/// Those of the socket.
pub fn read(
    socket: &UnixStream,
    bytes: &mut Vec<u8>,
    mut came: impl FnMut(OwnedFd),
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [0; PIECE];
    let mut into = [IoSliceMut::new(&mut buffer)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let read = retry_on_intr(|| recvmsg(socket, &mut into, &mut control, flags))?.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            rights.for_each(&mut came);
        }
    }
    bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn files_arrive_with_their_message() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut ours, passed) = UnixStream::pair().unwrap();
        send(&here, b"one", &[passed.as_fd(), passed.as_fd()]).unwrap();
        send(&here, b"", &[]).unwrap();
        drop((here, passed));
        let (message, mut files) = receive(&there).unwrap();
        assert_eq!((message.as_slice(), files.len()), (&b"one"[..], 2));
        let mut passed = UnixStream::from(files.remove(0));
        passed.write_all(b"x").unwrap();
        let mut byte = [0];
        ours.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        let (message, files) = receive(&there).unwrap();
        assert!(message.is_empty() && files.is_empty());
        assert_eq!(
            receive(&there).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn files_come_with_their_bytes() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let (passed, _) = UnixStream::pair().unwrap();
        here.write_all(b"plain").unwrap();
        for byte in [b"1", b"2"] {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let file = [passed.as_fd()];
            assert!(control.push(SendAncillaryMessage::ScmRights(&file)));
            let bytes = [IoSlice::new(byte)];
            sendmsg(&here, &bytes, &mut control, SendFlags::empty()).unwrap();
        }
        drop(here);
        let (mut bytes, mut files) = (Vec::new(), Vec::new());
        while read(&there, &mut bytes, |file| files.push(file)).unwrap() > 0 {
            let with_files = bytes.len().saturating_sub(b"plain".len());
            assert_eq!(files.len(), with_files);
        }
        assert_eq!((&*bytes, files.len()), (&b"plain12"[..], 2));
    }

    #[test]
    fn a_torn_message_is_an_error() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[0, 0, 1, 0, b'x']).unwrap();
        drop(here);
        assert!(receive(&there).is_err());
        let (here, _there) = UnixStream::pair().unwrap();
        let many = [here.as_fd(); MOST_FILES + 1];
        let error = send(&here, b"", &many).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
