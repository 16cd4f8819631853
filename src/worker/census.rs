//! How many clients there are, over all workers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Config;
use crate::wire::build::Refusal;

/// Counts clients. Locked at login and logout only.
#[derive(Debug, Default)]
pub struct Census {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    databases: HashMap<Arc<str>, u32>,
    users: HashMap<Arc<str>, u32>,
}

/// A client that is counted until this is dropped.
#[derive(Debug)]
pub struct Admission {
    census: Arc<Census>,
    database: Arc<str>,
    user: Arc<str>,
}

impl Census {
    /// Counts one more client, if `max_client_conn`,
    /// `max_db_client_connections` and `max_user_client_connections` allow it.
    pub fn admit(
        self: &Arc<Self>,
        config: &Config,
        database: &str,
        user: &str,
    ) -> Result<Admission, Refusal> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let max = config.general.max_client_conn;
        if counts.total >= max {
            return Err(
                Refusal::fatal("08P01", "no more connections allowed (max_client_conn)")
                    .detail(format!("{max} clients are connected."))
                    .hint("Raise max_client_conn, or let clients share connections."),
            );
        }
        let limits = [
            (
                "max_db_client_connections",
                config.max_db_client_connections(database),
                counts.databases.get(database),
            ),
            (
                "max_user_client_connections",
                config.max_user_client_connections(user),
                counts.users.get(user),
            ),
        ];
        for (setting, max, count) in limits {
            if max > 0 && count.is_some_and(|&count| count >= max) {
                let message = format!("client connections exceeded ({setting})");
                return Err(Refusal::fatal("08P01", message)
                    .detail(format!("{max} such clients are connected."))
                    .hint(format!("Raise {setting}.")));
            }
        }
        counts.total += 1;
        let database = count(&mut counts.databases, database);
        let user = count(&mut counts.users, user);
        Ok(Admission {
            census: self.clone(),
            database,
            user,
        })
    }
}

/// Counts one more, and returns the name that all of them share.
fn count(map: &mut HashMap<Arc<str>, u32>, name: &str) -> Arc<str> {
    let shared = match map.get_key_value(name) {
        Some((shared, _)) => shared.clone(),
        None => Arc::from(name),
    };
    *map.entry(shared.clone()).or_default() += 1;
    shared
}

impl Admission {
    pub fn database(&self) -> Arc<str> {
        self.database.clone()
    }

    pub fn user(&self) -> Arc<str> {
        self.user.clone()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let counts = self.census.counts.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        let Counts {
            databases, users, ..
        } = &mut *counts;
        for (map, name) in [(databases, &self.database), (users, &self.user)] {
            match map.get_mut(name) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    map.remove(name);
                }
            }
        }
    }
}
