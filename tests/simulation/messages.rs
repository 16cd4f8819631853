//! Messages, as bytes.

use pgweir::wire::frame::put_header;

/// A whole message.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, tag, body.len());
    out.extend_from_slice(body);
    out
}

/// A message of strings, each with its NUL, and `rest`.
pub fn strings(tag: u8, parts: &[&[u8]], rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(part);
        body.push(0);
    }
    body.extend_from_slice(rest);
    message(tag, &body)
}
