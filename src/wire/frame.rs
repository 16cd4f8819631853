//! The five-byte header in front of every message after startup.

use thiserror::Error;

/// A tag byte and a four-byte length.
pub const HEADER_LEN: usize = 5;

/// PostgreSQL refuses longer messages (`PQ_LARGE_MESSAGE_LIMIT` in
/// src/include/libpq/libpq.h: the largest palloc chunk).
pub const MAX_MESSAGE: usize = 0x3fff_ffff;

/// The header cannot be one of PostgreSQL's.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("invalid message length {length} in a message of type {tag:#04x}")]
    Length { tag: u8, length: u32 },
}

/// A message's tag and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub tag: u8,
    /// Size of the whole frame in bytes, header included.
    pub total: usize,
}

impl Header {
    /// Reads the header at the front of `bytes`. `None`: it is not complete.
    pub fn peek(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        Header::peek_within(bytes, MAX_MESSAGE as u32)
    }

    /// The same where messages may have this length at most, as their header
    /// counts it.
    pub fn peek_within(bytes: &[u8], longest: u32) -> Result<Option<Header>, FrameError> {
        let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        // The length counts itself but not the tag.
        if !(4..=longest).contains(&length) {
            return Err(FrameError::Length { tag, length });
        }
        Ok(Some(Header {
            tag,
            total: length as usize + 1,
        }))
    }

    /// How many of the first bytes are whole messages of this tag, none of them longer
    /// than this.
    pub fn run_of(tag: u8, bytes: &[u8], longest: u32) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..)
            && let Ok(Some(header)) = Header::peek_within(rest, longest)
            && header.tag == tag
            && header.total <= rest.len()
        {
            at += header.total;
        }
        at
    }
}

/// Appends a header for a body of `body_len` bytes.
pub fn put_header(out: &mut Vec<u8>, tag: u8, body_len: usize) {
    out.push(tag);
    out.extend_from_slice(&(body_len as u32 + 4).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_only_when_complete() {
        for n in 0..HEADER_LEN {
            assert_eq!(Header::peek(&b"Q\0\0\0\x05"[..n]), Ok(None));
        }
        let header = Header::peek(b"Q\0\0\0\x05x").unwrap().unwrap();
        assert_eq!((header.tag, header.total), (b'Q', 6));
    }

    #[test]
    fn a_run_ends_before_what_is_not_like_it() {
        let rows = b"D\0\0\0\x04D\0\0\0\x06xx";
        let run = |rest: &[u8]| Header::run_of(b'D', &[rows, rest].concat(), 6);
        for rest in [
            &b""[..],
            b"C\0\0\0\x04",
            b"D\0\0\0",
            b"D\0\0\0\x05",
            b"D\0\0\0\x03",
            b"D\0\0\0\x07xxx",
        ] {
            assert_eq!(run(rest), rows.len(), "{rest:?}");
        }
        assert_eq!(Header::run_of(b'd', rows, 6), 0);
    }

    #[test]
    fn impossible_lengths_are_errors() {
        for length in [0u32, 3, 0x4000_0000, u32::MAX] {
            let mut bytes = vec![b'Q'];
            bytes.extend_from_slice(&length.to_be_bytes());
            assert_eq!(
                Header::peek(&bytes),
                Err(FrameError::Length { tag: b'Q', length })
            );
        }
    }
}
