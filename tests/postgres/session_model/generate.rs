//! Requests at random: of names there are few, so that much of what happens has
//! to do with what has happened before.

use std::fmt;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::support::Frontend;

pub const CLIENTS: usize = 7;

/// What both databases have.
pub const CONTENT: [&str; 12] = [
    "create table kept (a int, b text)",
    "create table planned (a int, b text default 'b')",
    "insert into planned values (1, 'one'), (2, 'two')",
    "create sequence numbers",
    "create schema other",
    "create table other.kept (a int, b text default 'other')",
    "grant all on schema public, other to public; grant all on all tables in schema public to public; \
     grant all on sequence numbers to public",
    "create function hidden_set(v text) returns text language plpgsql as \
     $$ begin perform set_config('app.a', v, false); return v; end $$",
    "create function hidden_table() returns void language plpgsql as \
     $$ begin create temp table if not exists t0 (a int); insert into t0 values (99); end $$",
    "create function hidden_lock(k int) returns void language plpgsql as \
     $$ begin perform pg_try_advisory_lock(k); end $$",
    "create function on_kept() returns trigger language plpgsql as \
     $$ begin if new.a = 13 then perform set_config('app.b', new.b, false); end if; return new; end $$",
    "create trigger t before insert on kept for each row execute function on_kept()",
];

pub const CUSTOM: [&str; 2] = ["app.a", "app.b"];

const SETTINGS: [(&str, &[&str]); 15] = [
    ("work_mem", &["'1MB'", "2048", "'3 MB'", "'lots'"]),
    ("timezone", &["'Asia/Tokyo'", "'UTC'", "'Mars'"]),
    ("datestyle", &["'German'", "'iso, dmy'", "sql"]),
    (
        "search_path",
        &["other", "other, public", "''", "\"$user\", public"],
    ),
    ("application_name", &["'one'", "'two ü'", "''"]),
    ("extra_float_digits", &["0", "1", "77"]),
    ("app.a", &["'x'", "'it''s'", "''"]),
    ("app.b", &["1", "y"]),
    ("statement_timeout", &["'1h'", "0"]),
    ("standard_conforming_strings", &["off", "on"]),
    ("client_encoding", &["latin1", "'utf8'", "klingon"]),
    ("bytea_output", &["escape", "'hex'"]),
    ("intervalstyle", &["iso_8601", "postgres"]),
    ("default_transaction_read_only", &["on", "off", "off"]),
    (
        "default_transaction_isolation",
        &["'repeatable read'", "'read committed'"],
    ),
];

/// What one client does.
#[derive(Clone)]
pub struct Step {
    pub client: usize,
    pub action: Action,
    pub kind: &'static str,
    /// Whether somebody may be notified.
    pub notifies: bool,
    text: String,
}

#[derive(Clone)]
pub enum Action {
    /// Each part but the last ends with an Execute and a Flush.
    Send { parts: Vec<Frontend>, ready: usize },
    Reconnect {
        parameters: Vec<(&'static str, &'static str)>,
    },
}

impl Step {
    pub fn is_reconnect(&self) -> bool {
        matches!(self.action, Action::Reconnect { .. })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}: {}: {}", self.client, self.kind, self.text)
    }
}

pub struct Generator {
    random: StdRng,
    serial: u64,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator {
            random: StdRng::seed_from_u64(seed),
            serial: 0,
        }
    }

    /// The next step, of clients in these states.
    pub fn step(&mut self, states: &[char]) -> Step {
        let client = self.random.random_range(0..CLIENTS);
        if self.chance(4) {
            return self.let_go(client, states[client]);
        }
        if self.chance(1) {
            return self.reconnect(client);
        }
        self.serial += 1;
        match self.random.random_range(0..20) {
            0..9 => self.simple(client),
            9..11 => self.batch(client),
            11..14 => self.extended(client),
            14..16 => self.pipeline(client),
            16..18 => self.named(client),
            18 => self.flushed(client),
            _ => self.copy(client),
        }
    }

    fn let_go(&mut self, client: usize, status: char) -> Step {
        let mut sent = Frontend::new();
        let end = *["rollback", "commit"].choose(&mut self.random).unwrap();
        if status != 'I' {
            sent = sent.query(end);
        }
        let ready = 1 + usize::from(status != 'I');
        let text = format!("{end} if need be, then discard all");
        step(
            client,
            "let go",
            vec![sent.query("discard all")],
            ready,
            text,
        )
    }

    fn reconnect(&mut self, client: usize) -> Step {
        let all = [
            ("options", "-c work_mem=7MB -c app.a=came"),
            ("search_path", "other"),
            ("extra_float_digits", "2"),
        ];
        let count = self.random.random_range(0..3);
        let parameters: Vec<_> = all.sample(&mut self.random, count).copied().collect();
        Step {
            client,
            kind: "reconnect",
            notifies: false,
            text: format!("{parameters:?}"),
            action: Action::Reconnect { parameters },
        }
    }

    fn simple(&mut self, client: usize) -> Step {
        let sql = self.statement();
        step(client, "simple", vec![Frontend::new().query(&sql)], 1, sql)
    }

    fn batch(&mut self, client: usize) -> Step {
        let count = self.random.random_range(2..5);
        let all: Vec<_> = (0..count).map(|_| self.statement()).collect();
        let sql = all.join("; ");
        step(client, "batch", vec![Frontend::new().query(&sql)], 1, sql)
    }

    fn extended(&mut self, client: usize) -> Step {
        let sql = self.statement();
        let mut sent = Frontend::new().parse("", &sql);
        if self.chance(30) {
            sent = sent.describe(b'S', "");
        }
        sent = sent.bind("", "", &[]);
        if self.chance(60) {
            sent = sent.describe(b'P', "");
        }
        let sent = sent.execute("", 0).sync();
        step(client, "extended", vec![sent], 1, sql)
    }

    /// Several requests at once, with a Sync here and there.
    fn pipeline(&mut self, client: usize) -> Step {
        let (mut sent, mut ready, mut texts) = (Frontend::new(), 1, Vec::new());
        for _ in 0..self.random.random_range(2..6) {
            let sql = self.statement();
            sent = sent.run(&sql, &[]);
            texts.push(sql);
            if self.chance(40) {
                sent = sent.sync();
                ready += 1;
                texts.push("SYNC".to_owned());
            }
        }
        step(
            client,
            "pipeline",
            vec![sent.sync()],
            ready,
            texts.join("; "),
        )
    }

    /// Statements of the protocol with a name.
    fn named(&mut self, client: usize) -> Step {
        let name = self.one(&["n1", "n2", "n3"]);
        let (sent, text) = match self.random.random_range(0..10) {
            0..3 => {
                let sql = self.one(&[
                    "select $1::text || current_setting('work_mem')",
                    "select * from planned where b <> $1::text order by 1",
                    "select a, $1::text from kept order by 1, 2 limit 3",
                    "selekt $1",
                    "select timestamptz '2024-01-01 00:00:00+00', $1::text",
                ]);
                let close = self.chance(70);
                let sent = match close {
                    true => Frontend::new().close(b'S', name),
                    false => Frontend::new(),
                };
                (
                    sent.parse(name, sql),
                    format!("parse {name} (closed before: {close}): {sql}"),
                )
            }
            3 => (Frontend::new().close(b'S', name), format!("close {name}")),
            4 => (
                Frontend::new().describe(b'S', name),
                format!("describe {name}"),
            ),
            _ => {
                let sent = Frontend::new().bind("", name, &["v"]);
                let sent = sent.describe(b'P', "").execute("", 0);
                (sent, format!("run {name}"))
            }
        };
        step(client, "named", vec![sent.sync()], 1, text)
    }

    /// Reads what comes before it sends Sync.
    fn flushed(&mut self, client: usize) -> Step {
        let sql = self.statement();
        let rows = self.random.random_range(0..3);
        let first = Frontend::new()
            .parse("", &sql)
            .bind("c", "", &[])
            .execute("c", rows);
        let parts = match self.random.random_bool(0.5) {
            true => vec![first.flush(), Frontend::new().sync()],
            false => {
                let then = Frontend::new().execute("c", 0).close(b'P', "c");
                vec![first.flush(), then.sync()]
            }
        };
        step(client, "flushed", parts, 1, format!("{rows} rows of {sql}"))
    }

    fn copy(&mut self, client: usize) -> Step {
        let serial = self.serial;
        let (sql, sent) = match self.random.random_range(0..4) {
            0 => {
                let sql = "copy kept from stdin";
                let sent = Frontend::new().query(sql);
                let sent = sent.copy_data(format!("{serial}\tcopied\n").as_bytes());
                (sql, sent.copy_done())
            }
            1 => {
                let sql = "copy kept from stdin";
                let sent = Frontend::new().query(sql);
                let sent = sent.copy_data(b"broken\n14\tby copy\n");
                (sql, sent.copy_done())
            }
            2 => {
                let sql = "copy kept from stdin; show app.a";
                (sql, Frontend::new().query(sql).copy_fail("no"))
            }
            _ => {
                let sql = "copy (select * from planned order by 1) to stdout; show work_mem";
                (sql, Frontend::new().query(sql))
            }
        };
        step(client, "copy", vec![sent], 1, sql.to_owned())
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    fn one(&mut self, texts: &[&'static str]) -> &'static str {
        texts.choose(&mut self.random).unwrap()
    }

    fn statement(&mut self) -> String {
        match self.random.random_range(0..100) {
            0..22 => self.setting(),
            22..36 => self.read(),
            36..48 => self.prepared(),
            48..56 => self.channel(),
            56..58 => "discard all".to_owned(),
            58..60 => self
                .one(&["discard plans", "discard temp", "discard sequences"])
                .to_owned(),
            60..66 => self.broken(),
            66..70 => self.definition(),
            70..76 => {
                let serial = self.serial;
                format!("insert into kept values (2{serial:05}, 's{serial}')")
            }
            76..88 => self.transaction(),
            88..91 => self.temporary(),
            91..93 => self.cursor(),
            93..95 => self.lock(),
            95..98 => self.sequence(),
            _ => self.hidden(),
        }
    }

    fn setting(&mut self) -> String {
        let (name, values) = *SETTINGS.choose(&mut self.random).unwrap();
        let value = *values.choose(&mut self.random).unwrap();
        let text = value.trim_matches('\'');
        match self.random.random_range(0..14) {
            0..5 => format!("set {name} = {value}"),
            5 => format!("SET SESSION {name} TO {value}"),
            6 => format!("set local {name} = {value}"),
            7 | 8 => format!("reset {name}"),
            9 => format!("set {name} to default"),
            10 => format!("select set_config('{name}', '{text}', false)"),
            11 => format!("select set_config('{name}', '{text}', true)"),
            12 => self
                .one(&[
                    "reset all",
                    "set session characteristics as transaction isolation level repeatable read",
                    "set time zone interval '+02:00' hour to minute",
                    "set names 'latin1'",
                    "set schema 'other'",
                    "set transaction isolation level repeatable read",
                ])
                .to_owned(),
            _ => format!("show {name}"),
        }
    }

    fn read(&mut self) -> String {
        let (name, _) = *SETTINGS.choose(&mut self.random).unwrap();
        match self.random.random_range(0..10) {
            0..3 => format!("show {name}"),
            3 => format!("select current_setting('{name}', true), current_user, session_user"),
            4 if self.chance(20) => {
                "select name, setting from pg_settings where name !~ '^plpgsql' order by 1".to_owned()
            }
            _ => self
                .one(&[
                    "select count(*), max(b) from kept",
                    "select * from planned order by 1",
                    "select a from generate_series(1, 4) a",
                    "select timestamptz '2024-02-29 12:00:00+00', 'a\\b', 0.1::float8 + 0.2::float8",
                    "select '\\xdead'::bytea, interval '1 day'",
                    "",
                    "select current_schemas(false)",
                    "do $$ begin raise notice 'noticed'; end $$",
                ])
                .to_owned(),
        }
    }

    fn prepared(&mut self) -> String {
        let name = self.one(&["p1", "p2", "\"P 3\""]);
        match self.random.random_range(0..10) {
            0..3 => {
                let body = self.one(&[
                    "select * from planned order by 1",
                    "select current_setting('work_mem')",
                    "select a from kept order by a limit 2",
                    "insert into kept values (0, 'prepared')",
                    "select nothing",
                ]);
                format!("prepare {name} as {body}")
            }
            3..6 => format!("execute {name}"),
            6 => format!("deallocate {name}"),
            7 => "deallocate all".to_owned(),
            8 => format!("explain (costs off) execute {name}"),
            _ => "select name, statement from pg_prepared_statements where from_sql order by 1"
                .to_owned(),
        }
    }

    fn channel(&mut self) -> String {
        let name = self.one(&["c1", "c2", "\"C 3\""]);
        let serial = self.serial;
        match self.random.random_range(0..8) {
            0..2 => format!("listen {name}"),
            2 => format!("unlisten {name}"),
            3 => self
                .one(&["unlisten *", "select pg_listening_channels() order by 1"])
                .to_owned(),
            4 => format!("select pg_notify('c1', 'f{serial}')"),
            _ => format!("notify {name}, 'n{serial}'"),
        }
    }

    fn transaction(&mut self) -> String {
        self.one(&[
            "begin",
            "begin",
            "begin",
            "start transaction read only",
            "commit",
            "commit",
            "rollback",
            "end",
            "savepoint a",
            "savepoint b",
            "rollback to a",
            "rollback to b",
            "release a",
            "commit and chain",
            "rollback and chain",
        ])
        .to_owned()
    }

    fn broken(&mut self) -> String {
        self.one(&[
            "select 1/0",
            "selekt",
            "select missing from planned",
            "execute missing",
            "set nothing = 1",
        ])
        .to_owned()
    }

    /// Changes what others may have prepared.
    fn definition(&mut self) -> String {
        self.one(&[
            "alter table planned add column c int default 3",
            "alter table planned drop column c",
            "alter table planned alter column a type bigint",
            "alter table planned alter column a type int",
            "create or replace view seen as select a from planned",
            "analyze planned",
        ])
        .to_owned()
    }

    fn temporary(&mut self) -> String {
        let name = self.one(&["t0", "t1"]);
        match self.random.random_range(0..10) {
            0..2 => format!("create temp table {name} (a int)"),
            2 => format!("create temp table {name} on commit drop as select 1 as a"),
            3 => format!("select 5 as a into temp {name}"),
            4..6 => format!("drop table {name}"),
            6 => format!("insert into {name} values (7)"),
            7 => "create or replace temp view seen as select 'temporary' as a".to_owned(),
            8 => "table seen".to_owned(),
            _ => format!("select * from {name} order by 1"),
        }
    }

    fn cursor(&mut self) -> String {
        self.one(&[
            "declare h cursor with hold for select generate_series(1, 5)",
            "declare c cursor for select generate_series(1, 5)",
            "fetch 2 from h",
            "fetch c",
            "close h",
            "close all",
            "select name from pg_cursors where name <> '' and name <> 'c' order by 1",
        ])
        .to_owned()
    }

    fn lock(&mut self) -> String {
        self.one(&[
            "select pg_try_advisory_lock(1)",
            "select pg_try_advisory_lock(2)",
            "select pg_try_advisory_lock_shared(1)",
            "select pg_advisory_unlock(1)",
            "select pg_advisory_unlock(2)",
            "select pg_advisory_unlock_all()",
            "select pg_try_advisory_xact_lock(1)",
            "select objid, mode from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() order by 1, 2",
        ])
        .to_owned()
    }

    fn sequence(&mut self) -> String {
        self.one(&[
            "select nextval('numbers'), currval('numbers')",
            "select currval('numbers')",
            "select lastval()",
        ])
        .to_owned()
    }

    /// What a text does not show.
    fn hidden(&mut self) -> String {
        self.one(&[
            "do $$ begin perform hidden_set('by function'); end $$",
            "do $$ begin perform hidden_table(); end $$",
            "do $$ begin perform set_config('work_mem', '5MB', false); end $$",
            "do $$ begin set application_name = 'by do'; end $$",
            "do $$ begin execute 'prepare p1 as select 77'; end $$",
            "do $$ begin execute 'deallocate all'; end $$",
            "do $$ begin create temp table t1 (a int); end $$",
            "do $$ begin perform pg_try_advisory_lock(2); end $$",
            "do $$ begin execute 'listen c1'; end $$",
            "do $$ begin execute 'declare h cursor with hold for select 8'; end $$",
            "create table made_of as select set_config('app.a', 'by create', false)",
            "drop table if exists made_of",
        ])
        .to_owned()
    }
}

fn step(
    client: usize,
    kind: &'static str,
    parts: Vec<Frontend>,
    ready: usize,
    text: String,
) -> Step {
    let words = ["notify", "commit", "c1", "c2", "C 3"];
    Step {
        client,
        kind,
        notifies: text == "end" || words.iter().any(|word| text.contains(word)),
        action: Action::Send { parts, ready },
        text,
    }
}
