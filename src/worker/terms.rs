use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::admin::snapshot::Snapshot;
use crate::admin::view::ConsoleView;
use crate::auth::{Secret, UserList};
use crate::client::auth::AuthContext;
use crate::config::{Config, PoolConfig};
use crate::net::tls::Tls;
use crate::server::Peers;
use crate::server::login::Credential;

/// A configuration with everything that was read along with it. Replaced as a
/// whole by a reload.
#[derive(Debug)]
pub struct Terms {
    pub config: Config,
    /// `auth_file` and the users of the TOML file.
    pub users: UserList,
    pub auth: AuthContext,
    /// Certificates and keys.
    pub tls: Tls,
    pub peers: Peers,
}

impl Terms {
    /// What the configuration says to prove ourselves to a pool's server.
    pub fn credential(&self, config: &PoolConfig) -> Credential {
        let secret = match &config.password {
            Some(plain) => Some(Secret::parse(plain.reveal())),
            None => self.users.get(&config.user).cloned(),
        };
        Credential::from_secret(&*config.user, secret.as_ref())
    }

    /// The pools that are kept at their `min_pool_size` although nobody may
    /// come: those of databases that force their user.
    pub fn standing_pools(&self) -> impl Iterator<Item = PoolConfig> {
        self.config.databases.iter().filter_map(|(name, database)| {
            let pool = self.config.pool(name, database.user.as_deref()?)?;
            (name != "*" && pool.min_pool_size > 0).then_some(pool)
        })
    }
}

/// How to get what the console shows beside snapshots.
#[derive(Clone)]
pub struct View(pub Arc<dyn Fn(&Snapshot) -> ConsoleView + Send + Sync>);

impl Deref for View {
    type Target = dyn Fn(&Snapshot) -> ConsoleView + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View")
    }
}
