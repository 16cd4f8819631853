//! Messages of both directions, as short calls.

use crate::flow::error_fields;
use crate::wire::build;
use crate::wire::frame::put_header;

pub type Bytes = Vec<u8>;

fn message(tag: u8, body: &[u8]) -> Bytes {
    let mut out = Vec::new();
    put_header(&mut out, tag, body.len());
    out.extend_from_slice(body);
    out
}

fn strings(tag: u8, parts: &[&str], rest: &[u8]) -> Bytes {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(part.as_bytes());
        body.push(0);
    }
    body.extend_from_slice(rest);
    message(tag, &body)
}

// ---- from the client ----

pub fn query(sql: &str) -> Bytes {
    strings(b'Q', &[sql], b"")
}

pub fn parse(name: &str, sql: &str) -> Bytes {
    strings(b'P', &[name, sql], &[0, 0])
}

pub fn bind(portal: &str, statement: &str) -> Bytes {
    // One text parameter.
    strings(b'B', &[portal, statement], b"\0\0\0\x01\0\0\0\x03abc\0\0")
}

/// With a format for each of the columns that the client knows.
pub fn bind_columns(statement: &str, columns: u8) -> Bytes {
    let formats = [
        vec![0, 0, 0, 0, 0, columns],
        vec![0; 2 * usize::from(columns)],
    ]
    .concat();
    strings(b'B', &["", statement], &formats)
}

pub fn describe(statement: &str) -> Bytes {
    strings(b'D', &[&format!("S{statement}")], b"")
}

pub fn describe_portal(portal: &str) -> Bytes {
    strings(b'D', &[&format!("P{portal}")], b"")
}

pub fn close(statement: &str) -> Bytes {
    strings(b'C', &[&format!("S{statement}")], b"")
}

pub fn close_portal(portal: &str) -> Bytes {
    strings(b'C', &[&format!("P{portal}")], b"")
}

pub fn execute() -> Bytes {
    execute_portal("")
}

pub fn execute_portal(name: &str) -> Bytes {
    strings(b'E', &[name], &[0, 0, 0, 0])
}

pub fn sync() -> Bytes {
    build::SYNC.to_vec()
}

pub fn flush() -> Bytes {
    message(b'H', b"")
}

pub fn function_call() -> Bytes {
    message(b'F', b"\0\0\x05\0\0\0\0\0\0\0")
}

pub fn copy_data(text: &str) -> Bytes {
    message(b'd', text.as_bytes())
}

pub fn copy_done() -> Bytes {
    message(b'c', b"")
}

pub fn copy_fail(reason: &str) -> Bytes {
    strings(b'f', &[reason], b"")
}

// ---- from the server ----

pub fn parsed() -> Bytes {
    build::PARSE_COMPLETE.to_vec()
}

pub fn bound() -> Bytes {
    message(b'2', b"")
}

pub fn closed() -> Bytes {
    build::CLOSE_COMPLETE.to_vec()
}

pub fn parameter_description() -> Bytes {
    message(b't', b"\0\0")
}

pub fn row_description() -> Bytes {
    message(
        b'T',
        b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
    )
}

pub fn no_data() -> Bytes {
    message(b'n', b"")
}

pub fn row(text: &str) -> Bytes {
    let mut body = vec![0, 1];
    body.extend_from_slice(&(text.len() as u32).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
    message(b'D', &body)
}

pub fn complete(tag: &str) -> Bytes {
    strings(b'C', &[tag], b"")
}

pub fn empty_query() -> Bytes {
    message(b'I', b"")
}

pub fn suspended() -> Bytes {
    message(b's', b"")
}

pub fn function_result() -> Bytes {
    message(b'V', b"\0\0\0\x011")
}

/// ReadyForQuery: `I`, `T` or `E`.
pub fn ready(status: char) -> Bytes {
    message(b'Z', &[status as u8])
}

pub fn copy_in() -> Bytes {
    message(b'G', b"\0\0\0")
}

pub fn copy_out() -> Bytes {
    message(b'H', b"\0\0\0")
}

pub fn copy_both() -> Bytes {
    message(b'W', b"\0\0\0")
}

pub fn status(name: &str, value: &str) -> Bytes {
    strings(b'S', &[name, value], b"")
}

pub fn error(sqlstate: &str, text: &str) -> Bytes {
    report(b'E', "ERROR", sqlstate, text)
}

/// What a server says of a statement that would give other columns now.
pub fn changed_plan() -> Bytes {
    let mut error = error("0A000", "cached plan must not change result type");
    error_fields::add(&mut error, b"Fplancache.c\0RRevalidateCachedQuery\0");
    error
}

pub fn fatal(sqlstate: &str, text: &str) -> Bytes {
    report(b'E', "FATAL", sqlstate, text)
}

pub fn notice(text: &str) -> Bytes {
    report(b'N', "NOTICE", "00000", text)
}

pub fn notification() -> Bytes {
    strings(b'A', &["\u{1}\u{1}\u{1}\u{1}channel", "payload"], b"")
}

fn report(tag: u8, severity: &str, sqlstate: &str, text: &str) -> Bytes {
    let fields = [
        format!("S{severity}"),
        format!("V{severity}"),
        format!("C{sqlstate}"),
        format!("M{text}"),
    ];
    let fields = fields.each_ref().map(String::as_str);
    strings(tag, &fields, &[0])
}
