//! One token at a time: each function is a group of scan.l's rules.

use memchr::{memchr, memchr2, memmem};

use super::{Lexer, TokenKind};
use crate::sql::chars::{DIGIT, IDENT_CONT, IDENT_START, OPERATOR, QUALIFYING, SELF, SPACE, is};

/// How a quoted text goes on at its quote character or a backslash.
#[derive(Clone, Copy)]
enum Inside {
    /// A doubled quote stands for one.
    Doubled,
    /// The same, and a backslash takes the next byte with it.
    Escaped,
    /// The next quote ends it (`B''` and `X''`).
    Raw,
}

impl Lexer<'_> {
    /// The offset of the next byte that is not white space.
    pub(super) fn skip_space(&self, from: usize) -> usize {
        self.skip_all(from, SPACE)
    }

    /// The token at `start`, where `first` stands: its kind and its end.
    /// The end of a broken token is meaningless.
    #[inline]
    pub(super) fn scan(&mut self, first: u8, start: usize) -> (TokenKind, usize) {
        let next = self.at(start + 1);
        match first {
            b'\'' if self.standard_conforming_strings => {
                self.string(TokenKind::String, start + 1, Inside::Doubled)
            }
            b'\'' => self.string(TokenKind::EscapeString, start + 1, Inside::Escaped),
            b'e' | b'E' if next == b'\'' => {
                self.string(TokenKind::EscapeString, start + 2, Inside::Escaped)
            }
            b'b' | b'B' if next == b'\'' => {
                self.string(TokenKind::BitString, start + 2, Inside::Raw)
            }
            b'x' | b'X' if next == b'\'' => {
                self.string(TokenKind::HexString, start + 2, Inside::Raw)
            }
            b'u' | b'U' if next == b'&' && self.at(start + 2) == b'\'' => {
                if self.standard_conforming_strings {
                    self.string(TokenKind::UnicodeString, start + 3, Inside::Doubled)
                } else {
                    (TokenKind::Invalid, start)
                }
            }
            b'u' | b'U' if next == b'&' && self.at(start + 2) == b'"' => {
                or_unterminated(TokenKind::UnicodeIdent, self.quoted_ident(start + 3))
            }
            b'"' => or_unterminated(TokenKind::QuotedIdent, self.quoted_ident(start + 1)),
            _ if is(first, IDENT_START) => (TokenKind::Word, self.skip_all(start + 1, IDENT_CONT)),
            b'0'..=b'9' => self.number(start),
            b'$' => self.dollar(start),
            b'-' if next == b'-' => (TokenKind::LineComment, self.line_end(start + 2)),
            b'/' if next == b'*' => {
                or_unterminated(TokenKind::BlockComment, self.block_comment(start + 2))
            }
            b'.' if is(next, DIGIT) => self.number(start),
            b'.' if next == b'.' => (TokenKind::DotDot, start + 2),
            b':' if next == b':' => (TokenKind::Cast, start + 2),
            b':' if next == b'=' => (TokenKind::ColonEquals, start + 2),
            _ if is(first, OPERATOR) => self.operator(start),
            _ if is(first, SELF) => (TokenKind::Symbol(first), start + 1),
            _ => (TokenKind::Other, start + 1),
        }
    }

    /// The byte at `index`; 0, which is in no class, beyond the end.
    #[inline]
    fn at(&self, index: usize) -> u8 {
        self.text.get(index).copied().unwrap_or(0)
    }

    /// The offset of the next byte from `from` on that is in none of `classes`.
    #[inline]
    fn skip_all(&self, mut from: usize, classes: u8) -> usize {
        while is(self.at(from), classes) {
            from += 1;
        }
        from
    }

    fn rest(&self, from: usize) -> &[u8] {
        self.text.get(from..).unwrap_or_default()
    }

    fn line_end(&self, from: usize) -> usize {
        memchr2(b'\n', b'\r', self.rest(from)).map_or(self.text.len(), |n| from + n)
    }

    /// The end of a comment that is open at `from`.
    fn block_comment(&self, mut from: usize) -> Option<usize> {
        let mut depth = 1;
        loop {
            let at = from + memchr2(b'*', b'/', self.rest(from))?;
            match (self.at(at), self.at(at + 1)) {
                (b'*', b'/') => depth -= 1,
                (b'/', b'*') => depth += 1,
                _ => {
                    from = at + 1;
                    continue;
                }
            }
            from = at + 2;
            if depth == 0 {
                return Some(from);
            }
        }
    }

    /// The end of a quoted text that is open at `from`, after its quote.
    fn quoted(&self, mut from: usize, quote: u8, inside: Inside) -> Option<usize> {
        loop {
            let at = from
                + match inside {
                    Inside::Escaped => memchr2(quote, b'\\', self.rest(from))?,
                    Inside::Doubled | Inside::Raw => memchr(quote, self.rest(from))?,
                };
            let pair = match inside {
                Inside::Raw => false,
                Inside::Doubled | Inside::Escaped => {
                    self.at(at) == b'\\' || self.at(at + 1) == quote
                }
            };
            if !pair {
                return Some(at + 1);
            }
            from = at + 2;
        }
    }

    fn quoted_ident(&self, from: usize) -> Option<usize> {
        self.quoted(from, b'"', Inside::Doubled)
    }

    /// A string open at `from`, with the segments that continue it on
    /// following lines.
    fn string(&self, kind: TokenKind, mut from: usize, inside: Inside) -> (TokenKind, usize) {
        while let Some(end) = self.quoted(from, b'\'', inside) {
            match self.continuation(end) {
                Some(next) => from = next,
                None => return (kind, end),
            }
        }
        (TokenKind::Unterminated, from)
    }

    /// `{quotecontinue}`: white space and `--` comments with at least one
    /// newline, then a quote. Gives the offset after that quote.
    fn continuation(&self, end: usize) -> Option<usize> {
        let mut at = end;
        let mut newline = false;
        loop {
            match self.at(at) {
                b'\n' | b'\r' => {
                    newline = true;
                    at += 1;
                }
                byte if is(byte, SPACE) => at += 1,
                b'-' if self.at(at + 1) == b'-' => at = self.line_end(at + 2),
                b'\'' if newline => return Some(at + 1),
                _ => return None,
            }
        }
    }

    /// `$1`, a dollar-quoted string, or a dollar that is neither.
    fn dollar(&self, start: usize) -> (TokenKind, usize) {
        let tag = start + 1;
        if is(self.at(tag), DIGIT) {
            let end = self.skip_all(tag, DIGIT);
            return unless_junk(TokenKind::Param, end, is(self.at(end), IDENT_START));
        }
        let mut end = tag;
        while is(self.at(end), IDENT_CONT) && self.at(end) != b'$' {
            end += 1;
        }
        if self.at(end) != b'$' {
            return (TokenKind::Other, tag);
        }
        let delimiter = self.text.get(start..=end).unwrap_or_default();
        match memmem::find(self.rest(end + 1), delimiter) {
            Some(n) => (TokenKind::DollarString, end + 1 + n + delimiter.len()),
            None => (TokenKind::Unterminated, start),
        }
    }

    /// A number; `start` stands on a digit, or on a point before one.
    fn number(&self, start: usize) -> (TokenKind, usize) {
        let prefixed = match (self.at(start), self.at(start + 1)) {
            (b'0', b'x' | b'X') => Some(self.digits(start + 2, true, |b| b.is_ascii_hexdigit())),
            (b'0', b'o' | b'O') => Some(self.digits(start + 2, true, |b| matches!(b, b'0'..=b'7'))),
            (b'0', b'b' | b'B') => Some(self.digits(start + 2, true, |b| matches!(b, b'0' | b'1'))),
            _ => None,
        };
        if let Some(end) = prefixed {
            let junk = end == start + 2 || is(self.at(end), IDENT_CONT);
            return unless_junk(TokenKind::Number, end, junk);
        }

        let mut group = start;
        let mut end = self.decimal(group);
        if self.at(end) == b'.' {
            // `1..2` is a range, not `1.` and `.2`.
            if end > start && self.at(end + 1) == b'.' {
                return (TokenKind::Number, end);
            }
            group = end + 1;
            end = self.decimal(group);
        }
        if !matches!(self.at(end), b'e' | b'E') {
            return unless_junk(TokenKind::Number, end, self.is_junk(group, end));
        }
        let signed = matches!(self.at(end + 1), b'+' | b'-');
        let exponent = end + 1 + usize::from(signed);
        // Without a sign, the `e` too may begin an identifier.
        let group = if signed { exponent } else { end };
        let end = self.decimal(exponent);
        unless_junk(
            TokenKind::Number,
            end,
            end == exponent || self.is_junk(group, end),
        )
    }

    /// Whether an identifier follows on a number whose last group of digits is
    /// `group..end`. An underscore or `e` in that group could begin it too: if
    /// a `$` follows, that reading is the longer one and wins.
    fn is_junk(&self, group: usize, end: usize) -> bool {
        let inner = self.text.get(group..end).unwrap_or_default();
        let begun = inner.iter().any(|&byte| is(byte, IDENT_START));
        is(self.at(end), if begun { IDENT_CONT } else { IDENT_START })
    }

    /// `{decinteger}` or nothing.
    fn decimal(&self, from: usize) -> usize {
        self.digits(from, false, |b| b.is_ascii_digit())
    }

    /// Digits with single underscores between them; `lead` allows one in front.
    fn digits(&self, mut from: usize, lead: bool, digit: fn(u8) -> bool) -> usize {
        let mut underscore = lead;
        loop {
            let at = from + usize::from(underscore && self.at(from) == b'_');
            if !digit(self.at(at)) {
                return from;
            }
            from = at + 1;
            underscore = true;
        }
    }

    /// An operator: the longest run of operator characters that holds no
    /// comment start and, unless it has a character that SQL's own operators
    /// lack, does not end in `+` or `-`.
    fn operator(&mut self, start: usize) -> (TokenKind, usize) {
        if start < self.signs_until {
            return (TokenKind::Symbol(self.at(start)), start + 1);
        }
        let mut end = start;
        let mut qualified = false;
        // The end of the run without the signs that it ends in.
        let mut unsigned = start + 1;
        while is(self.at(end), OPERATOR) {
            if matches!(
                (self.at(end), self.at(end + 1)),
                (b'-', b'-') | (b'/', b'*')
            ) {
                break;
            }
            qualified |= is(self.at(end), QUALIFYING);
            if !matches!(self.at(end), b'+' | b'-') {
                unsigned = end + 1;
            }
            end += 1;
        }
        if !qualified && unsigned < end {
            // Remembered, or a long run of signs would take quadratic time.
            self.signs_until = end;
            end = unsigned;
        }
        let kind = match self.text.get(start..end).unwrap_or_default() {
            [one] if is(*one, SELF) => TokenKind::Symbol(*one),
            b"=>" => TokenKind::Arrow,
            b"<=" => TokenKind::LessEquals,
            b">=" => TokenKind::GreaterEquals,
            b"<>" | b"!=" => TokenKind::NotEquals,
            _ => TokenKind::Operator,
        };
        (kind, end)
    }
}

fn or_unterminated(kind: TokenKind, end: Option<usize>) -> (TokenKind, usize) {
    end.map_or((TokenKind::Unterminated, 0), |end| (kind, end))
}

fn unless_junk(kind: TokenKind, end: usize, junk: bool) -> (TokenKind, usize) {
    (if junk { TokenKind::Invalid } else { kind }, end)
}
