//! Where scripts are played: a server, a pooler in front of it, and for each
//! script two databases with the same content.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::noise::{self, Traces};
use crate::support::{Address, Cluster, Pooler, Program, Setup, TLS, leftovers, psql_program, tls};

const TEMPLATE: &str = "corpus_template";
pub const POOL_SIZE: usize = 4;
/// One connection is left to the script.
const NOISY: u64 = POOL_SIZE as u64 - 1;
const TABLESPACES: &str = "select quote_ident(spcname) from pg_tablespace";
/// For one script, in seconds.
const LIMIT: &str = "100";

#[derive(Debug)]
pub struct Stage {
    cluster: Cluster,
    pub pooler: Pooler,
    /// The roles that are there before the first script.
    roles: Vec<String>,
    tablespaces: Vec<String>,
}

/// What came of a script.
#[derive(Debug, Default)]
pub struct Played {
    pub direct: Vec<String>,
    pub pooled: Vec<String>,
    /// What the sessions have left on the pool's server connections.
    pub left: Vec<String>,
    /// What the other clients met that was not theirs.
    pub surprises: Vec<String>,
}

impl Stage {
    /// `prepare` is run in the database from which all others are copied.
    pub fn new(prepare: Option<&Path>, setup: impl Fn(Setup) -> Setup) -> Stage {
        let settings = "max_prepared_transactions = 20\nmax_locks_per_transaction = 256\n";
        let tls = if tls::everywhere() { TLS } else { "" };
        let cluster = Cluster::with_settings(&format!("{settings}{tls}"));
        let mut admin = cluster.admin("postgres");
        admin.query("alter role app superuser");
        admin.query(&format!("create database {TEMPLATE} owner app"));
        leftovers::install(&mut cluster.admin(TEMPLATE));
        let port = i32::from(cluster.port);
        let plain = Setup::with(&cluster)
            .set("pin_sequences", true)
            .pool_size(POOL_SIZE as i32)
            .set("max_pinned_connections", POOL_SIZE as i32)
            .set("server_round_robin", true)
            .database("*", "host", "127.0.0.1")
            .database("*", "port", port);
        let pooler = setup(plain).start();
        if let Some(script) = prepare {
            play(&pooler.server_address(), TEMPLATE, script);
        }
        let roles = admin.query("select rolname from pg_roles").column();
        let tablespaces = admin.query(TABLESPACES).column();
        Stage {
            cluster,
            pooler,
            roles,
            tablespaces,
        }
    }

    /// Plays a script once directly and once through the pooler, among others.
    pub fn play(&self, number: usize, script: &Path, traces: Traces) -> Played {
        let direct = self.directly(number, script);
        let database = self.create(&format!("corpus_pooled_{number:04}"));
        let stop = AtomicBool::new(false);
        let (pooled, surprises) = std::thread::scope(|scope| {
            let (database, stop) = (&*database, &stop);
            let address = &self.pooler.address;
            let make = |n| scope.spawn(move || noise::make(address, database, n, traces, stop));
            let noisy: Vec<_> = (0..NOISY).map(make).collect();
            let pooled = play(address, database, script);
            stop.store(true, Ordering::Relaxed);
            let surprises = noisy.into_iter().flat_map(|one| one.join().unwrap());
            let surprises = surprises.collect();
            (pooled, surprises)
        });
        let custom = custom_settings(script);
        let custom: Vec<&str> = custom.iter().map(String::as_str).collect();
        let mut left = self.pooler.leftovers(&database, POOL_SIZE, &custom);
        let mut inside = self.cluster.admin(&database);
        left.extend(self.pooler.left_in_database(&mut inside));
        drop(inside);
        self.drop_database(&database);
        Played {
            direct,
            pooled: self.masked(script, &pooled),
            left,
            surprises,
        }
    }

    /// What a script prints without any pooler.
    pub fn directly(&self, number: usize, script: &Path) -> Vec<String> {
        let database = self.create(&format!("corpus_direct_{number:04}"));
        let text = play(&self.pooler.server_address(), &database, script);
        self.drop_database(&database);
        self.masked(script, &text)
    }

    fn create(&self, name: &str) -> String {
        let mut admin = self.cluster.admin("postgres");
        admin.query(&format!(
            "create database {name} template {TEMPLATE} owner app"
        ));
        name.to_owned()
    }

    /// Drops it, and what scripts have left outside of it.
    fn drop_database(&self, name: &str) {
        let mut inside = self.cluster.admin(name);
        let prepared = "select quote_literal(gid) from pg_prepared_xacts \
                        where database = current_database()";
        for transaction in inside.query(prepared).column() {
            inside.query(&format!("rollback prepared {transaction}"));
        }
        let subscriptions = "select quote_ident(subname) from pg_subscription s \
                             join pg_database d on d.oid = subdbid \
                             where datname = current_database()";
        for subscription in inside.query(subscriptions).column() {
            inside.query(&format!("alter subscription {subscription} disable"));
            inside.query(&format!(
                "alter subscription {subscription} set (slot_name = none)"
            ));
            inside.query(&format!("drop subscription {subscription}"));
        }
        drop(inside);
        let mut admin = self.cluster.admin("postgres");
        admin.query(&format!("drop database {name} with (force)"));
        admin.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots");
        admin.query("select pg_replication_origin_drop(roname) from pg_replication_origin");
        let tablespaces = admin.query(TABLESPACES).column();
        for made in tablespaces
            .iter()
            .filter(|name| !self.tablespaces.contains(name))
        {
            admin.query(&format!("drop tablespace {made}"));
        }
        for gone in self
            .tablespaces
            .iter()
            .filter(|name| !tablespaces.contains(name))
        {
            admin.query("set allow_in_place_tablespaces = true");
            admin.query(&format!("create tablespace {gone} location ''"));
        }
        let roles = "select rolname, quote_ident(rolname) from pg_roles";
        for row in admin.query(roles).rows() {
            let [Some(name), Some(quoted)] = &row[..] else {
                continue;
            };
            if !self.roles.contains(name) {
                admin.try_query(&format!("drop owned by {quoted}"));
                admin.try_query(&format!("drop role {quoted}"));
            }
        }
    }

    /// Without what differs by nature: process ids, ports, OIDs, names of databases
    /// and of schemas for temporary objects, directories.
    fn masked(&self, script: &Path, text: &str) -> Vec<String> {
        let directory = format!("{}/", script.parent().unwrap().display());
        let ports = [self.pooler.address.port(), self.cluster.port];
        let numbered = [
            "corpus_direct_",
            "corpus_pooled_",
            "with PID ",
            "Backend PID          | ",
            "pg_temp_",
            "pg_toast_temp_",
            "failed for type ",
            "commutator for operator ",
        ];
        text.lines()
            .map(|line| {
                let mut line = line.replace(&directory, "");
                for port in ports {
                    line = line.replace(&port.to_string(), "PORT");
                }
                for before in numbered {
                    line = without_number(&line, before);
                }
                line.replace("corpus_pooled_", "corpus_direct_")
            })
            .collect()
    }
}

/// What psql prints for a script.
fn play(address: &Address, database: &str, script: &Path) -> String {
    let (host, port) = (address.host(), address.port());
    let psql = psql_program();
    let ssl = if tls::everywhere() {
        "require"
    } else {
        "disable"
    };
    let more = format!("sslmode={ssl}&gssencmode=disable");
    let dsn = format!("postgres://app@{host}:{port}/{database}?{more}");
    let second = format!("{psql} -X -q {dsn}");
    let output = Program::new("sh")
        .args(&[
            "-c",
            "exec timeout \"$@\" 2>&1",
            "sh",
            LIMIT,
            &psql,
            "-X",
            "-a",
        ])
        .args(&["-v", "VERBOSITY=verbose", "-v", "SHOW_CONTEXT=always"])
        .args(&["-f", &script.display().to_string(), "-d", &dsn])
        .env("SECOND_SESSION", &second)
        .env("PGTZ", "America/Los_Angeles")
        .env("PGDATESTYLE", "Postgres, MDY")
        .run();
    let mut text = output.stdout;
    if !output.success {
        // Its exit code is 3 after a lost connection; 124 is the limit.
        writeln!(text, "psql failed").unwrap();
    }
    text
}

/// Turns the number that follows each `before` into `N`.
fn without_number(line: &str, before: &str) -> String {
    let mut parts = line.split(before);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        text.push_str(before);
        text.push_str(if rest.len() < part.len() { "N" } else { "" });
        text.push_str(rest);
    }
    text
}

/// Settings of the script's own, `app.something`.
fn custom_settings(script: &Path) -> Vec<String> {
    let text = fs::read(script).unwrap();
    let text = String::from_utf8_lossy(&text).to_lowercase();
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
    let words = text.split(|c| !is_part(c));
    let mut names: Vec<_> = words
        .filter(|w| w.starts_with("app.") && w.len() > 4)
        .collect();
    names.push("app.noise");
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(str::to_owned).collect()
}

/// The scripts of a directory, in the order of their names, but for those that
/// say in their first line that they need a newer psql.
pub fn scripts(directory: &Path) -> Vec<PathBuf> {
    let version = Program::new(&psql_program()).args(&["--version"]).succeed();
    let number = version.split_whitespace().nth(2);
    let psql: u32 = number
        .and_then(|n| n.split('.').next()?.parse().ok())
        .unwrap();
    let is_playable = |path: &PathBuf| {
        let text = fs::read(path).unwrap();
        let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let needed = first.strip_prefix(b"-- needs psql ").unwrap_or(b"0");
        String::from_utf8_lossy(needed)
            .trim()
            .parse::<u32>()
            .unwrap()
            <= psql
    };
    let mut found: Vec<_> = fs::read_dir(directory)
        .unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "sql"))
        .filter(is_playable)
        .collect();
    found.sort();
    found
}
