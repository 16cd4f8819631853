//! What is written down of a script's step.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Failure, Frontend, Message, Pooler, RawClient};

/// What was done, and what came back: a line for each message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub what: String,
    pub lines: Vec<String>,
}

/// Plays a script: clients by name, and what they have heard.
pub struct Player<'a> {
    pub pooler: &'a Pooler,
    clients: BTreeMap<String, RawClient>,
    pub steps: Vec<Step>,
}

/// An answer that must not come does not come within this time.
const WHILE: Duration = Duration::from_millis(150);

/// Who was closed is no longer listed after this time.
const GONE: Duration = Duration::from_millis(50);

/// And one that has not come after this time never does.
const LONG: Duration = Duration::from_secs(3);

impl<'a> Player<'a> {
    pub fn new(pooler: &'a Pooler) -> Player<'a> {
        Player {
            pooler,
            clients: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    /// Logs in without a password; with parameters beside user and database.
    pub fn login(&mut self, name: &str, user: &str, database: &str, more: &[(&str, &str)]) {
        let mut parameters = vec![("user", user), ("database", database)];
        parameters.extend(more);
        let startup = Frontend::new().startup((3, 0), &parameters);
        let what = format!("{name}: log in as {user} to {database} {more:?}");
        self.connect(name, what, startup);
    }

    /// Logs in with a password, whichever way it is asked for.
    pub fn prove(&mut self, user: &str, password: &str) {
        let database = self.pooler.database.clone();
        let mut client = RawClient::connect(&self.pooler.address);
        let parameters = [("user", user), ("database", &*database)];
        client.send(&Frontend::new().startup((3, 0), &parameters));
        let lines = match client.finish_login(user, Some(password)) {
            Ok(()) => vec!["let in".to_owned(), format!("{:?}", client.parameters)],
            Err(failure) => vec![format!("{:?}", said(failure)), end(&mut client)],
        };
        self.note(format!("log in as {user} with \"{password}\""), lines);
    }

    /// Sends what is no login at all, and hears all up to the end.
    pub fn knock(&mut self, what: &str, bytes: Frontend) {
        self.connect("visitor", format!("visitor: {what}"), bytes);
        self.clients.remove("visitor");
    }

    fn connect(&mut self, name: &str, what: String, bytes: Frontend) {
        let mut client = RawClient::connect(&self.pooler.address);
        client.send(&bytes);
        let lines = hear(&mut client, 1);
        if lines.last().is_some_and(|line| line.starts_with('Z')) {
            self.clients.insert(name.to_owned(), client);
        }
        self.note(what, lines);
    }

    /// Asks by the simple protocol.
    pub fn ask(&mut self, name: &str, sql: &str) {
        let messages = Frontend::new().query(sql);
        self.send(name, sql, &messages, 1);
    }

    /// Sends messages and hears up to so many ReadyForQuery, or the end.
    pub fn send(&mut self, name: &str, what: &str, messages: &Frontend, ready: usize) {
        let Some(client) = self.clients.get_mut(name) else {
            self.note(format!("{name}: {what}"), vec!["is not there".to_owned()]);
            return;
        };
        // Who was closed meanwhile hears why.
        let _ = client.try_send(&messages.bytes);
        let lines = hear(client, ready);
        if lines.last().is_some_and(|line| line == "closed") {
            self.clients.remove(name);
        }
        self.note(format!("{name}: {what}"), lines);
    }

    /// Asks for what has to wait.
    pub fn begin(&mut self, name: &str, sql: &str) {
        let lines = match self.clients.get_mut(name) {
            Some(client) => {
                client.send(&Frontend::new().query(sql));
                format!("waits: {}", client.is_silent_for(WHILE))
            }
            None => "is not there".to_owned(),
        };
        self.note(format!("{name} begins: {sql}"), vec![lines]);
    }

    /// One client has the only server connection, and another one waits for it.
    pub fn b_waits_for_a(&mut self) {
        for name in ["a", "b"] {
            self.login(name, "app", &self.pooler.database, &[]);
        }
        self.ask("a", "begin");
        self.begin("b", "select 1");
    }

    /// Hears the answer to what has waited.
    pub fn end(&mut self, name: &str) {
        let lines = match self.clients.get_mut(name) {
            Some(client) => hear(client, 1),
            None => vec!["is not there".to_owned()],
        };
        self.note(format!("{name} hears the answer"), lines);
    }

    /// Asks for what was begun to be cancelled.
    pub fn cancel(&mut self, name: &str) {
        self.clients[name].cancel();
    }

    /// Says goodbye, and waits until nobody knows the client any more.
    pub fn leave(&mut self, name: &str) {
        if let Some(mut client) = self.clients.remove(name) {
            // It may have been closed.
            let _ = client.try_send(&Frontend::new().terminate().bytes);
            client.read_to_end();
            std::thread::sleep(GONE);
        }
    }

    /// Writes down what a program prints.
    pub fn note(&mut self, what: String, lines: Vec<String>) {
        self.steps.push(Step { what, lines });
    }
}

fn end(client: &mut RawClient) -> String {
    match client.read_to_end().as_slice() {
        [] => "closed".to_owned(),
        more => format!("{more:?}"),
    }
}

fn hear(client: &mut RawClient, ready: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut left, mut columns) = (ready, Vec::new());
    while left > 0 {
        if client.is_silent_for(LONG) {
            lines.push("silence".to_owned());
            break;
        }
        let Some(message) = client.read_or_end() else {
            lines.push("closed".to_owned());
            break;
        };
        left -= usize::from(message.tag == b'Z');
        if message.tag == b'T' {
            columns = message.column_names();
        }
        lines.push(line(&message, &columns));
    }
    lines
}

/// Without what explains the poolers' own.
fn said(failure: Failure) -> BTreeMap<char, String> {
    let mut fields = failure.fields;
    // PostgreSQL's own errors, which pass through, name a routine.
    if !fields.contains_key(&'R') {
        fields.remove(&'D');
        fields.remove(&'H');
    }
    fields
}

fn line(message: &Message, columns: &[String]) -> String {
    let tag = message.tag as char;
    match message.tag {
        b'T' => format!("T {}", types(message)),
        b'D' => {
            let value = |value: Option<String>| value.unwrap_or("NULL".to_owned());
            let values = message.columns().into_iter().map(value);
            let named = columns.iter().zip(values);
            let pairs: Vec<_> = named
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("D {}", pairs.join("|"))
        }
        b'E' | b'N' => {
            format!("{tag} {:?}", said(message.failure()))
        }
        // Keys are chance, and so are the salts of passwords.
        b'A' => format!("A {}", message.body[4..].escape_ascii()),
        b'K' => format!("K {} bytes", message.body.len()),
        b'R' => format!("R {:?}", &message.body[..4]),
        _ => format!("{tag} {}", message.body.escape_ascii()),
    }
}

/// Name, type, size, modifier and format of each column.
fn types(message: &Message) -> String {
    let mut rest = &message.body[2..];
    let mut columns = Vec::new();
    for name in message.column_names() {
        rest = &rest[name.len() + 1 + 6..];
        let (head, more) = rest.split_at(12);
        let oid = u32::from_be_bytes(head[..4].try_into().expect("oid"));
        let format = &head[4..].escape_ascii().to_string();
        columns.push(format!(
            "{name}:{oid}{}",
            format.replace("\\xff\\xff\\xff\\xff\\x00\\x00", "")
        ));
        rest = more;
    }
    columns.join("|")
}

/// Columns whose values are times, numbers of sockets or processes, addresses
/// in memory, or counts that depend on them.
const CHANCE: [&str; 21] = [
    "id",
    "connect_time",
    "request_time",
    "wait_us",
    "ptr",
    "link",
    "remote_pid",
    "recv_pos",
    "pkt_pos",
    "pkt_remain",
    "send_pos",
    "send_remain",
    "pkt_avail",
    "send_avail",
    "total_xact_time",
    "total_query_time",
    "total_wait_time",
    "xact_time",
    "query_time",
    "wait_time",
    "maxwait_us",
];

impl Step {
    /// Hides what differs from run to run.
    pub fn mask(&mut self, pooler: &Pooler) {
        let port = pooler.address.port().to_string();
        let dir = pooler.socket.host();
        for text in self.lines.iter_mut().chain([&mut self.what]) {
            *text = text
                .replace(&dir, "DIR")
                .replace(&pooler.database, "DATABASE");
            // With application_name_add_host.
            if let Some((name, from)) = text.split_once(" - 127.0.0.1:") {
                let end = from.trim_start_matches(|c: char| c.is_ascii_digit());
                *text = format!("{name} - 127.0.0.1:CHANCE{end}");
            }
            *text = match text.strip_prefix("D ") {
                Some(row) => format!("D {}", masked(row, &port)),
                None => text.replace(&port, "PORT"),
            };
        }
    }

    /// Whether the console was asked for a table.
    pub fn is_show(&self) -> bool {
        let command = self.command();
        command.starts_with("show ")
            || self
                .lines
                .first()
                .is_some_and(|line| line.starts_with("T type:"))
    }

    /// Whether the console was asked for this table.
    pub fn shows(&self, table: &str) -> bool {
        self.is_show() && self.command().ends_with(&format!(" {table}"))
    }

    /// What was asked, without what does not matter.
    fn command(&self) -> String {
        let (_, text) = self.what.split_once(": ").unwrap_or(("", &self.what));
        let text = text
            .to_lowercase()
            .replace(['"', ';'], "")
            .replace('\t', " ");
        text.trim().replacen("select ", "show ", 1)
    }
}

fn masked(row: &str, own_port: &str) -> String {
    let hide = |pair: &str| {
        let Some((name, value)) = pair.split_once('=') else {
            return pair.to_owned();
        };
        let hidden = match name {
            _ if value.is_empty() || value == "NULL" => value,
            "port" | "local_port" if value != own_port => "chance",
            _ if CHANCE.contains(&name) || name.starts_with("avg_") => "chance",
            _ if value == own_port => "PORT",
            _ => value,
        };
        format!("{name}={hidden}")
    };
    // SHOW TOTALS has a row for each number.
    let (name, _) = row.split_once("|value=").unwrap_or_default();
    if name.starts_with("name=avg_") || name.ends_with("_time") {
        return name.to_owned();
    }
    let pairs: Vec<_> = row.split('|').map(hide).collect();
    pairs.join("|")
}
