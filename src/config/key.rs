//! The one table of settings: what a row says, and what is made of it.

use serde_json::Value as Json;

use super::value::Raw;

/// Whether a key does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Built,
    /// Known from PgBouncer, not built yet: refused in TOML, logged for an ini.
    NotBuilt,
    /// Has no meaning in pgweir: refused in TOML, read over in an ini.
    Obsolete,
}

/// A row of the table for the settings struct `S`.
pub struct Key<S: 'static> {
    pub name: &'static str,
    /// The heading that it stands under in documentation and samples.
    pub heading: &'static str,
    /// The type's name.
    pub kind: &'static str,
    /// One sentence or two.
    pub doc: &'static str,
    /// Whether RELOAD applies a new value.
    pub reloadable: bool,
    pub status: Status,
    /// Sets the value; the error completes "`key`: ".
    pub set: fn(&mut S, Raw<'_>) -> Result<(), String>,
    /// As an ini and SHOW CONFIG have it; `None`: unset. Secrets are masked.
    pub get: fn(&S) -> Option<String>,
    /// As a TOML literal, secrets in full; `None`: unset.
    pub toml: fn(&S) -> Option<String>,
    /// Whether the value is the same in both.
    pub same: fn(&S, &S) -> bool,
    /// Takes the value over from another.
    pub copy: fn(&mut S, &S),
    /// JSON schema of the TOML value.
    pub schema: fn() -> Json,
}

/// A struct whose fields are rows of the table.
pub trait Table: Default + Sized + 'static {
    /// All rows in the order of the documentation.
    const KEYS: &'static [Key<Self>];

    /// The row of a key.
    fn key(name: &str) -> Option<&'static Key<Self>> {
        Self::KEYS.iter().find(|key| key.name == name)
    }
}

/// Turns rows `field: type = default, reload|restart, status, "doc";` under
/// headings into a struct with these fields and its [`Table`].
macro_rules! table {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($heading:literal: {
                $($field:ident: $type:ty = $default:expr, $reload:ident, $status:ident, $doc:literal;)*
            })*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc] pub $field: $type,)*)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($($field: $default,)*)* }
            }
        }

        impl $crate::config::key::Table for $name {
            const KEYS: &'static [$crate::config::key::Key<Self>] = &[$($($crate::config::key::Key {
                name: stringify!($field),
                heading: $heading,
                kind: <$type as $crate::config::value::Value>::TYPE,
                doc: $doc,
                reloadable: table!(@reload $reload),
                status: table!(@status $status),
                set: |table, raw| {
                    table.$field = $crate::config::value::Value::read(raw)?;
                    Ok(())
                },
                get: |table| $crate::config::value::Value::to_ini(&table.$field),
                toml: |table| $crate::config::value::Value::to_toml(&table.$field),
                same: |a, b| a.$field == b.$field,
                copy: |table, from| table.$field = from.$field.clone(),
                schema: <$type as $crate::config::value::Value>::schema,
            },)*)*];
        }
    };
    (@reload reload) => { true };
    (@reload restart) => { false };
    (@status built) => { $crate::config::key::Status::Built };
    (@status not_built) => { $crate::config::key::Status::NotBuilt };
    (@status obsolete) => { $crate::config::key::Status::Obsolete };
}

pub(super) use table;
