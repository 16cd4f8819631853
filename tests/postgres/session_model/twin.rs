use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::step::{Action, Step};
use crate::support::{Address, Answer, Cluster, Frontend, Message, Pooler, RawClient, tags};

/// Names of the same length, so that positions in texts are the same.
pub const DIRECT: &str = "model_direct";
pub const POOLED: &str = "model_pooled";

/// How long a notification may be under way, and what ended clients held be held.
const DELIVERY: Duration = Duration::from_secs(5);

/// Clients of both databases that do the same.
pub struct Twins<'a> {
    pooler: &'a Pooler,
    pairs: Vec<Pair>,
    admins: [RawClient; 2],
}

/// What a client's next step depends on.
#[derive(Clone, Copy)]
pub struct State {
    /// Of its transaction, as ReadyForQuery has it.
    pub status: char,
    /// Columns may have changed of what it has prepared.
    pub has_stale: bool,
}

struct Pair {
    direct: Client,
    pooled: Client,
    state: State,
    /// Its transaction may change columns.
    alters: bool,
    /// Statements that were parsed again for the direct client only.
    renewed: HashSet<String>,
    /// It may listen to some channels on its server connection, to others elsewhere:
    /// only those of each are in order.
    listens_unseen: bool,
}

struct Client {
    raw: RawClient,
    notifications: Vec<Vec<u8>>,
}

impl<'a> Twins<'a> {
    pub fn new(cluster: &Cluster, pooler: &'a Pooler, count: usize) -> Twins<'a> {
        let admins = [DIRECT, POOLED].map(|name| cluster.admin(name));
        let pairs = (0..count).map(|_| Pair::new(pooler, &[]).unwrap());
        Twins {
            pooler,
            pairs: pairs.collect(),
            admins,
        }
    }

    pub fn states(&self) -> Vec<State> {
        self.pairs.iter().map(|pair| pair.state).collect()
    }

    pub fn play(&mut self, step: &Step) -> Result<(), String> {
        let pair = &mut self.pairs[step.client];
        if step.may_use_names() && pair.state.status == 'I' {
            pair.renew(step.goes_by_names());
        }
        pair.listens_unseen |= step.text.contains("execute 'listen");
        match &step.action {
            Action::Send { parts, ready } => pair.send(parts, *ready)?,
            Action::Reconnect {
                unfinished,
                parameters,
            } => {
                pair.leave(unfinished);
                self.wait_for_ends()?;
                self.pairs[step.client] = Pair::new(self.pooler, parameters)?;
            }
        }
        self.note_changes(step);
        if step.may_notify() {
            self.same_notifications()?;
        }
        Ok(())
    }

    /// Until its transaction has ended, others do not see what a step has changed.
    fn note_changes(&mut self, step: &Step) {
        let pair = &mut self.pairs[step.client];
        if pair.alters || step.alters_columns() {
            pair.alters = pair.state.status != 'I';
            for pair in &mut self.pairs {
                pair.state.has_stale = true;
            }
        }
    }

    /// What sessions hold goes a moment after them.
    fn wait_for_ends(&mut self) -> Result<(), String> {
        let sql = "select locktype || ' ' || coalesce(relname, '') || coalesce(objid::text, '') || mode \
             from pg_locks l join pg_database d on d.oid = l.database \
             left join pg_class c on c.oid = l.relation \
             where datname = current_database() and l.pid <> pg_backend_pid() \
             and (locktype = 'advisory' or relnamespace = 'public'::regnamespace) order by 1";
        let sessions = "select count(*) from pg_stat_activity \
             where datname = current_database() and usename = 'app'";
        let others = (self.pairs.len() - 1).to_string();
        let [direct, pooled] = &mut self.admins;
        let start = Instant::now();
        loop {
            // Before it is gone it may still take what it was sent last.
            let gone = direct.value(sessions) == others;
            let (one, other) = (direct.query(sql).column(), pooled.query(sql).column());
            if (gone && one == other) || start.elapsed() > DELIVERY {
                return same("locks", &one, &other);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Each client has heard the same as its twin, or will have in a moment.
    fn same_notifications(&mut self) -> Result<(), String> {
        for (number, pair) in self.pairs.iter_mut().enumerate() {
            // In a transaction none is delivered.
            let start = Instant::now();
            while pair.state.status == 'I' {
                pair.send(&[Frontend::new().query("")], 1)?;
                let heard = |client: &Client| {
                    let mut heard = client.notifications.clone();
                    if pair.listens_unseen {
                        let channel = |n: &Vec<u8>| n.split(|b| *b == 0).next().map(Vec::from);
                        heard.sort_by_key(channel);
                    }
                    heard
                };
                let (one, other) = (heard(&pair.direct), heard(&pair.pooled));
                if one == other {
                    break;
                }
                if start.elapsed() > DELIVERY {
                    let texts = |all: &[Vec<u8>]| -> Vec<String> {
                        all.iter().map(|n| n.escape_ascii().to_string()).collect()
                    };
                    return Err(format!(
                        "client {number} is notified of {:?} instead of {:?}",
                        texts(&other),
                        texts(&one)
                    ));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

impl Pair {
    fn new(pooler: &Pooler, more: &[(&str, &str)]) -> Result<Pair, String> {
        let login = |address: &Address, database: &str| {
            let mut parameters = vec![("user", "app"), ("database", database)];
            parameters.extend(more);
            RawClient::try_login_with(address, &parameters, None)
        };
        let direct = login(&pooler.server_address(), DIRECT);
        let pooled = login(&pooler.address, POOLED);
        match (direct, pooled) {
            (Ok(direct), Ok(pooled)) => {
                same("parameters", &direct.parameters, &pooled.parameters)?;
                let client = |raw| Client {
                    raw,
                    notifications: Vec::new(),
                };
                Ok(Pair {
                    direct: client(direct),
                    pooled: client(pooled),
                    state: State {
                        status: 'I',
                        has_stale: false,
                    },
                    alters: false,
                    renewed: HashSet::new(),
                    listens_unseen: false,
                })
            }
            (direct, pooled) => {
                same("login", &direct.err(), &pooled.err())?;
                Pair::new(pooler, &[])
            }
        }
    }

    /// Parses statements anew whose columns others have changed: pgweir does so,
    /// without a word, where a client that goes directly gets an error. Whose statements
    /// the server knows by the client's names (`by_name`) gets it from pgweir, too.
    fn renew(&mut self, by_name: bool) {
        let for_pooled = by_name && !self.renewed.is_empty();
        if !self.state.has_stale && !for_pooled {
            return;
        }
        let sql = "select name, statement from pg_prepared_statements where not from_sql";
        for row in self.direct.ask(&Frontend::new().query(sql)).rows() {
            let name = row[0].as_deref().unwrap();
            let anew = Frontend::new().close(b'S', name);
            let anew = anew.parse(name, row[1].as_deref().unwrap()).sync();
            let described = self
                .direct
                .ask(&Frontend::new().describe(b'S', name).sync());
            if described.errors().iter().any(|e| e.sqlstate() == "0A000") {
                self.direct.ask(&anew);
                self.renewed.insert(name.to_owned());
            }
            if by_name && self.renewed.contains(name) {
                self.pooled.ask(&anew);
            }
        }
        self.state.has_stale = false;
        if by_name {
            self.renewed.clear();
        }
    }

    fn leave(&mut self, unfinished: &Frontend) {
        for client in [&mut self.direct, &mut self.pooled] {
            client.raw.send(unfinished);
            client.raw.close();
        }
    }

    fn send(&mut self, parts: &[Frontend], ready: usize) -> Result<(), String> {
        for (at, part) in parts.iter().enumerate() {
            let last = at + 1 == parts.len();
            self.direct.raw.send(part);
            self.pooled
                .raw
                .send_bytes(&replace(&part.bytes, DIRECT, POOLED));
            if last {
                for _ in 0..ready {
                    self.receive(|message| message.tag == b'Z')?;
                }
            } else {
                self.receive(|message| b"CEsI".contains(&message.tag))?;
            }
        }
        Ok(())
    }

    /// Reads up to a message, which must be the same for both as all before.
    fn receive(&mut self, is_last: impl Fn(&Message) -> bool) -> Result<(), String> {
        let expected = self.direct.read_until(&is_last);
        let seen = self.pooled.read_until(&is_last);
        let both = expected.iter().zip(&seen);
        let common = both.take_while(|(one, other)| one == other).count();
        let tags = format!("answer {}, after {common} messages", tags(&expected));
        let next = |all: &[Message]| all.iter().skip(common).take(3).cloned().collect::<Vec<_>>();
        same(&tags, &next(&expected), &next(&seen))?;
        let last = expected.last().filter(|last| is_last(last));
        let last = last.ok_or_else(|| format!("no end of the answer {tags}"))?;
        if last.tag == b'Z' {
            self.state.status = last.body[0] as char;
        }
        same(
            "parameters",
            &self.direct.raw.parameters,
            &self.pooled.raw.parameters,
        )
    }
}

impl Client {
    fn ask(&mut self, sent: &Frontend) -> Answer {
        self.raw.send(sent);
        Answer {
            messages: self.read_until(&|message| message.tag == b'Z'),
        }
    }

    fn read_until(&mut self, is_last: &impl Fn(&Message) -> bool) -> Vec<Message> {
        let mut messages = Vec::new();
        // Who waits for a lock does not wait for as long.
        while !self.raw.is_silent_for(DELIVERY)
            && let Some(message) = self.raw.read_or_end()
        {
            if message.tag == b'A' {
                // Without the process that sent it.
                self.notifications.push(message.body[4..].to_vec());
                continue;
            }
            let ends = is_last(&message);
            messages.push(masked(message));
            if ends {
                break;
            }
        }
        // In which order several are reported depends on a table of hashes (guc.c).
        for parameters in messages.chunk_by_mut(|one, next| one.tag == b'S' && next.tag == b'S') {
            parameters.sort_by(|one, other| one.body.cmp(&other.body));
        }
        messages
    }
}

/// Without what no two databases share: their names, the OIDs of tables in a
/// RowDescription.
fn masked(mut message: Message) -> Message {
    message.body = replace(&message.body, POOLED, DIRECT);
    if message.tag == b'T' {
        let mut at = 2;
        while let Some(end) = message.body[at..].iter().position(|byte| *byte == 0) {
            message.body[at + end + 1..at + end + 5].fill(0);
            at += end + 19;
        }
    }
    // A failed transaction refuses a Parse as it does the Bind that needs it.
    if message.tag == b'E' && message.failure().sqlstate() == "25P02" {
        message.body.clear();
    }
    message
}

/// Names of the same length.
fn replace(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut text = text.to_vec();
    while let Some(at) = text.windows(from.len()).position(|w| w == from.as_bytes()) {
        text[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    text
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, direct: &T, pooled: &T) -> Result<(), String> {
    if direct == pooled {
        return Ok(());
    }
    Err(format!("{what}: {pooled:?}\n  instead of {direct:?}"))
}
