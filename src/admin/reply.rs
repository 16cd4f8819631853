//! The console's answers as bytes.

use std::io;

use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::data::{DataRow, FORMAT_CODE_TEXT, FieldDescription, RowDescription};
use pgwire::messages::response::{
    CommandComplete, ErrorResponse, NoticeResponse, ReadyForQuery, TransactionStatus,
};

use super::table::{Column, Value};

/// SQLSTATE of nearly everything that PgBouncer reports: protocol_violation.
pub const PROTOCOL_VIOLATION: &str = "08P01";
/// SQLSTATE of what is not built: feature_not_supported.
pub const NOT_SUPPORTED: &str = "0A000";
/// SQLSTATE of a reload that failed: config_file_error.
pub const CONFIG_FILE_ERROR: &str = "F0000";

/// A message is cut after so many bytes, as in PgBouncer: it may repeat what
/// the client sent.
const MAX_TEXT: usize = 1023;

/// What ErrorResponse reports. Only the fields S, C, M and D are ever sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub severity: Severity,
    pub code: &'static str,
    pub message: String,
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The console stays open.
    Error,
    /// The connection is closed.
    Fatal,
}

impl Failure {
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MAX_TEXT));
        Failure {
            severity: Severity::Error,
            code,
            message,
            detail: None,
        }
    }

    pub fn fatal(message: impl Into<String>) -> Self {
        Failure {
            severity: Severity::Fatal,
            ..Failure::error(PROTOCOL_VIOLATION, message)
        }
    }

    /// Appends ErrorResponse.
    pub fn put(&self, out: &mut BytesMut) -> io::Result<()> {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let mut fields = vec![
            (b'S', severity.to_owned()),
            (b'C', self.code.to_owned()),
            (b'M', sendable(&self.message)),
        ];
        if let Some(detail) = &self.detail {
            fields.push((b'D', sendable(detail)));
        }
        put(&ErrorResponse::new(fields), out)
    }
}

/// Appends any message.
pub fn put(message: &impl Message, out: &mut BytesMut) -> io::Result<()> {
    message.encode(out).map_err(io::Error::other)
}

/// Appends RowDescription.
pub fn columns(columns: &[Column], out: &mut BytesMut) -> io::Result<()> {
    let fields = columns
        .iter()
        .map(|(name, kind)| {
            let name = (*name).to_owned();
            FieldDescription::new(name, 0, 0, kind.oid(), kind.size(), -1, FORMAT_CODE_TEXT)
        })
        .collect();
    put(&RowDescription::new(fields), out)
}

/// Appends DataRow.
pub fn row(values: &[Value<'_>], out: &mut BytesMut) -> io::Result<()> {
    let mut data = BytesMut::new();
    for value in values {
        let number;
        let text = match value {
            Value::Null => {
                data.put_i32(-1);
                continue;
            }
            Value::Text(text) => text.as_ref(),
            Value::Number(n) => {
                number = n.to_string();
                &number
            }
        };
        data.put_i32(i32::try_from(text.len()).map_err(io::Error::other)?);
        data.put_slice(text.as_bytes());
    }
    let count = i16::try_from(values.len()).map_err(io::Error::other)?;
    put(&DataRow::new(data, count), out)
}

/// Appends NoticeResponse.
pub fn notice(message: &str, detail: Option<String>, out: &mut BytesMut) -> io::Result<()> {
    let mut fields = vec![
        (b'S', "NOTICE".to_owned()),
        (b'C', "00000".to_owned()),
        (b'M', message.to_owned()),
    ];
    fields.extend(detail.map(|detail| (b'D', detail)));
    put(&NoticeResponse::new(fields), out)
}

/// Appends CommandComplete and ReadyForQuery.
pub fn done(tag: &str, out: &mut BytesMut) -> io::Result<()> {
    put(&CommandComplete::new(tag.to_owned()), out)?;
    ready(out)
}

/// Appends ReadyForQuery; the console knows no transactions.
pub fn ready(out: &mut BytesMut) -> io::Result<()> {
    put(&ReadyForQuery::new(TransactionStatus::Idle), out)
}

/// A text without what would end the field.
fn sendable(text: &str) -> String {
    text.replace('\0', "")
}
