//! The process from start to stop.
//!
//! | signal | what it does |
//! |---|---|
//! | HUP | reads the configuration again, whole or not at all |
//! | INT | SHUTDOWN WAIT_FOR_SERVERS: no new clients, waiting ones are turned away, transactions end |
//! | TERM | SHUTDOWN WAIT_FOR_CLIENTS: no new clients; from a pgweir.toml clients are disconnected as their transactions end, within `shutdown_timeout`; from a pgbouncer.ini pgweir waits for them, as PgBouncer does |
//! | INT, TERM again | ends now |
//! | QUIT | ends now |
//! | USR1, USR2 | PAUSE and RESUME of everything |

mod leave;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tracing::{error, info, warn};

use super::control::{Control, ControlError, Controls};
use super::handover::{self, Copies, Inheritance, Legacy, Numbers};
use super::io_uring;
use super::link::{Link, Side};
use super::load::{self, Loaded, Source};
use super::logging::{self, LogHandle};
use super::names;
use super::open_files;
use super::pgbouncer::Taken;
use super::pidfile::Pidfile;
use super::signals::Signals;
use super::{Command, Handle, ShutdownMode, ask, gather, memory, service_manager, sockets};
use crate::admin::snapshot::Snapshot;
use crate::admin::view::{ConsoleView, ListenerRow, PoolerState};
use crate::client::auth::AuthContext;
use crate::config::Config;
use crate::http::Health;
use crate::net::dns::Dns;
use crate::net::listener::Bound;
use crate::pool::Ledger;
use crate::server::Peers;
use crate::server::pool::hang_up;
use crate::stats::{Averages, Totals};
use crate::worker::derived_keys::DerivedKeys;
use crate::worker::hashing::Hashing;
use crate::worker::lookups::Lookups;
use crate::worker::{self, Census, Crew, Sockets, Terms, View};

/// Logins whose hashing waits; more wait in front of the queue.
const HASHING_QUEUE: usize = 256;

/// Where the sockets come from that clients connect to.
#[derive(Debug, Default)]
pub struct Origin {
    /// Those that a service manager has opened, instead of the configuration's.
    pub passed: Vec<Bound>,
    /// Those of the running process, which is replaced (`--reboot`).
    pub reboot: bool,
}

/// Serves clients until told to stop. Returns when everything is closed.
pub fn run(
    config: Config,
    source: Source,
    log: LogHandle,
    origin: Origin,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        // First of all: once a socket is bound, others take us for running.
        let signals = Signals::install()?;
        let (process, commands) = Process::start(config, source, log, origin).await?;
        process.serve(commands, signals).await
    });
    if let Err(error) = &result {
        error!(fatal = true, reason = format!("{error:#}"), "pgweir stops");
    }
    // Scrapes under way are not waited for.
    runtime.shutdown_background();
    result
}

/// The control thread's state.
struct Process {
    source: Source,
    log: LogHandle,
    crew: Crew,
    controls: Controls,
    census: Arc<Census>,
    threads: Vec<std::thread::JoinHandle<std::io::Result<()>>>,
    worker_ended: mpsc::UnboundedReceiver<()>,
    shown: Arc<Shown>,
    sockets: Sockets,
    stats: Option<AbortHandle>,
    /// Who waits for the process that will replace us.
    successor: Option<JoinHandle<()>>,
    /// Where clients come from, and where they go.
    predecessor: Option<Link>,
    link: Option<Link>,
    ledger: Arc<Ledger>,
    _pidfile: Option<Pidfile>,
}

/// What the console and the stats port look at from other threads.
struct Shown {
    terms: Mutex<Arc<Terms>>,
    averages: Mutex<Arc<Averages>>,
    dns: Arc<Dns>,
    listeners: Vec<ListenerRow>,
    controls: Controls,
    stopping: watch::Sender<Option<ShutdownMode>>,
}

impl Shown {
    fn view(&self, snapshot: &Snapshot) -> ConsoleView {
        let terms = self.terms();
        let gates = self.controls.gates();
        let stopping = *self.stopping.borrow();
        // As PgBouncer, which pauses for its servers to be left, and not for its clients.
        let pausing = stopping == Some(ShutdownMode::WaitForServers);
        let state = match pausing || gates.all_paused {
            false if gates.suspended => PoolerState::Suspended,
            false => PoolerState::Active,
            true => PoolerState::Paused,
        };
        let mut view = ConsoleView::new(
            Instant::now(),
            &terms.config,
            &terms.users,
            snapshot,
            (state, &gates),
            self.averages(),
        );
        view.memory.extend(memory::resident());
        view.names = self.dns.hosts();
        if stopping.is_none() {
            view.listeners = self.listeners.clone();
        }
        view.lookups = self.dns.counts().1;
        view
    }

    fn health(&self) -> Health {
        match self.stopping.borrow().is_some() {
            false => Health::Serving,
            true => Health::Stopping("pgweir is shutting down".to_owned()),
        }
    }

    fn terms(&self) -> Arc<Terms> {
        self.terms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn averages(&self) -> Arc<Averages> {
        self.averages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Process {
    async fn start(
        config: Config,
        source: Source,
        log: LogHandle,
        origin: Origin,
    ) -> anyhow::Result<(Process, mpsc::UnboundedReceiver<Command>)> {
        open_files::raise_limit();
        let general = &config.general;
        let (users, mistakes) = load::users(&config).map_err(anyhow::Error::msg)?;
        for mistake in mistakes {
            warn!(reason = mistake, "user list");
        }
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let workers = general.worker_count(cores);
        open_files::check_limit(&config, &users, workers).map_err(anyhow::Error::msg)?;
        let io_uring = io_uring::decide(general.io_uring)?;
        let hba = load::hba(&config).map_err(anyhow::Error::msg)?;
        let tls = load::tls(&config, None).map_err(anyhow::Error::msg)?;
        let mut inheritance = match origin.reboot {
            true => handover::inherit(general).context("cannot replace the running process")?,
            false => None,
        };
        let stats = sockets::stats(general, inheritance.as_mut())?;
        // Last: when clients can connect, everything else is there.
        let (listeners, sockets) = sockets::open(general, inheritance.as_mut(), origin.passed)?;
        let replaced = inheritance.is_some();
        let pid_path = general.pidfile.clone();
        let write_pidfile = || {
            let path = pid_path.as_deref();
            path.map(|path| Pidfile::write(path, replaced)).transpose()
        };
        let removed = inheritance
            .as_ref()
            .is_some_and(Inheritance::removes_pidfile);
        let mut pidfile = match removed {
            true => None,
            false => write_pidfile()?,
        };
        let numbers = Numbers::following(inheritance.as_ref().and_then(|from| from.moving));
        let ledger = Ledger::new(workers, Instant::now());
        if let Some(inheritance) = &inheritance {
            inheritance.enter(&ledger);
        }
        let copies = match (sockets, general.stats_listen.as_deref()) {
            (Sockets::Own, addr) => {
                let stats = addr.zip(stats.as_ref());
                Some(Copies::new(
                    &listeners,
                    stats,
                    (numbers.clone(), ledger.clone()),
                )?)
            }
            (Sockets::Others, _) => None,
        };
        let hashing = Hashing::start(cores, HASHING_QUEUE).context("cannot start threads")?;
        let derived_keys = DerivedKeys::new(hashing);
        let auth = AuthContext::new(
            derived_keys.clone(),
            general.scram_iterations,
            users.usual_kind(),
        );
        for bound in &listeners {
            info!(listen = bound.place(), "listening on");
        }
        let listening = sockets::shown(&listeners, general.listen_port);
        let stats_period = general.stats_period;
        let log_stats = general.log_stats;
        let terms = Arc::new(Terms {
            peers: Peers::new(&config, None),
            lookups: lookups(&config),
            config,
            users,
            hba,
            auth,
            tls,
        });
        let (handle, commands) = Handle::new();
        let cast = Crew::assemble(workers);
        let (ended, worker_ended) = mpsc::unbounded_channel();
        let crew = match cast.first() {
            Some((crew, _)) => crew.clone(),
            None => anyhow::bail!("BUG: a crew without workers"),
        };
        let controls = Controls::new(crew.clone());
        let dns = names::start(&terms.config, crew.clone());
        let shown = Arc::new(Shown {
            terms: Mutex::new(terms.clone()),
            averages: Mutex::new(Arc::new(Averages::new(Instant::now()))),
            dns: dns.clone(),
            listeners: listening,
            controls: controls.clone(),
            stopping: watch::Sender::new(None),
        });
        let viewed = shown.clone();
        let census = Census::new(workers);
        let mut first = worker::Start {
            listeners,
            io_uring,
            crew: crew.clone(),
            ledger: ledger.clone(),
            greetings: Arc::default(),
            topologies: Arc::default(),
            texts: numbers.statements,
            terms: terms.clone(),
            census: census.clone(),
            ids: numbers.connections,
            derived_keys,
            dns,
            handle: handle.clone(),
            view: View(Arc::new(move |snapshot| viewed.view(snapshot))),
            ended,
        };
        let mut threads = Vec::new();
        // The first, which accepts, comes last: the others are there by then.
        for (crew, mailbox) in cast.into_iter().rev() {
            let listeners = match crew.number() {
                0 => std::mem::take(&mut first.listeners),
                _ => Vec::new(),
            };
            let start = worker::Start {
                listeners,
                crew,
                ..first.for_another()
            };
            threads.push(worker::start(start, mailbox).context("cannot start a worker")?);
        }
        drop(first);
        let stats = match stats {
            Some(listener) => {
                let health = shown.clone();
                Some(sockets::serve_stats(listener, &handle, move || {
                    health.health()
                })?)
            }
            None => None,
        };
        tokio::spawn(keep_averages(
            handle.clone(),
            shown.clone(),
            stats_period,
            log_stats,
        ));
        warm(&terms);
        tokio::spawn(service_manager::keep_watchdog(crew.clone()));
        let version = concat!("pgweir ", env!("CARGO_PKG_VERSION"));
        info!(version, workers, io_uring, "process up");
        service_manager::ready();
        let legacy = inheritance.map(|from| from.serve(pid_path.as_deref()));
        let legacy = legacy.transpose();
        let mut predecessor = None;
        match legacy.context("the process to be replaced has gone")? {
            None | Some(Legacy::Nothing) => {}
            Some(Legacy::Line(stream)) => {
                predecessor = Some(join(stream, Side::Predecessor, &crew, &ledger)?);
            }
            Some(Legacy::Estate(clients, servers)) => {
                servers.into_iter().for_each(hang_up);
                take(clients, &crew);
            }
        }
        if removed {
            // There is no way back.
            pidfile = write_pidfile().unwrap_or_else(|error| {
                warn!(reason = format!("{error:#}"), "there is no pidfile");
                None
            });
        }
        let successor = copies.and_then(|copies| {
            let terms = shown.terms();
            handover::wait_for_successor(&terms.config.general, copies, handle)
        });
        let process = Process {
            source,
            log,
            crew,
            controls,
            census,
            threads,
            worker_ended,
            shown,
            sockets,
            stats,
            successor,
            predecessor,
            link: None,
            ledger,
            _pidfile: pidfile,
        };
        Ok((process, commands))
    }

    async fn serve(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut signals: Signals,
    ) -> anyhow::Result<ExitCode> {
        let mut left = None::<oneshot::Receiver<()>>;
        loop {
            let (wish, by_signal) = tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Snapshot(reply)) => {
                        self.snapshot(reply);
                        continue;
                    }
                    Some(Command::Reload(reply)) => {
                        // Whoever asked may have gone.
                        let _ = reply.send(self.reload());
                        continue;
                    }
                    Some(Command::Set { key, value, reply }) => {
                        let _ = reply.send(self.set(&key, &value));
                        continue;
                    }
                    Some(Command::Control(control, reply)) => {
                        self.control(control, reply);
                        continue;
                    }
                    Some(Command::CancelPause) => {
                        self.controls.cancel_pause();
                        continue;
                    }
                    Some(Command::ConsoleIsEmpty) => {
                        self.controls.end_suspend();
                        continue;
                    }
                    Some(Command::Succeeded(successor)) => {
                        if self.shown.stopping.borrow().is_none() {
                            left = Some(self.make_way(successor));
                        }
                        continue;
                    }
                    Some(Command::Shutdown(mode)) => (mode, false),
                    None => (ShutdownMode::Immediate, false),
                },
                _ = signals.hup.recv() => {
                    info!(signal = "SIGHUP", "got signal, re-reading config");
                    // The reason is in the log.
                    let _ = self.reload();
                    continue;
                }
                _ = signals.usr1.recv() => {
                    self.obey_signal("SIGUSR1", Control::Pause(None));
                    continue;
                }
                _ = signals.usr2.recv() => {
                    self.obey_signal("SIGUSR2", Control::Resume(None));
                    continue;
                }
                _ = signals.int.recv() => (self.told("SIGINT", ShutdownMode::WaitForServers), true),
                _ = signals.term.recv() => (self.told("SIGTERM", ShutdownMode::WaitForClients), true),
                _ = signals.quit.recv() => (self.told("SIGQUIT", ShutdownMode::Immediate), true),
                () = finished(&mut left) => break,
                _ = self.worker_ended.recv() => {
                    error!("a worker has ended, its clients are lost: the others end, too");
                    break;
                }
            };
            // A second signal is the last; a second command only changes what is
            // waited for.
            let again = by_signal && self.shown.stopping.borrow().is_some();
            service_manager::stopping(wish);
            if again || wish == ShutdownMode::Immediate {
                info!("shutting down immediately");
                break;
            }
            self.stop_offering().await;
            left = Some(self.begin_shutdown(wish));
        }
        self.end()
    }

    /// Asks the workers for their state, in the background.
    fn snapshot(&self, reply: oneshot::Sender<Snapshot>) {
        let answers = ask(&self.crew, worker::Command::Snapshot);
        let census = self.census.clone();
        let terms = self.shown.terms();
        tokio::spawn(async move {
            let mut all = Snapshot::merge(gather(answers).await);
            all.peers = terms.peers.rows();
            all.login_clients = census.newcomers();
            // Whoever asked may have gone.
            let _ = reply.send(all);
        });
    }

    /// Carries a console's command out, in the background.
    fn control(&self, control: Control, mut reply: oneshot::Sender<Result<(), ControlError>>) {
        let stopping = *self.shown.stopping.borrow();
        let terms = self.shown.terms();
        let typed = self.controls.obey(control, &terms.config, stopping);
        tokio::spawn(async move {
            let result = match typed {
                Ok(rest) => tokio::select! {
                    result = rest => result,
                    () = reply.closed() => return,
                },
                Err(error) => Err(error),
            };
            // Whoever asked may have gone.
            let _ = reply.send(result);
        });
    }

    fn obey_signal(&self, signal: &str, control: Control) {
        let stopping = *self.shown.stopping.borrow();
        let terms = self.shown.terms();
        let pauses = matches!(control, Control::Pause(_));
        // Nobody waits for the end of it.
        let begun = self.controls.begin(control, &terms.config, stopping);
        match begun.map(drop) {
            Ok(()) if pauses => info!(signal, "got signal, pausing all activity"),
            Ok(()) => info!(signal, "got signal, continuing from PAUSE"),
            Err(_) if pauses => info!(signal, "got signal, but already paused/suspended"),
            Err(ControlError::ShuttingDown) => {
                info!(signal, "got signal while shutting down, ignoring");
            }
            Err(_) => info!(signal, "got signal, but not paused/suspended"),
        }
    }

    /// A signal says so.
    fn told(&self, signal: &str, mode: ShutdownMode) -> ShutdownMode {
        match mode {
            ShutdownMode::Immediate => info!(signal, "got signal, fast exit"),
            _ if self.shown.stopping.borrow().is_some() => {
                info!(signal, "got signal while shutting down, fast exit");
            }
            ShutdownMode::WaitForClients => {
                info!(
                    signal,
                    "got signal, shutting down, waiting for all clients disconnect"
                );
            }
            ShutdownMode::WaitForServers => {
                info!(
                    signal,
                    "got signal, shutting down, waiting for all servers connections to be released"
                );
            }
        }
        mode
    }

    /// Reads everything again. On any mistake nothing changes at all.
    fn reload(&mut self) -> Result<(), String> {
        service_manager::reloading();
        let result = self.read_again();
        service_manager::reloaded(&result);
        result
    }

    fn read_again(&mut self) -> Result<(), String> {
        let old = self.shown.terms();
        let new = self.source.reload(&old);
        let changed = new.and_then(|new| self.put_in_force(&old, new));
        // It may be where it was, but moved away by logrotate.
        if let Err(error) = self.log.reopen() {
            error!(reason = %error, "log stays as it was");
        }
        if let Err(mistakes) = &changed {
            for mistake in mistakes.lines() {
                error!(reason = mistake, "reload refused, nothing was changed");
            }
        }
        changed?;
        for notice in &self.shown.terms().config.notices {
            warn!("{notice}");
        }
        info!("configuration reloaded");
        Ok(())
    }

    /// Changes one setting until the next reload.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let old = self.shown.terms();
        let new = load::set(&old, key, value)?;
        self.put_in_force(&old, new)
    }

    fn put_in_force(
        &mut self,
        old: &Terms,
        Loaded {
            config,
            users,
            hba,
            tls,
            changes,
        }: Loaded,
    ) -> Result<(), String> {
        open_files::check_limit(&config, &users, self.threads.len())?;
        for change in &changes.after_restart {
            let key = change.key;
            warn!(key, "setting changes only after a restart");
        }
        if let Err(error) = self.log.apply(&logging::Options::new(&config)) {
            error!(reason = %error, "log stays as it was");
        }
        let auth = old
            .auth
            .with_settings(config.general.scram_iterations, users.usual_kind());
        let terms = Arc::new(Terms {
            peers: Peers::new(&config, Some(&old.peers)),
            lookups: lookups(&config),
            config,
            users,
            hba,
            auth,
            tls,
        });
        warm(&terms);
        self.shown.dns.set_ttl(names::ttl(&terms.config));
        *self
            .shown
            .terms
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = terms.clone();
        for worker in self.crew.everyone() {
            // A worker that has ended needs none.
            let _ = self
                .crew
                .tell(worker, worker::Command::Terms(terms.clone()));
        }
        self.controls.follow(&terms.config);
        Ok(())
    }
}

/// Begins to speak to the process on the other side.
fn join(
    stream: UnixStream,
    side: Side,
    crew: &Crew,
    ledger: &Arc<Ledger>,
) -> std::io::Result<Link> {
    let link = Link::start(stream, side, crew.clone(), ledger.clone())?;
    tokio::spawn(link.clone().keep_informed(crew.clone()));
    Ok(link)
}

/// Serves the clients that a PgBouncer has left.
fn take(clients: Vec<Taken<OwnedFd>>, crew: &Crew) {
    for taken in clients {
        let owner = crew.owner(taken.client.pid());
        // A worker that has ended takes nobody.
        let _ = crew.tell(owner, worker::Command::Taken(Box::new(taken)));
    }
}

/// Resolves when the receiver does; never while there is none.
async fn finished(left: &mut Option<oneshot::Receiver<()>>) {
    match left {
        Some(receiver) => {
            // An error means that the workers are gone, too.
            let _ = receiver.await;
        }
        None => std::future::pending().await,
    }
}

/// No answers of `auth_query` yet.
fn lookups(config: &Config) -> Lookups {
    let size = config.general.auth_query_cache_size;
    Lookups::new(size, config.auth_query_cache_ttl())
}

/// Derives SCRAM keys ahead of the first logins, in the background.
fn warm(terms: &Arc<Terms>) {
    if terms.asks_for_scram() {
        let terms = terms.clone();
        tokio::spawn(async move {
            if let Err(error) = terms.auth.warm(&terms.users).await {
                warn!(reason = %error, "cannot derive SCRAM keys");
            }
        });
    }
}

async fn keep_averages(handle: Handle, shown: Arc<Shown>, period: Duration, log: bool) {
    let mut ticks = tokio::time::interval(period.max(Duration::from_secs(1)));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(snapshot) = handle.snapshot().await else {
            return;
        };
        let now = Instant::now();
        let totals = crate::admin::show::totals_by_database(&snapshot);
        let mut averages = (*shown.averages()).clone();
        if log {
            let mut overall = Totals::default();
            for one in totals.values() {
                overall += *one;
            }
            logging::stats(&averages.overall(now, &overall));
        }
        averages.tick(now, totals.iter().map(|(name, totals)| (*name, *totals)));
        *shown
            .averages
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(averages);
    }
}
