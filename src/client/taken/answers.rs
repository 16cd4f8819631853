//! What a server says of the session that its answers belong to, whatever pieces they
//! come in.

use crate::wire::frame::{FrameError, HEADER_LEN, Header};
use crate::wire::names::split_nul;

/// A longer ParameterStatus is not read.
const LONGEST: usize = 16 * 1024;

/// Follows a server's messages, and reads those that are about the session.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The header of the present message, and the body if that is to be read.
    front: Vec<u8>,
    /// How much of one that is not read is still to come.
    left: usize,
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// With the status of the transaction.
    Ready(u8),
    Parameter(&'a [u8], &'a [u8]),
    /// Its tag.
    Other(u8),
}

impl Answers {
    /// Takes the next piece. After an error nothing is known any more.
    pub fn feed(
        &mut self,
        mut piece: &[u8],
        mut said: impl FnMut(Said<'_>),
    ) -> Result<(), FrameError> {
        while !piece.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(piece.len());
                self.left -= skipped;
                piece = piece.get(skipped..).unwrap_or_default();
                continue;
            }
            let wanted = Header::peek(&self.front)?.map_or(HEADER_LEN, |header| header.total);
            let lacking = wanted.saturating_sub(self.front.len()).min(piece.len());
            let (next, rest) = piece.split_at_checked(lacking).unwrap_or((piece, &[]));
            self.front.extend_from_slice(next);
            piece = rest;
            let Some(header) = Header::peek(&self.front)? else {
                continue;
            };
            let is_read = matches!(header.tag, b'Z' | b'S') && header.total <= LONGEST;
            if !is_read {
                self.left = header.total - HEADER_LEN;
                said(Said::Other(header.tag));
                self.front.clear();
            } else if self.front.len() == header.total {
                let body = self.front.get(HEADER_LEN..).unwrap_or_default();
                said(read(header.tag, body));
                self.front.clear();
            }
        }
        Ok(())
    }

    /// Whether the last message has come to its end.
    pub fn are_between_messages(&self) -> bool {
        self.front.is_empty() && self.left == 0
    }
}

fn read(tag: u8, body: &[u8]) -> Said<'_> {
    let parameter = || {
        let (name, rest) = split_nul(body)?;
        let (value, _) = split_nul(rest)?;
        Some(Said::Parameter(name, value))
    };
    match (tag, body) {
        (b'Z', [status]) => Said::Ready(*status),
        (b'S', _) => parameter().unwrap_or(Said::Other(tag)),
        _ => Said::Other(tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_are_followed() {
        let mut stream = b"S\0\0\0\x12TimeZone\0Asia\0".to_vec();
        stream.extend(b"D\0\0\x01\x04");
        stream.extend([b'Z'; 256]);
        stream.extend(b"C\0\0\0\x04");
        stream.extend(b"S\0\0\0\x06xx");
        stream.extend(b"S\0\0\x50\0");
        stream.extend([0; 0x4ffc]);
        stream.extend(b"Z\0\0\0\x05T");
        for size in [1, 2, 3, 5, 7, 100, stream.len()] {
            let (mut answers, mut said) = (Answers::default(), Vec::new());
            for piece in stream.chunks(size) {
                let fed = answers.feed(piece, |message| said.push(format!("{message:?}")));
                fed.unwrap();
            }
            let status = Said::Parameter(b"TimeZone", b"Asia");
            let all = [
                status,
                Said::Other(b'D'),
                Said::Other(b'C'),
                Said::Other(b'S'),
            ];
            let all = all
                .into_iter()
                .chain([Said::Other(b'S'), Said::Ready(b'T')]);
            let all: Vec<_> = all.map(|message| format!("{message:?}")).collect();
            assert_eq!(said, all, "{size}");
            assert!(answers.are_between_messages());
            answers.feed(b"Z\0\0", |_| ()).unwrap();
            assert!(!answers.are_between_messages());
            assert!(answers.feed(b"\0\x03", |_| ()).is_err());
        }
    }
}
