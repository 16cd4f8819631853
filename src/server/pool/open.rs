//! Opening connections.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use tokio::sync::Notify;
use tracing::warn;

use super::take_back::Pace;
use super::{Failure, Farewell, Opening, Pool};
use crate::admin::snapshot::ServerState;
use crate::config::{Host, PoolConfig, PoolMode, SessionFeatures, Source};
use crate::flow::{Backend, Params};
use crate::net::tls::Connector;
use crate::net::{Outgoing, Stream};
use crate::pool::SharedBound;
use crate::reactor;
use crate::server::dial::DialError;
use crate::server::lease::{Attempt, Server, ServerInfo};
use crate::server::login::{Credential, LoggedIn};
use crate::server::login_error::ServerLoginError;
use crate::server::{cleanup, dial, login};
use crate::sql::effects::Features;
use crate::stats::add;
use crate::wire::build::Refusal;
use crate::wire::startup::Replication;

/// How old may be what is known of suspects when a connection is opened.
const SUSPECTS_KEPT: Duration = Duration::from_secs(60);

impl Pool {
    pub(super) fn keeps_minimum(&self) -> bool {
        !self.leaving.get() && (self.config.borrow().forced_user || self.clients.get() > 0)
    }

    /// Whether there is a connection that has been opened, whoever has it.
    pub(super) fn has_usable(&self) -> bool {
        self.book.borrow().part().total_open() > 0
    }

    /// Opens as many connections as are needed and allowed, all at once; one
    /// at a time while it is not known that the server lets us in.
    pub fn open_wanted(self: &Rc<Self>, now: Instant) {
        if self.book.borrow().place_is_next() {
            return self.place_made.notify_waiters();
        }
        let failure = self.failure();
        let unproved = failure.is_some() || !self.proved.get();
        if failure.is_some_and(|failure| now < failure.retry_at) {
            return;
        }
        if self.is_closing() || self.is_paused() {
            return;
        }
        let mut evicted = 0;
        loop {
            if unproved && self.book.borrow().opening_count() > 0 {
                return;
            }
            let keep_min = self.keeps_minimum();
            let begun = self.book.borrow_mut().begin_open(now, keep_min);
            match begun {
                Ok(false) => return,
                Ok(true) => {
                    if self.book.borrow().uses_reserve() {
                        self.tell_of_reserve();
                    }
                    reactor::spawn(open(self.clone()));
                }
                // `min_pool_size` alone takes nothing away from others.
                Err(_) if !self.has_waiters() => return,
                Err(bound) => {
                    // Somebody else's idle connection makes room.
                    let pools = self.pools.upgrade();
                    evicted += 1;
                    if evicted > 1000 || !pools.is_some_and(|p| p.evict_idle(&self.config(), bound))
                    {
                        return self.evict_elsewhere(bound);
                    }
                }
            }
        }
    }

    /// Closes the connection that was idle longest, for the good of another
    /// pool. False: none is idle.
    pub fn evict_one(&self) -> bool {
        let server = self.book.borrow_mut().evict_idle();
        let Some(server) = server else {
            return false;
        };
        self.hang_up(server, "evicted");
        true
    }

    pub fn has_waiters(&self) -> bool {
        self.book.borrow().waiting_count() > 0
    }

    pub fn is_idle_evictable(&self) -> Option<Instant> {
        let book = self.book.borrow();
        let mut idle = book.idle();
        idle.next().map(|(_, since)| since)
    }

    /// Whether there is something to open connections for.
    pub fn lacks_connections(&self) -> bool {
        self.has_waiters() || (self.keeps_minimum() && self.book.borrow().is_below_minimum())
    }

    pub fn shares_bound(&self, other: &PoolConfig, bound: SharedBound) -> bool {
        let config = self.config.borrow();
        match bound {
            SharedBound::Database => config.database == other.database,
            SharedBound::User => config.user == other.user,
        }
    }

    pub(super) fn admit(
        self: &Rc<Self>,
        config: &PoolConfig,
        connector: Arc<Connector>,
        opened: Opened,
        (read_only, generation): (bool, u64),
    ) -> Box<Server> {
        let mut params = reported(&opened.logged_in);
        if read_only {
            // It is the pooler's doing, and nothing that a client has to know or
            // that must be set back.
            for name in [&b"in_hot_standby"[..], b"default_transaction_read_only"] {
                if params.get(name).is_some() {
                    params.set(name, b"off", true);
                }
            }
        }
        let outdated = self.is_outdated(config, &connector)
            || read_only != self.read_only.get()
            || generation < self.greeting.generation();
        if !outdated {
            self.greeting
                .set_welcome(config, generation, params.clone());
            self.proved.set(true);
        }
        let now = Instant::now();
        if self.greeting.succeed(now) {
            // Others wait for the time of the next attempt.
            self.alert_others();
        }
        let server = self.server(opened, params, connector, (read_only, generation), None);
        server.info.close_needed.set(outdated);
        server
    }

    /// A new connection, which is in the list from now on.
    pub(super) fn server(
        &self,
        opened: Opened,
        params: Params,
        connector: Arc<Connector>,
        (read_only, generation): (bool, u64),
        replication: Option<Replication>,
    ) -> Box<Server> {
        let Opened {
            id,
            host,
            stream,
            logged_in,
        } = opened;
        let params = self.local.params.borrow_mut().intern(params);
        let now = Instant::now();
        let info = Rc::new(ServerInfo {
            id,
            host,
            peer: stream.peer_addr(),
            local: stream.local_addr(),
            descriptor: stream.descriptor(),
            key: logged_in.backend_key,
            encryption: stream.encryption(),
            replication,
            read_only,
            generation,
            connector,
            born: now,
            connect_time: SystemTime::now(),
            request_time: Cell::new(now),
            linked_at: Cell::new(now),
            asked_at: Cell::new(now),
            idle_since: Cell::new(None),
            checked: Cell::new(now),
            state: Cell::new(ServerState::New),
            close_needed: Cell::new(false),
            close_reason: Cell::new(None),
            doomed: Cell::new(false),
            forsaken: Cell::new(false),
            silent: Cell::new(false),
            link: Cell::new(None),
            prepared_statements: Cell::new(0),
            pins: Cell::new(Features::empty()),
            cancels: Cell::new(0),
            cancels_over: Notify::new(),
            held: Cell::new(0),
            unsent: Cell::new(0),
            rest: Cell::new(0),
            client_rest: Cell::new(0),
        });
        self.servers.borrow_mut().insert(info.clone());
        add(&self.counters.server_connect_count, 1);
        let config = self.config.borrow();
        let schema = self.local.statements.borrow().schema(&config.dbname);
        let backend = Backend::new(params, config.max_prepared_statements).of(schema);
        Box::new(Server {
            stream,
            backend,
            info,
            input: Vec::new(),
            output: Outgoing::default(),
            one_by_one: false,
            may_write: true,
            attempt: Attempt::default(),
        })
    }

    /// A connection to its host that is in no book.
    pub(in crate::server) async fn open_aside(self: &Rc<Self>) -> Result<Stream, OpenError> {
        let config = self.config();
        let host = config.hosts.first().ok_or(OpenError::NoHost)?;
        let connector = self.local.connector(&config.server_tls);
        let (stream, _) = open_at(self, &config, (host, None), &connector, (None, CHECK)).await?;
        Ok(stream)
    }

    /// A connection that is in no book, wherever the pool's own would lead. These
    /// startup parameters go before those of the configuration.
    pub(in crate::server) async fn open_beside(
        &self,
        more: Parameters<'_>,
    ) -> Result<Opened, OpenError> {
        let config = self.config();
        let connector = self.local.connector(&config.server_tls);
        let opened = reach(self, &config, &connector, more).await;
        opened.map_err(|(_, error)| error)
    }

    /// Has those who come told, or sent elsewhere, until it may be tried again.
    /// True: nobody is to wait for it.
    pub(super) fn remember_failure(self: &Rc<Self>, place: &str, error: &OpenError) -> bool {
        let config = self.config();
        let db = &config.database;
        let user = &config.user;
        if let OpenError::Login(ServerLoginError::Server(error)) = error {
            let reason = error.message();
            warn!(%db, %user, addr = place, %reason, "server login failed");
        } else {
            warn!(%db, %user, addr = place, reason = %error, "cannot open a server connection");
        }
        add(&self.counters.server_connect_failed_count, 1);
        let attempt = format!("The last attempt went to {place}.");
        let again = format!(
            "Tried again after server_login_retry ({} s).",
            config.server_login_retry.as_secs_f64()
        );
        let cached = match error {
            OpenError::Login(ServerLoginError::Server(error)) if config.source != Source::Ini => {
                Farewell::of_server(&error.with_detail(&format!("{attempt} {again}")))
            }
            error => Farewell::refusal(
                &Refusal::fatal(
                    error.sqlstate(),
                    format!(
                        "server login has been failing, cached error: {} (server_login_retry)",
                        error.text()
                    ),
                )
                .detail(attempt)
                .hint(error.hint().unwrap_or(again)),
            ),
        };
        let now = Instant::now();
        let ejected = self.eject(now, error);
        self.greeting.fail(Failure {
            text: error.text(),
            config: PoolConfig::clone(&config),
            connector: self.local.connector(&config.server_tls),
            retry_at: ejected.unwrap_or(now + config.server_login_retry),
            cached,
            refused: error.is_refusal(),
        });
        ejected.is_some()
    }

    fn open_failed(self: &Rc<Self>, place: &str, error: &OpenError) {
        let ejected = self.remember_failure(place, error);
        self.book.borrow_mut().open_failed();
        // A refused login fails everybody who waits, unless there are
        // connections to wait for (the server may have no room for more); a
        // server that cannot be reached, or is starting, is waited for. Who waits
        // for an ejected replica is sent elsewhere.
        let told = !ejected && !self.has_usable();
        if let Some(farewell) = error.farewell().filter(|_| told) {
            let wakers = self.book.borrow_mut().fail_all(&farewell);
            for waker in wakers {
                waker.wake();
            }
        }
        self.after_close();
        self.wake();
    }
}

/// Startup parameters beside those of the configuration, before which they go.
type Parameters<'a> = &'a [(&'a str, &'a str)];

/// Startup parameters of a connection that must not write, and of one that only
/// asks how the server is.
const READ_ONLY: Parameters<'_> = &[("default_transaction_read_only", "on")];
const CHECK: Parameters<'_> = &[("application_name", "pgweir host check")];

/// The attempt to open one connection.
async fn open(pool: Rc<Pool>) {
    let config = pool.config();
    let connector = pool.local.connector(&config.server_tls);
    let generation = pool.greeting.generation();
    let read_only = pool.read_only.get();
    let more = if read_only { READ_ONLY } else { &[] };
    let opened = match reach(&pool, &config, &connector, more).await {
        Ok(opened) => opened,
        Err(_) if pool.is_outdated(&config, &connector) => {
            // A reload came meanwhile: this says nothing about what holds now.
            pool.book.borrow_mut().open_failed();
            return pool.after_close();
        }
        Err((place, error)) => return pool.open_failed(&place, &error),
    };
    let server = pool.admit(&config, connector, opened, (read_only, generation));
    pool.book.borrow_mut().opened();
    prepare(&pool, server, Instant::now());
    // The server lets us in: the others that are wanted need not come one by
    // one. And more than min_pool_size may now be idle for too long.
    let now = Instant::now();
    pool.open_wanted(now);
    pool.arm(pool.book.borrow().next_deadline(now));
}

/// What is to be done on a new connection before it is used.
fn prepare(pool: &Rc<Pool>, server: Box<Server>, now: Instant) {
    let config = pool.config();
    let carries =
        config.session_features != SessionFeatures::Ignore && config.pool_mode != PoolMode::Session;
    let asked = pool.suspects_asked.get();
    let due = carries && asked.is_none_or(|asked| now - asked >= SUSPECTS_KEPT);
    if due {
        pool.suspects_asked.set(Some(now));
    } else if config.connect_query.is_none() {
        return pool.reuse(server, now);
    }
    pool.housekeeping(server, Pace::Quick, move |pool, server| {
        Box::pin(async move {
            if let Some(query) = &config.connect_query {
                match cleanup::run(server, &pool, query).await {
                    // It is logged, and the connection used all the same, as in
                    // PgBouncer.
                    Err(error @ cleanup::CleanupError::Query { .. }) => {
                        let conn = pool.log_server(&server.info);
                        warn!(%conn, reason = %error, "connect_query failed");
                    }
                    other => other?,
                }
            }
            match due {
                true => cleanup::look_for_suspects(server, &pool).await,
                false => Ok(()),
            }
        })
    });
}

/// A connection that is in no list yet.
pub(in crate::server) struct Opened {
    pub id: u64,
    pub host: Host,
    pub stream: Stream,
    pub logged_in: LoggedIn,
}

/// A connection to the next host, and if that cannot be reached, to the first of
/// the others that can. Otherwise why not, and where the last attempt went.
pub(super) async fn reach(
    pool: &Pool,
    config: &PoolConfig,
    connector: &Connector,
    more: Parameters<'_>,
) -> Result<Opened, (String, OpenError)> {
    let count = config.hosts.len();
    let first = match config.load_balance_hosts {
        true => pool.next_host.replace(pool.next_host.get().wrapping_add(1)),
        false => pool.next_host.get(),
    };
    let hosts = config.hosts.iter().cycle().skip(first % count.max(1));
    let replication = more.iter().find(|(name, _)| *name == "replication");
    let replication =
        replication.and_then(|(_, value)| Replication::parse(value.as_bytes()).ok()?);
    for (tried, host) in hosts.take(count).enumerate() {
        let local = local_socket(pool, config, host).await;
        let (host, stream) = local.map_or((host.clone(), None), |(at, stream)| (at, Some(stream)));
        let (opening, begun) = (pool.list_opening(&host, replication), Instant::now());
        let with = (Some(&*opening), more);
        let result = open_at(pool, config, (&host, stream), connector, with).await;
        let id = opening.id;
        drop(opening);
        if let Err(error) = &result {
            let of_ini = replication.is_none() && config.source == Source::Ini;
            pool.log_close(id, &host, &error.end(of_ini), begun);
        }
        match result {
            Ok((stream, logged_in)) => {
                return Ok(Opened {
                    id,
                    host,
                    stream,
                    logged_in,
                });
            }
            Err(error) if tried + 1 < count && error.farewell().is_none() => {
                let (db, user, addr) = (&config.database, &config.user, dial::place(&host));
                warn!(%db, %user, addr, reason = %error, "trying the next host");
                if !config.load_balance_hosts {
                    pool.next_host.set(first.wrapping_add(tried + 1));
                }
            }
            Err(error) => return Err((dial::place(&host), error)),
        }
    }
    Err((String::new(), OpenError::NoHost))
}

/// What the server said of its settings.
pub(super) fn reported(logged_in: &LoggedIn) -> Params {
    let mut params = Params::default();
    for (name, value) in &logged_in.parameters {
        params.set(name.as_bytes(), value, true);
    }
    params
}

/// The Unix socket of this host and a connection to it, where one is preferred
/// and there is one.
async fn local_socket(pool: &Pool, config: &PoolConfig, host: &Host) -> Option<(Host, Stream)> {
    let socket = config.local_sockets.as_ref()?.of(host)?;
    match dial::connect_local(&socket).await {
        Ok(stream) => {
            pool.without_socket.set(false);
            Some((socket, stream))
        }
        Err(error) => {
            if !pool.without_socket.replace(true) {
                let (db, user, addr) = (&config.database, &config.user, dial::place(&socket));
                warn!(%db, %user, addr, reason = %error, "connecting by TCP, in spite of \
                    prefer_unix_socket");
            }
            None
        }
    }
}

/// `stream`: a connection that is there already. `opening`: how it is listed, and
/// to be logged.
async fn open_at(
    pool: &Pool,
    config: &PoolConfig,
    (host, stream): (&Host, Option<Stream>),
    connector: &Connector,
    (opening, more): (Option<&Opening>, Parameters<'_>),
) -> Result<(Stream, LoggedIn), OpenError> {
    let credential = pool.greeting.credential();
    let proof = (&credential, more);
    let attempt = open_stream(pool, config, (host, stream), connector, proof, opening);
    match config.server_connect_timeout {
        Some(limit) => match reactor::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => Err(OpenError::Timeout(limit)),
        },
        None => attempt.await,
    }
}

async fn open_stream(
    pool: &Pool,
    config: &PoolConfig,
    (host, stream): (&Host, Option<Stream>),
    connector: &Connector,
    (credential, more): (&Credential, Parameters<'_>),
    opening: Option<&Opening>,
) -> Result<(Stream, LoggedIn), OpenError> {
    let keys = &pool.local.derived_keys;
    let mut stream = match stream {
        Some(stream) => stream,
        None => {
            let means = (&pool.local.dns, keys.hashing());
            dial::connect(host, &config.tcp, connector, means).await?
        }
    };
    if let Some(opening) = opening {
        let local = stream.local_addr();
        opening.ends.set(Some((stream.peer_addr(), local)));
        pool.log_open(opening.id, host, local);
    }
    let mut startup = vec![
        ("user", credential.user.as_str()),
        ("database", config.dbname.as_str()),
    ];
    let own = config.startup.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let given = |name: &str| {
        more.iter()
            .any(|(other, _)| name.eq_ignore_ascii_case(other))
    };
    startup.extend(own.filter(|(name, _)| !given(name)));
    startup.extend(more);
    let binding = stream.peer_end_point();
    let binding = binding.as_deref();
    let logged_in = login::login(&mut stream, &startup, credential, keys, binding).await?;
    Ok((stream, logged_in))
}

#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum OpenError {
    #[error("no host")]
    NoHost,
    #[error("no connection in time (host_check_timeout)")]
    Trial,
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("connect timeout (server_connect_timeout, {} s)", .0.as_secs_f64())]
    Timeout(Duration),
    #[error(transparent)]
    Login(#[from] ServerLoginError),
}

impl OpenError {
    pub(in crate::server) fn text(&self) -> String {
        match self {
            OpenError::Login(ServerLoginError::Server(error)) => error.message().into_owned(),
            other => other.to_string(),
        }
    }

    /// How the attempt ended, in PgBouncer's words; `of_ini`: in all of them.
    fn end(&self, of_ini: bool) -> Cow<'_, str> {
        match self {
            OpenError::Dial(DialError::Connect(_) | DialError::Handshake(_)) => {
                "connect failed".into()
            }
            OpenError::Timeout(_) => "connect timeout".into(),
            OpenError::Login(ServerLoginError::Io(_)) => "server conn crashed?".into(),
            OpenError::Login(ServerLoginError::Server(error)) if of_ini => error.message(),
            OpenError::Login(_) => "login failed".into(),
            other => other.to_string().into(),
        }
    }

    fn sqlstate(&self) -> &'static str {
        "08P01"
    }

    pub(super) fn hint(&self) -> Option<String> {
        match self {
            OpenError::Login(error) => error.hint().map(|hint| hint.into_owned()),
            OpenError::Dial(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }

    /// The server has answered, and does not let this user in.
    pub(in crate::server) fn is_refusal(&self) -> bool {
        self.farewell().is_some()
    }

    /// It says nothing of the server: this process lacks something.
    pub(super) fn is_ours(&self) -> bool {
        let OpenError::Dial(DialError::Connect(error)) = self else {
            return false;
        };
        let ours = [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL];
        let number = error.raw_os_error();
        number.is_some_and(|number| ours.contains(&Errno::from_raw(number)))
    }

    /// The server has no room for more connections (too_many_connections).
    pub(super) fn is_full(&self) -> bool {
        let OpenError::Login(ServerLoginError::Server(error)) = self else {
            return false;
        };
        error.sqlstate() == "53300"
    }

    /// What those who wait are told; `None`: they go on waiting.
    fn farewell(&self) -> Option<Arc<Farewell>> {
        let OpenError::Login(error) = self else {
            return None;
        };
        match error {
            ServerLoginError::Io(_) => None,
            // admin_shutdown, crash_shutdown, cannot_connect_now: the server is stopping,
            // also in the middle of a login, or starting.
            ServerLoginError::Server(server)
                if matches!(&*server.sqlstate(), "57P01" | "57P02" | "57P03") =>
            {
                None
            }
            ServerLoginError::Server(server) => Some(Farewell::of_server(server)),
            other => {
                let mut refusal = Refusal::fatal("08P01", other.to_string());
                refusal.hint = other.hint().map(|hint| hint.into_owned());
                Some(Farewell::refusal(&refusal))
            }
        }
    }
}
