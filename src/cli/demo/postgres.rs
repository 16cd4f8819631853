//! A throw-away primary and its streaming replica.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::daemon::{Daemon, Owner, output};

/// The name of the demo's database on both servers.
pub const DATABASE: &str = "app";
/// The name of the demo's user.
pub const USER: &str = "demo";

const NEEDED: [&str; 5] = ["initdb", "postgres", "psql", "pgbench", "pg_basebackup"];
const PATIENCE: Duration = Duration::from_secs(30);

/// The directory of PostgreSQL's programs.
#[derive(Clone, Debug)]
pub struct Programs(PathBuf);

impl Programs {
    /// Looks at `PG_BIN`, then for the newest version in the distribution's
    /// directories, then at `pg_config`, `target/pg` and `PATH`.
    pub fn find() -> anyhow::Result<Programs> {
        if let Some(dir) = std::env::var_os("PG_BIN") {
            let dir = PathBuf::from(dir);
            return match missing(&dir) {
                None => Ok(Programs(dir)),
                Some(name) => bail!("PG_BIN={} has no program named {name}", dir.display()),
            };
        }
        let mut candidates = versions(Path::new("/usr/lib/postgresql"));
        if let Ok(answer) = Command::new("pg_config").arg("--bindir").output() {
            let dir = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
            candidates.push(PathBuf::from(dir));
        }
        candidates.extend(versions(Path::new("target/pg")));
        if let Some(path) = std::env::var_os("PATH") {
            candidates.extend(std::env::split_paths(&path));
        }
        match candidates.into_iter().find(|dir| missing(dir).is_none()) {
            Some(dir) => Ok(Programs(std::path::absolute(dir)?)),
            None => bail!(
                "PostgreSQL was not found (needed: {}); install it, or set PG_BIN to the \
                 directory of its programs, or run scripts/demo.sh, which gets it",
                NEEDED.join(", ")
            ),
        }
    }

    /// The path of one program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What the server calls itself, such as `postgres (PostgreSQL) 15.18`.
    pub async fn version(&self, owner: Owner, dir: &Path) -> anyhow::Result<String> {
        let mut command = owner.command(self.path("postgres"), dir);
        command.arg("--version");
        Ok(output(command).await?.trim().to_owned())
    }
}

/// `<base>/<version>/bin`, the newest version first.
fn versions(base: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(base)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn missing(dir: &Path) -> Option<&'static str> {
    NEEDED.into_iter().find(|name| !dir.join(name).is_file())
}

/// A port of the loopback interface that nothing listened on a moment ago.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}

/// How to ask one server something, as superuser over its Unix socket.
#[derive(Debug)]
struct Psql {
    programs: Programs,
    owner: Owner,
    dir: PathBuf,
    port: u16,
}

impl Psql {
    /// Runs SQL; unaligned rows come back.
    async fn run(&self, sql: &str) -> anyhow::Result<String> {
        let mut command = self.owner.command(self.programs.path("psql"), &self.dir);
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-U", "postgres", "-d", "postgres", "-h"])
            .arg(&self.dir)
            .args(["-p", &self.port.to_string(), "-c", sql]);
        Ok(output(command).await?.trim().to_owned())
    }
}

/// One running server. Dropping it stops it; the files belong to whoever made
/// the directory.
#[derive(Debug)]
pub struct Server {
    daemon: Daemon,
    psql: Psql,
}

impl Server {
    /// A new, empty primary under `dir`, with the demo's user and database.
    pub async fn primary(
        programs: &Programs,
        owner: Owner,
        dir: &Path,
        password: &str,
    ) -> anyhow::Result<Server> {
        let data = dir.join("primary");
        let mut initdb = owner.command(programs.path("initdb"), dir);
        initdb
            .args(["--username=postgres", "--auth-local=trust", "--no-sync"])
            .args(["--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C"])
            .arg("--pgdata")
            .arg(&data);
        output(initdb).await?;
        let server = Server::start("primary", programs, owner, dir, &data).await?;
        // The password is our own hexadecimal: nothing in it needs quoting.
        let role = format!("CREATE ROLE {USER} LOGIN PASSWORD '{password}'");
        server.psql.run(&role).await?;
        let database = format!("CREATE DATABASE {DATABASE} OWNER {USER}");
        server.psql.run(&database).await?;
        Ok(server)
    }

    /// A streaming replica of this server under the same directory.
    pub async fn replica(&self) -> anyhow::Result<Server> {
        let Psql {
            programs,
            owner,
            dir,
            port,
        } = &self.psql;
        let data = dir.join("replica");
        let mut copy = owner.command(programs.path("pg_basebackup"), dir);
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
            .args(["--wal-method=stream", "--username=postgres", "--host"])
            .arg(dir)
            .args(["--port", &port.to_string(), "--pgdata"])
            .arg(&data);
        output(copy).await?;
        Server::start("replica", programs, *owner, dir, &data).await
    }

    async fn start(
        name: &'static str,
        programs: &Programs,
        owner: Owner,
        dir: &Path,
        data: &Path,
    ) -> anyhow::Result<Server> {
        let port = free_port()?;
        let mut command = owner.command(programs.path("postgres"), dir);
        command.arg("-D").arg(data).arg("-k").arg(dir);
        command.args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "max_connections=50",
            "shared_buffers=128MB",
            // Nothing here has to survive a power cut.
            "fsync=off",
            "full_page_writes=off",
            // The demo counts the connections that the servers saw.
            "log_connections=on",
            "log_destination=stderr",
            "logging_collector=off",
        ] {
            command.args(["-c", setting]);
        }
        let log = dir.join(format!("{name}.log"));
        // SIGINT is PostgreSQL's fast shutdown, SIGQUIT the immediate one.
        let farewell = &[Signal::SIGINT, Signal::SIGQUIT];
        let mut server = Server {
            daemon: Daemon::start(name, command, &log, farewell)?,
            psql: Psql {
                programs: programs.clone(),
                owner,
                dir: dir.to_owned(),
                port,
            },
        };
        let Server { daemon, psql } = &mut server;
        let probe = || psql.run("SELECT 1");
        daemon.until_ready(PATIENCE, probe).await?;
        Ok(server)
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.psql.port
    }

    /// Waits until this replica has replayed what `primary` has written so far.
    pub async fn caught_up(&mut self, primary: &Server) -> anyhow::Result<()> {
        let position = primary.psql.run("SELECT pg_current_wal_lsn()").await?;
        let question = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
        let Server { daemon, psql } = self;
        let probe = || async {
            match psql.run(&question).await?.as_str() {
                "t" => Ok(()),
                _ => bail!("the replica has not replayed {position} yet"),
            }
        };
        daemon.until_ready(PATIENCE, probe).await
    }

    /// How many connections the demo's user has to this server now.
    pub async fn connections(&self) -> anyhow::Result<u64> {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}' \
             AND application_name <> 'pgweir host check'"
        );
        let answer = self.psql.run(&sql).await?;
        answer.parse().context("pg_stat_activity gave no number")
    }

    /// How many connections the demo's user has made since the server started,
    /// as the server's log has it.
    pub fn connections_ever(&self) -> u64 {
        let mark = format!("connection authorized: user={USER} database={DATABASE}");
        self.daemon.log_text().matches(&mark).count() as u64
    }

    /// An error if the server has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.daemon.check()
    }
}
