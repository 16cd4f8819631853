//! The thread itself, and how the process speaks to it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::accept::Listening;
use super::derived_keys::DerivedKeys;
use super::{Census, Crew, Gates, Local, Mailbox, Seat, Terms, View, Worker};
use crate::admin::snapshot::Snapshot;
use crate::client;
use crate::flow::Texts;
use crate::net::Detached;
use crate::net::dns::Dns;
use crate::net::listener::{Bound, Listener};
use crate::pool::{Ledger, Passage, PoolName};
use crate::process::{Handle, Link, Side, Taken};
use crate::reactor;
use crate::server::ear::{EarName, Heard};
use crate::server::written::WrittenServer;
use crate::server::{Greetings, Mail, Topologies};

/// How often a worker that is to leave looks whether it may.
const DRAIN_CHECK: Duration = Duration::from_millis(20);
/// How long those who have not said who they are are waited for.
const LOGIN_GRACE: Duration = Duration::from_secs(2);

/// What the process, or another worker, asks of a worker.
#[derive(Debug)]
pub enum Command {
    Snapshot(oneshot::Sender<Snapshot>),
    /// A new connection for this worker.
    Connection(Detached, Seat),
    /// A cancel request for a client of this worker. Answers when it has been
    /// dealt with.
    Cancel {
        pid: u32,
        key: Vec<u8>,
        done: oneshot::Sender<Option<client::Outcome>>,
    },
    Terms(Arc<Terms>),
    /// Answers at once.
    Alive(oneshot::Sender<()>),
    /// Listens no longer.
    StopListening(Sockets),
    /// Lets clients finish their transactions, then disconnects them. Answers
    /// when none is left.
    Drain(oneshot::Sender<()>),
    /// Waits until the clients have left by themselves.
    WaitForClients(oneshot::Sender<()>),
    /// Turns waiting clients away; answers when no server connection is in
    /// use.
    WaitForServers(oneshot::Sender<()>),
    /// Disconnects all clients, and tells them why. Answers when they have gone.
    Disconnect(oneshot::Sender<()>),
    /// What an operator has stopped. Answers at once.
    Gates(Arc<Gates>, oneshot::Sender<()>),
    /// Answers when everybody has taken what was to be written.
    WaitFlushed(oneshot::Sender<()>),
    /// Throws out who has not. Answers when they have gone.
    KillUnflushed(oneshot::Sender<()>),
    /// Answers when no worker has a server connection of this database, or of
    /// any.
    WaitEmpty(Option<Arc<str>>, oneshot::Sender<()>),
    /// Answers when none is left that could go to another process.
    WaitHandedOver(oneshot::Sender<()>),
    /// Connections of this database, or of all, that are older than this
    /// generation are to be closed as they are released. Answers at once.
    Reconnect(Option<Arc<str>>, u64, oneshot::Sender<()>),
    /// Answers when no server connection is left that is to be closed.
    WaitClose(Option<Arc<str>>, oneshot::Sender<()>),
    /// Throws out the clients of this database, or of all, with their server
    /// connections. Answers when they have gone.
    Kill(Option<Arc<str>>, oneshot::Sender<()>),
    /// Throws out the client with this number. Answers whether it was there.
    KillClient(u64, oneshot::Sender<bool>),
    /// Servers of this database have other roles than before.
    Roles(Arc<str>),
    /// This name of a host does not have these addresses any more.
    AddressesGone(Arc<str>, Arc<[IpAddr]>),
    /// A pool of this worker opens more connections than its size, for who waits
    /// longest.
    ReserveTaken(PoolName),
    /// What was heard for clients of this worker.
    Ear(EarName, Vec<Heard>),
    /// Another process asks to cancel what its client runs, and is told whether that is
    /// here.
    CancelFor(Side, u32, Vec<u8>, Told),
    /// Another process is there, which clients come from or go to.
    Linked(Side, Link),
    Unlinked(Side),
    /// It offers a client.
    Arrival(client::Arrival),
    /// A PgBouncer has left one.
    Taken(Box<Taken<OwnedFd>>),
    /// It gives a server connection.
    Server(Box<WrittenServer>, OwnedFd, Passage),
    /// Its clients starve in these pools.
    Give(Arc<[PoolName]>, Side),
    /// Answers at once: in which pools clients starve here.
    Starving(oneshot::Sender<Vec<PoolName>>),
    /// Another worker's word about server connections.
    Servers(Mail),
    /// Says goodbye to idle servers and ends the thread.
    End,
}

/// Whom to tell something, once.
pub struct Told(pub Box<dyn FnOnce(bool) + Send>);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

/// Whose the sockets are that clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// Nobody else's: all who wait at the TCP sockets are accepted before these are
    /// closed; the Unix socket stays open for the console, and for nobody else.
    Own,
    /// Somebody else has them, too, and serves those who wait there.
    Others,
}

/// What a worker is started with.
pub struct Start {
    pub crew: Crew,
    pub ledger: Arc<Ledger>,
    pub greetings: Arc<Greetings>,
    pub topologies: Arc<Topologies>,
    pub texts: Arc<Texts>,
    pub listeners: Vec<Bound>,
    pub io_uring: bool,
    pub terms: Arc<Terms>,
    pub census: Arc<Census>,
    pub ids: Arc<AtomicU64>,
    pub derived_keys: DerivedKeys,
    pub dns: Arc<Dns>,
    pub handle: Handle,
    pub view: View,
    /// Told when the thread ends, in whatever way.
    pub ended: mpsc::UnboundedSender<()>,
}

impl Start {
    /// The same for another worker, which does not listen.
    pub fn for_another(&self) -> Start {
        Start {
            listeners: Vec::new(),
            io_uring: self.io_uring,
            crew: self.crew.clone(),
            ledger: self.ledger.clone(),
            greetings: self.greetings.clone(),
            topologies: self.topologies.clone(),
            texts: self.texts.clone(),
            terms: self.terms.clone(),
            census: self.census.clone(),
            ids: self.ids.clone(),
            derived_keys: self.derived_keys.clone(),
            dns: self.dns.clone(),
            handle: self.handle.clone(),
            view: self.view.clone(),
            ended: self.ended.clone(),
        }
    }
}

/// Starts the thread of the worker that `crew` is the view of. Must be called in the
/// process's runtime.
pub fn start(
    start: Start,
    mailbox: Mailbox,
) -> io::Result<std::thread::JoinHandle<io::Result<()>>> {
    let process = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name(format!("worker-{}", start.crew.number()))
        .spawn(move || {
            let _ended = Ended(start.ended.clone());
            // What a worker leaves to others, as looking up names, runs there.
            let _process = process.enter();
            let runtime = reactor::Runtime::new()?;
            if start.io_uring {
                runtime.send_by_ring()?;
            }
            runtime.run(run(start, mailbox))??;
            // The tasks that are left would try to clean up in a reactor that
            // is going down; the process ends anyway.
            std::mem::forget(runtime);
            Ok(())
        })
}

struct Ended(mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // The process may have ended first.
        let _ = self.0.send(());
    }
}

async fn run(start: Start, mut mailbox: Mailbox) -> io::Result<()> {
    let tls = start.terms.tls.clone();
    let local = Local::new(start.ids, start.texts, start.derived_keys, start.dns, tls);
    let worker = Worker::new(
        start.crew,
        (start.ledger, start.greetings, start.topologies),
        local,
        start.terms,
        start.census,
        start.handle,
        start.view,
    );
    worker.start_standing_pools();
    reactor::spawn(worker.clone().watch_limits());
    let (mut tcp, mut unix) = (Vec::new(), Vec::new());
    for bound in start.listeners {
        let listener = Listener::new(bound)?;
        let kind = match listener {
            Listener::Tcp(_) => &mut tcp,
            Listener::Unix(..) => &mut unix,
        };
        kind.push(Listening::start(listener, worker.clone()));
    }
    while let Some(command) = mailbox.recv().await {
        match command {
            Command::Snapshot(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(worker.snapshot());
            }
            Command::Terms(terms) => worker.take_terms(terms),
            Command::Alive(done) => {
                // The process may have stopped waiting.
                let _ = done.send(());
            }
            Command::StopListening(sockets) => {
                stop_listening(&mut tcp, sockets).await;
                match sockets {
                    Sockets::Own => worker.turn_away(),
                    Sockets::Others => stop_listening(&mut unix, sockets).await,
                }
            }
            Command::Drain(done) => {
                worker.drain();
                tell_when(done, worker.clone(), nobody_is_left());
            }
            Command::WaitForClients(done) => {
                tell_when(done, worker.clone(), nobody_is_left());
            }
            Command::WaitForServers(done) => {
                worker.close_pools();
                tell_when(done, worker.clone(), |worker| worker.servers_in_use() == 0);
            }
            Command::Disconnect(done) => {
                worker.disconnect_all();
                tell_when(done, worker.clone(), |worker| worker.client_count() == 0);
            }
            Command::Connection(stream, seat) => {
                // An error means that the connection is broken.
                if let Ok(stream) = stream.attach() {
                    reactor::spawn(client::serve(stream, worker.clone(), seat));
                }
            }
            Command::CancelFor(side, pid, key, Told(tell)) => {
                let worker = worker.clone();
                reactor::spawn(async move {
                    let from = Some(side);
                    let found = client::find_and_cancel(&worker, from, (pid, &key)).await;
                    tell(found.is_some());
                });
            }
            Command::Linked(side, link) => worker.link(side, link),
            Command::Unlinked(side) => worker.unlink(side),
            Command::Arrival(arrival) => {
                reactor::spawn(client::arrive(worker.clone(), arrival));
            }
            Command::Taken(taken) => {
                reactor::spawn(client::take(worker.clone(), taken));
            }
            Command::Server(written, socket, passage) => {
                worker.take_over(*written, socket, passage);
            }
            Command::Give(pools, side) => worker.pools.give(&pools, side),
            Command::Starving(reply) => {
                // The process may have stopped waiting.
                let _ = reply.send(worker.pools.starving());
            }
            Command::Cancel { pid, key, done } => {
                let worker = worker.clone();
                reactor::spawn(async move {
                    let found = client::find_and_cancel(&worker, None, (pid, &key)).await;
                    // Who asked may have gone.
                    let _ = done.send(found);
                });
            }
            Command::Gates(gates, done) => {
                worker.set_gates(gates);
                // Here and below: the process may have stopped waiting.
                let _ = done.send(());
            }
            Command::WaitFlushed(done) => {
                tell_when(done, worker.clone(), Worker::is_flushed);
            }
            Command::KillUnflushed(done) => {
                worker.kill_unflushed();
                tell_when(done, worker.clone(), Worker::is_flushed);
            }
            Command::WaitEmpty(database, done) => tell_when(done, worker.clone(), move |worker| {
                worker.is_without_servers(database.as_deref())
            }),
            Command::WaitHandedOver(done) => {
                tell_when(done, worker.clone(), Worker::has_handed_over);
            }
            Command::Reconnect(database, generation, done) => {
                worker.reconnect(database.as_deref(), generation);
                let _ = done.send(());
            }
            Command::WaitClose(database, done) => tell_when(done, worker.clone(), move |worker| {
                !worker.has_outdated_servers(database.as_deref())
            }),
            Command::Kill(database, done) => {
                worker.kill(database.as_deref());
                tell_when(done, worker.clone(), move |worker| {
                    worker.is_without_clients(database.as_deref())
                });
            }
            Command::KillClient(number, done) => {
                let _ = done.send(worker.kill_client(number));
            }
            Command::Roles(database) => worker.follow_roles(&database),
            Command::AddressesGone(host, gone) => worker.leave_addresses(&host, &gone),
            Command::ReserveTaken(pool) => worker.log_reserve(&pool),
            Command::Ear(name, heard) => worker.hear(&name, heard),
            Command::Servers(mail) => worker.pools.receive(mail),
            Command::End => break,
        }
    }
    stop_listening(&mut tcp, Sockets::Own).await;
    stop_listening(&mut unix, Sockets::Own).await;
    worker.close_pools();
    Ok(())
}

async fn stop_listening(listening: &mut Vec<Listening>, sockets: Sockets) {
    for socket in listening.drain(..) {
        socket.stop(sockets).await;
    }
}

/// Whether all clients have left, and nobody is about to log in who was
/// accepted before the sockets were closed.
fn nobody_is_left() -> impl Fn(&Worker) -> bool {
    let since = Instant::now();
    move |worker| {
        let census = worker.census();
        worker.client_count() == 0
            && census.clients() == 0
            && (census.newcomers() == 0 || since.elapsed() >= LOGIN_GRACE)
    }
}

fn tell_when(
    done: oneshot::Sender<()>,
    worker: Rc<Worker>,
    is_so: impl Fn(&Worker) -> bool + 'static,
) {
    reactor::spawn(async move {
        while !done.is_closed() && !is_so(&worker) {
            reactor::sleep(DRAIN_CHECK).await;
        }
        // The process may have stopped waiting.
        let _ = done.send(());
    });
}
