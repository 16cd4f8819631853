//! Forwarded bytes: a run of the input as it is, or a rewritten copy.

use std::ops::Range;

/// Collects what one burst of input sends to one peer, so that it can leave
/// with a single write. As long as the output is a contiguous part of the
/// input nothing is copied.
pub struct Output<'a> {
    input: &'a [u8],
    run: Range<usize>,
    buffer: &'a mut Vec<u8>,
}

impl<'a> Output<'a> {
    /// `buffer` is reused between bursts; what it holds already goes first.
    pub fn new(input: &'a [u8], buffer: &'a mut Vec<u8>) -> Self {
        Output {
            input,
            run: 0..0,
            buffer,
        }
    }

    /// Forwards this part of the input.
    pub fn forward(&mut self, part: Range<usize>) {
        if self.run.end != part.start || self.run.is_empty() {
            self.flush_run();
            self.run = part;
        } else {
            self.run.end = part.end;
        }
    }

    /// Access to the buffer, to append bytes that are not in the input.
    pub fn own(&mut self) -> &mut Vec<u8> {
        self.flush_run();
        self.buffer
    }

    /// How many bytes were collected.
    pub fn collected(&self) -> usize {
        self.buffer.len() + self.run.len()
    }

    /// Everything that was collected.
    pub fn finish(mut self) -> &'a [u8] {
        if self.buffer.is_empty() {
            return self.input.get(self.run).unwrap_or_default();
        }
        self.flush_run();
        self.buffer
    }

    fn flush_run(&mut self) {
        let run = std::mem::replace(&mut self.run, 0..0);
        let run = self.input.get(run).unwrap_or_default();
        self.buffer.extend_from_slice(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contiguous_run_is_not_copied() {
        let input = b"abcdef".to_vec();
        let mut buffer = Vec::new();
        let mut out = Output::new(&input, &mut buffer);
        out.forward(1..3);
        out.forward(3..5);
        let bytes = out.finish();
        assert_eq!(bytes, b"bcde");
        assert_eq!(bytes.as_ptr(), input[1..].as_ptr());
    }

    #[test]
    fn gaps_and_own_bytes_keep_their_order() {
        let mut buffer = b"0".to_vec();
        let mut out = Output::new(b"abcdef", &mut buffer);
        out.forward(0..1);
        out.forward(2..3);
        out.own().extend_from_slice(b"-");
        out.forward(3..4);
        assert_eq!(out.finish(), b"0ac-d");
    }
}
