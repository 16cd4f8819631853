//! PostgreSQL's lexical scanner (`src/backend/parser/scan.l`) over bytes.
//!
//! The rules are those of PostgreSQL 16 and later. Where an older server
//! reads a text differently (`0x1F`, `1_000`, junk after a number), it either
//! refuses the text or finds the same quotes, comments and semicolons.
//!
//! What a server says about the *content* of a token (an escape that is no
//! character, a zero-length identifier, a number out of range) is left to it:
//! such errors move no token boundary.

mod scan;
#[cfg(test)]
mod tests;

/// How the bytes of multi-byte characters look.
///
/// The server converts a query from `client_encoding` to its own encoding
/// before it scans it, and in every encoding that a server may have, all bytes
/// of a multi-byte character are above 127. Some client-only encodings have
/// trail bytes that look like ASCII (a backslash above all), so there the
/// bytes on the wire do not show where a string ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Every byte below 128 is the ASCII character it looks like.
    #[default]
    AsciiSafe,
    /// A byte below 128 that follows one above 127 may be a part of it
    /// (SJIS, SHIFT_JIS_2004, BIG5, GBK, GB18030, UHC, JOHAB).
    AsciiTrail,
}

impl Encoding {
    /// The class of a `client_encoding` as the server reports it, or in any
    /// other spelling that PostgreSQL accepts. Unknown names are `AsciiTrail`.
    pub fn of_client_encoding(name: &[u8]) -> Self {
        // src/common/encnames.c: only letters and digits count.
        let name = || {
            name.iter()
                .filter(|b| b.is_ascii_alphanumeric())
                .map(u8::to_ascii_lowercase)
        };
        if SAFE_ENCODINGS.iter().any(|safe| name().eq(safe.bytes())) {
            Encoding::AsciiSafe
        } else {
            Encoding::AsciiTrail
        }
    }
}

/// What the meaning of a text depends on besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The session's setting; off means that backslashes escape in `'...'`.
    pub standard_conforming_strings: bool,
    /// The class of the session's `client_encoding`.
    pub encoding: Encoding,
}

impl Default for Dialect {
    fn default() -> Self {
        Dialect {
            standard_conforming_strings: true,
            encoding: Encoding::AsciiSafe,
        }
    }
}

/// What a token is. White space is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An identifier or keyword without quotes; also the `N` of `N'...'`.
    Word,
    /// `"..."`, quotes included.
    QuotedIdent,
    /// `U&"..."`; a following `UESCAPE '.'` is tokens of its own.
    UnicodeIdent,
    /// `'...'` in which a backslash is a backslash, with its continuations.
    String,
    /// `E'...'`, or `'...'` with `standard_conforming_strings` off.
    EscapeString,
    /// `U&'...'`; a following `UESCAPE '.'` is tokens of its own.
    UnicodeString,
    /// `B'...'`.
    BitString,
    /// `X'...'`.
    HexString,
    /// `$tag$...$tag$`.
    DollarString,
    /// An integer or float, without sign.
    Number,
    /// `$1`.
    Param,
    /// An operator that has no kind of its own.
    Operator,
    /// One of `, ( ) [ ] . ; : + - * / % ^ < > =` standing alone.
    Symbol(u8),
    /// `::`
    Cast,
    /// `:=`
    ColonEquals,
    /// `=>`
    Arrow,
    /// `..`
    DotDot,
    /// `<=`
    LessEquals,
    /// `>=`
    GreaterEquals,
    /// `<>` or `!=`
    NotEquals,
    /// `-- ...` up to, not including, the newline.
    LineComment,
    /// `/* ... */`, nested ones included.
    BlockComment,
    /// A byte that begins no token (`\`, `{`, a lone `$`): a syntax error.
    Other,
    /// A string, quoted identifier or comment without an end.
    Unterminated,
    /// Something the scanner refuses: junk after a number or parameter,
    /// `U&'...'` with `standard_conforming_strings` off. Servers before 15
    /// accept some of it.
    Invalid,
    /// A text that cannot be read, see [`Encoding::AsciiTrail`].
    Unknown,
}

impl TokenKind {
    /// `Unterminated`, `Invalid` or `Unknown`: the last token of a text,
    /// reaching to its end. A server runs nothing of a simple query with an
    /// unterminated or invalid token.
    pub fn is_broken(self) -> bool {
        matches!(
            self,
            TokenKind::Unterminated | TokenKind::Invalid | TokenKind::Unknown
        )
    }

    /// A string that may be the literal of any type.
    pub fn is_string(self) -> bool {
        matches!(
            self,
            TokenKind::String
                | TokenKind::EscapeString
                | TokenKind::UnicodeString
                | TokenKind::DollarString
        )
    }

    /// A value that stands in the text, or the parameter in its place.
    pub fn is_constant(self) -> bool {
        self.is_string()
            || matches!(
                self,
                TokenKind::BitString | TokenKind::HexString | TokenKind::Number | TokenKind::Param
            )
    }

    /// A comment of either form.
    pub fn is_comment(self) -> bool {
        matches!(self, TokenKind::LineComment | TokenKind::BlockComment)
    }
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: TokenKind,
    /// Offset of its first byte in the text.
    pub start: usize,
    /// Its bytes; never empty.
    pub text: &'a [u8],
}

impl Token<'_> {
    /// Offset of the first byte after it.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it is this keyword (given in lower case).
    pub fn is_word(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }
}

/// The tokens of a text, comments included.
///
/// Tokens come in order and do not overlap; between them is only white space.
/// Takes time linear in the text, allocates nothing and never panics.
///
/// With [`Encoding::AsciiTrail`] a text that has any byte above 127 is one
/// `Unknown` token.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    pos: usize,
    /// Up to here only `+` and `-` follow that the last operator gave back.
    signs_until: usize,
    standard_conforming_strings: bool,
    unreadable: bool,
}

impl<'a> Lexer<'a> {
    /// Begins at the start of `text`, which holds no NUL.
    pub fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Lexer {
            text,
            pos: 0,
            signs_until: 0,
            standard_conforming_strings: dialect.standard_conforming_strings,
            unreadable: dialect.encoding == Encoding::AsciiTrail && !text.is_ascii(),
        }
    }

    /// [`next`](Self::next), for a caller that is fast only with it inside.
    #[inline(always)]
    pub(super) fn read(&mut self) -> Option<Token<'a>> {
        let start = if self.unreadable {
            self.pos
        } else {
            self.skip_space(self.pos)
        };
        let first = *self.text.get(start)?;
        let (kind, end) = if self.unreadable {
            (TokenKind::Unknown, self.text.len())
        } else {
            self.scan(first, start)
        };
        self.pos = if kind.is_broken() {
            self.text.len()
        } else {
            end
        };
        let text = self.text.get(start..self.pos)?;
        Some(Token { kind, start, text })
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.read()
    }
}

impl std::iter::FusedIterator for Lexer<'_> {}

/// `pg_encname_tbl` of encnames.c without the client-only encodings.
const SAFE_ENCODINGS: &[&str] = &[
    "abc",
    "alt",
    "euccn",
    "eucjis2004",
    "eucjp",
    "euckr",
    "euctw",
    "iso88591",
    "iso885910",
    "iso885913",
    "iso885914",
    "iso885915",
    "iso885916",
    "iso88592",
    "iso88593",
    "iso88594",
    "iso88595",
    "iso88596",
    "iso88597",
    "iso88598",
    "iso88599",
    "koi8",
    "koi8r",
    "koi8u",
    "latin1",
    "latin10",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "muleinternal",
    "sqlascii",
    "tcvn",
    "tcvn5712",
    "unicode",
    "utf8",
    "vscii",
    "win",
    "win1250",
    "win1251",
    "win1252",
    "win1253",
    "win1254",
    "win1255",
    "win1256",
    "win1257",
    "win1258",
    "win866",
    "win874",
    "windows1250",
    "windows1251",
    "windows1252",
    "windows1253",
    "windows1254",
    "windows1255",
    "windows1256",
    "windows1257",
    "windows1258",
    "windows866",
    "windows874",
];
