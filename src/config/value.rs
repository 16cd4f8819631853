//! What a setting's value can be: how each type is read from an ini, from TOML,
//! and written back.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::number;
use crate::auth::Masked;

/// A value as it stands in a file.
#[derive(Clone, Copy, Debug)]
pub enum Raw<'a> {
    /// PgBouncer's syntax: integers as in C, booleans 0 and 1, times in seconds.
    Ini(&'a str),
    /// TOML's own types; times also as `"30s"`, lists also as `"a, b"`.
    Toml(&'a DeValue<'a>),
}

/// A type that a setting can have. The texts of errors complete "`key`: ".
pub trait Value: Sized + Clone + PartialEq {
    /// The type's name in the documentation.
    const TYPE: &'static str;

    /// Reads PgBouncer's syntax.
    fn from_ini(text: &str) -> Result<Self, String>;

    /// Reads a TOML value.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String>;

    /// As an ini and SHOW CONFIG have it; `None`: unset. Secrets are masked.
    fn to_ini(&self) -> Option<String>;

    /// As a TOML literal, secrets in full; `None`: unset.
    fn to_toml(&self) -> Option<String>;

    /// JSON schema of the TOML value.
    fn schema() -> Json;

    /// Reads either syntax.
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            Raw::Ini(text) => Self::from_ini(text),
            Raw::Toml(value) => Self::from_toml(value),
        }
    }
}

/// A time limit; `None`: off, written as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

impl Timeout {
    /// A limit of whole seconds, or off.
    pub const fn seconds(seconds: u64) -> Timeout {
        match seconds {
            0 => Timeout(None),
            _ => Timeout(Some(Duration::from_secs(seconds))),
        }
    }
}

/// A time that an ini writes in milliseconds; zero: the system's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Millis(pub Duration);

/// Permission bits of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Value for bool {
    const TYPE: &'static str = "boolean";

    fn from_ini(text: &str) -> Result<Self, String> {
        match text {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(format!("`{text}` is not a boolean: write 1 or 0")),
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_bool()
            .ok_or_else(|| unlike(value, "write true or false"))
    }

    fn to_ini(&self) -> Option<String> {
        Some(if *self { "1" } else { "0" }.to_owned())
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }
}

macro_rules! integer_value {
    ($($int:ty)*) => {$(
        impl Value for $int {
            const TYPE: &'static str = "integer";

            fn from_ini(text: &str) -> Result<Self, String> {
                let number = number::c_integer(text)
                    .ok_or_else(|| format!("`{text}` is not an integer"))?;
                <$int>::try_from(number).map_err(|_| out_of_range(number, <$int>::MAX as i128))
            }

            fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
                let number = number::toml_integer(value)
                    .ok_or_else(|| unlike(value, "write an integer, without quotes"))?;
                <$int>::try_from(number).map_err(|_| out_of_range(number, <$int>::MAX as i128))
            }

            fn to_ini(&self) -> Option<String> {
                Some(self.to_string())
            }

            fn to_toml(&self) -> Option<String> {
                Some(self.to_string())
            }

            fn schema() -> Json {
                json!({ "type": "integer", "minimum": 0, "maximum": <$int>::MAX })
            }
        }
    )*};
}

integer_value!(u16 u32 u64);

impl Value for String {
    const TYPE: &'static str = "text";

    fn from_ini(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| unlike(value, "write a text in quotes"))
    }

    fn to_ini(&self) -> Option<String> {
        Some(self.clone())
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_text(self))
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

impl Value for PathBuf {
    const TYPE: &'static str = "file";

    fn from_ini(text: &str) -> Result<Self, String> {
        Ok(PathBuf::from(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        String::from_toml(value).map(PathBuf::from)
    }

    fn to_ini(&self) -> Option<String> {
        Some(self.to_string_lossy().into_owned())
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_text(&self.to_string_lossy()))
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

impl Value for Masked {
    const TYPE: &'static str = "secret";

    fn from_ini(text: &str) -> Result<Self, String> {
        Ok(Masked::new(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        String::from_toml(value).map(Masked::new)
    }

    fn to_ini(&self) -> Option<String> {
        Some(self.to_string())
    }

    /// Reveals the secret: `pgweir convert` writes a file that must work.
    fn to_toml(&self) -> Option<String> {
        Some(toml_text(self.reveal()))
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

/// A comma-separated list.
impl Value for Vec<String> {
    const TYPE: &'static str = "list";

    fn from_ini(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim);
        Ok(words.filter(|w| !w.is_empty()).map(str::to_owned).collect())
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) => Self::from_ini(text),
            DeValue::Array(items) => items
                .iter()
                .map(|item| String::from_toml(item.get_ref()))
                .collect(),
            _ => Err(unlike(value, "write a list of texts: [\"a\", \"b\"]")),
        }
    }

    fn to_ini(&self) -> Option<String> {
        Some(self.join(", "))
    }

    fn to_toml(&self) -> Option<String> {
        match self.as_slice() {
            [one] if !one.contains(',') => Some(toml_text(one)),
            many => {
                let texts: Vec<String> = many.iter().map(|text| toml_text(text)).collect();
                Some(format!("[{}]", texts.join(", ")))
            }
        }
    }

    fn schema() -> Json {
        json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
        ] })
    }
}

impl Value for Duration {
    const TYPE: &'static str = "time";

    fn from_ini(text: &str) -> Result<Self, String> {
        number::seconds(text)
            .map(at_most_forever)
            .ok_or_else(|| format!("`{text}` is not a number of seconds"))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let help = "write a time such as \"30s\", \"5m\" or \"1h 30m\", or seconds";
        match value {
            DeValue::String(text) => humantime::parse_duration(text)
                .map_err(|_| format!("`{text}` is not a time: {help}")),
            DeValue::Integer(_) => number::toml_integer(value)
                .and_then(|number| u64::try_from(number).ok())
                .map(Duration::from_secs)
                .ok_or_else(|| "a time cannot be negative".to_owned()),
            DeValue::Float(float) => {
                number::seconds(float.as_str()).ok_or_else(|| unlike(value, help))
            }
            _ => Err(unlike(value, help)),
        }
        .map(at_most_forever)
    }

    fn to_ini(&self) -> Option<String> {
        Some(self.as_secs_f64().to_string())
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_text(&humantime::format_duration(*self).to_string()))
    }

    fn schema() -> Json {
        json!({ "anyOf": [
            { "type": "string", "examples": ["30s", "5m", "1h 30m"] },
            { "type": "number", "minimum": 0, "description": "seconds" },
        ] })
    }
}

/// A thousand years: a longer time, added to the present, may be beyond what the
/// clock can show.
const FOREVER: Duration = Duration::from_secs(1000 * 365 * 24 * 60 * 60);

fn at_most_forever(time: Duration) -> Duration {
    time.min(FOREVER)
}

impl Value for Timeout {
    const TYPE: &'static str = "time, 0 = off";

    fn from_ini(text: &str) -> Result<Self, String> {
        Duration::from_ini(text).map(Timeout::from)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        Duration::from_toml(value).map(Timeout::from)
    }

    fn to_ini(&self) -> Option<String> {
        self.0.unwrap_or_default().to_ini()
    }

    fn to_toml(&self) -> Option<String> {
        self.0.unwrap_or_default().to_toml()
    }

    fn schema() -> Json {
        Duration::schema()
    }
}

impl From<Duration> for Timeout {
    fn from(time: Duration) -> Self {
        Timeout((!time.is_zero()).then_some(time))
    }
}

impl Value for Millis {
    const TYPE: &'static str = "time, milliseconds in an ini";

    fn from_ini(text: &str) -> Result<Self, String> {
        u32::from_ini(text).map(|ms| Millis(Duration::from_millis(ms.into())))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            // A bare number would be read as seconds here and as milliseconds in an ini.
            DeValue::Integer(number) if number.as_str() != "0" => {
                Err(format!("{number} has no unit: write \"{number}ms\""))
            }
            _ => Duration::from_toml(value).map(Millis),
        }
    }

    fn to_ini(&self) -> Option<String> {
        Some(self.0.as_millis().to_string())
    }

    fn to_toml(&self) -> Option<String> {
        self.0.to_toml()
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "type": "string", "examples": ["500ms"] }, { "const": 0 }] })
    }
}

impl Value for FileMode {
    const TYPE: &'static str = "permissions";

    fn from_ini(text: &str) -> Result<Self, String> {
        u32::from_ini(text).and_then(file_mode)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let help = "write it in octal: \"0770\" or 0o770";
        match value {
            DeValue::String(text) => u32::from_str_radix(text, 8)
                .map_err(|_| format!("`{text}` is not a file mode: {help}"))
                .and_then(file_mode),
            DeValue::Integer(number) if number.radix() == 8 => {
                u32::from_toml(value).and_then(file_mode)
            }
            _ => Err(unlike(value, help)),
        }
    }

    fn to_ini(&self) -> Option<String> {
        Some(format!("{:04o}", self.0))
    }

    fn to_toml(&self) -> Option<String> {
        Some(format!("\"{:04o}\"", self.0))
    }

    fn schema() -> Json {
        json!({ "anyOf": [
            { "type": "string", "pattern": "^[0-7]{3,4}$" },
            { "type": "integer", "minimum": 0, "maximum": 0o7777 },
        ] })
    }
}

/// A setting that can be unset; an empty text unsets it.
impl<T: Value> Value for Option<T> {
    const TYPE: &'static str = T::TYPE;

    fn from_ini(text: &str) -> Result<Self, String> {
        match text.is_empty() && may_be_empty(T::TYPE) {
            true => Ok(None),
            false => T::from_ini(text).map(Some),
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() == Some("") && may_be_empty(T::TYPE) {
            true => Ok(None),
            false => T::from_toml(value).map(Some),
        }
    }

    fn to_ini(&self) -> Option<String> {
        self.as_ref().and_then(T::to_ini)
    }

    fn to_toml(&self) -> Option<String> {
        self.as_ref().and_then(T::to_toml)
    }

    fn schema() -> Json {
        T::schema()
    }
}

fn may_be_empty(kind: &str) -> bool {
    matches!(
        kind,
        "text" | "file" | "secret" | "word" | "ciphers" | Timeout::TYPE
    )
}

/// A text as a TOML literal.
pub(super) fn toml_text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// "found X: what to write".
pub(super) fn unlike(value: &DeValue<'_>, help: &str) -> String {
    format!("found {} where it does not fit: {help}", value.type_str())
}

fn file_mode(bits: u32) -> Result<FileMode, String> {
    match bits {
        0..=0o7777 => Ok(FileMode(bits)),
        _ => Err(format!("{bits} is not a file mode: at most 07777")),
    }
}

fn out_of_range(number: i128, max: i128) -> String {
    format!("{number} is out of range: 0 to {max}")
}
