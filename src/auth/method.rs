use std::sync::Arc;

use super::Ldap;

/// How clients prove who they are: the values of `auth_type` that need nothing
/// but the connection itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Nothing is asked, and the user's name does not matter.
    Any,
    /// Nothing is asked, but the user must be known.
    Trust,
    /// The password in clear text.
    Plain,
    /// A salted md5 hash; SCRAM for users whose secret is a SCRAM verifier.
    Md5,
    ScramSha256,
}

impl Method {
    /// PgBouncer's word for the method.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Any => "any",
            Method::Trust => "trust",
            Method::Plain => "plain",
            Method::Md5 => "md5",
            Method::ScramSha256 => "scram-sha-256",
        }
    }

    /// The method that goes by this word.
    pub fn parse(word: &str) -> Option<Method> {
        use Method::*;
        [Any, Trust, Plain, Md5, ScramSha256]
            .into_iter()
            .find(|method| method.as_str() == word)
    }
}

/// Who is asked whether a password is right, where we know none ourselves: the
/// values `pam` and `ldap` of `auth_type`. The client sends its password in clear
/// text, as with [`Method::Plain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// This machine's Pluggable Authentication Modules.
    Pam,
    /// A directory server.
    Ldap(Arc<Ldap>),
}

impl Authority {
    /// Its name in messages.
    pub fn as_str(&self) -> &'static str {
        match self {
            Authority::Pam => "PAM",
            Authority::Ldap(_) => "LDAP",
        }
    }
}
