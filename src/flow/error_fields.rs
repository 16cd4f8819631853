//! Fields of an ErrorResponse. Manual, "Error and Notice Message Fields".

use memchr::memmem;

use crate::wire::frame::put_header;
use crate::wire::names::split_nul;

/// How bad an error of the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    /// FATAL or PANIC: the server closes the connection afterwards.
    Fatal,
}

/// Iterates over the fields of a body: type and value.
fn fields(mut body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&kind, rest) = body.split_first()?;
        let (value, rest) = split_nul(rest)?;
        body = rest;
        Some((kind, value))
    })
}

/// From the field that is never translated (`V`, since 9.6).
pub fn severity(body: &[u8]) -> Severity {
    match fields(body).find(|(kind, _)| *kind == b'V') {
        Some((_, b"FATAL" | b"PANIC")) => Severity::Fatal,
        _ => Severity::Error,
    }
}

/// Its SQLSTATE; empty if there is none.
pub fn sqlstate(body: &[u8]) -> &[u8] {
    let code = fields(body).find(|(kind, _)| *kind == b'C');
    code.map_or(b"", |(_, value)| value)
}

/// Message and SQLSTATE, for people.
pub fn summary(body: &[u8]) -> String {
    let get = |wanted: u8| {
        let mut all = fields(body).filter(|(kind, _)| *kind == wanted);
        all.next().map(|(_, value)| String::from_utf8_lossy(value))
    };
    let message = get(b'M').unwrap_or_default();
    let sqlstate = get(b'C').unwrap_or_default();
    format!("{message} (SQLSTATE {sqlstate})")
}

/// Whether a prepared statement would give other columns than when it was parsed
/// (plancache.c, `RevalidateCachedQuery`).
pub fn is_of_changed_plan(body: &[u8]) -> bool {
    let routine = fields(body).find(|(kind, _)| *kind == b'R');
    sqlstate(body) == b"0A000" && routine.is_some_and(|(_, name)| name == b"RevalidateCachedQuery")
}

/// The whole message again with `"from"` replaced by `"to"` in its texts.
/// `None`: there is no `"from"`.
pub fn rename(body: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let quoted = [b"\"", from, b"\""].concat();
    let mut renamed = Vec::new();
    let mut rest = body;
    while let Some(at) = memmem::find(rest, &quoted) {
        renamed.extend_from_slice(rest.get(..=at)?);
        renamed.extend_from_slice(to);
        renamed.push(b'"');
        rest = rest.get(at + quoted.len()..)?;
    }
    if rest.len() == body.len() {
        return None;
    }
    renamed.extend_from_slice(rest);
    let mut message = Vec::new();
    put_header(&mut message, b'E', renamed.len());
    message.extend_from_slice(&renamed);
    Some(message)
}

/// Adds `fields`, each with its NUL, to a whole message.
pub fn add(message: &mut Vec<u8>, fields: &[u8]) {
    let end = message.pop();
    message.extend_from_slice(fields);
    message.extend(end);
    let length = message.len().saturating_sub(1) as u32;
    if let Some(place) = message.get_mut(1..5) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// The id of the statement that the error names by its name on the server.
pub fn statement_id(body: &[u8]) -> Option<u64> {
    const PREFIX: &[u8] = b"\"pgweir_";
    let at = memmem::find(body, PREFIX)? + PREFIX.len();
    let (digits, _) = body
        .get(at..)?
        .split_at_checked(memchr::memchr(b'"', body.get(at..)?)?)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The whole message again, as a FATAL one.
pub fn as_fatal(body: &[u8]) -> Vec<u8> {
    let mut fatal = Vec::new();
    for (kind, value) in fields(body) {
        fatal.push(kind);
        fatal.extend_from_slice(match kind {
            b'S' | b'V' => b"FATAL",
            _ => value,
        });
        fatal.push(0);
    }
    fatal.push(0);
    let mut message = Vec::new();
    put_header(&mut message, b'E', fatal.len());
    message.extend_from_slice(&fatal);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] =
        b"SERREUR\0VERROR\0C26000\0Mprepared statement \"pgweir_7\" does not exist\0\0";

    #[test]
    fn severity_is_not_translated() {
        assert_eq!(severity(BODY), Severity::Error);
        assert_eq!(severity(b"SFATAL\0VFATAL\0\0"), Severity::Fatal);
        assert_eq!(severity(b"VFAT"), Severity::Error);
    }

    #[test]
    fn changed_plans() {
        let error = b"SERROR\0C0A000\0Mtext\0RRevalidateCachedQuery\0\0";
        assert!(is_of_changed_plan(error));
        assert!(!is_of_changed_plan(b"C0A000\0RExecCallStmt\0\0"));
        assert!(!is_of_changed_plan(BODY));
    }

    #[test]
    fn names_are_put_back() {
        let message = rename(BODY, b"pgweir_7", b"x").unwrap();
        assert_eq!(message.len(), 5 + BODY.len() - 7);
        assert_eq!(
            summary(&message[5..]),
            "prepared statement \"x\" does not exist (SQLSTATE 26000)"
        );
        assert_eq!(rename(BODY, b"pgweir", b"x"), None);
        let twice = b"M\"a\" is \"a\"\0D\"a\"\0\0";
        let renamed = rename(twice, b"a", b"long").unwrap();
        assert_eq!(&renamed[5..], b"M\"long\" is \"long\"\0D\"long\"\0\0");
        assert_eq!(renamed.len(), 4 * 3 - 3 + 5 + twice.len());
        assert_eq!(statement_id(BODY), Some(7));
        assert_eq!(statement_id(b"Mno \"pgweir_x\"\0\0"), None);
    }
}
