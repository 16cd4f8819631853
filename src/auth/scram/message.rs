//! The text of SCRAM messages (RFC 5802, section 7).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Binding, RawNonce, ScramError};

/// A nonce as it travels.
pub fn nonce(raw: RawNonce) -> String {
    STANDARD.encode(raw)
}

/// What all proofs and signatures of an exchange are made of.
pub fn auth_message(client_first_bare: &str, server_first: &str, without_proof: &str) -> String {
    format!("{client_first_bare},{server_first},{without_proof}")
}

/// The GS2 header of an exchange that is bound.
pub const BOUND: &str = "p=tls-server-end-point,,";

/// The `c=` attribute: the GS2 header again, and what the exchange is bound to.
pub fn channel_binding(gs2_header: &str, binding: Binding<'_>) -> String {
    match binding {
        Binding::Bound(hash) => STANDARD.encode([gs2_header.as_bytes(), hash].concat()),
        Binding::Unsupported | Binding::Declined => STANDARD.encode(gs2_header),
    }
}

pub fn utf8(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

/// Reads `x=value` attributes that are separated by commas.
pub struct Attributes<'a> {
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    pub fn new(message: &'a str) -> Self {
        Attributes {
            rest: Some(message),
        }
    }

    /// The next attribute's value; an error if it is another one or none.
    pub fn expect(&mut self, name: char, missing: &'static str) -> Result<&'a str, ScramError> {
        match self.next() {
            Some(Ok((found, value))) if found == name => Ok(value),
            Some(Err(e)) => Err(e),
            _ => Err(ScramError::Malformed(missing)),
        }
    }

    /// Reads over optional extensions to the end, checking their form.
    pub fn skip_extensions(self) -> Result<(), ScramError> {
        self.into_iter()
            .try_for_each(|attribute| attribute.map(drop))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(char, &'a str), ScramError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest?;
        let attribute = match rest.split_once(',') {
            Some((attribute, rest)) => {
                self.rest = Some(rest);
                attribute
            }
            None => {
                self.rest = None;
                rest
            }
        };
        let mut chars = attribute.chars();
        Some(match (chars.next(), chars.next()) {
            (Some(name), Some('=')) if name.is_ascii_alphabetic() => Ok((name, chars.as_str())),
            _ => Err(ScramError::Malformed("attribute expected")),
        })
    }
}
