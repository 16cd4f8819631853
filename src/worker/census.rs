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
        let (database, user): (Arc<str>, Arc<str>) = (database.into(), user.into());
        counts.total += 1;
        *counts.databases.entry(database.clone()).or_default() += 1;
        *counts.users.entry(user.clone()).or_default() += 1;
        Ok(Admission {
            census: self.clone(),
            database,
            user,
        })
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
