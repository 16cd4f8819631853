//! Lets a client in: who it is, which database, which parameters.

use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tracing::{Level, debug, enabled, error, info};

use super::auth::{self, Authenticated, LoginError, authenticate, entrust};
use super::farewell::{Who, address};
use super::identity::{self, Asked, Proof};
use super::info::{CancelKey, ClientInfo, Party};
use super::lookup::Account;
use super::replication;
use super::session::Client;
use super::startup::{Arrival, Begun, Failure};
use crate::admin::console::{self, Identity};
use crate::admin::{self, Access};
use crate::auth::{Demand, Method};
use crate::config::{CONSOLE, Config, PoolConfig, PoolMode, Reads, Settings, Source};
use crate::flow::{Naming, Params, ROLE, Session, error_fields, role_of};
use crate::net::{PeerAddr, Stream};
use crate::server::login::Credential;
use crate::server::{Farewell, Pool, cleanup};
use crate::stats::add;
use crate::wire::TxStatus;
use crate::wire::build::{self, Refusal, Severity};
use crate::wire::startup::{OptionsError, Replication, Startup, split_options};
use crate::worker::Worker;
use crate::worker::lookups::Found;

/// The newest minor version of protocol 3 that is spoken.
const NEWEST_MINOR: u16 = 2;
/// PostgreSQL cuts longer names (NAMEDATALEN - 1).
const MAX_NAME: usize = 63;

/// A client that has been told that it may begin.
pub(super) struct Welcomed {
    session: Session,
    info: ClientInfo,
    pool: Rc<Pool>,
}

impl Welcomed {
    pub fn into_client(self, stream: Stream, worker: &Rc<Worker>) -> Client {
        let info = Rc::new(self.info);
        worker.enlist(info.clone());
        Client::new(stream, self.session, info, (self.pool, worker.clone()))
    }
}

/// From the startup packet to ReadyForQuery. Not cancel safe.
pub(super) async fn login(
    stream: &mut Stream,
    startup: Startup,
    id: u64,
    worker: &Rc<Worker>,
    arrival: Arrival<'_>,
) -> Result<Begun, Failure> {
    let Arrival {
        newcomer,
        seat,
        end_point,
        proved,
        ..
    } = arrival;
    negotiate(stream, &startup).await?;
    let terms = worker.terms();
    let general = &terms.config.general;
    let user = name(&startup, "user")?
        .filter(|user| !user.is_empty())
        .ok_or_else(|| Refusal::fatal("28000", "no username supplied"))?;
    let database = name(&startup, "database")?.filter(|db| !db.is_empty());
    let database = database.unwrap_or_else(|| user.clone());
    let replication = match startup.get("replication") {
        Some(value) => Replication::parse(value).map_err(|error| {
            Refusal::fatal("22023", error.to_string())
                .hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".")
        })?,
        None => None,
    };
    let console = CONSOLE.contains(&database.as_str());
    let admission = match console {
        true => None,
        false => Some(worker.admit(seat, stream, &database, &user)?),
    };
    if general.log_connections {
        let addr = address(stream.peer_addr(), stream.peer_pid(), &terms.config);
        let conn = format!("C-{id}");
        let replication = match replication {
            None => "no",
            Some(Replication::Physical) => "yes",
            Some(Replication::Logical) => "database",
        };
        let tls = stream.encryption();
        let tls = tls.map_or("no".to_owned(), |tls| tls.to_string());
        info!(conn, db = %database, %user, %addr, tls, replication, "login attempt");
    }
    if !console {
        worker.check_enabled(&database)?;
    }
    let own = console && identity::is_own_user(stream, &user);
    let (authenticated, found) = match own {
        true => Default::default(),
        false => {
            let (database, user) = (&database, &user);
            let asked = Asked {
                database,
                user,
                replication,
            };
            prove(stream, asked, end_point, (id, worker)).await?
        }
    };
    // The server may know it by another name.
    let user = found.as_ref().map_or(user, |found| found.user.clone());
    // It has proved itself; it may wait for a server connection from here on.
    drop(newcomer);
    proved.set(true);
    let Some(admission) = admission else {
        return enter_console(stream, (&user, own), &startup, id, worker).await;
    };
    let unknown = || {
        if general.log_connections {
            let addr = address(stream.peer_addr(), stream.peer_pid(), &terms.config);
            let conn = format!("C-{id}");
            info!(conn, db = %database, %user, %addr, "login failed");
        }
        // invalid_catalog_name
        Refusal::fatal("3D000", format!("no such database: {database}"))
    };
    let config = terms.config.pool(&database, &user).ok_or_else(|| {
        unknown().hint("Add it to the databases of the configuration, or a \"*\" for all others.")
    })?;
    let any = general.auth_type.method() == Some(Method::Any);
    if any && !config.forced_user {
        return Err(Refusal::fatal("08P01", "bouncer config error")
            .hint("auth_type = any needs a user in the database's definition.")
            .into());
    }
    let credential = credential(&config, &user, (&authenticated, found.as_ref()), worker);
    let mode = config.pool_mode;
    let pool = worker.pool(config, credential);
    if let Some(replication) = replication {
        let ignored = &general.ignore_startup_parameters;
        // Boxed: other logins should not be larger for what opens a connection.
        let open = replication::open(stream, pool, replication, &startup, ignored);
        let opened = Box::pin(open).await?;
        let welcomed = opened
            .welcome(stream, (id, startup.minor), admission, worker)
            .await?;
        return Ok(Begun::Replication(Box::new(welcomed)));
    }
    let mut asked = asked_parameters(&startup, general, terms.config.source)?;
    if general.application_name_add_host {
        add_host(&mut asked, stream, general.listen_port);
    }
    let role = asked_role(&mut asked, mode)?;
    // Waiting for a server connection is of no use to a client that has gone.
    let agreed = async {
        let pool = pool.ready().await;
        let params = agree_on_parameters(&pool, &asked).await?;
        Ok::<_, Failure>((pool, params))
    };
    let (pool, params) = tokio::select! {
        agreed = agreed => agreed?,
        () = stream.closed() => return Err(Failure::Gone(ErrorKind::UnexpectedEof.into())),
    };

    if terms.config.source == Source::Ini && enabled!(Level::DEBUG) {
        let addr = address(stream.peer_addr(), stream.peer_pid(), &terms.config);
        log_canonical(&asked, &params, (id, &database, &user, &addr.to_string()));
    }
    let cancel_key = welcome(stream, startup.minor, &params, worker).await?;
    add(&pool.counters.client_login_count, 1);
    let config = pool.config();
    let info = ClientInfo::new(
        id,
        cancel_key,
        Party::Client(admission, pool.clone()),
        stream,
        params.clone(),
    );
    Ok(Begun::Client(Box::new(Welcomed {
        session: session(&config, terms.config.source, params).starting_with(role),
        info,
        pool,
    })))
}

/// Of a client of this pool, which begins with these parameters. `source`: whose way it
/// is to be treated in if it makes mistakes.
pub(super) fn session(config: &PoolConfig, source: Source, params: Rc<Params>) -> Session {
    let naming = match source {
        _ if config.max_prepared_statements == 0 => Naming::TheServers,
        Source::Ini => Naming::TheClientsStrictly,
        Source::Toml | Source::CommandLine => Naming::TheClients,
    };
    Session::new(config.pool_mode, naming, params)
        .carrying(config.session_features, config.pin_sequences)
}

/// Answers a minor version that we do not speak, or options that we do not
/// know. Manual, "Message Formats", NegotiateProtocolVersion.
async fn negotiate(stream: &mut Stream, startup: &Startup) -> Result<(), Failure> {
    let names = startup.parameters.iter().map(|(name, _)| name.as_slice());
    let unknown: Vec<&[u8]> = names.filter(|name| name.starts_with(b"_pq_.")).collect();
    if startup.minor > NEWEST_MINOR || !unknown.is_empty() {
        let mut out = Vec::new();
        let minor = startup.minor.min(NEWEST_MINOR);
        build::negotiate_protocol_version(&mut out, minor, &unknown);
        stream.write_all(&out).await?;
    }
    Ok(())
}

/// Names of users and databases are looked up as text.
fn name(startup: &Startup, key: &str) -> Result<Option<String>, Refusal> {
    let Some(bytes) = startup.get(key) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Refusal::fatal("08P01", format!("{key} name is not valid UTF-8")))?;
    if text.len() >= 128 {
        return Err(Refusal::fatal("08P01", format!("{key}name too long")));
    }
    Ok(Some(text.to_owned()))
}

/// What the client has proved, and what the server was asked about it.
async fn prove(
    stream: &mut Stream,
    asked: Asked<'_>,
    end_point: Option<Arc<[u8]>>,
    (id, worker): (u64, &Rc<Worker>),
) -> Result<(Authenticated, Option<Found>), Failure> {
    let terms = worker.terms();
    let (database, user) = (asked.database, asked.user);
    let demand = identity::demand(stream, asked, &terms);
    let account = match demand {
        // What somebody else checks need not be known here.
        Some((Demand::Entrust(_), _)) => Account::default(),
        _ => Account::of((asked.database, user), stream, worker).await?,
    };
    let (secret, context) = (account.secret(), account.context(&terms.auth));
    let again = async || account.again().await;
    let proof = async {
        match identity::proof(stream, user, secret.is_some(), demand, &terms).await? {
            Proof::Entrust(authority) => entrust(stream, user, authority, &terms).await,
            Proof::Ask(method) => {
                let binding = end_point.as_deref();
                authenticate(stream, user, method, secret, &context, binding, again).await
            }
        }
    };
    let authenticated = proof.await.map_err(|error| match error {
        LoginError::Gone(error) => Failure::Gone(error),
        LoginError::Refused(refused) => {
            account.failed();
            let who = Who {
                id,
                db: Some(database),
                user: Some(user),
                peer: stream.peer_addr(),
                pid: stream.peer_pid(),
            };
            log_refused(&refused, who, &terms.config);
            let mut refusal = Refusal::fatal(refused.sqlstate, refused.message);
            refusal.hint = refused.hint.map(str::to_owned);
            refusal.into()
        }
    });
    Ok((authenticated?, account.into_found()))
}

/// Why somebody is not let in, who is told less. Where PgBouncer has a line for it, an
/// ini has that.
fn log_refused(refused: &auth::Refusal, who: Who, config: &Config) {
    let (conn, addr) = (format!("C-{}", who.id), who.address(config));
    let (db, user, reason) = (who.db, who.user, &*refused.reason);
    let ini = config.source == Source::Ini;
    let unknown = ini && refused.is_of_unknown_user();
    if unknown && config.general.log_connections {
        info!(%conn, db, user, %addr, "no such user");
    }
    if ini && refused.wrong_proof {
        error!(%conn, db, user, %addr, reason, "password authentication failed");
    } else if !unknown {
        info!(%conn, db, user, %addr, reason, "authentication failed");
    }
}

async fn enter_console(
    stream: &mut Stream,
    (user, own): (&str, bool),
    startup: &Startup,
    id: u64,
    worker: &Rc<Worker>,
) -> Result<Begun, Failure> {
    let terms = worker.terms();
    let general = &terms.config.general;
    let access = match own {
        true => Access::Admin,
        false => admin::access(general, user),
    };
    let admin = access == Access::Admin;
    if access == Access::Denied {
        return Err(Refusal::fatal("08P01", "not allowed")
            .hint("Add the user to admin_users or stats_users.")
            .into());
    }
    let asked: Vec<_> = console::FOLLOWED
        .into_iter()
        .filter_map(|name| Some((name, asked_value(startup, name)?)))
        .collect();
    let (pid, key) = worker.new_cancel_key(false);
    let mut out = Vec::new();
    build::backend_key_data(&mut out, pid, key.bytes());
    greet(&mut out, general);
    stream.write_all(&console::welcome(&asked, &out)?).await?;
    let party = Party::Console(Arc::from(user));
    let mut params = Params::default();
    for (name, value) in &asked {
        params.set(name.as_bytes(), value.as_bytes(), true);
    }
    let info = ClientInfo::new(id, (pid, key), party, stream, Rc::new(params));
    let who = Identity {
        user: user.to_owned(),
        admin,
        conn: format!("C-{id}"),
        addr: info.peer.to_string(),
        log_errors: general.log_pooler_errors,
        of_ini: terms.config.source == Source::Ini,
    };
    Ok(Begun::Console(Box::new((who, info))))
}

/// Tells a client of this minor version that it may begin. Returns what it can
/// cancel its requests by.
pub(super) async fn welcome(
    stream: &mut Stream,
    minor: u16,
    params: &Params,
    worker: &Worker,
) -> Result<(u32, CancelKey), Failure> {
    let (pid, key) = worker.new_cancel_key(minor >= 2);
    let mut out = Vec::new();
    build::authentication_ok(&mut out);
    for (name, value) in params.reported() {
        build::parameter_status(&mut out, name, value);
    }
    build::backend_key_data(&mut out, pid, key.bytes());
    greet(&mut out, &worker.terms().config.general);
    out.extend_from_slice(build::ready_for_query(TxStatus::Idle));
    stream.write_all(&out).await?;
    Ok((pid, key))
}

/// The last thing before ReadyForQuery.
fn greet(out: &mut Vec<u8>, general: &Settings) {
    if let Some(message) = &general.login_notify_message {
        build::notice(out, "00000", message);
    }
}

/// A parameter of the startup packet; names are in any case.
fn asked_value(startup: &Startup, name: &str) -> Option<String> {
    let mut asked = startup.parameters.iter().rev();
    let (_, value) = asked.find(|(asked, _)| asked.eq_ignore_ascii_case(name.as_bytes()))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// What we can prove to the server on behalf of this user, who may have just
/// shown us something.
pub(super) fn credential(
    config: &PoolConfig,
    login: &str,
    (authenticated, found): (&Authenticated, Option<&Found>),
    worker: &Worker,
) -> Credential {
    let mut credential = worker.terms().credential(config);
    if *config.user == *login {
        if let Some(found) = found {
            credential = Credential::from_secret(login, Some(&found.secret));
        }
        credential.scram_keys = authenticated.scram_keys.clone();
        if credential.password.is_none() {
            credential.password = authenticated.plain.clone();
        }
    }
    credential
}

/// The session's settings that the startup packet asks for: of several `options` the
/// last counts (backend_startup.c, `ProcessStartupPacket`), and less than settings of
/// their own (postinit.c, `process_startup_options`).
fn asked_parameters(
    startup: &Startup,
    general: &Settings,
    source: Source,
) -> Result<Params, Refusal> {
    let is_in = |list: &[String], name: &[u8]| {
        let mut list = list.iter();
        list.any(|i| name.eq_ignore_ascii_case(i.as_bytes()))
    };
    let is_ignored = |name: &[u8]| is_in(&general.ignore_startup_parameters, name);
    let mut params = Params::default();
    let all = !is_ignored(b"options");
    // PgBouncer then still takes from them what it follows.
    let is_kept = |name: &[u8]| {
        let mut followed = console::FOLLOWED.iter();
        all || followed.any(|f| name.eq_ignore_ascii_case(f.as_bytes()))
            || is_in(&general.track_extra_parameters, name)
    };
    let options = startup.get("options");
    if let Some(options) = options.filter(|_| all || source == Source::Ini) {
        let settings = split_options(options).map_err(|error| of_options(error, source))?;
        for (name, value) in &settings {
            if is_kept(name) && !is_ignored(name) {
                params.set(name, value, false);
            }
        }
    }
    let others: [&[u8]; 4] = [b"user", b"database", b"replication", b"options"];
    for (name, value) in &startup.parameters {
        let is_other = others.contains(&name.as_slice()) || name.starts_with(b"_pq_.");
        if !is_other && !is_ignored(name) {
            params.set(name, value, false);
        }
    }
    Ok(params)
}

/// PostgreSQL's answer, or PgBouncer's.
fn of_options(error: OptionsError, source: Source) -> Refusal {
    let error = match source {
        Source::Ini => OptionsError::Unsupported,
        Source::Toml | Source::CommandLine => error,
    };
    let text = error.to_string();
    match error {
        OptionsError::Unsupported => Refusal::fatal("08P01", text),
        OptionsError::NoValue(_) => Refusal::fatal("42601", text),
        OptionsError::NoArgument => {
            Refusal::fatal("42601", text).hint("Try \"postgres --help\" for more information.")
        }
    }
}

/// `psql - 10.0.0.1:5000`, as PgBouncer writes it (client.c, `set_appname`), and
/// cut as PostgreSQL would cut it.
fn add_host(asked: &mut Params, stream: &Stream, port: u16) {
    const NAME: &[u8] = b"application_name";
    let mut name = asked.get(NAME).unwrap_or(b"app").to_owned();
    let address = match stream.peer_addr() {
        PeerAddr::Unix => {
            let host = nix::unistd::gethostname().unwrap_or_default();
            let pid = stream.peer_pid();
            format!("unix({pid}@{}):{port}", host.to_string_lossy())
        }
        tcp => tcp.to_string(),
    };
    name.extend_from_slice(format!(" - {address}").as_bytes());
    if name.is_ascii() {
        name.truncate(MAX_NAME);
    }
    asked.set(NAME, &name, false);
}

/// Takes out what pgweir itself keeps; in session mode the server does.
fn asked_role(asked: &mut Params, mode: PoolMode) -> Result<Option<Reads>, Refusal> {
    if mode == PoolMode::Session {
        return Ok(None);
    }
    let value = asked.remove(ROLE.as_bytes());
    let role = value.map(|value| role_of(&String::from_utf8_lossy(&value)));
    role.transpose()
        .map(Option::flatten)
        .map_err(|error| Refusal {
            severity: Severity::Fatal,
            ..error
        })
}

/// The session's parameters: what the server reports, and on top what the
/// client asks for. The server says whether it accepts that, and how it spells
/// it; the answer is remembered.
pub(super) async fn agree_on_parameters(
    pool: &Rc<Pool>,
    asked: &Params,
) -> Result<Rc<Params>, Failure> {
    let local = pool.local();
    let welcome = match pool.welcome() {
        Some(welcome) => welcome,
        None => {
            // The first client of a pool waits for its first connection.
            pool.catch_up();
            drop(pool.lease(&Rc::default()).await.map_err(told)?);
            let gone = || Refusal::fatal("08P01", "server conn crashed?");
            pool.welcome().ok_or_else(gone)?
        }
    };
    if asked.is_empty() {
        return Ok(welcome);
    }
    let wanted = local.params.borrow_mut().of_login(&welcome, asked);
    // Everything is decided by `wanted`: the server's own values and the
    // client's. Nothing needs to be asked for a plain application_name.
    if *wanted == *welcome || asked.iter().all(is_plain_application_name) {
        return Ok(wanted);
    }
    if let Some(known) = pool.known_parameters(&wanted) {
        return Ok(known);
    }
    let mut lease = pool.lease(&wanted).await.map_err(told)?;
    match cleanup::set_parameters(&mut lease, pool, &wanted).await {
        Ok(reported) => {
            pool.learn_parameters(&lease.info, &wanted, &reported);
            Ok(reported)
        }
        Err(cleanup::CleanupError::Query { body, .. }) => Err(Failure::Told(
            error_fields::as_fatal(&body),
            error_fields::summary(&body),
        )),
        Err(error) => Err(Refusal::fatal("08P01", "server conn crashed?")
            .detail(error.to_string())
            .into()),
    }
}

/// With `-v`: what a client has asked for and PostgreSQL reports in another spelling.
fn log_canonical(asked: &Params, known: &Params, (id, db, user, addr): (u64, &str, &str, &str)) {
    let conn = format!("C-{id}");
    for (name, value) in asked.iter().filter(|(name, _)| known.is_reported(name)) {
        let canonical = known.get(name).unwrap_or_default();
        if canonical != value {
            let [name, value, canonical] = [name, value, canonical].map(String::from_utf8_lossy);
            debug!(%conn, db, user, addr, %name, %value, %canonical, "varcache_set_canonical");
        }
    }
}

/// PostgreSQL takes it as it is: guc.c, `check_application_name`.
fn is_plain_application_name((name, value): (&[u8], &[u8])) -> bool {
    let printable = value.iter().all(|b| (0x20..0x7f).contains(b));
    name.eq_ignore_ascii_case(b"application_name") && printable && value.len() <= MAX_NAME
}

pub(super) fn told(farewell: Arc<Farewell>) -> Failure {
    Failure::Told(farewell.message.clone(), farewell.reason.clone())
}
