//! `auth_hba_file`: who may come from where to which database, and how he has
//! to prove who he is. The first line that fits decides.
//!
//! It is PgBouncer's dialect of PostgreSQL's pg_hba.conf: `local`, `host`,
//! `hostssl` and `hostnossl`; lists of names, `all`, `sameuser`, `replication`
//! and `@file`; addresses with a mask. What it lacks (groups, names of hosts,
//! include directives) is refused by name.

use core::net::IpAddr;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::ident::{IdentMap, IdentMaps};
use super::ldap::LdapProblem;
use super::{Authority, Method};

mod parse;
#[cfg(test)]
mod tests;

/// The rules in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hba {
    rules: Vec<Rule>,
}

/// What is demanded of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// To go away.
    Reject,
    /// What it knows.
    Ask(Method),
    /// A password that somebody else checks.
    Entrust(Authority),
    /// To be the user of that name on this machine, or one whom the map names.
    Peer(Option<Arc<IdentMap>>),
    /// A certificate in this name, or in one that the map names.
    Cert(Option<Arc<IdentMap>>),
}

/// A client as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    pub database: &'a str,
    pub user: &'a str,
    /// `None`: it comes over a Unix socket.
    pub address: Option<IpAddr>,
    pub encrypted: bool,
    /// It wants the WAL, not a database (`replication=true`).
    pub replication: bool,
}

/// A mistake in `auth_hba_file`, or in a file that it names.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}:{line}: {problem}", file.display())]
pub struct HbaError {
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    pub problem: HbaProblem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HbaProblem {
    #[error("expected local, host, hostssl or hostnossl, not `{0}`")]
    Type(String),
    #[error("`{0}` is not supported")]
    Unsupported(String),
    #[error("closing quote is missing")]
    OpenQuote,
    #[error("expected a name")]
    Name,
    #[error("{file}: {reason}")]
    Include { file: String, reason: String },
    #[error("expected an address with a mask, such as 10.0.0.0/8")]
    Address,
    #[error("`{0}` is no IP address; names of hosts are not supported")]
    Host(String),
    #[error("`{0}` is no mask for this address")]
    Mask(String),
    #[error("`{0}` has bits that its mask hides, so that nobody could have this address")]
    Hidden(String),
    #[error("expected a method")]
    NoMethod,
    #[error("unknown method `{0}`")]
    Method(String),
    #[error("{0}: this pgweir was built without it; build with --features {0}")]
    Feature(&'static str),
    #[error(transparent)]
    Ldap(#[from] LdapProblem),
    #[error("peer is for local lines only")]
    PeerByTcp,
    #[error("cert is for hostssl and host lines only")]
    CertWithoutTls,
    #[error("unknown option `{0}`")]
    Option(String),
    #[error("there is no map `{0}` in auth_ident_file")]
    Map(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    origin: Origin,
    databases: Names,
    users: Names,
    demand: Demand,
    line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Local,
    Tcp { from: Network, tls: Option<bool> },
}

/// The addresses that are `address` where `mask` has ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    All,
    V4 { address: u32, mask: u32 },
    V6 { address: u128, mask: u128 },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    same_user: bool,
    replication: bool,
    listed: HashSet<String>,
}

impl Hba {
    /// Reads `text`, which is what `path` holds; `read` reads the files that it
    /// names with `@`, relative to its directory. Returns every mistake.
    pub fn parse(
        text: &str,
        path: &Path,
        maps: &IdentMaps,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Hba, Vec<HbaError>> {
        parse::file(text, path, maps, read)
    }

    /// What is demanded of this client, and the line that says so; `None`: no
    /// rule fits.
    pub fn demand(&self, visitor: &Visitor<'_>) -> Option<(&Demand, usize)> {
        let rule = self.rules.iter().find(|rule| rule.fits(visitor))?;
        Some((&rule.demand, rule.line))
    }

    /// Whether somebody may be asked by this method.
    pub fn asks(&self, method: Method) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| rule.demand == Demand::Ask(method))
    }
}

impl Rule {
    fn fits(&self, visitor: &Visitor<'_>) -> bool {
        let comes_from = match (&self.origin, visitor.address) {
            (Origin::Local, None) => true,
            (Origin::Tcp { from, tls }, Some(address)) => {
                tls.is_none_or(|tls| tls == visitor.encrypted) && from.contains(address)
            }
            _ => false,
        };
        comes_from && self.databases.fit_database(visitor) && self.users.fit_user(visitor.user)
    }
}

impl Names {
    fn fit_database(&self, visitor: &Visitor<'_>) -> bool {
        if visitor.replication {
            return self.replication;
        }
        self.all
            || (self.same_user && visitor.database == visitor.user)
            || self.listed.contains(visitor.database)
    }

    fn fit_user(&self, user: &str) -> bool {
        self.all || self.listed.contains(user)
    }
}

impl Network {
    fn contains(&self, client: IpAddr) -> bool {
        match (*self, client.to_canonical()) {
            (Network::All, _) => true,
            (Network::V4 { address, mask }, IpAddr::V4(client)) => {
                client.to_bits() & mask == address
            }
            (Network::V6 { address, mask }, IpAddr::V6(client)) => {
                client.to_bits() & mask == address
            }
            _ => false,
        }
    }
}
