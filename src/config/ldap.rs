//! The value of `auth_ldap_options`.

use std::sync::Arc;

use serde_json::Value as Json;
use toml::de::DeValue;

use super::value::{Value, toml_text};
use crate::auth::{Ldap, Masked, ldap};

/// What was written, and what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct LdapOptions {
    text: Masked,
    pub ldap: Arc<Ldap>,
}

impl Value for LdapOptions {
    const TYPE: &'static str = "text";

    fn from_ini(text: &str) -> Result<Self, String> {
        Ok(LdapOptions {
            text: Masked::new(text),
            ldap: Arc::new(Ldap::parse(text).map_err(|problem| problem.to_string())?),
        })
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        Self::from_ini(&String::from_toml(value)?)
    }

    /// Without `ldapbindpasswd`.
    fn to_ini(&self) -> Option<String> {
        Some(ldap::masked(self.text.reveal()))
    }

    /// Reveals the secret: `pgweir convert` writes a file that must work.
    fn to_toml(&self) -> Option<String> {
        Some(toml_text(self.text.reveal()))
    }

    fn schema() -> Json {
        String::schema()
    }
}
