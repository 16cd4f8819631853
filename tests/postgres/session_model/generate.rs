//! Requests at random.

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::content::STARTUP;
use super::statements::Statements;
use super::step::{Action, Step};
use super::twin::State;
use crate::support::Frontend;

pub const CLIENTS: usize = 7;

pub struct Generator {
    texts: Statements,
    /// Whose defaults may be others than the server's.
    came_with: [bool; CLIENTS],
    /// Who has said UNLISTEN in its transaction.
    unlistens: [bool; CLIENTS],
}

type Make = fn(&mut Generator, usize) -> Step;

/// How often a client sends what.
const SHAPES: [(u32, Make); 12] = [
    (36, Generator::simple),
    (6, Generator::queries),
    (10, Generator::batch),
    (14, Generator::extended),
    (10, Generator::pipeline),
    (10, Generator::named),
    (5, Generator::portal),
    (5, Generator::flushed),
    (4, Generator::copy),
    (1, Generator::function),
    (1, Generator::channels),
    (2, Generator::reconnect),
];

impl Generator {
    /// `sequences`: what advances one is followed.
    pub fn new(seed: u64, sequences: bool) -> Generator {
        Generator {
            texts: Statements::new(seed, sequences),
            came_with: [false; CLIENTS],
            unlistens: [false; CLIENTS],
        }
    }

    /// The next step, of clients in these states.
    pub fn step(&mut self, states: &[State]) -> Step {
        self.texts.serial += 1;
        let client = self.texts.random.random_range(0..CLIENTS);
        if self.texts.chance(5) {
            return self.let_go(client, states[client].status);
        }
        let shape = SHAPES.choose_weighted(&mut self.texts.random, |(weight, _)| *weight);
        let (_, make) = shape.unwrap();
        let step = make(self, client);
        let state = states[client];
        let unlistens =
            (state.status != 'I' && self.unlistens[client]) || step.text.contains("unlisten");
        // What UNLISTEN does depends on who has listened on a connection before
        // (async.c, Async_Unlisten).
        let is_chance = unlistens && step.text.contains("prepare transaction");
        if is_chance || differs_by_nature(&step, state) {
            return self.step(states);
        }
        self.unlistens[client] = unlistens;
        step
    }

    /// Otherwise all clients would keep their server connections in the end.
    fn let_go(&mut self, client: usize, status: char) -> Step {
        let mut sent = Frontend::new();
        let end = self.texts.one(&["rollback", "commit"]);
        if status != 'I' {
            sent = sent.query(end);
        }
        let ready = 1 + usize::from(status != 'I');
        let text = format!("{end} if need be, then discard all");
        let sent = sent.query("discard all");
        Step::send(client, "let go", vec![sent], ready, text)
    }

    /// Asks for its channels, in a transaction of its own.
    fn channels(&mut self, client: usize) -> Step {
        let text = "select pg_listening_channels() order by 1";
        let sent = Frontend::new().query("rollback").query(text);
        Step::send(client, "channels", vec![sent], 2, text.to_owned())
    }

    /// Goes, perhaps in the middle of a request, and comes back.
    fn reconnect(&mut self, client: usize) -> Step {
        let count = self.texts.random.random_range(0..3);
        let chosen = STARTUP.sample(&mut self.texts.random, count);
        let chosen: Vec<_> = chosen.collect();
        let mut one =
            |values: &'static [&'static str]| *values.choose(&mut self.texts.random).unwrap();
        let parameters: Vec<_> = chosen
            .iter()
            .map(|(name, values)| (*name, one(values)))
            .collect();
        self.came_with[client] = !parameters.is_empty();
        let mut sql = self.texts.any();
        while commits(&sql) {
            // What nobody waits for is cancelled.
            sql = self.texts.any();
        }
        let unfinished = match self.texts.random.random_range(0..4) {
            0 => Frontend::new().run(&sql, &[]),
            1 => Frontend::new().parse("n1", &sql),
            2 => Frontend::new().terminate(),
            _ => Frontend::new(),
        };
        Step {
            client,
            kind: "reconnect",
            text: format!(
                "with {parameters:?}, after {}",
                unfinished.bytes.escape_ascii()
            ),
            action: Action::Reconnect {
                unfinished,
                parameters,
            },
        }
    }

    fn simple(&mut self, client: usize) -> Step {
        let sql = self.texts.any();
        let sent = Frontend::new().query(&sql);
        Step::send(client, "simple", vec![sent], 1, sql)
    }

    /// Several simple queries at once.
    fn queries(&mut self, client: usize) -> Step {
        let all: Vec<_> = match self.texts.chance(50) {
            true if self.texts.chance(5) => {
                vec!["select setseed(0.5)".into(), "select random()".into()]
            }
            true => self.texts.tree(),
            false => (0..3).map(|_| self.texts.any()).collect(),
        };
        let all = self.without_lapses(client, all);
        let sent = all
            .iter()
            .fold(Frontend::new(), |sent, sql| sent.query(sql));
        let ready = all.len();
        Step::send(client, "queries", vec![sent], ready, all.join("; SENT "))
    }

    /// Whether what follows in the same request sees the server's default.
    fn lapses(&self, client: usize, sql: &str) -> bool {
        let goes_back = ["reset", "to default", "discard all", "set time zone local"];
        self.came_with[client] && goes_back.iter().any(|part| sql.contains(part))
    }

    /// What is reset by DISCARD ALL is set again in the transaction that follows in the
    /// same write, and lost if that fails; not to be met by whom it concerns.
    fn without_lapses(&self, client: usize, mut all: Vec<String>) -> Vec<String> {
        let begins = |sql: &String| sql.starts_with("begin") || sql.starts_with("start");
        if self.came_with[client] && all.iter().any(begins) {
            all.retain(|sql| sql != "discard all");
        }
        all
    }

    fn batch(&mut self, client: usize) -> Step {
        let count = self.texts.random.random_range(2..5);
        let mut all: Vec<_> = (0..count).map(|_| self.texts.any()).collect();
        all.retain(|sql| !self.lapses(client, sql));
        let sql = all.join("; ");
        let sent = Frontend::new().query(&sql);
        Step::send(client, "batch", vec![sent], 1, sql)
    }

    fn extended(&mut self, client: usize) -> Step {
        let sql = self.texts.any();
        let mut sent = Frontend::new().parse("", &sql);
        if self.texts.chance(30) {
            sent = sent.describe(b'S', "");
        }
        sent = sent.bind("", "", &[]);
        if self.texts.chance(60) {
            sent = sent.describe(b'P', "");
        }
        let sent = sent.execute("", 0).sync();
        Step::send(client, "extended", vec![sent], 1, sql)
    }

    /// Several requests at once, with a Sync here and there.
    fn pipeline(&mut self, client: usize) -> Step {
        let (mut sent, mut ready, mut texts) = (Frontend::new(), 1, Vec::new());
        let count = self.texts.random.random_range(2..6);
        let all = (0..count).map(|_| self.texts.any()).collect();
        for sql in self.without_lapses(client, all) {
            sent = sent.run(&sql, &[]);
            let lapses = self.lapses(client, &sql);
            texts.push(sql);
            if lapses || self.texts.chance(40) {
                sent = sent.sync();
                ready += 1;
                texts.push("SYNC".to_owned());
            }
        }
        let text = texts.join("; ");
        Step::send(client, "pipeline", vec![sent.sync()], ready, text)
    }

    /// Statements of the protocol with a name.
    fn named(&mut self, client: usize) -> Step {
        let name = self.texts.one(&["n1", "n1", "n2", "n3", "p1"]);
        let (sent, text) = match self.texts.random.random_range(0..10) {
            0..3 => {
                // All can be parsed at any time: in the middle of a request there is
                // no room to find out.
                let sql = self.texts.one(&[
                    "select $1::text || current_setting('work_mem')",
                    "select * from public.planned where b <> $1::text order by 1",
                    "select a, $1::text from public.kept order by 1, 2 limit 3",
                    "insert into public.kept values (4, $1)",
                    "select set_config('work_mem', '1MB', false), $1::text",
                    "selekt $1",
                    "select timestamptz '2024-01-01 00:00:00+00', $1::text",
                ]);
                let close = self.texts.chance(70);
                let sent = match close {
                    true => Frontend::new().close(b'S', name),
                    false => Frontend::new(),
                };
                let text = format!("parse {name} (closed before: {close}): {sql}");
                (sent.parse(name, sql), text)
            }
            3 => (Frontend::new().close(b'S', name), format!("close {name}")),
            4 => {
                let sent = Frontend::new().describe(b'S', name);
                (sent, format!("describe {name}"))
            }
            _ => {
                let sent = Frontend::new().bind("", name, &["v"]);
                let sent = sent.describe(b'P', "").execute("", 0);
                (sent, format!("run {name}"))
            }
        };
        Step::send(client, "named", vec![sent.sync()], 1, text)
    }

    /// Portals with a name, which last as long as the transaction.
    fn portal(&mut self, client: usize) -> Step {
        let begins = Frontend::new();
        let (sent, text) = match self.texts.random.random_range(0..6) {
            0 => {
                let sql = "select generate_series(1, 6)";
                let sent = begins.run("begin", &[]).parse("", sql).bind("o", "", &[]);
                (
                    sent.execute("o", 2),
                    "2 rows of a new portal in a transaction".to_owned(),
                )
            }
            1 => {
                let sent = begins.bind("o", "n1", &["bound"]);
                let sent = sent.describe(b'P', "o").execute("o", 1);
                (sent, "1 row of a portal for n1".to_owned())
            }
            2 => (begins.close(b'P', "o"), "close the portal".to_owned()),
            3 => (begins.describe(b'P', "o"), "describe the portal".to_owned()),
            4 => (
                begins.run("fetch 1 from o", &[]),
                "fetch from the portal".to_owned(),
            ),
            _ => (
                begins.execute("o", 2),
                "2 more rows of the portal".to_owned(),
            ),
        };
        Step::send(client, "portal", vec![sent.sync()], 1, text)
    }

    /// Reads what comes before it sends Sync.
    fn flushed(&mut self, client: usize) -> Step {
        let mut sql = self.texts.any();
        while sql.starts_with("deallocate") || self.lapses(client, &sql) {
            // There is no portal to run a second time of what pgweir answers itself.
            sql = self.texts.any();
        }
        let rows = self.texts.random.random_range(0..3);
        let first = Frontend::new().parse("", &sql).bind("c", "", &[]);
        let first = first.execute("c", rows).flush();
        let then = match self.texts.random.random_range(0..3) {
            0 => Frontend::new(),
            1 => Frontend::new().run(&self.texts.any(), &[]),
            _ => Frontend::new().execute("c", 0).close(b'P', "c"),
        };
        let text = format!("{rows} rows of {sql}, then {}", then.bytes.escape_ascii());
        Step::send(client, "flushed", vec![first, then.sync()], 1, text)
    }

    fn copy(&mut self, client: usize) -> Step {
        let serial = self.texts.serial;
        let into = Frontend::new().query("copy kept from stdin");
        let (sent, text) = match self.texts.random.random_range(0..6) {
            0 => {
                let row = format!("{serial}\tcopied\n");
                (into.copy_data(row.as_bytes()).copy_done(), "a row")
            }
            1 => (
                into.copy_data(b"13\tby copy\n").copy_done(),
                "a row for the trigger",
            ),
            2 => (
                into.copy_data(b"broken\n14\tby copy\n").copy_done(),
                "broken rows",
            ),
            3 => {
                let sent = Frontend::new().query("copy kept from stdin; show app.a");
                (sent.copy_fail("no"), "nothing, and another statement")
            }
            4 => {
                let sent = Frontend::new().run("copy kept from stdin", &[]);
                let sent = sent.copy_data(b"5\textended\n").copy_done();
                (sent.sync(), "a row, by the extended protocol")
            }
            _ => {
                let sql = "copy (select * from planned order by 1) to stdout; show work_mem";
                (
                    Frontend::new().query(sql),
                    "to stdout, and another statement",
                )
            }
        };
        Step::send(client, "copy", vec![sent], 1, text.to_owned())
    }

    /// Calls of functions without SQL: `lo_open`, `pg_try_advisory_lock`.
    fn function(&mut self, client: usize) -> Step {
        let (sent, text) = match self.texts.chance(50) {
            true => (
                Frontend::new().function_call(952, &["5001", "262144"]),
                "lo_open",
            ),
            false => (Frontend::new().function_call(2882, &["2"]), "lock"),
        };
        Step::send(client, "function", vec![sent], 1, text.to_owned())
    }
}

/// Whether a text does what lasts before the next Sync comes.
fn commits(sql: &str) -> bool {
    let words = ["commit", "prepared '", "prepare transaction"];
    sql == "end" || words.iter().any(|word| sql.contains(word))
}

/// Whether the step is about statements in a way of which the answer cannot be the same.
fn differs_by_nature(step: &Step, state: State) -> bool {
    // A server connection cannot be told of statements: not to describe one, nor ahead
    // of a text that itself ends the transaction.
    let failed = state.status == 'E'
        && (step.text.starts_with("describe ") || step.kind == "batch" && step.goes_by_names());
    // An error directly, unless they are parsed again.
    let stale = state.status != 'I' && state.has_stale && step.may_use_names();
    let differs = failed || stale || (step.alters_columns() && step.may_use_names());
    // What is sent before leaving is not answered.
    differs && step.kind != "reconnect"
}
