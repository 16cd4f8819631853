//! Many clients at once do everything in random order, cancel their queries and
//! die in the middle of anything; every answer must be the one to its own
//! request.
//!
//! `SEED=n` replays one run; `STEPS=n` makes it longer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Answer, Frontend, Pooler, RawClient, Setup, eventually};

const CLIENTS: usize = 16;
const TIME_ZONES: [&str; 4] = ["Asia/Tokyo", "America/New_York", "Europe/Berlin", "UTC"];

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

fn run(setup: Setup) {
    let seed = number_from_env("SEED").unwrap_or_else(rand::random);
    let steps = number_from_env("STEPS").unwrap_or(120);
    // Shown if the test fails.
    println!("SEED={seed}");
    let pooler = setup.start();
    pooler.direct().query("create table t (tag text)");
    let failed = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (pooler, failed, done) = (&pooler, &failed, &done);
            scope.spawn(move || {
                let mut worker = Worker::new(pooler, number, seed);
                let guard = OnPanic(failed);
                for step in 0..steps {
                    if failed.load(Ordering::Relaxed) {
                        break;
                    }
                    worker.step(step);
                }
                drop(guard);
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), CLIENTS);
    // Afterwards everything is free again.
    let sql = "select count(*) from pg_locks join pg_database d on database = d.oid \
               where datname = current_database() and pid <> pg_backend_pid()";
    eventually("locks", "0".to_owned(), || pooler.admin().value(sql));
    assert_eq!(pooler.login().value("select 'after'"), "after");
}

/// Tells the others to stop when its thread panics.
struct OnPanic<'a>(&'a AtomicBool);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// One client after the other, with what it knows about itself.
struct Worker<'a> {
    pooler: &'a Pooler,
    client: RawClient,
    time_zone: &'static str,
    /// Name and tag of the statements that this client has prepared.
    prepared: BTreeMap<String, String>,
    random: StdRng,
    number: usize,
}

impl<'a> Worker<'a> {
    fn new(pooler: &'a Pooler, number: usize, seed: u64) -> Worker<'a> {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
        let time_zone = TIME_ZONES[random.random_range(0..TIME_ZONES.len())];
        Worker {
            pooler,
            client: pooler.login_with(&[("TimeZone", time_zone)]),
            time_zone,
            prepared: BTreeMap::new(),
            random,
            number,
        }
    }

    /// Another client takes this one's place; the old one is gone at once.
    fn reborn(&mut self) {
        self.client.close();
        self.time_zone = TIME_ZONES[self.random.random_range(0..TIME_ZONES.len())];
        self.client = self.pooler.login_with(&[("TimeZone", self.time_zone)]);
        self.prepared.clear();
    }

    fn step(&mut self, step: u64) {
        let tag = format!("{}/{step}", self.number);
        match self.random.random_range(0..15) {
            0 | 1 => self.simple(&tag),
            2 => self.extended(&tag),
            3 => self.prepare(&tag),
            4 | 5 => self.use_prepared(&tag),
            6 => self.pipeline(&tag),
            7 => self.transaction(&tag),
            8 => self.failed_transaction(&tag),
            9 => self.copy(&tag),
            10 => self.copy_that_fails(&tag),
            11 => self.many_rows(&tag),
            12 => self.cancel(&tag),
            13 => self.change_time_zone(&tag),
            _ => self.die(&tag),
        }
    }

    /// The answer to a request that returns the tag and the time zone.
    #[track_caller]
    fn is_mine(&self, answer: &Answer, tag: &str) {
        let expected = vec![Some(tag.to_owned()), Some(self.time_zone.to_owned())];
        assert_eq!(answer.rows(), [expected], "{:?}", answer.messages);
    }

    fn simple(&mut self, tag: &str) {
        let answer = self
            .client
            .query(&format!("select '{tag}', current_setting('TimeZone')"));
        assert_eq!(answer.tags(), "TDCZ");
        self.is_mine(&answer, tag);
    }

    fn extended(&mut self, tag: &str) {
        let sql = "select $1::text, current_setting('TimeZone')";
        let answer = self
            .client
            .exchange(&Frontend::new().run(sql, &[tag]).sync());
        assert_eq!(answer.tags(), "12DCZ");
        self.is_mine(&answer, tag);
    }

    fn prepare(&mut self, tag: &str) {
        let name = format!("s{}", self.random.random_range(0..4));
        let mut script = Frontend::new();
        if self.prepared.contains_key(&name) {
            script = script.close(b'S', &name);
        }
        // Some texts are shared by all clients, others are this client's own.
        let mine = if self.random.random_bool(0.5) {
            tag
        } else {
            "shared"
        };
        let sql = format!("select '{mine}' || $1::text, current_setting('TimeZone')");
        let answer = self.client.exchange(&script.parse(&name, &sql).sync());
        assert!(
            ["1Z", "31Z"].contains(&answer.tags().as_str()),
            "{answer:?}"
        );
        self.prepared.insert(name, mine.to_owned());
    }

    fn use_prepared(&mut self, tag: &str) {
        let name = format!("s{}", self.random.random_range(0..4));
        if self.pooler.is_ini() && !self.prepared.contains_key(&name) {
            // That would end the session.
            return self.simple(tag);
        }
        let script = Frontend::new()
            .bind("", &name, &[tag])
            .execute("", 0)
            .sync();
        let answer = self.client.exchange(&script);
        match self.prepared.get(&name) {
            Some(mine) => self.is_mine(&answer, &format!("{mine}{tag}")),
            None => assert_eq!(answer.error().sqlstate(), "26000"),
        }
    }

    fn pipeline(&mut self, tag: &str) {
        let count = self.random.random_range(2..30);
        let mut script = Frontend::new();
        for i in 0..count {
            let part = format!("{tag}/{i}");
            script = match i % 4 {
                0 => script
                    .run("select $1::text, current_setting('TimeZone')", &[&part])
                    .sync(),
                1 => script.run("select 1/length($1::text || '')", &[""]).sync(),
                2 => script.query(&format!("select '{part}', current_setting('TimeZone')")),
                _ => script.query(&format!("selekt '{part}'")),
            };
        }
        let sender = self.client.send_in_background(script);
        for i in 0..count {
            let answer = self.client.answer();
            match i % 4 {
                0 | 2 => self.is_mine(&answer, &format!("{tag}/{i}")),
                1 => assert_eq!(answer.error().sqlstate(), "22012"),
                _ => assert!(answer.error().sqlstate() == "42601", "{answer:?}"),
            }
        }
        sender.join().expect("sender");
    }

    fn transaction(&mut self, tag: &str) {
        assert_eq!(self.client.query("begin").status(), 'T');
        self.client
            .query(&format!("insert into t values ('{tag}')"));
        let pid = self.client.value("select pid from pg_backend_pid() as pid");
        let seen = self
            .client
            .query(&format!("select tag from t where tag = '{tag}'"));
        assert_eq!(seen.column(), [tag]);
        assert_eq!(
            self.client.value("select pid from pg_backend_pid() as pid"),
            pid
        );
        let end = ["commit", "rollback"][self.random.random_range(0..2)];
        assert_eq!(self.client.query(end).status(), 'I');
        let seen = self
            .client
            .query(&format!("select tag from t where tag = '{tag}'"));
        assert_eq!(seen.column().len(), usize::from(end == "commit"));
    }

    fn failed_transaction(&mut self, tag: &str) {
        self.client
            .query(&format!("begin; insert into t values ('{tag}')"));
        assert_eq!(self.client.try_query("select 1/0").status(), 'E');
        let answer = self.client.try_query(&format!("select '{tag}'"));
        assert_eq!(answer.error().sqlstate(), "25P02");
        assert_eq!(self.client.query("rollback").status(), 'I');
        let seen = self
            .client
            .query(&format!("select tag from t where tag = '{tag}'"));
        assert_eq!(seen.column().len(), 0);
    }

    fn copy(&mut self, tag: &str) {
        let count = self.random.random_range(1..50);
        let mut script = Frontend::new().query("begin; copy t from stdin");
        for i in 0..count {
            script = script.copy_data(format!("{tag}:{i}\n").as_bytes());
        }
        let answer = self.client.exchange(&script.copy_done());
        assert_eq!(answer.tags(), "CGCZ");
        let sql = format!("copy (select tag from t where tag like '{tag}:%') to stdout");
        let answer = self.client.query(&sql);
        assert_eq!(answer.tags(), format!("H{}cCZ", "d".repeat(count)));
        assert!(answer.messages[1].text().starts_with(&format!("{tag}:")));
        self.client.query("rollback");
    }

    fn copy_that_fails(&mut self, tag: &str) {
        let script = Frontend::new()
            .query("copy t from stdin")
            .copy_data(b"too\tmany\tcolumns\n")
            .copy_data(format!("{tag}\n").as_bytes())
            .copy_done()
            .query(&format!("select '{tag}', current_setting('TimeZone')"));
        self.client.send(&script);
        assert_eq!(self.client.answer().error().sqlstate(), "22P04");
        let answer = self.client.answer();
        self.is_mine(&answer, tag);
    }

    fn many_rows(&mut self, tag: &str) {
        let count = self.random.random_range(1..3000);
        let sql = format!("select '{tag}' from generate_series(1, {count})");
        let rows = self.client.query(&sql).column();
        assert_eq!(rows.len(), count);
        assert!(rows.iter().all(|row| row == tag));
    }

    fn cancel(&mut self, tag: &str) {
        let sleep = self.random.random_range(0..10);
        let sql =
            format!("select '{tag}', current_setting('TimeZone') from pg_sleep({sleep} / 1000.0)");
        self.client.send(&Frontend::new().query(&sql));
        for _ in 0..self.random.random_range(1..4) {
            self.client.cancel();
        }
        let answer = self.client.answer();
        match answer.errors().first() {
            Some(error) => assert_eq!(error.sqlstate(), "57014"),
            None => self.is_mine(&answer, tag),
        }
        // The cancel connections have been closed by now, and their requests
        // are over: the next one is not hit.
        self.simple(tag);
    }

    fn change_time_zone(&mut self, tag: &str) {
        let time_zone = TIME_ZONES[self.random.random_range(0..TIME_ZONES.len())];
        if self.random.random_bool(0.3) {
            let sql = format!("begin; set timezone = '{time_zone}'; rollback");
            self.client.query(&sql);
        } else {
            self.client.query(&format!("set timezone = '{time_zone}'"));
            self.time_zone = time_zone;
        }
        self.simple(tag);
    }

    /// Leaves in the middle of something.
    fn die(&mut self, tag: &str) {
        let insert = format!("insert into t values ('{tag}')");
        let script = match self.random.random_range(0..9) {
            0 => Frontend::new().query(&format!("begin; {insert}")),
            1 => Frontend::new().query("select pg_sleep(600)"),
            2 => Frontend::new()
                .query("copy t from stdin")
                .copy_data(b"unfinished\n"),
            3 => Frontend::new().query("copy (select generate_series(1, 100000)) to stdout"),
            4 => Frontend::new().run("begin", &[]).run(&insert, &[]),
            5 => Frontend::new()
                .run("select repeat('x', 100000)", &[])
                .sync()
                .query("begin"),
            6 => Frontend::new().query("begin; set timezone = 'Asia/Kolkata'"),
            7 => Frontend::new().parse("s0", "select 'of the dead'").sync(),
            _ => Frontend::new()
                .query(&format!("begin; {insert}"))
                .terminate(),
        };
        let mut end = script.bytes.len();
        if self.random.random_bool(0.4) {
            end = self.random.random_range(0..end);
        }
        self.client.send_bytes(&script.bytes[..end]);
        if self.random.random_bool(0.3) {
            self.client.cancel();
        }
        self.reborn();
    }
}

#[test]
fn every_answer_is_its_own() {
    run(Setup::new().pool_size(3));
}

#[test]
fn with_few_prepared_statements_and_connections_that_end() {
    run(Setup::new()
        .pool_size(3)
        .set("max_prepared_statements", 1)
        .set("server_max_queries", 20)
        .set("server_round_robin", true));
}

#[test]
fn with_one_connection() {
    run(Setup::new().pool_size(1));
}
