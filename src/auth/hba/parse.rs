//! From lines to rules.

use core::net::IpAddr;
use std::io;
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;
use std::vec::IntoIter;

use super::{Demand, Hba, HbaError, HbaProblem, Names, Network, Origin, Rule};
use crate::auth::ident::{IdentMap, IdentMaps};
use crate::auth::ldap::LdapProblem;
use crate::auth::tokens::{OpenQuote, Token, tokens};
use crate::auth::{Authority, Ldap, Method};

use HbaProblem as Problem;

/// How deep files may name files.
const MAX_DEPTH: usize = 10;

/// A file, and how to read those that it names.
#[derive(Clone, Copy)]
struct Source<'a> {
    path: &'a Path,
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    depth: usize,
}

pub(super) fn file(
    text: &str,
    path: &Path,
    maps: &IdentMaps,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Hba, Vec<HbaError>> {
    let source = Source {
        path,
        read,
        depth: 0,
    };
    let (mut hba, mut errors) = (Hba::default(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        match Line::new(line).and_then(|line| line.rule(number + 1, source, maps)) {
            Ok(rule) => hba.rules.extend(rule),
            Err(Fault::Here(problem)) => errors.push(HbaError {
                file: path.to_owned(),
                line: number + 1,
                problem,
            }),
            Err(Fault::There(error)) => errors.push(error),
        }
    }
    match errors.is_empty() {
        true => Ok(hba),
        false => Err(errors),
    }
}

enum Fault {
    Here(Problem),
    /// In a file that the line names.
    There(HbaError),
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Fault {
        Fault::Here(problem)
    }
}

impl From<OpenQuote> for Fault {
    fn from(_: OpenQuote) -> Fault {
        Fault::Here(Problem::OpenQuote)
    }
}

struct Line {
    tokens: Peekable<IntoIter<Token>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Database,
    User,
}

impl Line {
    fn new(line: &str) -> Result<Line, Fault> {
        let tokens = tokens(line)?.into_iter().peekable();
        Ok(Line { tokens })
    }

    fn rule(
        mut self,
        line: usize,
        source: Source<'_>,
        maps: &IdentMaps,
    ) -> Result<Option<Rule>, Fault> {
        let Some(first) = self.tokens.next() else {
            return Ok(None);
        };
        let tls = match text(&first) {
            Some("local" | "host") => None,
            Some("hostssl") => Some(true),
            Some("hostnossl") => Some(false),
            Some(word @ ("include" | "include_if_exists" | "include_dir")) => {
                return Err(Problem::Unsupported(word.to_owned()).into());
            }
            Some(word @ ("hostgssenc" | "hostnogssenc")) => {
                return Err(Problem::Unsupported(word.to_owned()).into());
            }
            other => return Err(Problem::Type(other.unwrap_or(",").to_owned()).into()),
        };
        let databases = self.names(Field::Database, source)?;
        let users = self.names(Field::User, source)?;
        let origin = match text(&first) {
            Some("local") => Origin::Local,
            _ => {
                let from = self.network()?;
                Origin::Tcp { from, tls }
            }
        };
        let demand = self.demand(&origin, maps)?;
        Ok(Some(Rule {
            origin,
            databases,
            users,
            demand,
            line,
        }))
    }

    /// A list of names with commas between.
    fn names(&mut self, field: Field, source: Source<'_>) -> Result<Names, Fault> {
        let mut names = Names::default();
        loop {
            match self.tokens.next() {
                Some(Token::Word(word)) => name(&mut names, word, field, source)?,
                Some(Token::Quoted(name)) => drop(names.listed.insert(name)),
                Some(Token::Comma) | None => return Err(Problem::Name.into()),
            }
            if self.tokens.next_if_eq(&Token::Comma).is_none() {
                return Ok(names);
            }
        }
    }

    fn network(&mut self) -> Result<Network, Problem> {
        let Some(Token::Word(word)) = self.tokens.next() else {
            return Err(Problem::Address);
        };
        match word.as_str() {
            "all" => return Ok(Network::All),
            "samehost" | "samenet" => return Err(Problem::Unsupported(word)),
            _ => {}
        }
        let (address, prefix) = match word.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (word.as_str(), None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err(Problem::Host(address.to_owned()));
        };
        // Clients never have such an address: theirs is the one inside.
        if address.to_canonical() != address {
            return Err(Problem::Unsupported(word));
        }
        let mask = match prefix {
            Some(prefix) => prefix.to_owned(),
            None => match self.tokens.next() {
                Some(Token::Word(mask)) if mask.parse::<IpAddr>().is_ok() => mask,
                _ => return Err(Problem::Address),
            },
        };
        let network = masked(address, &mask).ok_or(Problem::Mask(mask))?;
        match network.contains(address) {
            true => Ok(network),
            false => Err(Problem::Hidden(word)),
        }
    }

    fn demand(mut self, origin: &Origin, maps: &IdentMaps) -> Result<Demand, Problem> {
        let Some(Token::Word(word)) = self.tokens.next() else {
            return Err(Problem::NoMethod);
        };
        let demand = match (word.as_str(), origin) {
            ("reject", _) => Demand::Reject,
            ("trust", _) => Demand::Ask(Method::Trust),
            ("md5", _) => Demand::Ask(Method::Md5),
            ("scram-sha-256", _) => Demand::Ask(Method::ScramSha256),
            ("password" | "plain", _) => Demand::Ask(Method::Plain),
            ("peer", Origin::Local) => Demand::Peer(self.map(maps)?),
            ("peer", _) => return Err(Problem::PeerByTcp),
            (
                "cert",
                Origin::Local
                | Origin::Tcp {
                    tls: Some(false), ..
                },
            ) => {
                return Err(Problem::CertWithoutTls);
            }
            ("cert", _) => Demand::Cert(self.map(maps)?),
            ("ldap", _) if !cfg!(feature = "ldap") => return Err(Problem::Feature("ldap")),
            ("ldap", _) => Demand::Entrust(Authority::Ldap(Arc::new(self.ldap()?))),
            ("any" | "ident" | "gss" | "sspi" | "radius" | "pam" | "bsd", _) => {
                return Err(Problem::Unsupported(word));
            }
            _ => return Err(Problem::Method(word)),
        };
        match self.tokens.next() {
            None => Ok(demand),
            Some(token) => Err(Problem::Option(text(&token).unwrap_or(",").to_owned())),
        }
    }

    /// `option=value` up to the end of the line, the value or all of it in quotes.
    fn ldap(&mut self) -> Result<Ldap, Problem> {
        let mut options = Vec::new();
        while let Some(token) = self.tokens.next() {
            let word = text(&token).unwrap_or(",");
            let (name, value) = word.split_once('=').ok_or(LdapProblem::NoValue)?;
            let quoted = self.tokens.next_if(|next| {
                value.is_empty() && matches!((&token, next), (Token::Word(_), Token::Quoted(_)))
            });
            let value = quoted.as_ref().and_then(text).unwrap_or(value);
            options.push((name.to_owned(), value.to_owned()));
        }
        Ok(Ldap::from_options(options)?)
    }

    /// `map=name`
    fn map(&mut self, maps: &IdentMaps) -> Result<Option<Arc<IdentMap>>, Problem> {
        let is_map = |token: &Token| text(token).is_some_and(|text| text.starts_with("map="));
        let Some(token) = self.tokens.next_if(is_map) else {
            return Ok(None);
        };
        let name = text(&token).and_then(|text| text.strip_prefix("map="));
        let name = match (name, self.tokens.peek()) {
            // map="a name"
            (Some(""), Some(Token::Quoted(name))) => {
                let name = name.clone();
                self.tokens.next();
                name
            }
            (name, _) => name.unwrap_or_default().to_owned(),
        };
        let map = maps.get(&name).ok_or(Problem::Map(name))?;
        Ok(Some(map.clone()))
    }
}

/// Adds what a word without quotes stands for.
fn name(names: &mut Names, word: String, field: Field, source: Source<'_>) -> Result<(), Fault> {
    match (word.as_str(), field) {
        ("all", _) => names.all = true,
        ("sameuser", Field::Database) => names.same_user = true,
        ("replication", Field::Database) => names.replication = true,
        ("samerole" | "samegroup", Field::Database) => {
            return Err(Problem::Unsupported(word).into());
        }
        _ if word.starts_with(['+', '/']) => return Err(Problem::Unsupported(word).into()),
        _ => match word.strip_prefix('@') {
            Some(path) => include(names, path, field, source)?,
            None => drop(names.listed.insert(word)),
        },
    }
    Ok(())
}

/// Adds the names that stand in a file, with commas or blanks between.
fn include(names: &mut Names, path: &str, field: Field, source: Source<'_>) -> Result<(), Fault> {
    let path = match source.path.parent() {
        Some(dir) => dir.join(path),
        None => path.into(),
    };
    let unreadable = |reason: String| Problem::Include {
        file: path.display().to_string(),
        reason,
    };
    if source.depth == MAX_DEPTH {
        return Err(unreadable("files name each other".to_owned()).into());
    }
    let text = (source.read)(&path).map_err(|error| unreadable(error.to_string()))?;
    let inner = Source {
        path: &path,
        depth: source.depth + 1,
        ..source
    };
    for (number, line) in text.lines().enumerate() {
        let there = |problem| {
            Fault::There(HbaError {
                file: path.clone(),
                line: number + 1,
                problem,
            })
        };
        for token in tokens(line).map_err(|_| there(Problem::OpenQuote))? {
            match token {
                Token::Comma => {}
                Token::Quoted(name) => drop(names.listed.insert(name)),
                Token::Word(word) => {
                    name(names, word, field, inner).map_err(|fault| match fault {
                        Fault::Here(problem) => there(problem),
                        fault => fault,
                    })?;
                }
            }
        }
    }
    Ok(())
}

/// `mask`: a number of bits, or an address with these bits.
fn masked(address: IpAddr, mask: &str) -> Option<Network> {
    let bits = mask.parse::<u32>().ok();
    match address {
        IpAddr::V4(address) => {
            let mask = match bits {
                Some(bits @ 0..=32) => u32::MAX.checked_shl(32 - bits).unwrap_or(0),
                _ => mask.parse::<core::net::Ipv4Addr>().ok()?.to_bits(),
            };
            let address = address.to_bits();
            Some(Network::V4 { address, mask })
        }
        IpAddr::V6(address) => {
            let mask = match bits {
                Some(bits @ 0..=128) => u128::MAX.checked_shl(128 - bits).unwrap_or(0),
                _ => mask.parse::<core::net::Ipv6Addr>().ok()?.to_bits(),
            };
            let address = address.to_bits();
            Some(Network::V6 { address, mask })
        }
    }
}

fn text(token: &Token) -> Option<&str> {
    match token {
        Token::Word(text) | Token::Quoted(text) => Some(text),
        Token::Comma => None,
    }
}
