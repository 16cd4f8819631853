//! What the comparison with PostgreSQL's scanner (`tests/lexer_oracle.rs`)
//! cannot show: settings, encodings, and the time it takes.

use super::TokenKind::*;
use super::*;

fn kinds(text: &[u8], dialect: Dialect) -> Vec<TokenKind> {
    Lexer::new(text, dialect).map(|token| token.kind).collect()
}

fn texts(text: &[u8], dialect: Dialect) -> Vec<&[u8]> {
    Lexer::new(text, dialect).map(|token| token.text).collect()
}

const NOT_CONFORMING: Dialect = Dialect {
    standard_conforming_strings: false,
    encoding: Encoding::AsciiSafe,
};
const SJIS: Dialect = Dialect {
    standard_conforming_strings: true,
    encoding: Encoding::AsciiTrail,
};

#[test]
fn a_token_of_each_kind() {
    let text = b"a \"b\" U&\"c\" 'd' E'e' U&'f' B'0' X'1' $$g$$ 1.5 $1 || ; :: := => .. <= >= <> \
                 -- h\n /* i */ \\ 1x";
    assert_eq!(
        kinds(text, Dialect::default()),
        [
            Word,
            QuotedIdent,
            UnicodeIdent,
            String,
            EscapeString,
            UnicodeString,
            BitString,
            HexString,
            DollarString,
            Number,
            Param,
            Operator,
            Symbol(b';'),
            Cast,
            ColonEquals,
            Arrow,
            DotDot,
            LessEquals,
            GreaterEquals,
            NotEquals,
            LineComment,
            BlockComment,
            Other,
            Invalid
        ]
    );
}

#[test]
fn places_are_offsets_of_bytes() {
    let mut tokens = Lexer::new(b" \xc3\xa9 'x'", Dialect::default());
    let first = tokens.next().unwrap();
    assert_eq!(
        (first.start, first.end(), first.text),
        (1, 3, &b"\xc3\xa9"[..])
    );
    assert_eq!(tokens.next().unwrap().start, 4);
    assert_eq!(tokens.next(), None);
    assert_eq!(tokens.next(), None);
}

#[test]
fn backslashes_escape_when_strings_do_not_conform() {
    let text = br"'a\' ' 'c'";
    assert_eq!(
        texts(text, Dialect::default()),
        [&br"'a\'"[..], b"' '", b"c", b"'"]
    );
    assert_eq!(texts(text, NOT_CONFORMING), [&br"'a\' '"[..], b"'c'"]);
    assert_eq!(kinds(text, NOT_CONFORMING), [EscapeString, EscapeString]);
    // The server refuses these rather than guess.
    assert_eq!(kinds(b"a U&'b' c", NOT_CONFORMING), [Word, Invalid]);
    assert_eq!(
        kinds(b"U&\"b\" B'1\\' n'\\''", NOT_CONFORMING),
        [UnicodeIdent, BitString, Word, EscapeString]
    );
}

#[test]
fn broken_tokens_reach_to_the_end() {
    for (text, kind) in [
        (&b"'a; b"[..], Unterminated),
        (b"'a''", Unterminated),
        (b"E'a\\'", Unterminated),
        (b"E'a\\", Unterminated),
        (b"\"a", Unterminated),
        (b"U&\"a", Unterminated),
        (b"U&'a", Unterminated),
        (b"$a$ $b$", Unterminated),
        (b"/* /* */ ", Unterminated),
        (b"/*/", Unterminated),
        (b"'a'\n'b", Unterminated),
        (b"1a; b ", Invalid),
        (b"$1a 'b", Invalid),
    ] {
        let tokens: Vec<_> = Lexer::new(text, Dialect::default()).collect();
        assert_eq!(
            tokens,
            [Token {
                kind,
                start: 0,
                text
            }]
        );
        assert!(kind.is_broken());
    }
}

#[test]
fn bytes_that_are_no_utf8_belong_to_words() {
    assert_eq!(
        texts(b"\xff\x80a$ '\xe3' \"\xe3\"", Dialect::default()),
        [&b"\xff\x80a$"[..], b"'\xe3'", b"\"\xe3\""]
    );
}

#[test]
fn texts_with_ascii_trail_bytes_are_unknown() {
    // In SJIS, 0x83 0x5c is one character whose second byte is a backslash.
    let text = b" E'\x83\x5c'; select 1";
    let tokens: Vec<_> = Lexer::new(text, SJIS).collect();
    assert_eq!(
        tokens,
        [Token {
            kind: Unknown,
            start: 0,
            text
        }]
    );
    assert_eq!(kinds(b"select 'a'", SJIS), [Word, String]);
    assert_eq!(kinds(b"", SJIS), []);
}

#[test]
fn encodings_by_name() {
    for name in [
        "UTF8",
        "utf-8",
        "SQL_ASCII",
        "LATIN1",
        "iso-8859-15",
        "EUC_JP",
        "KOI8R",
        "WIN1252",
    ] {
        assert_eq!(
            Encoding::of_client_encoding(name.as_bytes()),
            Encoding::AsciiSafe,
            "{name}"
        );
    }
    for name in [
        "SJIS",
        "SHIFT_JIS_2004",
        "BIG5",
        "GBK",
        "GB18030",
        "UHC",
        "JOHAB",
        "x",
        "",
        "\u{e9}",
    ] {
        assert_eq!(
            Encoding::of_client_encoding(name.as_bytes()),
            Encoding::AsciiTrail,
            "{name}"
        );
    }
}

#[test]
fn takes_linear_time() {
    // With quadratic time, each of these would run for minutes.
    const LEN: usize = 1 << 18;
    for unit in [
        "+-", "+", "<+", "$a", "$", "'a' ", "'a'\n", "'\n--", "1.", "1..", "e'\\'", "/", "* /",
        "a$", "U&", "/*", "*/", "(", "\"", "1_", "0x",
    ] {
        for dialect in [Dialect::default(), NOT_CONFORMING] {
            let text = unit.repeat(LEN / unit.len());
            assert!(Lexer::new(text.as_bytes(), dialect).count() <= LEN);
        }
    }
}
