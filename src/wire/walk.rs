//! Where one stands in a stream of messages that goes by as it is.

use super::frame::{FrameError, HEADER_LEN, Header};

/// Follows messages by their headers, whatever pieces they come in. Keeps no more
/// than a header.
#[derive(Debug, Default)]
pub struct Walk {
    header: [u8; HEADER_LEN],
    /// How much of the header has come.
    have: usize,
    /// How much of the body is still to come.
    left: usize,
}

impl Walk {
    /// Takes the next piece of the stream; `begun` is told the tag of each message
    /// whose header is complete. After an error nothing is known any more.
    pub fn feed(&mut self, mut piece: &[u8], mut begun: impl FnMut(u8)) -> Result<(), FrameError> {
        loop {
            let skipped = self.left.min(piece.len());
            self.left -= skipped;
            piece = piece.get(skipped..).unwrap_or_default();
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            piece = rest;
            if let Some(place) = self.header.get_mut(self.have) {
                *place = byte;
            }
            self.have += 1;
            let header = self.header.get(..self.have).unwrap_or_default();
            if let Some(header) = Header::peek(header)? {
                begun(header.tag);
                self.have = 0;
                self.left = header.total - HEADER_LEN;
            }
        }
    }

    /// Whether the last message has come to its end.
    pub fn is_between_messages(&self) -> bool {
        self.have == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_are_followed() {
        let mut stream = b"Z\0\0\0\x05I".to_vec();
        stream.extend(b"W\0\0\0\x07\0\0\0");
        stream.extend(b"d\0\0\x01\x04");
        stream.extend([0; 256]);
        stream.extend(b"c\0\0\0\x04");
        let ends = [6, 14, 275, 280];
        for size in [1, 2, 3, 5, 7, 100, 1000] {
            let (mut walk, mut tags, mut at) = (Walk::default(), Vec::new(), 0);
            for piece in stream.chunks(size) {
                walk.feed(piece, |tag| tags.push(tag)).unwrap();
                at += piece.len();
                assert_eq!(
                    walk.is_between_messages(),
                    ends.contains(&at),
                    "{size} {at}"
                );
            }
            assert_eq!(tags, b"ZWdc", "{size}");
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_an_error() {
        let mut walk = Walk::default();
        assert_eq!(walk.feed(b"Z\0\0", |_| ()), Ok(()));
        assert!(!walk.is_between_messages());
        assert!(walk.feed(b"\0\x03", |_| ()).is_err());
    }
}
