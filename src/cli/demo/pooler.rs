//! pgweir itself, run as a child from a file that the demo writes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;

use super::daemon::{Daemon, clean_command, output};
use super::postgres::{DATABASE, Programs, USER};

/// Server connections per pool.
pub const POOL_SIZE: u64 = 10;

/// Where everything listens on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub primary: u16,
    pub replica: u16,
    pub listen: u16,
    pub stats: u16,
}

/// How a client program reaches a PostgreSQL port as the demo's user.
#[derive(Clone, Debug)]
pub struct Client {
    pub programs: Programs,
    pub dir: PathBuf,
    pub port: u16,
    pub password: String,
}

impl Client {
    /// A command such as `psql` or `pgbench`, told where to connect.
    pub fn command(&self, program: &str, database: &str) -> Command {
        let mut command = clean_command(self.programs.path(program), &self.dir);
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", USER)
            .env("PGPASSWORD", &self.password)
            .env("PGDATABASE", database);
        command
    }

    /// The URL that an application would use.
    pub fn url(&self, database: &str) -> String {
        let Client { port, password, .. } = self;
        format!("postgres://{USER}:{password}@127.0.0.1:{port}/{database}")
    }

    async fn query(&self, database: &str, sql: &str) -> anyhow::Result<Table> {
        let mut psql = self.command("psql", database);
        psql.args(["-X", "-A", "-F", "\t", "-P", "footer=off", "-c", sql]);
        Ok(Table::parse(&output(psql).await?))
    }
}

/// The running pooler. Dropping it stops it.
#[derive(Debug)]
pub struct Pooler {
    daemon: Daemon,
    stats_port: u16,
    /// How to connect through it.
    pub client: Client,
}

impl Pooler {
    /// Writes `pgweir.toml` into `dir`, starts this same program with it and
    /// waits until queries through it are answered.
    pub async fn start(
        programs: &Programs,
        dir: &Path,
        ports: Ports,
        password: &str,
    ) -> anyhow::Result<Pooler> {
        let file = dir.join("pgweir.toml");
        std::fs::write(&file, configuration(dir, ports, password))?;
        let exe = std::env::current_exe().context("cannot find pgweir's own file")?;
        let mut command = clean_command(exe, dir);
        command.arg("run").arg(&file);
        let log = dir.join("pgweir.log");
        // SIGTERM lets transactions finish, SIGQUIT does not.
        let farewell = &[Signal::SIGTERM, Signal::SIGQUIT];
        let mut pooler = Pooler {
            daemon: Daemon::start("pgweir", command, &log, farewell)?,
            stats_port: ports.stats,
            client: Client {
                programs: programs.clone(),
                dir: dir.to_owned(),
                port: ports.listen,
                password: password.to_owned(),
            },
        };
        let Pooler { daemon, client, .. } = &mut pooler;
        let probe = || client.query(DATABASE, "SELECT 1");
        daemon.until_ready(Duration::from_secs(15), probe).await?;
        Ok(pooler)
    }

    /// Where the stats port answers.
    pub fn stats_url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.stats_port)
    }

    /// The answer of the console to one command.
    pub async fn console(&self, command: &str) -> anyhow::Result<Table> {
        self.client.query("pgbouncer", command).await
    }

    /// An error if the pooler has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.daemon.check()
    }
}

fn configuration(dir: &Path, ports: Ports, password: &str) -> String {
    let Ports {
        primary,
        replica,
        listen,
        stats,
    } = ports;
    let socket_dir = toml::Value::from(dir.to_string_lossy().into_owned());
    format!(
        r#"[pgweir]
listen_addr = "127.0.0.1"
listen_port = {listen}
unix_socket_dir = {socket_dir}
stats_listen = "127.0.0.1:{stats}"
pool_mode = "transaction"
auth_type = "scram-sha-256"
admin_users = ["{USER}"]
max_client_conn = 1000

[databases.{DATABASE}]
hosts = [
    {{ host = "127.0.0.1", port = {primary} }},
    {{ host = "127.0.0.1", port = {replica} }},
]
route_reads = true
pool_size = {POOL_SIZE}

[users.{USER}]
password = "{password}"
"#
    )
}

/// Rows of text with named columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn parse(text: &str) -> Table {
        let mut lines = text
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect());
        Table {
            names: lines.next().unwrap_or_default(),
            rows: lines.collect(),
        }
    }

    /// The rows cut down to the named columns, in the given order, with the
    /// names as first row. A column that is not there stays empty.
    pub fn columns(&self, names: &[&str]) -> Vec<Vec<String>> {
        let places: Vec<Option<usize>> = names
            .iter()
            .map(|name| self.names.iter().position(|n| n == name))
            .collect();
        let cut = |row: &Vec<String>| {
            let cell = |place: &Option<usize>| place.and_then(|p| row.get(p)).cloned();
            places.iter().map(|p| cell(p).unwrap_or_default()).collect()
        };
        let header = names.iter().map(|name| (*name).to_owned()).collect();
        std::iter::once(header)
            .chain(self.rows.iter().map(cut))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_answer_is_cut_to_the_columns_asked_for() {
        let table = Table::parse("database\tuser\tsv_idle\napp\tdemo\t3\npgbouncer\tdemo\t0\n");
        let cut = table.columns(&["sv_idle", "database", "nothing"]);
        assert_eq!(cut[0], ["sv_idle", "database", "nothing"]);
        assert_eq!(cut[1], ["3", "app", ""]);
        assert_eq!(cut[2], ["0", "pgbouncer", ""]);
    }

    #[test]
    fn the_configuration_is_toml_with_the_ports_in_place() {
        let ports = Ports {
            primary: 1,
            replica: 2,
            listen: 3,
            stats: 4,
        };
        let text = configuration(Path::new("/tmp/a \"b\""), ports, "00ff");
        let file: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(file["pgweir"]["listen_port"].as_integer(), Some(3));
        assert_eq!(
            file["pgweir"]["unix_socket_dir"].as_str(),
            Some("/tmp/a \"b\"")
        );
        let host = &file["databases"][DATABASE]["hosts"][1];
        assert_eq!(host["port"].as_integer(), Some(2));
    }
}
