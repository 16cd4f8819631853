//! Quotes values for SQL of our own. Nothing else may put a value into SQL.

use super::lexer::Encoding;

/// Why a value cannot be quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// No SQL text can hold a NUL.
    #[error("the value contains a NUL byte")]
    Nul,
    /// See [`Encoding::AsciiTrail`]: what must be doubled cannot be told.
    #[error("a value with non-ASCII characters cannot be quoted in this client_encoding")]
    Encoding,
    /// PostgreSQL knows no identifier of length zero.
    #[error("an identifier must not be empty")]
    Empty,
}

/// Appends `value` as a string literal that means the same with
/// `standard_conforming_strings` on and off, as libpq's PQescapeLiteral does:
/// with a backslash in it, it becomes ` E'...'`, with a space in front so that
/// the `E` cannot join a word before it.
///
/// `encoding` is the class of the `client_encoding` that `value` is in and
/// that the session has which gets the SQL. Nothing is appended on error.
pub fn quote_literal(
    value: impl AsRef<[u8]>,
    encoding: Encoding,
    out: &mut Vec<u8>,
) -> Result<(), QuoteError> {
    let value = checked(value.as_ref(), encoding)?;
    if memchr::memchr(b'\\', value).is_some() {
        out.extend_from_slice(b" E");
    }
    out.push(b'\'');
    for &byte in value {
        if matches!(byte, b'\'' | b'\\') {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'\'');
    Ok(())
}

/// Appends `name` as an identifier, always in double quotes, so that neither
/// keywords nor upper case need thought. The server cuts off what is longer
/// than 63 bytes.
///
/// `encoding` as for [`quote_literal`]. Nothing is appended on error.
pub fn quote_ident(
    name: impl AsRef<[u8]>,
    encoding: Encoding,
    out: &mut Vec<u8>,
) -> Result<(), QuoteError> {
    let name = checked(name.as_ref(), encoding)?;
    if name.is_empty() {
        return Err(QuoteError::Empty);
    }
    out.push(b'"');
    for &byte in name {
        if byte == b'"' {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'"');
    Ok(())
}

fn checked(value: &[u8], encoding: Encoding) -> Result<&[u8], QuoteError> {
    if memchr::memchr(0, value).is_some() {
        return Err(QuoteError::Nul);
    }
    if encoding == Encoding::AsciiTrail && !value.is_ascii() {
        return Err(QuoteError::Encoding);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(value: &[u8]) -> String {
        let mut out = b"=".to_vec();
        quote_literal(value, Encoding::AsciiSafe, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn ident(name: &str) -> String {
        let mut out = b".".to_vec();
        quote_ident(name, Encoding::AsciiSafe, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn literals() {
        assert_eq!(literal(b""), "=''");
        assert_eq!(literal(b"a b"), "='a b'");
        assert_eq!(literal(b"it's"), "='it''s'");
        assert_eq!(literal(b"'"), "=''''");
        assert_eq!(literal(b"\\"), "= E'\\\\'");
        assert_eq!(
            literal(b"\\'; drop table t --"),
            "= E'\\\\''; drop table t --'"
        );
        assert_eq!(literal("\u{e9}\n\"".as_bytes()), "='\u{e9}\n\"'");
    }

    #[test]
    fn identifiers() {
        assert_eq!(ident("a"), ".\"a\"");
        assert_eq!(ident("Select"), ".\"Select\"");
        assert_eq!(ident("a\"b'\\"), ".\"a\"\"b'\\\"");
    }

    #[test]
    fn refusals_append_nothing() {
        let mut out = Vec::new();
        let (safe, trail) = (Encoding::AsciiSafe, Encoding::AsciiTrail);
        assert_eq!(quote_literal("a\0", safe, &mut out), Err(QuoteError::Nul));
        assert_eq!(quote_ident("\0", safe, &mut out), Err(QuoteError::Nul));
        assert_eq!(quote_ident("", safe, &mut out), Err(QuoteError::Empty));
        assert_eq!(
            quote_literal(b"\x83\x5c", trail, &mut out),
            Err(QuoteError::Encoding)
        );
        assert_eq!(
            quote_ident(b"\x83\x5c", trail, &mut out),
            Err(QuoteError::Encoding)
        );
        assert!(out.is_empty());
        assert_eq!(quote_literal("a", trail, &mut out), Ok(()));
    }
}
