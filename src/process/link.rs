//! The line between a process and the one that takes its place. Clients move over
//! it, and server connections and cancel requests go both ways.
//!
//! A client is asked for by the process that has it and answered by the other: from
//! the moment that the answer is written it is there. Without an answer, however the
//! line ends, it has stayed where it was.
//!
//! A server connection is the other process's from the moment that it is written. So a
//! process that ends first says that it takes none any more, and waits for the answer:
//! what was given before has then come.
//!
//! Each end has a thread that reads and one that writes, since messages with files
//! are sent and received by sockets that block.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use crate::client::{Arrival, WrittenClient};
use crate::flow::Bytes;
use crate::net::descriptors;
use crate::pool::{Ledger, Passage, PoolName};
use crate::server::Mail;
use crate::server::written::{WrittenName, WrittenServer};
use crate::worker::{Command, Crew, Told};

/// Of what moves: processes with another one let their clients finish instead.
pub const FORMAT: u32 = 1;
/// How often the other process is told what our pools have, and what they lack.
const PERIOD: Duration = Duration::from_millis(50);
/// How long the last messages of a process may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Which of the two the other process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// It is being replaced by this one.
    Predecessor,
    /// It takes the place of this one.
    Successor,
}

/// A process's end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Link(Arc<Line>);

#[derive(Debug)]
struct Line {
    letters: mpsc::Sender<Letter>,
    /// Who waits for which answer; `None`: nothing comes any more.
    asked: Mutex<Option<Asked>>,
    last: AtomicU64,
    traffic: Mutex<Traffic>,
    ledger: Arc<Ledger>,
    open: watch::Sender<bool>,
}

/// Server connections that come and go.
#[derive(Debug, Default)]
struct Traffic {
    pools: HashMap<PoolName, Exchange>,
    /// The other process takes none any more.
    refused: bool,
}

/// What the two processes know of each other's connections of one pool.
#[derive(Debug, Default)]
struct Exchange {
    /// What the other one was told of ours.
    told: Option<Tally>,
    /// So many were given to it, and have come from it.
    given: u64,
    come: u64,
}

/// A pool's connections where this comes from, when so many had come there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    own: u32,
    come: u64,
}

type Asked = HashMap<u64, oneshot::Sender<bool>>;

struct Letter {
    message: Vec<u8>,
    files: Vec<OwnedFd>,
    /// Told when it is written.
    sent: Option<oneshot::Sender<()>>,
}

#[derive(Serialize, Deserialize)]
enum Message {
    /// Whether it takes this client.
    Client {
        number: u64,
        client: Box<WrittenClient>,
    },
    /// Whether it has the client of this key, and has done what there is to be done.
    Cancel {
        number: u64,
        pid: u32,
        key: Bytes,
    },
    Answer {
        number: u64,
        yes: bool,
    },
    /// A server connection, for whoever wants it.
    Server(Box<WrittenServer>),
    /// The process that is being replaced ends, and takes no server connection any more:
    /// those that it was given come before the answer.
    NoMore {
        number: u64,
    },
    /// Of each pool that has changed.
    Own(Vec<(WrittenName, Tally)>),
    /// Clients starve in these pools there, and in no others any more.
    Starving(Vec<WrittenName>),
}

impl Link {
    /// Tells the workers of the other process, and begins to listen to it.
    pub fn start(
        stream: UnixStream,
        side: Side,
        crew: Crew,
        ledger: Arc<Ledger>,
    ) -> io::Result<Link> {
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        let written = stream.try_clone()?;
        let (letters, outbox) = mpsc::channel();
        let link = Link(Arc::new(Line {
            letters,
            asked: Mutex::new(Some(Asked::new())),
            last: AtomicU64::new(0),
            traffic: Mutex::default(),
            ledger,
            open: watch::Sender::new(true),
        }));
        tell_all(&crew, || Command::Linked(side, link.clone()));
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("link-write").spawn(move || write(&written, &outbox))?;
        let reader = link.clone();
        thread("link-read").spawn(move || {
            let error = reader.read(&stream, side, &crew);
            reader.close();
            // What waits to be written has nobody to read it.
            let _ = stream.shutdown(Shutdown::Both);
            debug!(?side, reason = %error, "the other process is gone");
            reader.0.ledger.nothing_elsewhere();
            tell_all(&crew, || Command::Unlinked(side));
        })?;
        Ok(link)
    }

    /// Keeps the other process informed of our pools, until it is gone.
    pub async fn keep_informed(self, crew: Crew) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = self.ended();
        tokio::pin!(ended);
        let mut starved = false;
        loop {
            tokio::select! {
                _ = period.tick() => {}
                () = &mut ended => return,
            }
            self.tell_own();
            let asked = super::ask(&crew, Command::Starving);
            let starving: Vec<_> = super::gather(asked).await.into_iter().flatten().collect();
            let starves = !starving.is_empty();
            if std::mem::replace(&mut starved, starves) || starves {
                let names = starving.iter().map(WrittenName::from).collect();
                self.send(&Message::Starving(names), Vec::new(), None);
            }
        }
    }

    fn tell_own(&self) {
        let mut traffic = self.lock_traffic();
        let mut news = Vec::new();
        for (name, own) in self.0.ledger.own() {
            let written = WrittenName::from(&name);
            let pool = traffic.pools.entry(name).or_default();
            let come = pool.come;
            let now = Some(Tally { own, come });
            if std::mem::replace(&mut pool.told, now) != now {
                news.push((written, Tally { own, come }));
            }
        }
        if !news.is_empty() {
            self.send(&Message::Own(news), Vec::new(), None);
        }
    }

    /// The other process tells what it has: what is under way to it comes on top.
    fn hear(&self, name: PoolName, Tally { own, come }: Tally) -> bool {
        let mut traffic = self.lock_traffic();
        let pool = traffic.pools.entry(name.clone()).or_default();
        let under_way = pool.given.saturating_sub(come) as u32;
        self.0
            .ledger
            .set_elsewhere(&name, own.saturating_add(under_way))
    }

    /// Gives a server connection away. `depart` counts it as the other process's,
    /// which that does when it hears of it: nothing else is told in between. False: that
    /// one takes none any more, and it stays.
    pub fn give(&self, server: WrittenServer, socket: OwnedFd, depart: impl FnOnce()) -> bool {
        let mut traffic = self.lock_traffic();
        if traffic.refused {
            return false;
        }
        let name = server.pool.name.read();
        traffic.pools.entry(name).or_default().given += 1;
        depart();
        self.send(&Message::Server(Box::new(server)), vec![socket], None);
        true
    }

    /// Returns when no server connection comes from the other process any more, and what
    /// has come is told to the workers.
    pub async fn take_no_more(&self) {
        // An error says that it is gone.
        let _ = self
            .ask(Vec::new(), |number| Message::NoMore { number })
            .await;
    }

    /// A server connection has come for this worker, and counts as ours.
    fn count(&self, name: PoolName, worker: usize) -> Passage {
        let mut traffic = self.lock_traffic();
        let passage = self.0.ledger.take_over(&name, worker);
        traffic.pools.entry(name).or_default().come += 1;
        passage
    }

    /// Asks whether the other process takes a client. The answer fails if it is gone.
    pub fn offer(&self, client: WrittenClient, files: Vec<OwnedFd>) -> oneshot::Receiver<bool> {
        let client = Box::new(client);
        self.ask(files, |number| Message::Client { number, client })
    }

    /// Whether the other process has the client of this cancel key; what it runs is
    /// cancelled then.
    pub async fn cancel(&self, pid: u32, key: &[u8]) -> bool {
        let key = Bytes::from(key);
        let answer = self.ask(Vec::new(), |number| Message::Cancel { number, pid, key });
        answer.await.unwrap_or(false)
    }

    /// Tells what was asked for by this number. True: the other end will hear it.
    pub async fn answer(&self, number: u64, yes: bool) -> bool {
        let (sent, told) = oneshot::channel();
        self.send(&Message::Answer { number, yes }, Vec::new(), Some(sent));
        told.await.is_ok()
    }

    /// Returns when the other process is gone.
    pub async fn ended(&self) {
        let mut open = self.0.open.subscribe();
        // The sender is ours.
        let _ = open.wait_for(|open| !open).await;
    }

    /// Returns when what was sent is on its way, or takes too long. Blocks.
    pub fn flush(&self) {
        let (sent, told) = oneshot::channel();
        self.post(Letter {
            message: Vec::new(),
            files: Vec::new(),
            sent: Some(sent),
        });
        let (done, wait) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = told.blocking_recv();
            // Nobody may wait any more.
            let _ = done.send(());
        });
        let _ = wait.recv_timeout(LAST_WORDS);
    }

    fn ask(
        &self,
        files: Vec<OwnedFd>,
        message: impl FnOnce(u64) -> Message,
    ) -> oneshot::Receiver<bool> {
        let number = self.0.last.fetch_add(1, Ordering::Relaxed);
        let (answer, receiver) = oneshot::channel();
        if let Some(asked) = &mut *self.lock() {
            asked.insert(number, answer);
        }
        if !self.send(&message(number), files, None) {
            self.take_asked(number);
        }
        receiver
    }

    /// False: it cannot be sent, whoever would read it.
    fn send(
        &self,
        message: &Message,
        files: Vec<OwnedFd>,
        sent: Option<oneshot::Sender<()>>,
    ) -> bool {
        let Ok(message) = serde_json::to_vec(message) else {
            return false;
        };
        let fits = message.len() <= descriptors::LONGEST;
        if fits {
            self.post(Letter {
                message,
                files,
                sent,
            });
        }
        fits
    }

    fn post(&self, letter: Letter) {
        // The writer is gone with the line: whoever waits is told by that.
        let _ = self.0.letters.send(letter);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Asked>> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_traffic(&self) -> MutexGuard<'_, Traffic> {
        self.0
            .traffic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn take_asked(&self, number: u64) -> Option<oneshot::Sender<bool>> {
        self.lock().as_mut()?.remove(&number)
    }

    fn close(&self) {
        *self.lock() = None;
        self.0.open.send_replace(false);
    }

    /// Deals with what comes, and returns why nothing more does.
    fn read(&self, stream: &UnixStream, side: Side, crew: &Crew) -> io::Error {
        loop {
            let (message, files) = match descriptors::receive(stream) {
                Ok(received) => received,
                Err(error) => return error,
            };
            match serde_json::from_slice(&message) {
                Ok(message) => self.deal_with(message, files, side, crew),
                Err(error) => {
                    warn!(reason = %error, "the other process says what this one does not know");
                    self.refuse(&message);
                }
            }
        }
    }

    fn deal_with(&self, message: Message, files: Vec<OwnedFd>, side: Side, crew: &Crew) {
        match message {
            Message::Client { number, client } => {
                let owner = crew.owner(client.pid());
                let arrival = Arrival {
                    number,
                    client,
                    files,
                    link: self.clone(),
                };
                // A worker that has ended takes nobody.
                if crew.tell(owner, Command::Arrival(arrival)).is_err() {
                    self.decline(number);
                }
            }
            Message::Cancel { number, pid, key } => {
                let (key, link) = (key.0, self.clone());
                let done = Told(Box::new(move |found| link.say(number, found)));
                let cancel = Command::CancelFor(side, pid, key, done);
                if crew.tell(crew.owner(pid), cancel).is_err() {
                    self.decline(number);
                }
            }
            Message::Server(server) => {
                let turn = self.0.last.fetch_add(1, Ordering::Relaxed) as usize;
                let worker = turn % crew.size();
                let passage = self.count(server.pool.name.read(), worker);
                if let Some(socket) = files.into_iter().next() {
                    // A worker that has ended takes nothing.
                    let _ = crew.tell(worker, Command::Server(server, socket, passage));
                }
            }
            Message::NoMore { number } => {
                // The successor stays, and gets all that is left.
                if side == Side::Predecessor {
                    self.lock_traffic().refused = true;
                }
                self.say(number, true);
            }
            Message::Own(counts) => {
                let mut fewer = false;
                for (name, told) in &counts {
                    fewer |= self.hear(name.read(), *told);
                }
                if fewer {
                    tell_all(crew, || Command::Servers(Mail::Room));
                }
            }
            Message::Starving(names) => {
                let names: Arc<[_]> = names.iter().map(WrittenName::read).collect();
                tell_all(crew, || Command::Give(names.clone(), side));
            }
            Message::Answer { number, yes } => {
                if let Some(asked) = self.take_asked(number) {
                    // Whoever asked may have gone.
                    let _ = asked.send(yes);
                }
            }
        }
    }

    /// Whatever is asked there, the answer is no.
    fn refuse(&self, message: &[u8]) {
        #[derive(Deserialize)]
        struct Numbered {
            number: u64,
        }
        let Ok(asked) = serde_json::from_slice::<HashMap<String, Numbered>>(message) else {
            return;
        };
        for Numbered { number } in asked.into_values() {
            self.decline(number);
        }
    }

    fn decline(&self, number: u64) {
        self.say(number, false);
    }

    fn say(&self, number: u64, yes: bool) {
        self.send(&Message::Answer { number, yes }, Vec::new(), None);
    }
}

fn tell_all(crew: &Crew, command: impl Fn() -> Command) {
    for worker in crew.everyone() {
        // One that has ended has nothing to do.
        let _ = crew.tell(worker, command());
    }
}

/// Writes until that fails.
fn write(stream: &UnixStream, outbox: &mpsc::Receiver<Letter>) {
    for letter in outbox {
        let files: Vec<_> = letter.files.iter().map(AsFd::as_fd).collect();
        if !letter.message.is_empty()
            && let Err(error) = descriptors::send(stream, &letter.message, &files)
        {
            debug!(reason = %error, "the other process does not listen");
            // The reader sees it, and closes the line.
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        if let Some(sent) = letter.sent {
            // Whoever waited may have gone.
            let _ = sent.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{Crew, Mailbox};

    fn ends() -> ((Link, Crew), UnixStream) {
        let (link, crew, _, there) = ends_on(Side::Successor);
        ((link, crew), there)
    }

    fn ends_on(side: Side) -> (Link, Crew, Mailbox, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        let (crew, mailbox) = Crew::assemble(1).remove(0);
        let ledger = Ledger::new(1, std::time::Instant::now());
        let link = Link::start(here, side, crew.clone(), ledger).unwrap();
        (link, crew, mailbox, there)
    }

    fn server() -> WrittenServer {
        let credential = r#"{"user":"u","password":null,"md5":null,"scram_keys":null}"#;
        let name = r#"{"database":"d","user":"u","host":null}"#;
        let text = format!(
            r#"{{"pool":{{"name":{name},"credential":{credential},"welcome":null}},
                "terms":"","id":1,"host":{{"Tcp":{{"host":"h","port":5432}}}},"key":null,
                "read_only":false,"born":0,"connected":0,"requested":0,"idle":null,"checked":0,
                "backend":{{"params":[],"prepared":false,"queries":0}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn socket() -> OwnedFd {
        UnixStream::pair().unwrap().0.into()
    }

    fn say(there: &UnixStream, message: &Message, files: &[OwnedFd]) {
        let message = serde_json::to_vec(message).unwrap();
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        descriptors::send(there, &message, &files).unwrap();
    }

    fn ask(link: &Link) -> oneshot::Receiver<bool> {
        let key = Bytes(vec![1]);
        link.ask(Vec::new(), |number| Message::Cancel {
            number,
            pid: 7,
            key,
        })
    }

    #[tokio::test]
    async fn answers_find_who_asked() {
        let ((link, _crew), there) = ends();
        let (first, second) = (ask(&link), ask(&link));
        for number in 0..2 {
            let (asked, _) = descriptors::receive(&there).unwrap();
            let text = format!(r#"{{"Cancel":{{"number":{number},"pid":7,"key":"AQ=="}}}}"#);
            assert_eq!(String::from_utf8(asked).unwrap(), text);
        }
        for (number, yes) in [(9, true), (1, true), (0, false)] {
            let answer = serde_json::to_vec(&Message::Answer { number, yes }).unwrap();
            descriptors::send(&there, &answer, &[]).unwrap();
        }
        assert_eq!((first.await, second.await), (Ok(false), Ok(true)));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_process_that_has_gone() {
        let ((link, _crew), there) = ends();
        let before = ask(&link);
        drop(there);
        assert!(before.await.is_err());
        link.ended().await;
        assert!(ask(&link).await.is_err());
        assert!(!link.answer(1, true).await);
        assert!(!link.cancel(1, b"x").await);
    }

    #[test]
    fn who_takes_no_more_has_got_what_was_given() {
        let (link, _crew, _mailbox, there) = ends_on(Side::Predecessor);
        assert!(link.give(server(), socket(), || ()));
        say(&there, &Message::NoMore { number: 7 }, &[]);
        let (given, files) = descriptors::receive(&there).unwrap();
        assert!(given.starts_with(br#"{"Server""#) && files.len() == 1);
        let (answer, _) = descriptors::receive(&there).unwrap();
        assert_eq!(answer, br#"{"Answer":{"number":7,"yes":true}}"#);
        assert!(!link.give(server(), socket(), || panic!("it stays")));
    }

    #[test]
    fn a_successor_takes_all_there_are() {
        let (link, _crew, _mailbox, there) = ends_on(Side::Successor);
        say(&there, &Message::NoMore { number: 7 }, &[]);
        descriptors::receive(&there).unwrap();
        assert!(link.give(server(), socket(), || ()));
    }

    #[tokio::test]
    async fn nothing_comes_any_more_when_that_is_answered() {
        let (link, _crew, mut mailbox, there) = ends_on(Side::Successor);
        let other = std::thread::spawn(move || {
            let (asked, _) = descriptors::receive(&there).unwrap();
            assert_eq!(asked, br#"{"NoMore":{"number":0}}"#);
            say(&there, &Message::Server(Box::new(server())), &[socket()]);
            let (number, yes) = (0, true);
            say(&there, &Message::Answer { number, yes }, &[]);
            there
        });
        link.take_no_more().await;
        assert!(matches!(mailbox.try_recv(), Ok(Command::Linked(..))));
        assert!(matches!(mailbox.try_recv(), Ok(Command::Server(..))));
        // Nobody is waited for who has gone.
        drop(other.join().unwrap());
        link.take_no_more().await;
    }

    #[tokio::test]
    async fn what_is_not_understood_is_refused() {
        let ((_link, _crew), there) = ends();
        let unknown = [
            r#"{"Horse":{"number":5,"colour":"brown"}}"#,
            r#"{"Client":{"number":6,"client":{"id":1,"soul":2}}}"#,
        ];
        for (message, number) in unknown.into_iter().zip([5, 6]) {
            descriptors::send(&there, message.as_bytes(), &[]).unwrap();
            let (answer, _) = descriptors::receive(&there).unwrap();
            let text = format!(r#"{{"Answer":{{"number":{number},"yes":false}}}}"#);
            assert_eq!(String::from_utf8(answer).unwrap(), text);
        }
    }
}
