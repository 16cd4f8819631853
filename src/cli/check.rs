//! `pgweir check`: validates a configuration and shows what would run.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::files;
use crate::auth::UserList;
use crate::config::{
    Capacity, Choice, Config, DatabaseConfig, Key, Mistake, PoolConfig, Source, Table, UserConfig,
};
use crate::net::tls::Tls;

/// Check a configuration and print what would run.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// pgweir.toml or pgbouncer.ini.
    #[arg(required_unless_present = "databases")]
    file: Option<PathBuf>,
    /// Add a database: app=postgres://user:password@host/dbname.
    #[arg(long = "database", value_name = "NAME=URL")]
    databases: Vec<String>,
    /// The servers' max_connections: fail if the pools do not fit.
    #[arg(long, value_name = "N")]
    max_connections: Option<u32>,
    /// Connections that the servers reserve.
    #[arg(long, value_name = "N", default_value_t = 3)]
    reserved: u32,
    /// Connections of others.
    #[arg(long, value_name = "N", default_value_t = 0)]
    others: u32,
    /// Poolers with this configuration.
    #[arg(long, value_name = "N", default_value_t = 1)]
    instances: u32,
    /// The part of the rest that poolers may take.
    #[arg(long, value_name = "PART", default_value_t = 0.8)]
    share: f64,
}

/// Runs the command: exit code 1 if there are mistakes or the pools do not fit.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = match files::load(args.file.as_deref(), &args.databases) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let read = |path: &Path| std::fs::read_to_string(path);
    let (users, mistakes) = config.userlist(&read);
    let text = report(&config, &users, &mistakes, &args);
    let (mut text, mut good) = match text {
        Ok(text) => (text, true),
        Err(text) => (text, false),
    };
    for mistake in config.hba(&read).err().unwrap_or_default() {
        line(&mut text, "error", &mistake.to_string());
        good = false;
    }
    if let Err(error) = Tls::of(&config, None, &|path| std::fs::read(path)) {
        line(&mut text, "error", &error);
        good = false;
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What would run; as an error if it would not.
fn report(
    config: &Config,
    users: &UserList,
    mistakes: &[Mistake],
    args: &Args,
) -> Result<String, String> {
    let mut text = general(config, users);
    for name in config.databases.keys() {
        text += &database(config, name);
    }
    for (name, user) in &config.users {
        line(&mut text, "user", &format!("{name}: {}", set_keys(user)));
    }
    let logins: BTreeSet<String> = users.iter().map(|(name, _)| name.to_owned()).collect();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let files = config.descriptors(&logins, config.general.worker_count(cores));
    line(&mut text, "files", &format!("up to {files}"));
    let mut good = true;
    for demand in config.demand(&logins) {
        let server = format!("{}: {demand}", demand.host);
        line(&mut text, "server", &server);
        let fits = args.capacity().map(|capacity| demand.fits(&capacity));
        if let Some(Err(error)) = fits {
            line(&mut text, "error", &error.to_string());
            good = false;
        }
    }
    for notice in &config.notices {
        line(&mut text, "notice", notice);
    }
    let fatal = config.source != Source::Ini;
    for mistake in mistakes {
        let label = if fatal { "error" } else { "notice" };
        line(&mut text, label, &mistake.to_string());
        good &= !fatal;
    }
    match good {
        true => Ok(text),
        false => Err(text),
    }
}

impl Args {
    fn capacity(&self) -> Option<Capacity> {
        Some(Capacity {
            max_connections: self.max_connections?,
            reserved: self.reserved,
            others: self.others,
            instances: self.instances,
            share: self.share,
        })
    }
}

fn general(config: &Config, users: &UserList) -> String {
    let general = &config.general;
    let port = general.listen_port;
    let mut listen: Vec<String> = general
        .listen_addr
        .iter()
        .map(|address| format!("{address} port {port}"))
        .collect();
    if !general.unix_socket_dir.is_empty() {
        listen.push(format!("{}/.s.PGSQL.{port}", general.unix_socket_dir));
    }
    let mut auth = format!("{}, {} users", general.auth_type.word(), users.len());
    if let Some(file) = &general.auth_file {
        // Writing to a String cannot fail.
        let _ = write!(auth, ", auth_file {}", file.display());
    }
    let stats = general.stats_listen.as_deref().unwrap_or("off");
    let mut text = String::new();
    line(&mut text, "listen", &listen.join(", "));
    line(&mut text, "stats", stats);
    line(&mut text, "auth", &auth);
    let clients = format!("at most {}", general.max_client_conn);
    line(&mut text, "clients", &clients);
    text
}

fn database(config: &Config, name: &str) -> String {
    let mut text = String::new();
    // Without a forced user, as for a user without settings of its own.
    if let (Some(pool), Some(definition)) = (config.pool(name, ""), config.database(name)) {
        line(
            &mut text,
            "database",
            &format!("{name}: {}", pool_line(&pool, definition)),
        );
        for rule in definition.rules.iter().flatten() {
            line(&mut text, "rule", &format!("{name}: {rule}"));
        }
    }
    text
}

fn pool_line(pool: &PoolConfig, definition: &DatabaseConfig) -> String {
    let hosts: Vec<String> = pool.hosts.iter().map(|host| host.to_string()).collect();
    let mut text = hosts.join(", ");
    let _ = write!(
        text,
        " dbname={} {} pool_size={}",
        definition.dbname.as_deref().unwrap_or(&pool.database),
        pool.pool_mode.as_str(),
        pool.pool_size,
    );
    for (name, number) in [
        ("min_pool_size", pool.min_pool_size),
        ("reserve_pool_size", pool.reserve_pool_size),
        ("max_db_connections", pool.max_db_connections),
    ] {
        if number != 0 {
            let _ = write!(text, " {name}={number}");
        }
    }
    if let Some(user) = &definition.user {
        let _ = write!(text, " user={user}");
    }
    text
}

/// The keys that are set, secrets masked.
fn set_keys(user: &UserConfig) -> String {
    let set = |key: &Key<UserConfig>| Some(format!("{}={}", key.name, (key.get)(user)?));
    let keys: Vec<String> = UserConfig::KEYS.iter().filter_map(set).collect();
    keys.join(" ")
}

pub(super) fn line(text: &mut String, label: &str, line: &str) {
    let _ = writeln!(text, "{label:<9} {line}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::Inputs;

    const TOML: &str = "
[pgweir]
listen_addr = '127.0.0.1'
auth_file = 'users'
min_pool_size = 2
workers = 1
[databases.app]
hosts = [{ host = 'db1' }, { host = 'db2', port = 7 }]
reserve_pool_size = 1
pool_mode = 'transaction'
route_reads = true
[[databases.app.rules]]
table = 'audit'
role = 'primary'
[[databases.app.rules]]
user = 'bob'
text = 'select count(*) *'
role = 'any'
[databases.reports]
url = 'postgres://reader:secret@db1/app'
pool_mode = 'session'
[users.bob]
password = 'secret'
pool_size = 10
";

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn check(file: &str, text: &str, auth_file: &str, args: &[&str]) -> Result<String, String> {
        use clap::Parser;
        let config = Config::load(&Inputs {
            file: Some(Path::new(file)),
            databases: &[],
            env: &BTreeMap::new(),
            read: &|_| Ok(text.to_owned()),
        })
        .unwrap();
        let (users, mistakes) = config.userlist(&|_| Ok(auth_file.to_owned()));
        let args = Command::parse_from([&["check", file], args].concat()).args;
        report(&config, &users, &mistakes, &args)
    }

    #[test]
    fn it_shows_what_would_run_but_no_secret() {
        let text = check("p.toml", TOML, "\"alice\" \"secret\"\n", &[]).unwrap();
        assert_eq!(
            text,
            "\
listen    127.0.0.1 port 6432, /tmp/.s.PGSQL.6432
stats     off
auth      md5, 2 users, auth_file users
clients   at most 100
database  app: db1:5432, db2:7 dbname=app transaction pool_size=20 min_pool_size=2 reserve_pool_size=1
rule      app: table=audit role=primary
rule      app: user=bob text=select count(*) * role=any
database  reports: db1:5432 dbname=app session pool_size=20 min_pool_size=2 user=reader
user      bob: password=*** pool_size=10
files     up to 191 file descriptors (100 clients, 52 server connections, 39 of its own)
server    db1:5432: up to 52 connections (app 32, reports 20)
server    db2:7: up to 32 connections (app 32)
"
        );
    }

    #[test]
    fn pools_that_do_not_fit_are_an_error() {
        let fits = |n: &str| check("p.toml", TOML, "\"a\" \"b\"\n", &["--max-connections", n]);
        assert!(fits("68").is_ok());
        let text = fits("67").unwrap_err();
        assert!(
            text.contains("error     db1:5432: pools may open up to 52"),
            "{text}"
        );
        assert!(!text.contains("error     db2"), "{text}");
    }

    #[test]
    fn a_broken_user_list_is_fatal_except_for_an_ini() {
        let text = check("p.toml", TOML, "\"a\"\n", &[]).unwrap_err();
        assert!(text.contains("error     users:1: "), "{text}");
        let ini = "[databases]\na = host=h\n[pgbouncer]\nauth_file = users\n";
        let text = check("p.ini", ini, "\"a\"\n", &[]).unwrap();
        assert!(text.contains("notice    users:1: "), "{text}");
    }
}
