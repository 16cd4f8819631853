//! What another process has to know to go on with a pool's clients and connections.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::login::{BackendKey, Credential};
use crate::auth::scram::Key;
use crate::auth::{Masked, Md5Hash, ScramKeys};
use crate::config::Host;
use crate::flow::{Bytes, WrittenBackend, WrittenParams};
use crate::pool::PoolName;

/// A [`PoolName`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenName {
    pub database: String,
    pub user: String,
    host: Option<String>,
}

impl From<&PoolName> for WrittenName {
    fn from(name: &PoolName) -> WrittenName {
        WrittenName {
            database: name.database.to_string(),
            user: name.user.to_string(),
            host: name.host.as_ref().map(ToString::to_string),
        }
    }
}

impl WrittenName {
    pub fn read(&self) -> PoolName {
        PoolName {
            database: Arc::from(&*self.database),
            user: Arc::from(&*self.user),
            host: self.host.as_deref().map(Arc::from),
        }
    }
}

/// A pool, and what is known of its server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenPool {
    pub name: WrittenName,
    pub credential: WrittenCredential,
    /// What clients are told at login.
    pub welcome: Option<WrittenParams>,
}

/// A connection to PostgreSQL that is outside a transaction and owes nothing, but for
/// its socket. Times are microseconds before now.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenServer {
    pub pool: WrittenPool,
    /// [`crate::config::PoolConfig::server_terms`].
    pub terms: String,
    pub id: u64,
    pub host: Host,
    pub key: Option<WrittenKey>,
    pub read_only: bool,
    pub born: u64,
    /// Since the Unix epoch.
    pub connected: u64,
    pub requested: u64,
    pub idle: Option<u64>,
    pub checked: u64,
    pub backend: WrittenBackend,
}

/// A [`BackendKey`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenKey {
    pid: i32,
    secret: Bytes,
}

impl From<&BackendKey> for WrittenKey {
    fn from(key: &BackendKey) -> WrittenKey {
        WrittenKey {
            pid: key.pid,
            secret: key.secret.as_slice().into(),
        }
    }
}

impl WrittenKey {
    pub fn read(self) -> BackendKey {
        BackendKey {
            pid: self.pid,
            secret: self.secret.0,
        }
    }
}

/// A moment as another process understands it.
pub fn ago(moment: Instant) -> u64 {
    moment.elapsed().as_micros() as u64
}

/// The moment that [`ago`] has written, or now if there was none such.
pub fn moment(ago: u64) -> Instant {
    let now = Instant::now();
    now.checked_sub(Duration::from_micros(ago)).unwrap_or(now)
}

/// A [`Credential`]. It goes to a process of the same user only, which could read
/// our memory as well.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenCredential {
    user: String,
    password: Option<String>,
    md5: Option<String>,
    scram_keys: Option<WrittenKeys>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKeys {
    client_key: [u8; 32],
    server_key: [u8; 32],
    salt: Bytes,
    iterations: u32,
}

impl fmt::Debug for WrittenCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl WrittenCredential {
    pub fn of(credential: &Credential) -> WrittenCredential {
        let keys = credential.scram_keys.as_ref();
        WrittenCredential {
            user: credential.user.clone(),
            password: credential.password.as_ref().map(|p| p.reveal().to_owned()),
            md5: credential.md5.as_ref().map(Md5Hash::reveal),
            scram_keys: keys.map(|keys| WrittenKeys {
                client_key: *keys.client_key.reveal(),
                server_key: *keys.server_key.reveal(),
                salt: keys.salt.as_slice().into(),
                iterations: keys.iterations,
            }),
        }
    }

    pub fn read(&self) -> Credential {
        Credential {
            user: self.user.clone(),
            password: self.password.as_deref().map(Masked::new),
            md5: self.md5.as_deref().and_then(Md5Hash::parse),
            scram_keys: self.scram_keys.as_ref().map(|keys| ScramKeys {
                client_key: Key::new(keys.client_key),
                server_key: Key::new(keys.server_key),
                salt: keys.salt.0.clone(),
                iterations: keys.iterations,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;

    #[test]
    fn what_can_be_proved_stays_so() {
        let md5 = Secret::Md5(Md5Hash::of("ann", b"secret"));
        for secret in [Secret::parse("secret"), md5] {
            let mut credential = Credential::from_secret("ann", Some(&secret));
            credential.scram_keys = Some(ScramKeys::derive(b"secret", b"salt", 16));
            let text = serde_json::to_string(&WrittenCredential::of(&credential)).unwrap();
            let written: WrittenCredential = serde_json::from_str(&text).unwrap();
            assert_eq!(written.read(), credential);
        }
    }
}
