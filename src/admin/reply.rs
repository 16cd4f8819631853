//! The console's answers as bytes.

use std::io;

use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::data::{
    DataRow, FORMAT_CODE_BINARY, FORMAT_CODE_TEXT, FieldDescription, RowDescription,
};
use pgwire::messages::response::{
    CommandComplete, ErrorResponse, NoticeResponse, ReadyForQuery, TransactionStatus,
};

use super::command::CommandError;
use super::table::{Column, Type, Value};

/// SQLSTATE of nearly everything that PgBouncer reports: protocol_violation.
pub const PROTOCOL_VIOLATION: &str = "08P01";
/// SQLSTATE of what is not built: feature_not_supported.
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

    /// The same with a detail.
    pub fn detail(self, detail: String) -> Self {
        Failure {
            detail: Some(detail),
            ..self
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

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Failure::error(PROTOCOL_VIOLATION, error.to_string())
    }
}

/// Appends any message.
pub fn put(message: &impl Message, out: &mut BytesMut) -> io::Result<()> {
    message.encode(out).map_err(io::Error::other)
}

/// In which columns a result is binary: in none, in all or column by column, as
/// Bind asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats(pub Vec<bool>);

impl Formats {
    /// Whether they suit a result of so many columns.
    pub fn check(&self, columns: usize) -> Result<(), Failure> {
        let count = self.0.len();
        if count > 1 && count != columns {
            let text =
                format!("bind message has {count} result formats but query has {columns} columns");
            return Err(Failure::error(PROTOCOL_VIOLATION, text));
        }
        Ok(())
    }

    fn is_binary(&self, column: usize) -> bool {
        match self.0.as_slice() {
            [one] => *one,
            all => all.get(column).copied().unwrap_or(false),
        }
    }
}

/// Appends RowDescription.
pub fn columns(columns: &[Column], formats: &Formats, out: &mut BytesMut) -> io::Result<()> {
    let format = |column| match formats.is_binary(column) {
        true => FORMAT_CODE_BINARY,
        false => FORMAT_CODE_TEXT,
    };
    let fields = columns
        .iter()
        .enumerate()
        .map(|(at, (name, kind))| {
            let name = (*name).to_owned();
            FieldDescription::new(name, 0, 0, kind.oid(), kind.size(), -1, format(at))
        })
        .collect();
    put(&RowDescription::new(fields), out)
}

/// Appends DataRow.
pub fn row(
    columns: &[Column],
    values: &[Value<'_>],
    formats: &Formats,
    out: &mut BytesMut,
) -> io::Result<()> {
    let mut data = BytesMut::new();
    for (at, (value, (_, kind))) in values.iter().zip(columns).enumerate() {
        let number;
        let bytes = match value {
            Value::Null => {
                data.put_i32(-1);
                continue;
            }
            Value::Text(text) => text.as_bytes(),
            Value::Number(n) => {
                number = match formats.is_binary(at) {
                    true => binary(*n, *kind),
                    false => n.to_string().into_bytes(),
                };
                &number
            }
        };
        data.put_i32(i32::try_from(bytes.len()).map_err(io::Error::other)?);
        data.put_slice(bytes);
    }
    let count = i16::try_from(values.len()).map_err(io::Error::other)?;
    put(&DataRow::new(data, count), out)
}

/// A number in the binary format of its column (PostgreSQL's `int4send`,
/// `int8send`, `numeric_send`).
fn binary(number: u64, kind: Type) -> Vec<u8> {
    match kind {
        Type::Int4 => (number as i32).to_be_bytes().into(),
        Type::Int8 => (number as i64).to_be_bytes().into(),
        Type::Text | Type::Bytea => number.to_string().into_bytes(),
        Type::Numeric => numeric(number),
    }
}

/// Digits to the base of 10000, and before them their count, the weight of the
/// first, the sign, and the decimals to show.
fn numeric(mut number: u64) -> Vec<u8> {
    const BASE: u64 = 10_000;
    let mut digits = Vec::new();
    while number > 0 {
        digits.push((number % BASE) as u16);
        number /= BASE;
    }
    let weight = (digits.len() as i16 - 1).max(0);
    let mut bytes = BytesMut::new();
    bytes.put_u16(digits.len() as u16);
    bytes.put_i16(weight);
    bytes.put_u32(0);
    for digit in digits.into_iter().rev() {
        bytes.put_u16(digit);
    }
    bytes.to_vec()
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

/// Appends CommandComplete.
pub fn done(tag: &str, out: &mut BytesMut) -> io::Result<()> {
    put(&CommandComplete::new(tag.to_owned()), out)
}

/// Appends ReadyForQuery; the console knows no transactions.
pub fn ready(out: &mut BytesMut) -> io::Result<()> {
    put(&ReadyForQuery::new(TransactionStatus::Idle), out)
}

/// A text without what would end the field.
fn sendable(text: &str) -> String {
    text.replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_are_binary_as_postgresql_sends_them() {
        // Count, weight, sign, scale, digits: as `numeric_send` has them.
        let cases: [(u64, &[u8]); 4] = [
            (0, &[0, 0, 0, 0, 0, 0, 0, 0]),
            (42, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 42]),
            (10_000, &[0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0]),
            (12_345_678, &[0, 2, 0, 1, 0, 0, 0, 0, 4, 210, 22, 46]),
        ];
        for (number, bytes) in cases {
            assert_eq!(numeric(number), bytes, "{number}");
        }
        assert_eq!(binary(5, Type::Int4), [0, 0, 0, 5]);
        assert_eq!(binary(5, Type::Int8), [0, 0, 0, 0, 0, 0, 0, 5]);
    }
}
