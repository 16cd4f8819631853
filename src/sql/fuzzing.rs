//! Bodies of the fuzz targets: each takes any bytes and panics if a promise
//! of this room is broken.

use std::sync::LazyLock;

use super::chars::{SPACE, is};
use super::classify::{self, Catalog, Kind};
use super::shape::shape;
use super::{
    Command, Dialect, Encoding, Lexer, Statements, Token, TokenKind, quote_ident, quote_literal,
};

/// Tokens are in order, cover everything but white space, end the text when
/// broken, and read the same when they stand alone; a text's shape has the same but
/// for numbers.
pub fn fuzz_lexer(data: &[u8]) {
    let mut buffer = Vec::new();
    let token = |token: Token<'_>| match token.kind {
        kind if kind == TokenKind::Number || kind.is_broken() => (kind, Vec::new()),
        kind => (kind, token.text.to_vec()),
    };
    let [whole, alike] = [data, shape(data, &mut buffer)].map(|text| {
        Lexer::new(text, Dialect::default())
            .map(token)
            .collect::<Vec<_>>()
    });
    assert_eq!(whole, alike);
    for dialect in dialects() {
        let mut end = 0;
        let mut broken = false;
        for token in Lexer::new(data, dialect) {
            assert!(!broken, "a token after a broken one");
            assert!(!token.text.is_empty());
            assert!(white(&data[end..token.start]));
            assert_eq!(&data[token.start..token.end()], token.text);
            end = token.end();
            broken = token.kind.is_broken();
            let alone: Vec<Token<'_>> = Lexer::new(token.text, dialect).collect();
            let reads_alone = Token { start: 0, ..token };
            assert!(
                dialect.encoding == Encoding::AsciiTrail || alone == [reads_alone],
                "{token:?} alone is {alone:?}"
            );
        }
        assert!(white(&data[end..]));
    }
}

/// Statements are in order, leave out nothing but comments and semicolons, and
/// stay one statement of the same kind when they stand alone.
pub fn fuzz_statements(data: &[u8]) {
    for dialect in dialects() {
        let left_out = |gap: &[u8]| {
            Lexer::new(gap, dialect)
                .all(|t| t.kind.is_comment() || t.kind == TokenKind::Symbol(b';'))
        };
        let mut end = 0;
        let mut count = 0;
        for statement in Statements::new(data, dialect) {
            assert!(left_out(&data[end..statement.start]));
            end = statement.start + statement.text.len();
            count += 1;
            assert_eq!(&data[statement.start..end], statement.text);
            assert!(!statement.broken || end == data.len());

            let alone: Vec<_> = Statements::new(statement.text, dialect).collect();
            assert_eq!(alone.len(), 1);
            assert_eq!(
                (alone[0].text, alone[0].broken),
                (statement.text, statement.broken)
            );
            if !statement.broken {
                let mut ended = statement.text.to_vec();
                ended.extend_from_slice(b" ; -- x");
                assert_eq!(
                    format!("{:?}", super::classify(&ended, dialect)),
                    format!("{:?}", super::classify(statement.text, dialect))
                );
            }
        }
        assert!(left_out(&data[end..]));
        let command = super::classify(data, dialect);
        assert_eq!(command == Command::Empty, count == 0);
        assert!(command != Command::Many || count > 1);
    }
}

/// A read is one in each of its statements, with anything harmless added, and
/// where more is known to be harmless.
pub fn fuzz_classify(data: &[u8]) {
    static CATALOGS: LazyLock<[Catalog; 2]> =
        LazyLock::new(|| [Catalog::of_postgresql(), Catalog::assuming_plain_tables()]);
    let [strict, lax] = &*CATALOGS;
    for dialect in dialects() {
        let strictly = classify::classify(data, dialect, strict).kind;
        let verdict = classify::classify(data, dialect, lax);
        assert!(!verdict.to_string().is_empty());
        assert!(strictly != Kind::Read || verdict.kind == Kind::Read);
        if verdict.kind == Kind::Read {
            for statement in Statements::new(data, dialect) {
                assert!(!statement.broken);
                let alone = classify::classify(statement.text, dialect, lax);
                assert_eq!(alone.kind, Kind::Read);
            }
            let more = [b"/* x */ ;", data, b"\n;; -- y"].concat();
            assert_eq!(classify::classify(&more, dialect, lax).kind, Kind::Read);
        }
    }
}

/// What is quoted is one token under every setting, and reads back as it was.
pub fn fuzz_quote(data: &[u8]) {
    for dialect in dialects() {
        let refused =
            data.contains(&0) || (dialect.encoding == Encoding::AsciiTrail && !data.is_ascii());

        let mut literal = Vec::new();
        let done = quote_literal(data, dialect.encoding, &mut literal);
        assert_eq!(done.is_err(), refused);
        if done.is_ok() {
            let token = only_token(&literal, dialect);
            let escapes = token.kind == TokenKind::EscapeString;
            assert!(escapes || token.kind == TokenKind::String);
            let body = token.text.strip_prefix(b"E").unwrap_or(token.text);
            assert_eq!(undouble(body, if escapes { b"'\\" } else { b"'" }), data);
        }

        let mut ident = Vec::new();
        let done = quote_ident(data, dialect.encoding, &mut ident);
        assert_eq!(done.is_err(), refused || data.is_empty());
        if done.is_ok() {
            let token = only_token(&ident, dialect);
            assert_eq!(token.kind, TokenKind::QuotedIdent);
            assert_eq!(undouble(token.text, b"\""), data);
        }
    }
}

fn dialects() -> impl Iterator<Item = Dialect> {
    [
        (true, Encoding::AsciiSafe),
        (false, Encoding::AsciiSafe),
        (true, Encoding::AsciiTrail),
    ]
    .into_iter()
    .map(|(standard_conforming_strings, encoding)| Dialect {
        standard_conforming_strings,
        encoding,
    })
}

fn white(gap: &[u8]) -> bool {
    gap.iter().all(|&byte| is(byte, SPACE))
}

fn only_token(sql: &[u8], dialect: Dialect) -> Token<'_> {
    let tokens: Vec<Token<'_>> = Lexer::new(sql, dialect).collect();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    tokens[0]
}

/// The value between quotes, where each of `doubled` stands twice.
fn undouble(quoted: &[u8], doubled: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    let mut inner = quoted[1..quoted.len() - 1].iter();
    while let Some(&byte) = inner.next() {
        if doubled.contains(&byte) {
            assert_eq!(inner.next(), Some(&byte));
        }
        value.push(byte);
    }
    value
}
