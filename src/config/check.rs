//! What is wrong with a configuration although each value is fine by itself.

use super::choice::{AuthType, Choice, HostRole, SslMode};
use super::draft::{Draft, Report, Section};
use super::key::{Status, Table};
use super::load::Source;
use super::mistake::Place;
use super::objects::{DatabaseConfig, HostEntry};
use super::pool_config::{PoolMode, ServerTls, is_loopback};
use crate::pool::MAX_WORKERS;
use crate::wire::cancel_key::MAX_PEER;

const NO_PORT: &str = "`port`: there is no port 0";

/// Names of the console's database.
pub const CONSOLE: [&str; 2] = ["pgbouncer", "pgweir"];

/// Reports contradictions as mistakes, and returns what an operator should know.
pub(super) fn check(draft: &mut Draft, source: Source, whole: Place) -> Vec<String> {
    // What is missing may stand in a line that could not be read.
    let complete = draft.report.mistakes.is_empty();
    let mut check = Check {
        whole,
        source,
        notices: Vec::new(),
        draft,
    };
    check.not_built();
    check.general();
    check.tls();
    check.listen();
    check.databases();
    check.peers();
    if complete {
        check.missing();
    }
    check.notices
}

struct Check<'a> {
    draft: &'a mut Draft,
    source: Source,
    /// For what stands nowhere.
    whole: Place,
    notices: Vec<String>,
}

impl Check<'_> {
    /// Where the key stands, or the global one that holds in its place.
    fn place(&self, section: &Section, key: &str) -> Place {
        let report = &self.draft.report;
        let place = report
            .place(section, key)
            .or_else(|| {
                report
                    .place(&Section::General, key)
                    .filter(|_| !key.is_empty())
            })
            .or_else(|| report.place(section, ""));
        place.unwrap_or(&self.whole).clone()
    }

    fn mistake(&mut self, section: &Section, key: &str, message: impl Into<String>) {
        let place = self.place(section, key);
        self.draft.report.mistake(&place, message);
    }

    /// A mistake, except in an ini, where PgBouncer starts regardless.
    fn strict(&mut self, section: &Section, key: &str, message: &str) {
        match self.source {
            Source::Ini => self.notice(section, key, message),
            Source::Toml | Source::CommandLine => self.mistake(section, key, message),
        }
    }

    fn notice(&mut self, section: &Section, key: &str, message: &str) {
        let place = self.place(section, key);
        self.notices.push(format!("{place}: {message}"));
    }

    /// Only an ini gets this far with keys that are not built.
    fn not_built(&mut self) {
        let Draft {
            general,
            databases,
            users,
            report,
            ..
        } = &*self.draft;
        let mut notices = Vec::new();
        ignored(general, &Section::General, report, &mut notices);
        for (name, database) in databases {
            let section = Section::Database(name.clone());
            ignored(database, &section, report, &mut notices);
        }
        for (name, user) in users {
            ignored(user, &Section::User(name.clone()), report, &mut notices);
        }
        self.notices.append(&mut notices);
    }

    fn general(&mut self) {
        let general = self.draft.general.clone();
        let section = &Section::General;
        if general.auth_type == AuthType::Hba && general.auth_hba_file.is_none() {
            self.mistake(section, "auth_type", "auth_type=hba needs auth_hba_file");
        }
        if general.auth_type == AuthType::Cert && general.client_tls_sslmode < SslMode::VerifyCa {
            let message = "auth_type=cert needs client_tls_sslmode=verify-full";
            self.mistake(section, "auth_type", message);
        }
        if !general.auth_type.is_built() {
            let message = format!("auth_type={} is not built yet", general.auth_type.word());
            self.mistake(section, "auth_type", message);
        }
        if let Some(feature) = general.auth_type.missing_feature() {
            let word = general.auth_type.word();
            let message = format!(
                "auth_type={word}: this pgweir was built without it; build with --features {feature}"
            );
            self.mistake(section, "auth_type", message);
        } else if general.auth_type == AuthType::Ldap && general.auth_ldap_options.is_none() {
            self.mistake(
                section,
                "auth_type",
                "auth_type=ldap needs auth_ldap_options",
            );
        }
        if general.workers as usize > MAX_WORKERS {
            self.mistake(
                section,
                "workers",
                format!(
                    "workers={}: there can be {MAX_WORKERS} at most",
                    general.workers
                ),
            );
        }
    }

    fn tls(&mut self) {
        let general = self.draft.general.clone();
        let mode = general.client_tls_sslmode;
        let has_key =
            general.client_tls_key_file.is_some() && general.client_tls_cert_file.is_some();
        let needed = match mode {
            SslMode::Disable => None,
            _ if !has_key => Some("client_tls_key_file and client_tls_cert_file"),
            SslMode::VerifyCa | SslMode::VerifyFull if general.client_tls_ca_file.is_none() => {
                Some("client_tls_ca_file")
            }
            _ => None,
        };
        if let Some(needed) = needed {
            let message = format!("client_tls_sslmode={} needs {needed}", mode.word());
            self.mistake(&Section::General, "client_tls_sslmode", message);
        }
        self.server_tls(&Section::General, &ServerTls::usual(&general));
    }

    fn server_tls(&mut self, section: &Section, tls: &ServerTls) {
        let needed = match tls.sslmode {
            SslMode::Disable => return,
            SslMode::VerifyCa | SslMode::VerifyFull if tls.ca_file.is_none() => {
                "server_tls_ca_file"
            }
            _ if tls.key_file.is_some() != tls.cert_file.is_some() => {
                "server_tls_key_file and server_tls_cert_file together"
            }
            _ => return,
        };
        let message = format!("server_tls_sslmode={} needs {needed}", tls.sslmode.word());
        self.mistake(section, "server_tls_sslmode", message);
    }

    fn listen(&mut self) {
        let general = self.draft.general.clone();
        let section = &Section::General;
        if general.listen_addr.is_empty() && general.unix_socket_dir.is_empty() {
            self.mistake(
                section,
                "unix_socket_dir",
                "nowhere to listen on: set listen_addr or unix_socket_dir",
            );
        }
        if let Some(address) = &general.stats_listen
            && !is_host_and_port(address)
        {
            self.mistake(
                section,
                "stats_listen",
                format!("`stats_listen`: `{address}` is not an address with a port, such as 127.0.0.1:9127"),
            );
        }
        let addresses = &general.listen_addr;
        if self.source == Source::CommandLine
            && general.auth_type == AuthType::Any
            && let Some(open) = addresses.iter().find(|address| !is_loopback(address))
        {
            self.mistake(
                section,
                "listen_addr",
                format!(
                    "listening on `{open}` would let anybody in without a password: \
                     give a file with users, or listen on 127.0.0.1 only"
                ),
            );
        }
    }

    fn missing(&mut self) {
        if self.draft.databases.is_empty() {
            self.strict(&Section::General, "", "there is no database");
        }
        let general = &self.draft.general;
        let users = &self.draft.users;
        let mut databases = self.draft.databases.values();
        let known = match general.auth_type {
            // Somebody else may know them, by a rule as well.
            AuthType::Any | AuthType::Ldap | AuthType::Pam | AuthType::Hba => true,
            _ if general.auth_user.is_some() || databases.any(|db| db.auth_user.is_some()) => true,
            AuthType::Trust => general.auth_file.is_some() || !users.is_empty(),
            _ => general.auth_file.is_some() || users.values().any(|user| user.password.is_some()),
        };
        if !known {
            let word = general.auth_type.word();
            self.strict(
                &Section::General,
                "auth_type",
                &format!(
                    "nobody can log in with auth_type={word}: there is neither \
                     auth_file nor auth_user nor a user with a password"
                ),
            );
        }
    }

    fn peers(&mut self) {
        let own = self.draft.general.peer_id;
        if own > MAX_PEER {
            let message = format!("peer_id={own}: the highest number is {MAX_PEER}");
            self.mistake(&Section::General, "peer_id", message);
        }
        for (id, peer) in self.draft.peers.clone() {
            let section = Section::Peer(id);
            if id == 0 || id > MAX_PEER {
                let message = format!("a peer's number is 1 to {MAX_PEER}, not {id}");
                self.mistake(&section, "", message);
            }
            if peer.host.is_none() {
                self.mistake(&section, "", format!("peer {id} has no host"));
            }
            if peer.port == 0 {
                self.mistake(&section, "port", NO_PORT.to_owned());
            }
            if own == 0 {
                self.notice(&section, "", "peers have no effect without `peer_id`");
            }
        }
    }

    /// Where users are looked up must be a database, and not the console's.
    fn auth_dbname(&mut self, section: &Section, name: &Option<String>) {
        let Some(name) = name else { return };
        let databases = &self.draft.databases;
        let message = if CONSOLE.contains(&name.as_str()) {
            let message = format!("cannot use the reserved \"{name}\" database as an auth_dbname");
            if *section == Section::General {
                return self.mistake(section, "auth_dbname", message);
            }
            message
        } else if !databases.contains_key(name) && !databases.contains_key("*") {
            format!("authentication database \"{name}\" is not configured")
        } else {
            return;
        };
        self.strict(section, "auth_dbname", &message);
    }

    fn databases(&mut self) {
        let global = self.draft.general.auth_dbname.clone();
        self.auth_dbname(&Section::General, &global);
        for (name, database) in self.draft.databases.clone() {
            let section = Section::Database(name.clone());
            if CONSOLE.contains(&name.as_str()) {
                self.mistake(
                    &section,
                    "",
                    format!("`{name}` is the console's name and cannot be a database"),
                );
            }
            self.database(&section, &name, &database);
        }
    }

    fn database(&mut self, section: &Section, name: &str, database: &DatabaseConfig) {
        self.auth_dbname(section, &database.auth_dbname);
        let general = &self.draft.general;
        let hostless = database.host.is_none() && database.hosts.is_none();
        let pool_size = database.pool_size.unwrap_or(general.default_pool_size);
        let min_pool_size = database.min_pool_size.unwrap_or(general.min_pool_size);
        let anybody = general.auth_type == AuthType::Any;
        let mode = database.pool_mode.unwrap_or(general.pool_mode);
        let tls = database.server_tls(general);
        let own_tls = tls != ServerTls::usual(general);
        if hostless && general.unix_socket_dir.is_empty() {
            let message = format!("database `{name}` has no host, and unix_socket_dir is empty");
            self.mistake(section, "", message);
        }
        if database.port == Some(0) {
            self.mistake(section, "port", NO_PORT.to_owned());
        }
        if own_tls {
            self.server_tls(section, &tls);
        }
        if database.hosts.is_some() && (database.host.is_some() || database.port.is_some()) {
            let message = "give either `hosts` or `host` and `port`";
            self.mistake(section, "hosts", message);
        }
        if database.user.is_none() && database.password.is_some() {
            let message = "`password` without `user` has no effect";
            self.strict(section, "password", message);
        }
        if database.user.is_none() && anybody {
            let message = format!("auth_type=any needs a `user` for database `{name}`");
            self.strict(section, "", &message);
        }
        if database.route_reads && mode == PoolMode::Session {
            let message = format!(
                "database `{name}`: `route_reads` has no effect with pool_mode=session, where a \
                 client keeps one server connection"
            );
            self.strict(section, "route_reads", &message);
        }
        if database.rules.is_some() && !database.route_reads {
            let message = "`rules` have no effect without `route_reads`";
            self.strict(section, "rules", message);
        }
        let hosts = database.hosts.as_deref().unwrap_or_default();
        let plain = HostEntry::default();
        if !database.route_reads
            && hosts
                .iter()
                .any(|host| (host.weight, host.role) != (plain.weight, plain.role))
        {
            let message = format!(
                "database `{name}`: `weight` and `role` of a host have no effect without \
                 `route_reads`"
            );
            self.strict(section, "hosts", &message);
        }
        if database.route_reads
            && !hosts.is_empty()
            && hosts.iter().all(|host| host.role == HostRole::Replica)
        {
            let message = format!("database `{name}`: none of the hosts may be the primary");
            self.mistake(section, "hosts", message);
        }
        if pool_size != 0 && min_pool_size > pool_size {
            let message = format!(
                "database `{name}`: min_pool_size={min_pool_size} is more than the \
                 pool may have: {pool_size}"
            );
            self.notice(section, "min_pool_size", &message);
        }
    }
}

fn is_host_and_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Notes keys that are set, to something else than the default, and not built.
fn ignored<T: Table>(table: &T, section: &Section, report: &Report, notices: &mut Vec<String>) {
    let default = T::default();
    for key in T::KEYS.iter().filter(|key| key.status == Status::NotBuilt) {
        if let Some(place) = report.place(section, key.name)
            && !(key.same)(table, &default)
        {
            let name = key.name;
            notices.push(format!(
                "{place}: `{name}` is not built yet and has no effect"
            ));
        }
    }
}
