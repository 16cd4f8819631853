//! Whole messages, one at a time, for the login exchanges.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

/// Memory grows by at most this much (or doubles) ahead of what has arrived.
const FIRST_CHUNK: usize = 1024;

/// A message with a type byte. The body may hold a password and is wiped.
#[derive(Debug)]
pub struct Frame {
    pub tag: u8,
    /// Without type byte and length.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why no message could be read.
#[derive(Debug, Error)]
pub enum FrameError {
    /// Includes the end of the stream, as [`io::ErrorKind::UnexpectedEof`].
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The length is below 4 or above the limit.
    #[error("invalid length {length} of message '{}'", tag.escape_ascii())]
    Length { tag: u8, length: u32 },
}

/// Reads one message and not a byte more. Its body may have up to `limit` bytes;
/// memory follows what arrives, not what the peer claims.
///
/// Not cancel safe: after dropping the future the stream is in mid-message.
pub async fn read_frame<R>(io: &mut R, limit: usize) -> Result<Frame, FrameError>
where
    R: AsyncRead + Unpin,
{
    let tag = io.read_u8().await?;
    let length = io.read_u32().await?;
    let body_len = usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_sub(size_of::<u32>()))
        .filter(|&body_len| body_len <= limit)
        .ok_or(FrameError::Length { tag, length })?;

    let mut body = Zeroizing::new(Vec::new());
    while body.len() < body_len {
        let have = body.len();
        let want = body_len.min((2 * have).max(FIRST_CHUNK));
        // A fresh vector each time: growing in place could leave a copy behind.
        let mut grown = Zeroizing::new(vec![0; want]);
        grown[..have].copy_from_slice(&body);
        io.read_exact(&mut grown[have..]).await?;
        body = grown;
    }
    Ok(Frame { tag, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_one_message_and_leaves_the_next() {
        let long = vec![7; 5000];
        let mut stream = vec![b'p', 0, 0, 0, 4, b'q', 0, 0, 0x13, 0x8c];
        stream.extend(&long);
        stream.push(b'Z');
        let mut io = stream.as_slice();
        let first = read_frame(&mut io, 5000).await.unwrap();
        assert_eq!((first.tag, first.body.len()), (b'p', 0));
        let second = read_frame(&mut io, 5000).await.unwrap();
        assert_eq!((second.tag, &**second.body), (b'q', long.as_slice()));
        assert_eq!(io, b"Z");
    }

    #[tokio::test]
    async fn refuses_lengths_outside_the_limits() {
        for length in [0, 3, 15, u32::MAX] {
            let mut stream = vec![b'p'];
            stream.extend(length.to_be_bytes());
            stream.extend([0; 64]);
            let result = read_frame(&mut stream.as_slice(), 10).await;
            assert!(
                matches!(result, Err(FrameError::Length { tag: b'p', length: l }) if l == length)
            );
        }
    }

    #[tokio::test]
    async fn an_early_end_is_an_error() {
        for end in 0..9 {
            let stream = [b'p', 0, 0, 0, 8, 1, 2, 3, 4];
            let result = read_frame(&mut &stream[..end], 10).await;
            assert!(
                matches!(result, Err(FrameError::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof)
            );
        }
    }
}
