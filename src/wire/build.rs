//! Messages of our own. Those off the hot path are built by pgwire's types.

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use pgwire::messages::startup::Authentication;

use super::frame::put_header;
use super::tag::TxStatus;

/// ParseComplete.
pub const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
/// CloseComplete.
pub const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
/// Sync.
pub const SYNC: &[u8] = b"S\0\0\0\x04";
/// Flush.
pub const FLUSH: &[u8] = b"H\0\0\0\x04";
/// Terminate.
pub const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// ReadyForQuery.
pub fn ready_for_query(status: TxStatus) -> &'static [u8] {
    match status {
        TxStatus::Idle => b"Z\0\0\0\x05I",
        TxStatus::InTransaction => b"Z\0\0\0\x05T",
        TxStatus::Failed => b"Z\0\0\0\x05E",
    }
}

/// Appends a simple Query. The text must not contain NUL.
pub fn query(out: &mut Vec<u8>, text: &[u8]) {
    put_header(out, b'Q', text.len() + 1);
    out.extend_from_slice(text);
    out.push(0);
}

/// Appends a Parse of `definition` (query text with NUL, parameter types).
pub fn parse(out: &mut Vec<u8>, name: &[u8], definition: &[u8]) {
    put_header(out, b'P', name.len() + 1 + definition.len());
    out.extend_from_slice(name);
    out.push(0);
    out.extend_from_slice(definition);
}

/// Appends the front of a Bind whose parameters (`rest_len` bytes) follow.
pub fn bind_front(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], rest_len: usize) {
    put_header(out, b'B', portal.len() + statement.len() + 2 + rest_len);
    out.extend_from_slice(portal);
    out.push(0);
    out.extend_from_slice(statement);
    out.push(0);
}

/// Appends a Describe or Close (`tag`) of a statement.
pub fn statement_message(out: &mut Vec<u8>, tag: u8, name: &[u8]) {
    put_header(out, tag, name.len() + 2);
    out.push(b'S');
    out.extend_from_slice(name);
    out.push(0);
}

/// Appends an Execute of a portal, without a limit of rows.
pub fn execute(out: &mut Vec<u8>, portal: &[u8]) {
    put_header(out, b'E', portal.len() + 5);
    out.extend_from_slice(portal);
    out.extend_from_slice(&[0; 5]);
}

/// Appends all that asks for one statement with one parameter, both as text:
/// Parse, Bind, Describe, Execute and Sync. Neither text may contain NUL.
pub fn query_with(out: &mut Vec<u8>, text: &[u8], parameter: &[u8]) {
    parse(out, b"", &[text, b"\0\0\0"].concat());
    bind_front(out, b"", b"", 10 + parameter.len());
    // One parameter; formats of parameters and of results: all text.
    out.extend_from_slice(&[0, 0, 0, 1]);
    out.extend_from_slice(&(parameter.len() as u32).to_be_bytes());
    out.extend_from_slice(parameter);
    out.extend_from_slice(&[0, 0]);
    put_header(out, b'D', 2);
    out.extend_from_slice(b"P\0");
    execute(out, b"");
    out.extend_from_slice(SYNC);
}

/// Appends a CopyFail.
pub fn copy_fail(out: &mut Vec<u8>, reason: &str) {
    put_header(out, b'f', reason.len() + 1);
    out.extend_from_slice(reason.as_bytes());
    out.push(0);
}

/// Appends AuthenticationOk.
pub fn authentication_ok(out: &mut Vec<u8>) {
    encode(out, &Authentication::Ok);
}

/// Appends a ParameterStatus. Built by hand: a value may be in any encoding.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put_header(out, b'S', name.len() + value.len() + 2);
    for part in [name, value] {
        out.extend_from_slice(part);
        out.push(0);
    }
}

/// Appends a BackendKeyData with a key of any length.
pub fn backend_key_data(out: &mut Vec<u8>, pid: u32, key: &[u8]) {
    put_header(out, b'K', 4 + key.len());
    out.extend_from_slice(&pid.to_be_bytes());
    out.extend_from_slice(key);
}

/// Appends a NegotiateProtocolVersion: the newest minor version that we speak
/// and the `_pq_.` options that we do not know.
pub fn negotiate_protocol_version(out: &mut Vec<u8>, minor: u16, unknown: &[&[u8]]) {
    let names: usize = unknown.iter().map(|name| name.len() + 1).sum();
    put_header(out, b'v', 8 + names);
    out.extend_from_slice(&(3u32 << 16 | u32::from(minor)).to_be_bytes());
    out.extend_from_slice(&(unknown.len() as u32).to_be_bytes());
    for name in unknown {
        out.extend_from_slice(name);
        out.push(0);
    }
}

/// Appends a NotificationResponse.
pub fn notification(out: &mut Vec<u8>, pid: u32, channel: &[u8], payload: &[u8]) {
    put_header(out, b'A', 4 + channel.len() + payload.len() + 2);
    out.extend_from_slice(&pid.to_be_bytes());
    for part in [channel, payload] {
        out.extend_from_slice(part);
        out.push(0);
    }
}

/// How bad an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The connection lives on.
    Error,
    /// The connection is closed afterwards.
    Fatal,
}

/// An error that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub severity: Severity,
    pub sqlstate: &'static str,
    pub message: String,
    pub detail: Option<String>,
    /// Which setting, and what to do.
    pub hint: Option<String>,
}

impl Refusal {
    /// A FATAL error: the connection is closed afterwards.
    pub fn fatal(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Refusal {
            severity: Severity::Fatal,
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// An ERROR: the connection lives on.
    pub fn error(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Refusal {
            severity: Severity::Error,
            ..Refusal::fatal(sqlstate, message)
        }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Appends the ErrorResponse.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let mut fields = vec![
            (b'S', severity.to_owned()),
            (b'V', severity.to_owned()),
            (b'C', self.sqlstate.to_owned()),
            (b'M', self.message.clone()),
        ];
        fields.extend(self.detail.clone().map(|text| (b'D', text)));
        fields.extend(self.hint.clone().map(|text| (b'H', text)));
        encode(out, &ErrorResponse::new(without_nul(fields)));
    }
}

/// Appends a NoticeResponse.
pub fn notice(out: &mut Vec<u8>, sqlstate: &str, message: &str) {
    let fields = vec![
        (b'S', "NOTICE".to_owned()),
        (b'V', "NOTICE".to_owned()),
        (b'C', sqlstate.to_owned()),
        (b'M', message.to_owned()),
    ];
    encode(out, &NoticeResponse::new(without_nul(fields)));
}

/// A NUL would end the field early and shift what follows.
fn without_nul(mut fields: Vec<(u8, String)>) -> Vec<(u8, String)> {
    for (_, text) in &mut fields {
        text.retain(|c| c != '\0');
    }
    fields
}

/// Appends any of pgwire's messages.
pub fn encode(out: &mut Vec<u8>, message: &impl Message) {
    let mut buffer = BytesMut::new();
    // Fails only on what cannot be represented (a body over 2 GB).
    if message.encode(&mut buffer).is_ok() {
        out.extend_from_slice(&buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Header;

    fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut list = Vec::new();
        while let Some(header) = Header::peek(bytes).unwrap() {
            let (frame, rest) = bytes.split_at(header.total);
            list.push((header.tag, frame[5..].to_vec()));
            bytes = rest;
        }
        assert!(bytes.is_empty());
        list
    }

    #[test]
    fn every_message_is_one_whole_frame() {
        let mut out = Vec::new();
        query(&mut out, b"select 1");
        parse(&mut out, b"s", b"select $1\0\0\0");
        bind_front(&mut out, b"", b"s", 6);
        out.extend_from_slice(&[0; 6]);
        statement_message(&mut out, b'D', b"s");
        execute(&mut out, b"p");
        query_with(&mut out, b"select $1", b"x");
        copy_fail(&mut out, "gone");
        authentication_ok(&mut out);
        parameter_status(&mut out, b"a", b"\xff");
        backend_key_data(&mut out, 1, &[0; 32]);
        negotiate_protocol_version(&mut out, 2, &[b"_pq_.x"]);
        Refusal::error("42601", "no")
            .detail("d")
            .hint("h\0h")
            .encode(&mut out);
        notice(&mut out, "00000", "hello");
        out.extend_from_slice(ready_for_query(TxStatus::Idle));
        let tags: Vec<u8> = frames(&out).iter().map(|(tag, _)| *tag).collect();
        assert_eq!(tags, b"QPBDEPBDESfRSKvENZ");
    }

    #[test]
    fn a_nul_in_a_text_cannot_end_a_field() {
        let mut out = Vec::new();
        Refusal::fatal("08P01", "bad\0S").encode(&mut out);
        let body = &frames(&out)[0].1;
        assert_eq!(body, b"SFATAL\0VFATAL\0C08P01\0MbadS\0\0");
    }
}
