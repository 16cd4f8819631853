//! State as another process reads it: explicit, and nothing that means something in
//! this process only. A reader takes all of it or refuses it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Params;

/// Bytes that need not be UTF-8: base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        Bytes(bytes.to_vec())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        STANDARD.encode(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes).map_err(D::Error::custom)
    }
}

/// A set of parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenParams(Vec<WrittenParam>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenParam {
    name: Bytes,
    value: Bytes,
    reported: bool,
}

impl WrittenParams {
    pub fn of(params: &Params) -> WrittenParams {
        let written = params.each().map(|(name, value, reported)| WrittenParam {
            name: name.into(),
            value: value.into(),
            reported,
        });
        WrittenParams(written.collect())
    }

    pub fn read(&self) -> Params {
        let mut params = Params::default();
        for param in &self.0 {
            params.set(&param.name.0, &param.value.0, param.reported);
        }
        params
    }
}
