use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::address::free_port;
use super::cluster::{plain, run_as_server, temp_dir};
use super::guard::Guard;
use super::{
    Address, Certificates, Cluster, Frontend, Message, RawClient, eventually, patiently, tls,
};

/// A test that still has its pooler after this time, in seconds, and whose pooler has
/// logged nothing since it was looked at last, hangs.
const WATCHDOG: u64 = 240;

/// What stands in front of PostgreSQL, see the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Pgweir { program: PathBuf, ini: bool },
    Pgbouncer(PathBuf),
    None,
}

/// What the environment asks for.
pub fn target() -> Target {
    let ini = std::env::var("PGWEIR_TEST_CONFIG").is_ok_and(|format| format == "ini");
    match std::env::var("PGWEIR_TEST_POOLER") {
        Err(_) => Target::Pgweir {
            program: env!("CARGO_BIN_EXE_pgweir").into(),
            ini,
        },
        Ok(word) if word == "none" => Target::None,
        Ok(path) if path.ends_with("pgbouncer") => Target::Pgbouncer(path.into()),
        Ok(path) => Target::Pgweir {
            program: path.into(),
            ini,
        },
    }
}

/// Workers of each pgweir whose test does not say: two, so that connections
/// and clients meet that are not on the same one.
fn workers() -> i32 {
    std::env::var("PGWEIR_TEST_WORKERS").map_or(2, |workers| workers.parse().expect("a number"))
}

/// A setting's value, written as each format wants it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Number(i64),
    Bool(bool),
    Seconds(f64),
    /// As it stands in a TOML file.
    Toml(String),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Value {
        Value::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

/// A time in seconds.
pub fn secs(seconds: f64) -> Value {
    Value::Seconds(seconds)
}

impl Value {
    fn toml(&self) -> String {
        match self {
            Value::Text(text) => format!("{text:?}"),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Seconds(seconds) => format!("\"{}ms\"", (seconds * 1000.0).round()),
            Value::Toml(text) => text.clone(),
        }
    }

    fn ini(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => u8::from(*value).to_string(),
            Value::Seconds(seconds) => seconds.to_string(),
            Value::Toml(text) => panic!("an ini cannot hold {text}"),
        }
    }

    /// As in a connection string, where blanks separate.
    fn quoted(&self) -> String {
        format!("'{}'", self.ini().replace('\'', "''"))
    }
}

type Settings = BTreeMap<String, Value>;

/// A pooler's configuration.
///
/// To begin with: transaction mode, pools of 2, trust for the users `app`,
/// `app2`, `app3` and `admin` (who may use the console), one database.
#[derive(Clone, Debug)]
pub struct Setup {
    server: Address,
    settings: Settings,
    databases: BTreeMap<String, Settings>,
    users: BTreeMap<String, Settings>,
    peers: BTreeMap<String, Settings>,
    database: String,
    /// What a shell does before it becomes pgweir.
    before: Vec<String>,
    arguments: Vec<String>,
    /// Its standard input and output, if they are not the usual ones.
    inherited: Option<Arc<(OwnedFd, OwnedFd)>>,
    hosts: Option<PathBuf>,
    environment: Vec<(String, String)>,
    target: Target,
}

impl Setup {
    /// In front of a new database of the shared cluster.
    pub fn new() -> Setup {
        Setup::with(Cluster::shared())
    }

    /// In front of a new database of this cluster.
    pub fn with(cluster: &Cluster) -> Setup {
        let database = cluster.create_database();
        let mut setup = Setup {
            server: cluster.socket(),
            settings: Settings::new(),
            databases: BTreeMap::new(),
            users: BTreeMap::new(),
            peers: BTreeMap::new(),
            database: database.clone(),
            before: Vec::new(),
            arguments: Vec::new(),
            inherited: None,
            hosts: None,
            environment: Vec::new(),
            target: target(),
        }
        .set("pool_mode", "transaction")
        .set("default_pool_size", 2)
        .set("auth_type", "trust")
        .set("admin_users", "admin")
        .set("listen_addr", "127.0.0.1")
        .set("listen_backlog", 1024)
        .set("max_client_conn", 1000)
        .set("server_login_retry", secs(0.5))
        .database(&database, "host", "127.0.0.1")
        .database(&database, "port", i32::from(cluster.port));
        if tls::everywhere() {
            setup = setup
                .offer_tls("prefer")
                .set("server_tls_sslmode", "verify-full")
                .set(
                    "server_tls_ca_file",
                    &*Certificates::shared().path("ca.crt"),
                );
        }
        for user in ["app", "app2", "app3", "admin"] {
            setup = setup.user(user, "password", &*format!("secret of {user}"));
        }
        setup
    }

    /// With this pooler, whatever the environment asks for.
    pub fn by(self, target: Target) -> Setup {
        Setup { target, ..self }
    }

    /// As a pgbouncer.ini, where that makes a difference to pgweir.
    pub fn in_ini(self) -> Setup {
        self.in_format(true)
    }

    /// As a pgweir.toml, whatever the environment asks for: what an ini cannot
    /// say, or PostgreSQL's way where an ini keeps PgBouncer's.
    pub fn in_toml(self) -> Setup {
        self.in_format(false)
    }

    pub fn in_format(mut self, as_ini: bool) -> Setup {
        if let Target::Pgweir { ini, .. } = &mut self.target {
            *ini = as_ini;
        }
        self
    }

    fn is_ini(&self) -> bool {
        matches!(self.target, Target::Pgweir { ini: true, .. })
    }

    /// TLS towards clients in this mode.
    pub fn offer_tls(self, mode: &str) -> Setup {
        let files = Certificates::shared();
        self.set("client_tls_sslmode", mode)
            .set("client_tls_cert_file", &*files.path("server.crt"))
            .set("client_tls_key_file", &*files.path("server.key"))
    }

    /// The size of all pools.
    pub fn pool_size(self, size: i32) -> Setup {
        self.set("default_pool_size", size)
    }

    /// One worker, for what is promised for the clients of the same worker
    /// only: the exact order of waiting and of reuse.
    pub fn one_worker(self) -> Setup {
        self.set("workers", 1)
    }

    /// Sessions go on from one server connection to the next, whatever the format's
    /// default.
    pub fn pinning(self) -> Setup {
        self.set("session_features", "pin")
    }

    /// The limit of open files that the pooler's process is under.
    pub fn open_files(self, limit: u32) -> Setup {
        self.before(&format!("ulimit -n {limit}"))
    }

    /// What a shell does before it becomes pgweir.
    pub fn before(mut self, command: &str) -> Setup {
        self.before.push(command.to_owned());
        self
    }

    /// An argument of pgweir.
    pub fn argument(mut self, argument: &str) -> Setup {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Listening sockets that the process gets as systemd passes them.
    pub fn passing(mut self, tcp: TcpListener, unix: UnixListener) -> Setup {
        self.inherited = Some(Arc::new((tcp.into(), unix.into())));
        self.before("exec 3<&0 4>&1 </dev/null >&2")
            .before("export LISTEN_FDS=2 LISTEN_PID=$$")
    }

    /// The pooler sees this file as /etc/hosts.
    pub fn hosts(self, file: &Path) -> Setup {
        Setup {
            hosts: Some(file.to_owned()),
            ..self
        }
    }

    /// A variable in the environment of pgweir's process.
    pub fn environment(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A setting of the pooler itself.
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Setup {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a setting out.
    pub fn unset(mut self, name: &str) -> Setup {
        self.settings.remove(name);
        self
    }

    /// A setting of the test's own database.
    pub fn for_database(self, name: &str, value: impl Into<Value>) -> Setup {
        let database = self.database.clone();
        self.database(&database, name, value)
    }

    /// Leaves a setting of the test's own database out.
    pub fn unset_for_database(mut self, name: &str) -> Setup {
        if let Some(settings) = self.databases.get_mut(&self.database) {
            settings.remove(name);
        }
        self
    }

    /// A setting of any database.
    pub fn database(mut self, database: &str, name: &str, value: impl Into<Value>) -> Setup {
        let settings = self.databases.entry(database.to_owned()).or_default();
        settings.insert(name.to_owned(), value.into());
        self
    }

    /// Another name for the test's database, with its own settings.
    pub fn alias(self, alias: &str) -> Setup {
        let own = self.databases[&self.database].clone();
        let name = self.database.clone();
        let mut setup = self;
        setup.databases.insert(alias.to_owned(), own);
        setup.database(alias, "dbname", &*name)
    }

    /// Takes a database out.
    pub fn without_database(mut self, database: &str) -> Setup {
        self.databases.remove(database);
        self
    }

    /// A setting of a user.
    pub fn user(mut self, user: &str, name: &str, value: impl Into<Value>) -> Setup {
        let settings = self.users.entry(user.to_owned()).or_default();
        settings.insert(name.to_owned(), value.into());
        self
    }

    /// A setting of a peer.
    pub fn peer(mut self, number: u32, name: &str, value: impl Into<Value>) -> Setup {
        let settings = self.peers.entry(number.to_string()).or_default();
        settings.insert(name.to_owned(), value.into());
        self
    }

    /// Takes all peers out.
    pub fn without_peers(mut self) -> Setup {
        self.peers.clear();
        self
    }

    /// Takes a user out.
    pub fn without_user(mut self, user: &str) -> Setup {
        self.users.remove(user);
        self
    }

    /// Starts the pooler; it answers when this returns.
    #[track_caller]
    pub fn start(self) -> Pooler {
        let dir = temp_dir("pooler");
        if self.target == Target::None {
            return Pooler::none(self, dir);
        }
        for _ in 0..5 {
            let port = free_port();
            let (config, command) = self.write(dir.path(), port);
            if let Some(process) = self.spawn(command, dir.path(), port) {
                let pooler = Pooler::new(self, dir, config, process, port);
                pooler.expect_socket();
                return pooler;
            }
        }
        panic!("the pooler finds no port");
    }

    /// Starts one of several poolers that share this port.
    #[track_caller]
    pub fn start_on(self, port: u16) -> Pooler {
        let dir = temp_dir("pooler");
        let (config, command) = self.write(dir.path(), port);
        let process = self
            .spawn(command, dir.path(), port)
            .expect("a port for many");
        let pooler = Pooler::new(self, dir, config, process, port);
        // Another one may have answered.
        eventually("it is up", true, || pooler.log().contains("process up"));
        pooler
    }

    /// Writes the files; returns the main one's path and how to start.
    fn write(&self, dir: &Path, port: u16) -> (PathBuf, Command) {
        let mut settings = self.settings.clone();
        settings.insert("listen_port".to_owned(), i32::from(port).into());
        let socket_dir = dir.display().to_string();
        settings
            .entry("unix_socket_dir".to_owned())
            .or_insert(Value::Text(socket_dir));
        match &self.target {
            Target::Pgweir { .. } => {
                let workers = workers().into();
                settings.entry("workers".to_owned()).or_insert(workers);
            }
            _ => drop(settings.remove("workers")),
        }
        match &self.target {
            Target::Pgweir {
                program,
                ini: false,
            } => {
                let path = dir.join("pgweir.toml");
                fs::write(&path, self.toml(&settings)).expect("config");
                let command = self.pgweir(program, &path);
                (path, command)
            }
            Target::Pgweir { program, ini: true } => {
                let path = self.write_ini(settings, dir);
                let command = self.pgweir(program, &path);
                (path, command)
            }
            Target::Pgbouncer(program) => {
                let path = self.write_ini(settings, dir);
                let mut command = run_as_server(Command::new(program));
                command.arg(&path);
                (path, command)
            }
            Target::None => unreachable!("nothing to configure"),
        }
    }

    fn pgweir(&self, program: &Path, config: &Path) -> Command {
        let mut before = self.before.clone();
        let mut shell = match &self.hosts {
            None => plain(Command::new("sh")),
            Some(hosts) => {
                before.insert(0, format!("mount --bind {} /etc/hosts", hosts.display()));
                let mut unshare = plain(Command::new("unshare"));
                if !nix::unistd::geteuid().is_root() {
                    unshare.args(["--user", "--map-root-user"]);
                }
                unshare.args(["--mount", "sh"]);
                unshare
            }
        };
        let mut command = match before.is_empty() {
            true => plain(Command::new(program)),
            false => {
                let before = before.join(" && ");
                shell.args(["-c", &format!("{before} && exec \"$@\""), "sh"]);
                shell.arg(program);
                shell
            }
        };
        command.arg("run").args(&self.arguments).arg(config);
        command.envs(self.environment.iter().cloned());
        command
    }

    fn toml(&self, settings: &Settings) -> String {
        let mut text = "[pgweir]\n".to_owned();
        write_toml(&mut text, settings);
        for (name, settings) in &self.databases {
            let mut settings = settings.clone();
            write!(text, "\n[databases.{name:?}]\n").expect("write");
            if let Some(host) = settings.remove("host") {
                let port = settings.remove("port").map_or(5432.into(), |port| port);
                let (hosts, port) = (host.ini(), port.toml());
                // Only here may each have a port of its own, and a role.
                let entry = |host: &str| {
                    let (host, port) = host.split_once(':').unwrap_or((host, &port));
                    let (port, role) = port.split_once(':').unwrap_or((port, "auto"));
                    format!("{{ host = {host:?}, port = {port}, role = {role:?} }}")
                };
                let hosts: Vec<_> = hosts.split(',').map(entry).collect();
                writeln!(text, "hosts = [{}]", hosts.join(", ")).expect("write");
            }
            write_toml(&mut text, &settings);
        }
        for (name, settings) in &self.users {
            write!(text, "\n[users.{name:?}]\n").expect("write");
            write_toml(&mut text, settings);
        }
        for (number, settings) in &self.peers {
            write!(text, "\n[peers.{number}]\n").expect("write");
            write_toml(&mut text, settings);
        }
        text
    }

    fn write_ini(&self, mut settings: Settings, dir: &Path) -> PathBuf {
        let userlist = dir.join("userlist.txt");
        let mut text = String::new();
        for (name, settings) in &self.users {
            // Others have settings only.
            let Some(secret) = settings.get("password").map(Value::ini) else {
                continue;
            };
            let quote = |text: &str| text.replace('"', "\"\"");
            writeln!(text, "\"{}\" \"{}\"", quote(name), quote(&secret)).expect("write");
        }
        fs::write(&userlist, text).expect("userlist");
        settings
            .entry("auth_file".to_owned())
            .or_insert(Value::Text(userlist.display().to_string()));

        let mut text = "[databases]\n".to_owned();
        for (name, settings) in &self.databases {
            writeln!(text, "{name} ={}", pairs(settings)).expect("write");
        }
        text.push_str("[users]\n");
        for (name, settings) in &self.users {
            let mut settings = settings.clone();
            settings.remove("password");
            if !settings.is_empty() {
                writeln!(text, "{name} ={}", pairs(&settings)).expect("write");
            }
        }
        if !self.peers.is_empty() {
            // Unknown before 1.19.
            text.push_str("[peers]\n");
        }
        for (number, settings) in &self.peers {
            writeln!(text, "{number} ={}", pairs(settings)).expect("write");
        }
        text.push_str("[pgbouncer]\n");
        for (name, value) in &settings {
            writeln!(text, "{name} = {}", value.ini()).expect("write");
        }
        let path = dir.join("pgbouncer.ini");
        fs::write(&path, text).expect("config");
        path
    }

    /// Starts the pooler and waits until it answers; `None` if another program
    /// took the port meanwhile.
    #[track_caller]
    fn spawn(&self, mut command: Command, dir: &Path, port: u16) -> Option<Child> {
        let log = fs::File::create(dir.join("log")).expect("log");
        let copy = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a descriptor"));
        let (input, output) = match self.inherited.as_deref() {
            Some((tcp, unix)) => (copy(tcp), copy(unix)),
            None => (Stdio::null(), Stdio::from(log.try_clone().expect("log"))),
        };
        let mut process = command
            .stdin(input)
            .stdout(output)
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let address = Address::local(port);
        let answers = patiently("the pooler answers", || {
            if let Some(status) = process.try_wait().expect("wait") {
                let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
                assert!(
                    log.contains("in use"),
                    "the pooler ended ({status}):\n{log}"
                );
                return Some(false);
            }
            RawClient::try_connect(&address).ok().map(|_| true)
        });
        answers.then_some(process)
    }
}

fn write_toml(text: &mut String, settings: &Settings) {
    for (name, value) in settings {
        writeln!(text, "{name} = {}", value.toml()).expect("write");
    }
}

fn pairs(settings: &Settings) -> String {
    let pair = |(name, value): (&String, &Value)| format!(" {name}={}", value.quoted());
    settings.iter().map(pair).collect()
}

/// A running pooler in front of one database of its own.
///
/// Ends when dropped; if the test fails, its log is printed.
#[derive(Debug)]
pub struct Pooler {
    /// Where it listens.
    pub address: Address,
    /// Its Unix socket.
    pub socket: Address,
    /// The test's own database; it has this name on both sides.
    pub database: String,
    pub setup: Setup,
    server: Address,
    config: PathBuf,
    dir: TempDir,
    process: Option<(Child, Guard)>,
    _watchdog: mpsc::Sender<()>,
}

impl Pooler {
    fn new(setup: Setup, dir: TempDir, config: PathBuf, process: Child, port: u16) -> Pooler {
        let guard = Guard::new(process.id(), "KILL", Some(dir.path()));
        Pooler {
            address: Address::local(port),
            socket: Address::Unix(dir.path().to_owned(), port),
            database: setup.database.clone(),
            server: setup.server.clone(),
            config,
            _watchdog: watch(dir.path().join("log")),
            dir,
            process: Some((process, guard)),
            setup,
        }
    }

    /// No pooler: the server itself.
    fn none(setup: Setup, dir: TempDir) -> Pooler {
        let port = setup.server.port();
        Pooler {
            address: Address::local(port),
            socket: setup.server.clone(),
            database: setup.database.clone(),
            server: setup.server.clone(),
            config: PathBuf::new(),
            _watchdog: watch(PathBuf::new()),
            dir,
            process: None,
            setup,
        }
    }

    /// Its Unix socket comes after the TCP port.
    #[track_caller]
    fn expect_socket(&self) {
        if !self.setup.settings.contains_key("unix_socket_dir") {
            let file = format!(".s.PGSQL.{}", self.address.port());
            eventually("its socket", true, || self.dir.path().join(&file).exists());
        }
    }

    /// A new client, logged in as `app`.
    #[track_caller]
    pub fn login(&self) -> RawClient {
        self.login_as("app")
    }

    /// A new client, logged in as this user without a password.
    #[track_caller]
    pub fn login_as(&self, user: &str) -> RawClient {
        RawClient::login(&self.address, user, &self.database)
    }

    /// A new client with startup parameters besides user and database.
    #[track_caller]
    pub fn login_with(&self, parameters: &[(&str, &str)]) -> RawClient {
        let mut all = vec![("user", "app"), ("database", self.database.as_str())];
        all.extend(parameters);
        RawClient::try_login_with(&self.address, &all, None).unwrap_or_else(|e| panic!("{e:?}"))
    }

    /// A superuser's connection to the database, past the pooler.
    #[track_caller]
    pub fn admin(&self) -> RawClient {
        RawClient::login(&self.server, "postgres", &self.database)
    }

    /// A connection of `app` past the pooler, to compare with.
    #[track_caller]
    pub fn direct(&self) -> RawClient {
        RawClient::login(&self.server_address(), "app", &self.database)
    }

    /// The server's TCP address.
    pub fn server_address(&self) -> Address {
        Address::local(self.server.port())
    }

    /// The console.
    #[track_caller]
    pub fn console(&self) -> RawClient {
        let password = Some("secret of admin");
        RawClient::try_login(&self.address, "admin", "pgbouncer", password)
            .unwrap_or_else(|e| panic!("{e:?}"))
    }

    /// What SHOW says: for each row its values by column name.
    #[track_caller]
    pub fn show(&self, what: &str) -> Vec<BTreeMap<String, String>> {
        let answer = self.console().query(&format!("SHOW {what}"));
        let names = answer.messages[0].column_names();
        let row = |row: Vec<Option<String>>| {
            let values = row.into_iter().map(Option::unwrap_or_default);
            names.iter().cloned().zip(values).collect()
        };
        answer.rows().into_iter().map(row).collect()
    }

    /// The server processes that the pools' connections have, in the order in
    /// which they were started; not that which listens for clients.
    pub fn backends(&self) -> Vec<String> {
        self.admin()
            .query(
                "select pid from pg_stat_activity where datname = current_database() \
                 and usename <> 'postgres' and backend_type = 'client backend' \
                 and application_name <> 'pgweir listener' \
                 order by backend_start",
            )
            .column()
    }

    /// Waits until the pooler has so many connections to the server.
    #[track_caller]
    pub fn expect_backends(&self, count: usize) {
        eventually("server connections", count, || self.backends().len());
    }

    /// Waits until so many server processes of the database are in pg_sleep().
    #[track_caller]
    pub fn expect_sleeping(&self, count: usize) {
        let sql = "select pid from pg_stat_activity where wait_event = 'PgSleep' \
                   and datname = current_database()";
        let mut admin = self.admin();
        eventually("processes that sleep", count, || {
            admin.query(sql).column().len()
        });
    }

    /// Whether it was started from an ini.
    pub fn is_ini(&self) -> bool {
        self.setup.is_ini()
    }

    /// What a refusal of its own has in place of this SQLSTATE: from an ini
    /// always PgBouncer's only one.
    pub fn sqlstate(&self, sqlstate: &'static str) -> &'static str {
        if self.is_ini() { "08P01" } else { sqlstate }
    }

    /// Waits until so many clients wait for a server connection.
    #[track_caller]
    pub fn expect_waiting(&self, count: usize) {
        eventually("waiting clients", count, || {
            let number = |row: &BTreeMap<String, String>| row["cl_waiting"].parse().unwrap_or(0);
            self.show("POOLS").iter().map(number).sum::<usize>()
        });
    }

    /// Sends the same bytes through the pooler and to PostgreSQL; both must
    /// answer the same up to the last of so many ReadyForQuery.
    #[track_caller]
    pub fn same_as_postgres(&self, messages: &Frontend, ready: usize) -> Vec<Message> {
        let run = |mut client: RawClient| -> Vec<Message> {
            client.send(messages);
            (0..ready).flat_map(|_| client.read_until(b'Z')).collect()
        };
        let expected = run(self.direct());
        let seen = run(self.login());
        assert_eq!(seen, expected);
        seen
    }

    /// The highest resident memory in bytes since the last call, or since the
    /// start.
    pub fn peak_memory(&self) -> u64 {
        let peak = self.memory_line("VmHWM:");
        let Some((process, _)) = &self.process else {
            return 0;
        };
        // Linux, proc(5): resets the peak to what is resident now.
        fs::write(format!("/proc/{}/clear_refs", process.id()), "5").expect("clear_refs");
        peak
    }

    /// A libpq connection string.
    pub fn dsn(&self) -> String {
        self.dsn_of("app")
    }

    pub fn dsn_of(&self, user: &str) -> String {
        format!(
            "host={} port={} user={user} dbname={} sslmode=prefer gssencmode=disable",
            self.address.host(),
            self.address.port(),
            self.database
        )
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        self.memory_line("VmRSS:")
    }

    fn memory_line(&self, name: &str) -> u64 {
        let Some((process, _)) = &self.process else {
            return 0;
        };
        let path = format!("/proc/{}/status", process.id());
        let status = fs::read_to_string(path).expect("status");
        let line = status.lines().find(|line| line.starts_with(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        kilobytes
            .and_then(|kb| kb.parse::<u64>().ok())
            .expect("VmRSS")
            * 1024
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        let (process, _) = self.process.as_ref().expect("a pooler");
        process.id()
    }

    pub fn signal(&self, signal: Signal) {
        let (process, _) = self.process.as_ref().expect("a pooler");
        kill(Pid::from_raw(process.id() as i32), signal).expect("kill");
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        let (process, _) = self.process.as_mut().expect("a pooler");
        process.try_wait().expect("wait").is_none()
    }

    /// Waits until it has ended; returns its exit code, or minus the signal.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let (process, _) = self.process.as_mut().expect("a pooler");
        patiently("the pooler ends", || {
            let status = process.try_wait().expect("wait")?;
            Some(
                status
                    .code()
                    .unwrap_or_else(|| -status.signal().unwrap_or(0)),
            )
        })
    }

    /// Replaces the configuration file; who wants it read says so.
    pub fn rewrite(&mut self, change: impl FnOnce(Setup) -> Setup) {
        self.setup = change(self.setup.clone());
        self.setup.write(self.dir.path(), self.address.port());
    }

    /// Path of the configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if let Some((mut process, guard)) = self.process.take() {
            let _ = process.kill();
            let status = process.wait();
            guard.release();
            if std::thread::panicking() {
                let config = fs::read_to_string(&self.config).unwrap_or_default();
                eprintln!("--- the pooler's configuration\n{config}");
                eprintln!("--- the pooler's log ({status:?})\n{}---", self.log());
            }
        }
        // A test with many poolers must not leave databases behind that slow
        // the next ones; whoever is still connected is a server's leftover.
        if !std::thread::panicking()
            && let Ok(mut admin) = RawClient::try_login(&self.server, "postgres", "postgres", None)
        {
            let drop = format!("drop database if exists {} with (force)", self.database);
            admin.try_query(&drop);
        }
    }
}

/// Ends the whole test process, loudly, unless the sender is dropped in time.
fn watch(log: PathBuf) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel::<()>();
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let limit = std::env::var("PGWEIR_TEST_LIMIT").ok();
    let limit = limit.map_or(WATCHDOG, |limit| limit.parse().expect("seconds"));
    std::thread::spawn(move || {
        let mut length = 0;
        for _ in 0..4 {
            let limit = Duration::from_secs(limit);
            if receiver.recv_timeout(limit) != Err(mpsc::RecvTimeoutError::Timeout) {
                return;
            }
            // On a busy machine it may only be slow.
            let before = length;
            length = fs::metadata(&log).map_or(0, |file| file.len());
            if length == before {
                break;
            }
        }
        let log = fs::read_to_string(log).unwrap_or_default();
        // Not eprintln: that would be captured with the test's output.
        let text = format!("test {test} hangs; the pooler's log:\n{log}\n");
        let _ = std::io::stderr().write_all(text.as_bytes());
        std::process::exit(1);
    });
    sender
}
