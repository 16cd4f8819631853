//! What the console shows of the configuration.

use std::sync::Arc;
use std::time::Instant;

use crate::admin::view::{ConfigRow, ConsoleView, DatabaseRow, PoolerState, UserRow};
use crate::config::LoadBalance;
use crate::stats::Averages;
use crate::worker::Terms;

/// The console's view of a configuration.
pub fn view(terms: &Terms, averages: Arc<Averages>, stopping: bool) -> ConsoleView {
    let config = &terms.config;
    let general = &config.general;
    let databases = config.databases.iter().filter_map(|(name, database)| {
        // What holds for the user whom the definition names, or for nobody in
        // particular.
        let pool = config.pool(name, database.user.as_deref().unwrap_or_default())?;
        let several = pool.hosts.len() > 1;
        Some(DatabaseRow {
            name: name.clone(),
            host: database.host_list(),
            port: database.first_port(),
            database: pool.dbname,
            force_user: database.user.clone(),
            pool_size: pool.pool_size,
            min_pool_size: pool.min_pool_size,
            reserve_pool_size: pool.reserve_pool_size,
            server_lifetime: pool.server_lifetime.unwrap_or_default(),
            pool_mode: database.pool_mode,
            load_balance_hosts: several.then(|| {
                match database
                    .load_balance_hosts
                    .unwrap_or(LoadBalance::RoundRobin)
                {
                    LoadBalance::RoundRobin => "round-robin",
                    LoadBalance::Disable => "disable",
                }
            }),
            max_connections: pool.max_db_connections,
            max_client_connections: config.max_db_client_connections(name),
            paused: false,
            disabled: false,
        })
    });
    let mut names: Vec<&str> = terms.users.iter().map(|(name, _)| name).collect();
    names.extend(config.users.keys().map(String::as_str));
    names.sort_unstable();
    names.dedup();
    let users = names.into_iter().map(|name| {
        let user = config.users.get(name).cloned().unwrap_or_default();
        UserRow {
            name: name.to_owned(),
            pool_size: user.pool_size,
            reserve_pool_size: user.reserve_pool_size,
            pool_mode: user.pool_mode,
            max_user_connections: user
                .max_user_connections
                .unwrap_or(general.max_user_connections),
            max_user_client_connections: config.max_user_client_connections(name),
        }
    });
    let rows = config.rows().into_iter().map(|row| ConfigRow {
        key: row.key.to_owned(),
        value: row.value,
        default: row.default,
        changeable: row.changeable,
    });
    ConsoleView {
        now: Instant::now(),
        listen_port: general.listen_port,
        state: if stopping {
            PoolerState::Paused
        } else {
            PoolerState::Active
        },
        databases: databases.collect(),
        users: users.collect(),
        config: rows.collect(),
        averages,
    }
}
