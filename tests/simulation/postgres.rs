//! A model of one PostgreSQL backend: what it answers depends on the bytes
//! that it was sent, in order, and on nothing else. PostgreSQL source:
//! src/backend/tcop/postgres.c, copyfromparse.c.
//!
//! Its SQL: `begin`, `commit`, `rollback`, `echo ..`, `insert ..`, `fail ..`,
//! `syntax ..`, `deferred ..` (fails at commit), `sleep ..`, `notice ..`,
//! `set <zone>`, `show`, `showx`, `copyin ..`, `copyfail ..`, `copyout ..`,
//! `deallocate all`, `discard all`, `fatal`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use pgweir::wire::Header;

use crate::messages::{message, strings};

type Text = Vec<u8>;

#[derive(Debug)]
struct Failure {
    fatal: bool,
    sqlstate: &'static str,
    text: String,
}

fn failure(sqlstate: &'static str, text: impl Into<String>) -> Failure {
    Failure {
        fatal: false,
        sqlstate,
        text: text.into(),
    }
}

#[derive(Clone, Debug)]
struct Portal {
    sql: String,
    parameter: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Settings {
    zone: String,
    x: String,
}

#[derive(Debug)]
struct Copy {
    extended: bool,
    rows: usize,
}

/// One backend and its session.
#[derive(Debug)]
pub struct Postgres {
    input: Vec<u8>,
    /// Everything that it has said, and how much of it has left its buffer.
    output: Vec<u8>,
    pub flushed: usize,
    pub named: HashMap<Text, String>,
    unnamed: Option<String>,
    portals: HashMap<Text, Portal>,
    pub status: u8,
    /// The implicit transaction, or the block, began with these.
    before: Option<Settings>,
    settings: Settings,
    at_login: Settings,
    reported: String,
    deferred: Option<String>,
    pub skipping: bool,
    copy: Option<Copy>,
    asleep: Option<(bool, String, Vec<String>)>,
    pub closed: bool,
}

impl Postgres {
    pub fn login(x: &str) -> Self {
        let settings = Settings {
            zone: "UTC".into(),
            x: x.into(),
        };
        Postgres {
            input: Vec::new(),
            output: Vec::new(),
            flushed: 0,
            named: HashMap::new(),
            unnamed: None,
            portals: HashMap::new(),
            status: b'I',
            before: None,
            settings: settings.clone(),
            at_login: settings,
            reported: "UTC".into(),
            deferred: None,
            skipping: false,
            copy: None,
            asleep: None,
            closed: false,
        }
    }

    /// Everything said so far.
    pub fn said(&self) -> &[u8] {
        &self.output
    }

    /// Takes what has left the buffer.
    pub fn take(&mut self) -> Vec<u8> {
        let rest = self.output.split_off(self.flushed);
        self.flushed = 0;
        std::mem::replace(&mut self.output, rest)
    }

    pub fn is_asleep(&self) -> bool {
        self.asleep.is_some()
    }

    /// Between two requests, outside a transaction, with nothing left over.
    pub fn is_clean(&self) -> bool {
        self.status == b'I'
            && self.before.is_none()
            && !self.skipping
            && self.copy.is_none()
            && self.asleep.is_none()
            && self.portals.is_empty()
            && self.input.is_empty()
            && self.output.is_empty()
            && !self.closed
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.work();
    }

    /// A query that sleeps is over: it has slept enough, or it was cancelled.
    pub fn wake(&mut self, cancelled: bool) {
        let Some((extended, sql, rest)) = self.asleep.take() else {
            return;
        };
        if cancelled {
            let error = failure("57014", "canceling statement due to user request");
            self.fail(error, extended);
            if !extended {
                self.ready();
            }
        } else {
            self.complete(&sql);
            if !extended {
                self.simple(rest);
            }
        }
        self.work();
    }

    fn work(&mut self) {
        while self.asleep.is_none() && !self.closed {
            let Some(header) = Header::peek(&self.input).expect("a message") else {
                return;
            };
            if self.input.len() < header.total {
                return;
            }
            let rest = self.input.split_off(header.total);
            let bytes = std::mem::replace(&mut self.input, rest);
            self.message(header.tag, &bytes[5..]);
        }
    }

    fn say(&mut self, bytes: Vec<u8>) {
        self.output.extend(bytes);
    }

    fn flush(&mut self) {
        self.flushed = self.output.len();
    }

    fn complete(&mut self, tag: &str) {
        self.say(strings(b'C', &[tag.as_bytes()], b""));
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        if tag == b'X' {
            self.closed = true;
            return;
        }
        if let Some(copy) = &mut self.copy {
            let extended = copy.extended;
            let rows = copy.rows;
            match tag {
                b'd' if body == b"bad" => self.fail(failure("22P02", "bad data"), extended),
                b'd' => {
                    copy.rows += 1;
                    return;
                }
                b'c' => {
                    self.copy = None;
                    self.complete(&format!("COPY {rows}"));
                    if !extended {
                        self.finish();
                    }
                    return;
                }
                b'f' => self.fail(failure("57014", "COPY from stdin failed"), extended),
                b'H' | b'S' => return,
                _ => {
                    self.fail(failure("08P01", "unexpected message type"), extended);
                    let mut lost = failure("08P01", "protocol synchronization was lost");
                    lost.fatal = true;
                    self.fail(lost, extended);
                    return;
                }
            }
            if !extended {
                self.ready();
            }
            return;
        }
        if tag == b'S' {
            self.skipping = false;
            return self.finish();
        }
        if self.skipping {
            return;
        }
        match tag {
            b'Q' => {
                self.begin_implicitly();
                self.unnamed = None;
                let text = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
                let list = text.split(';').map(|sql| sql.trim().to_owned()).collect();
                self.simple(list);
            }
            b'H' => self.flush(),
            b'd' | b'c' | b'f' => {}
            _ => {
                self.begin_implicitly();
                if let Err(error) = self.extended(tag, body) {
                    self.fail(error, true);
                }
            }
        }
    }

    fn simple(&mut self, mut list: Vec<String>) {
        while !list.is_empty() {
            let sql = list.remove(0);
            if sql.is_empty() {
                if list.is_empty() {
                    self.say(message(b'I', b""));
                }
                continue;
            }
            let portal = Portal {
                sql,
                parameter: String::new(),
            };
            let result = self.check(&portal.sql).and_then(|()| {
                if self.returns_rows(&portal.sql) {
                    self.say(row_description());
                }
                self.run(&portal, false)
            });
            if let Err(error) = result {
                self.fail(error, false);
                if !self.closed {
                    self.ready();
                }
                return;
            }
            if let Some((_, _, rest)) = &mut self.asleep {
                *rest = list;
                return;
            }
            if self.copy.is_some() {
                // A COPY is the last of its query here.
                return;
            }
        }
        self.finish();
    }

    fn extended(&mut self, tag: u8, body: &[u8]) -> Result<(), Failure> {
        let mut parts = body.split(|&b| b == 0);
        let mut part = || parts.next().unwrap_or_default().to_vec();
        match tag {
            b'P' => {
                let (name, sql) = (part(), part());
                let sql = String::from_utf8_lossy(&sql).into_owned();
                if name.is_empty() {
                    self.unnamed = None;
                }
                self.check(&sql)?;
                if name.is_empty() {
                    self.unnamed = Some(sql);
                } else if let Entry::Vacant(free) = self.named.entry(name.clone()) {
                    free.insert(sql);
                } else {
                    return Err(failure(
                        "42P05",
                        format!("prepared statement \"{}\" already exists", show(&name)),
                    ));
                }
                self.say(message(b'1', b""));
            }
            b'B' => {
                let (portal, name) = (part(), part());
                let sql = self.statement(&name)?;
                self.not_aborted(&sql)?;
                let parameter = &body[portal.len() + name.len() + 2 + 8..];
                let parameter = show(&parameter[..parameter.len() - 2]);
                self.portals.insert(portal, Portal { sql, parameter });
                self.say(message(b'2', b""));
            }
            b'D' => {
                let name = part();
                let sql = if body[0] == b'S' {
                    let sql = self.statement(&name[1..])?;
                    self.not_aborted(&sql)?;
                    self.say(message(b't', b"\0\0"));
                    sql
                } else {
                    let sql = self.portal(&name[1..])?.sql;
                    self.not_aborted(&sql)?;
                    sql
                };
                self.say(match self.returns_rows(&sql) {
                    true => row_description(),
                    false => message(b'n', b""),
                });
            }
            b'C' => {
                let name = part();
                match (body[0], &name[1..]) {
                    (b'S', b"") => self.unnamed = None,
                    (b'S', name) => drop(self.named.remove(name)),
                    (_, name) => drop(self.portals.remove(name)),
                }
                self.say(message(b'3', b""));
            }
            b'E' => {
                let portal = self.portal(&part())?;
                self.not_aborted(&portal.sql)?;
                self.run(&portal, true)?;
            }
            _ => panic!("message {:?} to the server", tag as char),
        }
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<String, Failure> {
        let found = match name {
            b"" => self.unnamed.clone(),
            name => self.named.get(name).cloned(),
        };
        found.ok_or_else(|| match name {
            b"" => failure("26000", "unnamed prepared statement does not exist"),
            name => failure(
                "26000",
                format!("prepared statement \"{}\" does not exist", show(name)),
            ),
        })
    }

    fn portal(&self, name: &[u8]) -> Result<Portal, Failure> {
        let found = self.portals.get(name).cloned();
        found.ok_or_else(|| failure("34000", format!("portal \"{}\" does not exist", show(name))))
    }

    fn check(&self, sql: &str) -> Result<(), Failure> {
        if sql.starts_with("syntax") {
            return Err(failure("42601", format!("syntax error in {sql}")));
        }
        self.not_aborted(sql)
    }

    fn not_aborted(&self, sql: &str) -> Result<(), Failure> {
        let ends = sql.eq_ignore_ascii_case("rollback") || sql == "commit";
        match self.status == b'E' && !ends {
            true => Err(failure("25P02", "current transaction is aborted")),
            false => Ok(()),
        }
    }

    fn returns_rows(&self, sql: &str) -> bool {
        ["echo", "show", "SELECT"]
            .iter()
            .any(|s| sql.starts_with(s))
    }

    fn run(&mut self, portal: &Portal, extended: bool) -> Result<(), Failure> {
        let sql = &portal.sql;
        let row = |text: &str| {
            let mut body = vec![0, 1];
            body.extend((text.len() as u32).to_be_bytes());
            body.extend(text.as_bytes());
            message(b'D', &body)
        };
        match sql.split(' ').next().unwrap_or_default() {
            "begin" => {
                if self.status == b'I' {
                    self.status = b'T';
                }
                self.complete("BEGIN");
            }
            "commit" | "rollback" | "ROLLBACK" => {
                let commit = sql == "commit" && self.status != b'E';
                if commit && let Some(text) = self.deferred.take() {
                    self.status = b'I';
                    return Err(failure("23503", text));
                }
                self.status = b'I';
                self.end(commit);
                self.begin_implicitly();
                self.complete(if commit { "COMMIT" } else { "ROLLBACK" });
            }
            "echo" => {
                self.say(row(&format!("{sql}:{}", portal.parameter)));
                self.complete("SELECT 1");
            }
            "show" => {
                self.say(row(&self.settings.zone.clone()));
                self.complete("SHOW");
            }
            "showx" => {
                self.say(row(&self.settings.x.clone()));
                self.complete("SHOW");
            }
            "insert" => self.complete("INSERT 0 1"),
            "deferred" => {
                self.deferred = Some(sql.clone());
                self.complete("INSERT 0 1");
            }
            "fail" => return Err(failure("22012", sql.clone())),
            "sleep" => self.asleep = Some((extended, "SLEEP".into(), Vec::new())),
            "notice" => {
                self.say(report(b'N', "NOTICE", "00000", sql));
                self.complete("DO");
            }
            "set" => {
                self.settings.zone = sql[4..].into();
                self.complete("SET");
            }
            "SELECT" => {
                self.set_config(sql);
                self.say(row("whatever"));
                self.complete("SELECT 1");
            }
            "copyin" | "copyfail" => {
                self.say(message(b'G', b"\0\0\0"));
                self.flush();
                if sql.starts_with("copyfail") {
                    return Err(failure("P0001", sql.clone()));
                }
                self.copy = Some(Copy { extended, rows: 0 });
            }
            "copyout" => {
                self.say(message(b'H', b"\0\0\0"));
                self.say(message(b'd', sql.as_bytes()));
                self.say(message(b'c', b""));
                self.complete("COPY 1");
            }
            "deallocate" => {
                self.named.clear();
                self.complete("DEALLOCATE ALL");
            }
            "discard" => {
                if self.status != b'I' {
                    return Err(failure("25001", "DISCARD ALL inside a transaction"));
                }
                self.named.clear();
                self.settings = self.at_login.clone();
                self.complete("DISCARD ALL");
            }
            "fatal" => {
                let mut end = failure("57P01", "terminating connection");
                end.fatal = true;
                return Err(end);
            }
            "" => self.say(message(b'I', b"")),
            _ => panic!("SQL of the model: {sql}"),
        }
        Ok(())
    }

    /// pgweir's own statement.
    fn set_config(&mut self, sql: &str) {
        for call in sql.split("pg_catalog.set_config(").skip(1) {
            let parts: Vec<_> = call.split('\'').collect();
            let default = &self.at_login;
            let value = |default: &str| match parts[2].contains("NULL") {
                true => default.to_owned(),
                false => parts[3].to_owned(),
            };
            match parts[1] {
                "TimeZone" => self.settings.zone = value(&default.zone.clone()),
                "x" => self.settings.x = value(&default.x.clone()),
                other => panic!("set_config of {other}"),
            }
        }
    }

    fn begin_implicitly(&mut self) {
        if self.before.is_none() {
            self.before = Some(self.settings.clone());
        }
    }

    /// Ends a transaction.
    fn end(&mut self, commit: bool) {
        let before = self.before.take();
        if let (false, Some(before)) = (commit, before) {
            self.settings = before;
        }
        self.deferred = None;
        self.portals.clear();
    }

    /// The end of a simple query, or a Sync.
    fn finish(&mut self) {
        if self.status == b'I' {
            if let Some(text) = self.deferred.take() {
                self.fail(failure("23503", text), false);
            } else {
                self.end(true);
            }
        }
        self.ready();
    }

    fn ready(&mut self) {
        if self.settings.zone != self.reported {
            self.reported = self.settings.zone.clone();
            let status = strings(b'S', &[b"TimeZone", self.reported.as_bytes()], b"");
            self.say(status);
        }
        self.say(message(b'Z', &[self.status]));
        self.flush();
    }

    fn fail(&mut self, error: Failure, extended: bool) {
        self.copy = None;
        let severity = if error.fatal { "FATAL" } else { "ERROR" };
        self.say(report(b'E', severity, error.sqlstate, &error.text));
        self.flush();
        if self.status == b'I' {
            self.end(false);
        } else {
            self.status = b'E';
            self.portals.clear();
        }
        self.skipping = extended;
        self.closed |= error.fatal;
    }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn row_description() -> Vec<u8> {
    message(b'T', b"\0\0")
}

fn report(tag: u8, severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    let fields = [
        format!("S{severity}"),
        format!("V{severity}"),
        format!("C{sqlstate}"),
        format!("M{text}"),
    ];
    strings(tag, &fields.each_ref().map(String::as_bytes), &[0])
}
