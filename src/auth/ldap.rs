//! What PostgreSQL's `ldap` options say, and the names and filters that come of
//! them. Manual, "LDAP Authentication".
//!
//! A user's name is text that anybody may choose: it is escaped wherever it goes
//! into a distinguished name (RFC 4514) or a filter (RFC 4515).

use percent_encoding::percent_decode_str;
use thiserror::Error;

use super::Masked;

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ldap {
    /// `ldap://host:port` or `ldaps://host:port`, each tried if those before it
    /// cannot be reached; never empty.
    pub servers: Vec<String>,
    /// `ldaptls`: encrypt with StartTLS before anything else is said.
    pub start_tls: bool,
    pub bind: Bind,
}

/// How to come from a user's name to the name that the server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// `ldapprefix` and `ldapsuffix` around it.
    Simple { prefix: String, suffix: String },
    /// Whatever the server finds.
    Search(Search),
}

/// A search for the one entry of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    pub base: String,
    pub scope: Scope,
    /// `$username` stands for the user's name.
    filter: String,
    /// `ldapbinddn`, who searches; empty: nobody in particular.
    pub binddn: String,
    pub bindpasswd: Masked,
}

/// How deep below its base a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Base,
    One,
    Sub,
}

/// What is wrong with the options.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LdapProblem {
    #[error("closing quote is missing")]
    OpenQuote,
    // Without the text, which may be half a password.
    #[error("expected option=value; a value with blanks goes into double quotes")]
    NoValue,
    #[error("unknown option `{0}`")]
    Unknown(String),
    #[error("{option}: `{value}` is none of {expected}")]
    Choice {
        option: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("`{0}` is no name of a host")]
    Host(String),
    #[error("ldapurl: {0}")]
    Url(&'static str),
    #[error("one of ldapserver and ldapurl is needed")]
    NoServer,
    #[error("one of ldapprefix, ldapsuffix and ldapbasedn is needed")]
    NoBind,
    #[error("ldapprefix and ldapsuffix cannot be used together with options for a search")]
    Mixed,
    #[error("ldapsearchattribute and ldapsearchfilter cannot be used together")]
    TwoFilters,
    #[error("ldaptls cannot be used together with ldapscheme=ldaps")]
    TwiceEncrypted,
}

impl Ldap {
    /// Reads `auth_ldap_options`: `option=value` with blanks between; in double
    /// quotes blanks are part of it, and `""` is a quote.
    pub fn parse(text: &str) -> Result<Ldap, LdapProblem> {
        Ldap::from_options(options(text)?)
    }

    /// The same with names and values taken apart, as a line of `auth_hba_file`
    /// has them.
    pub fn from_options(
        options: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Ldap, LdapProblem> {
        let mut draft = Draft::default();
        for (name, value) in options {
            draft.set(&name, value)?;
        }
        draft.finish()
    }
}

impl Bind {
    /// The name to bind with for a simple bind.
    ///
    /// What is around the user's name decides what it becomes: part of a
    /// distinguished name, or (Active Directory) of `user@domain` or
    /// `DOMAIN\user`, where nothing is escaped.
    pub fn simple_name(prefix: &str, user: &str, suffix: &str) -> String {
        let distinguished = prefix.contains('=') || suffix.contains('=');
        match distinguished {
            true => format!("{prefix}{}{suffix}", escape_name(user)),
            false => format!("{prefix}{user}{suffix}"),
        }
    }
}

impl Search {
    /// The filter that finds this user.
    pub fn filter(&self, user: &str) -> String {
        self.filter.replace("$username", &escape_filter(user))
    }
}

/// `text` with the password that it may contain as `***`: for people's eyes.
pub fn masked(text: &str) -> String {
    let Ok(options) = options(text) else {
        return "***".to_owned();
    };
    let shown = options.into_iter().map(|(name, value)| {
        let value = match name == "ldapbindpasswd" {
            true => "***".to_owned(),
            false => value,
        };
        match value.contains([' ', '\t', '"']) || value.is_empty() {
            true => format!("{name}=\"{}\"", value.replace('"', "\"\"")),
            false => format!("{name}={value}"),
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// A value within a distinguished name: RFC 4514, section 2.4.
fn escape_name(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let at_an_end = at == 0 || at == last;
        match c {
            '\0' => out.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => out.extend(['\\', c]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at_an_end => out.push_str("\\ "),
            _ => out.push(c),
        }
    }
    out
}

/// A value within a filter: RFC 4515, section 3.
fn escape_filter(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '*' => out.push_str("\\2a"),
            '(' => out.push_str("\\28"),
            ')' => out.push_str("\\29"),
            '\\' => out.push_str("\\5c"),
            '\0' => out.push_str("\\00"),
            _ => out.push(c),
        }
    }
    out
}

fn options(text: &str) -> Result<Vec<(String, String)>, LdapProblem> {
    let mut options = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(options);
        }
        let mut word = String::new();
        let mut quoted = false;
        while let Some(c) = rest.next_if(|c| quoted || !c.is_whitespace()) {
            match c {
                '"' if quoted && rest.next_if_eq(&'"').is_some() => word.push('"'),
                '"' => quoted = !quoted,
                c => word.push(c),
            }
        }
        if quoted {
            return Err(LdapProblem::OpenQuote);
        }
        let (name, value) = word.split_once('=').ok_or(LdapProblem::NoValue)?;
        options.push((name.to_owned(), value.to_owned()));
    }
}

#[derive(Default)]
struct Draft {
    server: String,
    port: Option<u16>,
    ldaps: bool,
    start_tls: bool,
    prefix: Option<String>,
    suffix: Option<String>,
    base: Option<String>,
    scope: Option<Scope>,
    attribute: Option<String>,
    filter: Option<String>,
    binddn: Option<String>,
    bindpasswd: Option<String>,
}

impl Draft {
    fn set(&mut self, name: &str, value: String) -> Result<(), LdapProblem> {
        match name {
            "ldapserver" => self.server = value,
            "ldapport" => {
                let port = value.parse().ok().filter(|&port| port > 0);
                self.port = Some(port.ok_or_else(|| choice("ldapport", &value, "1 to 65535"))?);
            }
            "ldapscheme" => self.ldaps = is_ldaps("ldapscheme", &value)?,
            "ldaptls" => {
                self.start_tls = match value.as_str() {
                    "1" => true,
                    "0" => false,
                    _ => return Err(choice("ldaptls", &value, "0 and 1")),
                }
            }
            "ldapprefix" => self.prefix = Some(value),
            "ldapsuffix" => self.suffix = Some(value),
            "ldapbasedn" => self.base = Some(value),
            "ldapbinddn" => self.binddn = Some(value),
            "ldapbindpasswd" => self.bindpasswd = Some(value),
            "ldapsearchattribute" => self.attribute = Some(value),
            "ldapsearchfilter" => self.filter = Some(value),
            "ldapurl" => self.url(&value)?,
            _ => return Err(LdapProblem::Unknown(name.to_owned())),
        }
        Ok(())
    }

    /// `ldap[s]://host[:port]/basedn[?[attribute][?[scope][?[filter]]]]`, RFC 4516.
    fn url(&mut self, url: &str) -> Result<(), LdapProblem> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or(LdapProblem::Url("expected ldap://host/basedn"))?;
        self.ldaps = is_ldaps("ldapurl", scheme)?;
        let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
        // The port behind the brackets of an IPv6 address, if any.
        let colon = host.rfind(':').filter(|&at| !host[at..].contains(']'));
        let (server, port) = colon.map_or((host, None), |at| {
            let (server, port) = host.split_at(at);
            (server, port.strip_prefix(':'))
        });
        if let Some(port) = port {
            self.set("ldapport", port.to_owned())?;
        }
        self.server = server.to_owned();
        let mut parts = rest.splitn(4, '?').map(|part| {
            let decoded = percent_decode_str(part).decode_utf8();
            let text = decoded.map_err(|_| LdapProblem::Url("not valid UTF-8"))?;
            Ok(Some(text.into_owned()).filter(|text| !text.is_empty()))
        });
        let mut next = || parts.next().transpose().map(Option::flatten);
        self.base = next()?;
        self.attribute = next()?;
        // The manual: "The default is base".
        self.scope = Some(match next()?.as_deref() {
            None | Some("base") => Scope::Base,
            Some("one") => Scope::One,
            Some("sub") => Scope::Sub,
            Some(other) => return Err(choice("ldapurl", other, "base, one and sub")),
        });
        self.filter = next()?;
        Ok(())
    }

    fn finish(self) -> Result<Ldap, LdapProblem> {
        if self.ldaps && self.start_tls {
            return Err(LdapProblem::TwiceEncrypted);
        }
        Ok(Ldap {
            servers: self.servers()?,
            start_tls: self.start_tls,
            bind: self.bind()?,
        })
    }

    fn servers(&self) -> Result<Vec<String>, LdapProblem> {
        let (scheme, port) = match self.ldaps {
            true => ("ldaps", 636),
            false => ("ldap", 389),
        };
        let port = self.port.unwrap_or(port);
        let hosts = self.server.split_whitespace().map(|host| {
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
            match host.chars().all(plain) {
                true => Ok(format!("{scheme}://{host}:{port}")),
                false => Err(LdapProblem::Host(host.to_owned())),
            }
        });
        let servers = hosts.collect::<Result<Vec<_>, _>>()?;
        match servers.is_empty() {
            true => Err(LdapProblem::NoServer),
            false => Ok(servers),
        }
    }

    fn bind(self) -> Result<Bind, LdapProblem> {
        let searches = self.binddn.is_some()
            || self.bindpasswd.is_some()
            || self.attribute.is_some()
            || self.filter.is_some();
        let simple = self.prefix.is_some() || self.suffix.is_some();
        let base = match (simple, self.base) {
            (true, base) if searches || base.is_some() => return Err(LdapProblem::Mixed),
            (true, _) => {
                return Ok(Bind::Simple {
                    prefix: self.prefix.unwrap_or_default(),
                    suffix: self.suffix.unwrap_or_default(),
                });
            }
            (false, Some(base)) => base,
            (false, None) => return Err(LdapProblem::NoBind),
        };
        let filter = match (self.attribute, self.filter) {
            (Some(_), Some(_)) => return Err(LdapProblem::TwoFilters),
            (None, Some(filter)) if filter.starts_with('(') => filter,
            (None, Some(filter)) => format!("({filter})"),
            (attribute, None) => {
                format!("({}=$username)", attribute.as_deref().unwrap_or("uid"))
            }
        };
        Ok(Bind::Search(Search {
            base,
            scope: self.scope.unwrap_or(Scope::Sub),
            filter,
            binddn: self.binddn.unwrap_or_default(),
            bindpasswd: Masked::new(self.bindpasswd.unwrap_or_default()),
        }))
    }
}

fn is_ldaps(option: &'static str, scheme: &str) -> Result<bool, LdapProblem> {
    match scheme {
        "ldaps" => Ok(true),
        "ldap" => Ok(false),
        _ => Err(choice(option, scheme, "ldap and ldaps")),
    }
}

fn choice(option: &'static str, value: &str, expected: &'static str) -> LdapProblem {
    LdapProblem::Choice {
        option,
        value: value.to_owned(),
        expected,
    }
}

#[cfg(test)]
mod tests;
