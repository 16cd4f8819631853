//! Whether the process may open as many files as its configuration needs.

use std::collections::BTreeSet;
use std::fmt;

use super::load::Config;

/// Standard streams, log, pid file, stats port with its scrapes, cancel
/// requests under way.
const OWN: u64 = 32;
/// A worker's event loop, what wakes it, and its ring.
const PER_WORKER: u64 = 5;

/// File descriptors that a configuration needs when it is used to the full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// `max_client_conn`.
    pub clients: u64,
    /// Server connections of all pools that have a bound.
    pub servers: u64,
    /// Of pgweir itself: listening sockets, event loops, files.
    pub own: u64,
}

/// The process may not open as many; displays the sum and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "max_client_conn={} does not fit: {needs}, but the process may open {limit} at most: \
     raise the limit (LimitNOFILE={} in the systemd unit, `ulimit -n {}` in a shell), \
     or lower max_client_conn or the sizes of the pools",
    .needs.clients, .needs.total(), .needs.total()
)]
pub struct TooFew {
    needs: Descriptors,
    limit: u64,
}

impl Config {
    /// What this configuration needs with so many workers. `logins`: the users
    /// that may log in besides those that have a section here. Pools without a
    /// bound do not count, and neither do connections that have not logged in.
    pub fn descriptors(&self, logins: &BTreeSet<String>, workers: usize) -> Descriptors {
        let general = &self.general;
        let listeners =
            general.listen_addr.len() + usize::from(!general.unix_socket_dir.is_empty());
        let most = self.most_by_database(logins);
        Descriptors {
            clients: general.max_client_conn.into(),
            servers: most.into_iter().filter_map(|(_, most)| most).sum(),
            own: OWN + PER_WORKER * workers as u64 + listeners as u64,
        }
    }
}

impl Descriptors {
    /// All together.
    pub fn total(&self) -> u64 {
        self.clients + self.servers + self.own
    }

    /// Whether a process that may open so many files can have them.
    ///
    /// # Errors
    /// The sum, if not.
    pub fn fit(&self, limit: u64) -> Result<(), TooFew> {
        match self.total() <= limit {
            true => Ok(()),
            false => Err(TooFew {
                needs: *self,
                limit,
            }),
        }
    }
}

/// `1072 file descriptors (1000 clients, 40 server connections, 32 of its own)`.
impl fmt::Display for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Descriptors {
            clients,
            servers,
            own,
        } = self;
        let total = self.total();
        write!(
            f,
            "{total} file descriptors ({clients} clients, {servers} server connections, \
             {own} of its own)"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Inputs;

    fn config(text: &str) -> Config {
        Config::load(&Inputs {
            file: Some(Path::new("p.toml")),
            databases: &[],
            env: &Default::default(),
            read: &|_| Ok(text.to_owned()),
        })
        .unwrap()
    }

    const TOML: &str = "
[pgweir]
listen_addr = ['127.0.0.1', '::1']
max_client_conn = 500
default_pool_size = 10
[databases.app]
hosts = [{ host = 'db1' }, { host = 'db2' }]
[databases.reports]
host = 'db1'
user = 'reader'
pool_size = 3
[databases.unbounded]
host = 'db1'
user = 'reader'
pool_size = 0
[users.alice]
password = 'x'
";

    #[test]
    fn clients_servers_and_its_own() {
        let logins = BTreeSet::from(["bob".to_owned()]);
        let needs = config(TOML).descriptors(&logins, 2);
        // Two users on app, one on reports; hosts share a pool's connections.
        assert_eq!((needs.clients, needs.servers), (500, 23));
        assert_eq!(needs.own, 32 + 2 * 5 + 3);
        assert_eq!(needs.total(), 568);
    }

    #[test]
    fn the_limit_itself_is_enough() {
        let needs = config(TOML).descriptors(&BTreeSet::new(), 2);
        assert_eq!(needs.fit(needs.total()), Ok(()));
        assert_eq!(needs.fit(u64::MAX), Ok(()));
        let error = needs.fit(needs.total() - 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "max_client_conn=500 does not fit: 558 file descriptors (500 clients, 13 server \
             connections, 45 of its own), but the process may open 557 at most: raise the limit \
             (LimitNOFILE=558 in the systemd unit, `ulimit -n 558` in a shell), or lower \
             max_client_conn or the sizes of the pools"
        );
    }
}
