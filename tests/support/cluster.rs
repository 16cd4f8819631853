use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::address::free_port;
use super::guard::Guard;
use super::{Address, Certificates, RawClient, eventually, patiently, tls};

/// A PostgreSQL server of the tests' own.
///
/// Users, each able to log in only by the method of its name, with the
/// password `secret of NAME`: `app` (trust), `plain`, `md5`, `scram`. The
/// superuser is `postgres` and needs the Unix socket. Members of `looked_up` that
/// a test makes log in with what they have.
#[derive(Debug)]
pub struct Cluster {
    pub port: u16,
    dir: PathBuf,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    process: Child,
    guard: Guard,
}

const HBA: &str = "\
local all postgres trust
local replication postgres trust
local all app,app2,app3 trust
local all plain password
local all md5 md5
local all scram,scram2 scram-sha-256
host all app,app2,app3 127.0.0.1/32 trust
host all plain 127.0.0.1/32 password
host all md5 127.0.0.1/32 md5
host all scram,scram2 127.0.0.1/32 scram-sha-256
host all +looked_up 127.0.0.1/32 md5
";

const ROLES: &str = "\
create role app login; create role app2 login; create role app3 login;
create role looked_up;
grant pg_read_all_stats, pg_signal_backend to app;
set password_encryption = 'md5';
create role md5 login password 'secret of md5';
set password_encryption = 'scram-sha-256';
create role plain login password 'secret of plain';
create role scram login password 'secret of scram';
create role scram2 login password 'secret of scram2';
";

const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
fsync = off
synchronous_commit = off
wal_writer_delay = 10ms
full_page_writes = off
autovacuum = off
max_connections = 300
superuser_reserved_connections = 10
shared_buffers = 32MB
max_wal_size = 256MB
log_destination = stderr
log_line_prefix = '%m [%p] %u@%d '
";

/// With these lines a cluster has TLS.
pub const TLS: &str = "ssl = on\nssl_ca_file = 'ca.crt'\n";

impl Cluster {
    /// The cluster of this test process. It ends with the process.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Cluster::fresh)
    }

    /// A cluster for a test that disturbs it; gone when dropped.
    pub fn fresh() -> Cluster {
        Cluster::with_settings(match tls::everywhere() {
            true => TLS,
            false => "",
        })
    }

    /// The same with lines for its postgresql.conf.
    pub fn with_settings(more: &str) -> Cluster {
        let dir = temp_dir("pg").keep();
        let data = dir.join("data");
        run_as_server(Command::new(pg_bin().join("initdb")))
            .args(["--username=postgres", "--auth=trust", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C", "--pgdata"])
            .arg(&data)
            .current_dir(&dir)
            .output_or_panic();

        for name in ["server.crt", "server.key", "ca.crt"] {
            tls::copy_for_server(&Certificates::shared().path(name), &data.join(name));
        }
        let mut cluster = Cluster {
            port: 0,
            dir,
            server: None,
        };
        for _ in 0..5 {
            cluster.port = free_port();
            let settings = format!(
                "{SETTINGS}{more}port = {}\nunix_socket_directories = '{}'\n",
                cluster.port,
                cluster.dir.display()
            );
            // Both files exist already and stay their owner's.
            fs::write(data.join("postgresql.auto.conf"), settings).expect("settings");
            fs::write(data.join("pg_hba.conf"), HBA).expect("hba");
            if cluster.start() {
                let mut admin = cluster.admin("postgres");
                for statement in ROLES.split(';').map(str::trim).filter(|s| !s.is_empty()) {
                    admin.query(statement);
                }
                return cluster;
            }
        }
        panic!("PostgreSQL does not start");
    }

    /// A streaming replica of this one.
    pub fn replica(&self) -> Cluster {
        let dir = temp_dir("pg").keep();
        let data = dir.join("data");
        let mut replica = Cluster {
            port: 0,
            dir,
            server: None,
        };
        let mut base_backup = run_as_server(Command::new(pg_bin().join("pg_basebackup")));
        base_backup
            .args([
                "--username=postgres",
                "--checkpoint=fast",
                "--write-recovery-conf",
            ])
            .args(["--no-sync", "--wal-method=stream", "--pgdata"])
            .arg(&data)
            .arg("--host")
            .arg(&self.dir)
            .arg("--port")
            .arg(self.port.to_string())
            .current_dir(&replica.dir)
            .output_or_panic();
        for _ in 0..5 {
            replica.port = free_port();
            replica.configure(&format!(
                "port = {}\nunix_socket_directories = '{}'\n",
                replica.port,
                replica.dir.display()
            ));
            if replica.start() {
                return replica;
            }
        }
        panic!("the replica does not start");
    }

    /// Adds lines to its configuration, of which the last counts.
    pub fn configure(&self, lines: &str) {
        let path = self.dir.join("data/postgresql.auto.conf");
        let before = fs::read_to_string(&path).expect("settings");
        fs::write(&path, before + lines).expect("settings");
    }

    /// Lets this user in no more, or again; who is connected stays.
    pub fn refuse(&self, user: &str, refuse: bool) {
        let first = match refuse {
            true => format!("local all {user} reject\nhost all {user} 127.0.0.1/32 reject\n"),
            false => String::new(),
        };
        fs::write(self.dir.join("data/pg_hba.conf"), first + HBA).expect("hba");
        self.admin("postgres").query("select pg_reload_conf()");
    }

    /// Lets `app` replicate. (`app2` may try.)
    pub fn let_replicate(&self) {
        let rules = "host replication app,app2 127.0.0.1/32 trust\n";
        fs::write(self.dir.join("data/pg_hba.conf"), rules.to_owned() + HBA).expect("hba");
        let mut admin = self.admin("postgres");
        admin.query("alter role app replication");
        admin.query("select pg_reload_conf()");
    }

    /// Makes it, from its next start or reload, a replica of another one that has
    /// all that it has.
    pub fn stand_by(&self, primary: &Cluster) {
        let (host, port) = (primary.dir.display(), primary.port);
        self.configure(&format!(
            "primary_conninfo = 'user=postgres host={host} port={port}'\n"
        ));
        let signal = self.dir.join("data/standby.signal");
        fs::write(signal, "").expect("standby.signal");
    }

    /// Lets a replica replay nothing more, until `pg_wal_replay_resume()`.
    #[track_caller]
    pub fn pause_replay(&self) {
        let mut admin = self.admin("postgres");
        admin.query("select pg_wal_replay_pause()");
        // Which only asks for it.
        eventually("a pause", "paused".to_owned(), || {
            admin.value("select pg_get_wal_replay_pause_state()")
        });
    }

    /// Sends the server and its processes a signal.
    pub fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().expect("a running server");
        let pid = Pid::from_raw(server.process.id() as i32);
        kill(pid, signal).expect("kill");
    }

    /// Sends all of its processes a signal, as if the machine did it.
    pub fn signal_all(&self, signal: Signal) {
        let server = self.server.as_ref().expect("a running server");
        let parent = server.process.id();
        // The parent first: it must neither start others nor see them die.
        self.signal(signal);
        let path = format!("/proc/{parent}/task/{parent}/children");
        let children = fs::read_to_string(path).expect("children");
        for pid in children.split_whitespace() {
            let pid = Pid::from_raw(pid.parse().expect("a process id"));
            // It may have ended by itself.
            let _ = kill(pid, signal);
        }
    }

    /// Starts the server on its port; false if it ended instead of answering
    /// (a port taken meanwhile).
    pub fn start(&mut self) -> bool {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .expect("log");
        let mut process = run_as_server(Command::new(pg_bin().join("postgres")))
            .arg("-D")
            .arg(self.dir.join("data"))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("postgres");
        let guard = Guard::new(process.id(), "QUIT", Some(&self.dir));
        let address = self.socket();
        let answers = patiently("PostgreSQL answers", || {
            if process.try_wait().expect("wait").is_some() {
                return Some(false);
            }
            let client = RawClient::try_login(&address, "postgres", "postgres", None);
            client.ok().map(|_| true)
        });
        if answers {
            self.server = Some(Server { process, guard });
        } else {
            guard.release();
        }
        answers
    }

    /// Stops the server: with SIGINT sessions are ended and nothing is lost,
    /// SIGQUIT is a crash.
    pub fn stop(&mut self, signal: Signal) {
        if let Some(mut server) = self.server.take() {
            let pid = Pid::from_raw(server.process.id() as i32);
            kill(pid, signal).expect("kill");
            // It hears of it even if it was stopped.
            kill(pid, Signal::SIGCONT).expect("kill");
            server.process.wait().expect("wait");
            server.guard.release();
        }
    }

    /// The server's TCP address.
    pub fn tcp(&self) -> Address {
        Address::local(self.port)
    }

    /// The server's Unix socket.
    pub fn socket(&self) -> Address {
        Address::Unix(self.dir.clone(), self.port)
    }

    /// A superuser's connection to `database`, past any pooler.
    pub fn admin(&self, database: &str) -> RawClient {
        RawClient::login(&self.socket(), "postgres", database)
    }

    /// Makes a database that no other test uses, and returns its name.
    pub fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = self.admin("postgres");
        admin.query(&format!("create database {name}"));
        admin.query(&format!("grant all on database {name} to public"));
        let mut inside = self.admin(&name);
        inside.query("grant all on schema public to public");
        name
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            eprintln!("--- PostgreSQL's log\n{log}---");
        }
        self.stop(Signal::SIGQUIT);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Where PostgreSQL's programs are.
pub fn pg_bin() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        find_pg_bin().unwrap_or_else(|| {
            panic!(
                "no PostgreSQL server found: run scripts/install-test-deps.sh, \
             or set PG_BIN to the directory that holds initdb and postgres"
            )
        })
    })
}

fn find_pg_bin() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("PG_BIN") {
        let dir = PathBuf::from(dir);
        assert!(has_server(&dir), "PG_BIN={} holds no server", dir.display());
        return Some(dir);
    }
    let mut installed: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, dir)| has_server(dir))
        .collect();
    installed.sort();
    installed.pop().map(|(_, dir)| dir).or_else(|| {
        let output = Command::new("pg_config").arg("--bindir").output().ok()?;
        let dir = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        has_server(&dir).then_some(dir)
    })
}

fn has_server(dir: &Path) -> bool {
    dir.join("initdb").exists() && dir.join("postgres").exists()
}

/// A directory that servers which run as another user can reach.
pub fn temp_dir(what: &str) -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix(&format!("pgweir-{what}-"))
        .tempdir_in("/tmp")
        .expect("temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    if let Some((uid, gid)) = server_user() {
        chown(dir.path(), Some(uid), Some(gid)).expect("chown");
    }
    dir
}

/// The user under which servers run that refuse root; `None` if we are not root.
pub fn server_user() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = ["postgres", "nobody"]
        .iter()
        .find_map(|name| nix::unistd::User::from_name(name).ok().flatten())
        .expect("a user postgres or nobody");
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

/// Runs the command as [`server_user`] and [`plain`].
pub fn run_as_server(mut command: Command) -> Command {
    if let Some((uid, gid)) = server_user() {
        command.uid(uid).gid(gid);
    }
    plain(command)
}

/// Without what the environment says to libpq or pgweir, and in plain English.
pub fn plain(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C.UTF-8");
    command
}

trait OutputOrPanic {
    fn output_or_panic(&mut self);
}

impl OutputOrPanic for Command {
    fn output_or_panic(&mut self) {
        let output = self.output().expect("program starts");
        assert!(
            output.status.success(),
            "{self:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
