//! A result set of the console.

use std::borrow::Cow;

/// Type of a column, as RowDescription announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Text,
    Int4,
    Int8,
    Numeric,
    Bytea,
}

impl Type {
    /// The type's OID in pg_type.
    pub fn oid(self) -> u32 {
        match self {
            Type::Text => 25,
            Type::Int4 => 23,
            Type::Int8 => 20,
            Type::Numeric => 1700,
            Type::Bytea => 17,
        }
    }

    /// The type's pg_type.typlen; -1 is a variable length.
    pub fn size(self) -> i16 {
        match self {
            Type::Int4 => 4,
            Type::Int8 => 8,
            Type::Text | Type::Numeric | Type::Bytea => -1,
        }
    }
}

/// Name and type of a column.
pub type Column = (&'static str, Type);

/// One value; sent in text format whatever the column's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    Text(Cow<'a, str>),
    Number(u64),
}

/// Columns and rows; every row has a value for each column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    pub columns: &'static [Column],
    pub rows: Vec<Vec<Value<'a>>>,
}

/// Builds a row from anything that is a [`Value`].
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$($crate::admin::table::Value::from($value)),*] };
}
pub(crate) use row;

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Value::Number(flag.into())
    }
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl From<$type> for Value<'_> {
            fn from(number: $type) -> Self {
                Value::Number(number as u64)
            }
        }
    )*};
}
numbers!(u16, u32, u64, usize);
