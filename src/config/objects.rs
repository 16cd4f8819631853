//! The tables of a database's, a user's and a peer's own settings. A key that
//! is unset takes what the next level says: user, then database, then global.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::choice::{
    Choice, HostRole, LoadBalance, ReadConsistency, Reads, SessionFeatures, SslMode,
};
use super::key::{Table, table};
use super::pool_config::PoolMode;
use super::rules::RuleEntry;
use super::value::{Raw, Timeout, Value, toml_text, unlike};
use crate::auth::Masked;

table! {
    /// A database as its section defines it.
    pub struct DatabaseConfig {
        "Server": {
            dbname: Option<String> = None, reload, built,
                "The database's name on the server; unset means the name that the client asks for.";
            host: Option<Vec<String>> = None, reload, built,
                "Names, IP addresses or socket directories of the servers; unset means the Unix socket in `unix_socket_dir`.";
            port: Option<u16> = None, reload, built,
                "Port of all these servers; 5432 unless set.";
            hosts: Option<Vec<HostEntry>> = None, reload, built,
                "The servers one by one, each with its own port: `[{ host = \"db1\" }, { host = \"db2\", port = 5433 }]`. TOML only; instead of `host` and `port`.";
            url: Option<Masked> = None, reload, built,
                "All of this in one: `postgres://user:password@host1,host2:5433/dbname`; instead of the single keys.";
            load_balance_hosts: Option<LoadBalance> = None, reload, built,
                "`round-robin` over several hosts (unless set), or `disable`: stay with one until it fails.";
            user: Option<String> = None, reload, built,
                "Log in to the server as this user, whoever the client is; all its clients share one pool.";
            password: Option<Masked> = None, reload, built,
                "Password for `user`; unset means that of the user list.";
            connect_query: Option<String> = None, reload, built,
                "Run on each new server connection before a client gets it.";
        }
        "Startup parameters": {
            client_encoding: Option<String> = None, reload, built,
                "Sent to the server when a connection starts.";
            datestyle: Option<String> = None, reload, built,
                "Sent to the server when a connection starts.";
            timezone: Option<String> = None, reload, built,
                "Sent to the server when a connection starts.";
            application_name: Option<String> = None, reload, built,
                "Sent to the server when a connection starts.";
        }
        "TLS": {
            server_tls_sslmode: Option<SslMode> = None, reload, built,
                "Instead of the global `server_tls_sslmode`.";
            server_tls_ca_file: Option<PathBuf> = None, reload, built,
                "Instead of the global `server_tls_ca_file`.";
            server_tls_key_file: Option<PathBuf> = None, reload, built,
                "Instead of the global `server_tls_key_file`.";
            server_tls_cert_file: Option<PathBuf> = None, reload, built,
                "Instead of the global `server_tls_cert_file`.";
        }
        "Pools": {
            pool_mode: Option<PoolMode> = None, reload, built,
                "Instead of the global `pool_mode`.";
            session_features: Option<SessionFeatures> = None, reload, built,
                "Instead of the global `session_features`.";
            max_pinned_connections: Option<u32> = None, reload, built,
                "Instead of the global `max_pinned_connections`.";
            pin_sequences: Option<bool> = None, reload, built,
                "Instead of the global `pin_sequences`.";
            pool_size: Option<u32> = None, reload, built,
                "Instead of `default_pool_size`.";
            min_pool_size: Option<u32> = None, reload, built,
                "Instead of the global `min_pool_size`.";
            reserve_pool_size: Option<u32> = None, reload, built,
                "Instead of the global `reserve_pool_size`.";
            max_db_connections: Option<u32> = None, reload, built,
                "Instead of the global `max_db_connections`.";
            max_db_client_connections: Option<u32> = None, reload, built,
                "Instead of the global `max_db_client_connections`.";
            server_lifetime: Option<Duration> = None, reload, built,
                "Instead of the global `server_lifetime`; in an ini, 0 means the global value.";
            query_wait_timeout: Option<Timeout> = None, reload, built,
                "Instead of the global `query_wait_timeout`.";
        }
        "Replicas": {
            route_reads: bool = false, reload, built,
                "Send statements that only read to replicas. Each of the hosts then has a pool of its own; which of them is the primary is found out. Not in session mode.";
            reads: Option<Reads> = None, reload, built,
                "Where statements that only read may run: on a `replica` (unless set), on the `primary`, or on `any` of them.";
            rules: Option<Vec<RuleEntry>> = None, reload, built,
                "Where single statements that only read may run, `[[databases.NAME.rules]]` with `role` and one or more of `user`, `table` and `text`; the first that fits goes before `reads`. See [Where a read may run](routing.md#where-a-read-may-run). TOML only.";
            read_consistency: Option<ReadConsistency> = None, reload, built,
                "Instead of the global `read_consistency`.";
            replica_pool_size: Option<u32> = None, reload, built,
                "Server connections of a user to each replica; unset means the size that the primary's pool has.";
        }
        "Authentication": {
            auth_user: Option<String> = None, reload, built,
                "Instead of the global `auth_user`.";
            auth_query: Option<String> = None, reload, built,
                "Instead of the global `auth_query`.";
            auth_dbname: Option<String> = None, reload, built,
                "Instead of the global `auth_dbname`.";
        }
    }
}

table! {
    /// A user as its section defines it.
    pub struct UserConfig {
        "Login": {
            password: Option<Masked> = None, reload, built,
                "The user's password, md5 hash or SCRAM verifier; goes before what `auth_file` says.";
        }
        "Pools": {
            pool_mode: Option<PoolMode> = None, reload, built,
                "Instead of the database's and the global `pool_mode`.";
            session_features: Option<SessionFeatures> = None, reload, built,
                "Instead of the database's and the global `session_features`.";
            pool_size: Option<u32> = None, reload, built,
                "Instead of the database's `pool_size` and `default_pool_size`.";
            reserve_pool_size: Option<u32> = None, reload, built,
                "Instead of the database's and the global `reserve_pool_size`.";
            max_user_connections: Option<u32> = None, reload, built,
                "Instead of the global `max_user_connections`.";
            max_user_client_connections: Option<u32> = None, reload, built,
                "Instead of the global `max_user_client_connections`.";
            query_wait_timeout: Option<Timeout> = None, reload, built,
                "Instead of the database's and the global `query_wait_timeout`.";
            reads: Option<Reads> = None, reload, built,
                "Instead of the database's `reads`.";
        }
        "Time limits": {
            query_timeout: Option<Timeout> = None, reload, built,
                "Instead of the global `query_timeout`, unless it is 0.";
            client_idle_timeout: Option<Timeout> = None, reload, built,
                "Instead of the global `client_idle_timeout`, unless it is 0; of who logs in as this user, whichever user a database forces.";
            idle_transaction_timeout: Option<Timeout> = None, reload, built,
                "Instead of the global `idle_transaction_timeout`, unless it is 0.";
            transaction_timeout: Option<Timeout> = None, reload, built,
                "Instead of the global `transaction_timeout`, unless it is 0.";
        }
    }
}

table! {
    /// Another process that cancel requests are handed on to.
    pub struct PeerConfig {
        "Peer": {
            host: Option<String> = None, reload, built,
                "Name, IP address or socket directory, at which no other process listens.";
            port: u16 = 6432, reload, built,
                "Port of the peer; also part of its socket's name.";
            pool_size: Option<u32> = None, reload, built,
                "Connections for cancel requests; `default_pool_size` unless set, 0 means no limit.";
        }
    }
}

table! {
    /// One server in `hosts`.
    pub struct HostEntry {
        "Host": {
            host: String = String::new(), reload, built,
                "Name, IP address or socket directory.";
            port: u16 = 5432, reload, built,
                "Port of this server.";
            weight: u32 = 1, reload, built,
                "Share of the reads that this server gets while it is a replica (`route_reads`); 0 means none.";
            role: HostRole = HostRole::Auto, reload, built,
                "What the host may be (`route_reads`): the primary or a replica, as it says itself (`auto`); never the primary, even if it is promoted (`replica`); or never a server of reads, even if it is in recovery (`primary`). One that is what it may not be gets nothing at all, and SHOW HOSTS and the log say so.";
        }
    }
}

impl Value for Vec<HostEntry> {
    const TYPE: &'static str = "list of servers";

    fn from_ini(_: &str) -> Result<Self, String> {
        Err("an ini has `host` and `port` instead".to_owned())
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let help = "write [{ host = \"db1\", port = 5432 }]";
        let items = value.as_array().ok_or_else(|| unlike(value, help))?;
        let entries: Vec<HostEntry> = items
            .iter()
            .map(|item| host_entry(item.get_ref()))
            .collect::<Result<_, _>>()?;
        match entries.is_empty() {
            true => Err(format!("the list is empty: {help}")),
            false => Ok(entries),
        }
    }

    fn to_ini(&self) -> Option<String> {
        let texts: Vec<String> = self
            .iter()
            .map(|entry| format!("{}:{}", entry.host, entry.port))
            .collect();
        Some(texts.join(","))
    }

    fn to_toml(&self) -> Option<String> {
        let texts: Vec<String> = self
            .iter()
            .map(|e| {
                let mut text = format!("{{ host = {}, port = {}", toml_text(&e.host), e.port);
                if e.weight != 1 {
                    text += &format!(", weight = {}", e.weight);
                }
                if e.role != HostRole::Auto {
                    text += &format!(", role = {}", toml_text(e.role.word()));
                }
                text + " }"
            })
            .collect();
        Some(format!("[{}]", texts.join(", ")))
    }

    fn schema() -> Json {
        json!({ "type": "array", "minItems": 1, "items": {
            "type": "object",
            "properties": {
                "host": String::schema(),
                "port": u16::schema(),
                "weight": u32::schema(),
                "role": HostRole::schema(),
            },
            "required": ["host"],
            "additionalProperties": false,
        } })
    }
}

fn host_entry(value: &DeValue<'_>) -> Result<HostEntry, String> {
    let host: HostEntry = entry(value, "host", "write { host = \"db1\" }")?;
    match host.host.is_empty() {
        true => Err("a server without `host`".to_owned()),
        false => Ok(host),
    }
}

/// One of a list of tables: a `what`.
pub(super) fn entry<T: Table>(value: &DeValue<'_>, what: &str, help: &str) -> Result<T, String> {
    let table = value.as_table().ok_or_else(|| unlike(value, help))?;
    let mut entry = T::default();
    for (name, value) in table {
        let name = name.get_ref().as_ref();
        let key = T::key(name).ok_or_else(|| format!("unknown key `{name}` of a {what}"))?;
        (key.set)(&mut entry, Raw::Toml(value.get_ref()))
            .map_err(|error| format!("`{name}`: {error}"))?;
    }
    Ok(entry)
}
