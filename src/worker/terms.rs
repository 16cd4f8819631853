use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::admin::snapshot::Snapshot;
use crate::admin::view::ConsoleView;
use crate::auth::{Demand, Hba, Method, Secret, UserList, Visitor};
use crate::client::auth::AuthContext;
use crate::config::{AuthType, Config, PoolConfig};
use crate::net::tls::Tls;
use crate::server::Peers;
use crate::server::login::Credential;
use crate::worker::lookups::Lookups;

/// A configuration with everything that was read along with it. Replaced as a
/// whole by a reload.
#[derive(Debug)]
pub struct Terms {
    pub config: Config,
    /// `auth_file` and the users of the TOML file.
    pub users: UserList,
    /// `auth_hba_file`; empty unless `auth_type` asks for it.
    pub hba: Hba,
    pub auth: AuthContext,
    /// Certificates and keys.
    pub tls: Tls,
    pub peers: Peers,
    /// What `auth_query` has told under this configuration.
    pub lookups: Lookups,
}

impl Terms {
    /// What is demanded of a client, and the line of `auth_hba_file` that says
    /// so, or 0; `None`: no line is for it.
    pub fn demand(&self, visitor: &Visitor<'_>) -> Option<(Demand, usize)> {
        let general = &self.config.general;
        match general.auth_type {
            AuthType::Hba => {
                let (demand, line) = self.hba.demand(visitor)?;
                Some((demand.clone(), line))
            }
            AuthType::Cert => Some((Demand::Cert(None), 0)),
            AuthType::Ldap | AuthType::Pam => Some((Demand::Entrust(general.authority()?), 0)),
            other => Some((Demand::Ask(other.method()?), 0)),
        }
    }

    /// Whether somebody may be asked for a proof by SCRAM-SHA-256 whatever his
    /// secret is.
    pub fn asks_for_scram(&self) -> bool {
        let scram = Method::ScramSha256;
        self.config.general.auth_type.method() == Some(scram) || self.hba.asks(scram)
    }

    /// What the configuration says to prove ourselves to a pool's server.
    pub fn credential(&self, config: &PoolConfig) -> Credential {
        let secret = match &config.password {
            Some(plain) => Some(Secret::parse(plain.reveal())),
            None => self.users.get(&config.user).cloned(),
        };
        Credential::from_secret(&*config.user, secret.as_ref())
    }

    /// What holds for a pool that is there; `None`: it is no longer in the
    /// configuration.
    pub fn pool_of_user(&self, database: &str, user: &str) -> Option<PoolConfig> {
        // A forced user is the pool's user whoever logs in, but not whoever looks
        // users up.
        let config = self.config.pool_as(database, user)?;
        let forced = self.config.database(database)?.user.as_deref();
        let fits = forced.is_none_or(|forced| forced == user);
        (fits || self.config.is_auth_user(user)).then_some(config)
    }

    /// Whether the configuration has a secret for the pool's user.
    pub fn lists(&self, config: &PoolConfig) -> bool {
        let listed = self.users.get(&config.user);
        config.password.is_some() || listed.is_some_and(|secret| !secret.is_empty())
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
