//! Reads on replicas show what `read_consistency` promises, over many pairs of
//! a write and what is read after it, while the replicas are held back.
//!
//! `PAIRS=n` is how many pairs, `SEED=n` replays what the clients choose.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::replicas::{Trio, known, port, start};
use crate::support::{Answer, Frontend, RawClient, secs};

const CLIENTS: usize = 16;
/// In milliseconds: so often, everybody writes and reads for this time, and
/// only reads for the rest.
const ROUND: u128 = 400;
const WRITING: u128 = 200;
const WRITE: &str = "update counters set n = $1 where id = $2";
const READ: &str = "select n, port() from counters where id = $1";

/// Every client counts in a row of its own.
#[derive(Default)]
struct Counters {
    /// What it has sent last, and what the server has acknowledged.
    sent: [AtomicU64; CLIENTS],
    acknowledged: [AtomicU64; CLIENTS],
}

/// What clients have seen.
#[derive(Debug, Default)]
struct Seen {
    on_replicas: usize,
    on_the_primary: usize,
    /// Reads that were older than they might be.
    stale: Vec<String>,
}

struct Writer<'a> {
    client: RawClient,
    id: usize,
    counters: &'a Counters,
    primary: String,
    /// It reads what others have written, too.
    of_others: bool,
    rng: StdRng,
    seen: Seen,
}

impl Writer<'_> {
    /// A write, and reads that may come at once or later.
    fn pair(&mut self, n: u64) {
        self.counters.sent[self.id].store(n, Ordering::SeqCst);
        let burst = self.rng.random_ratio(1, 8);
        if burst {
            self.write_and_read_at_once(n);
        } else {
            self.write(n);
        }
        self.counters.acknowledged[self.id].store(n, Ordering::SeqCst);
        if self.rng.random_ratio(1, 16) {
            self.sleep(60);
        }
        for _ in usize::from(burst)..self.rng.random_range(1..4) {
            self.read();
        }
    }

    fn sleep(&mut self, most: u64) {
        std::thread::sleep(Duration::from_millis(self.rng.random_range(0..most)));
    }

    fn write(&mut self, n: u64) {
        let (n, id) = (n.to_string(), self.id.to_string());
        let update = format!("update counters set n = {n} where id = {id}");
        let client = &mut self.client;
        let answer = match self.rng.random_range(0..6) {
            0 => client.query(&update),
            1 => client.exchange(&Frontend::new().run(WRITE, &[&n, &id]).sync()),
            2 => {
                let bound = Frontend::new().bind("", "write", &[&n, &id]);
                client.exchange(&bound.execute("", 0).sync())
            }
            3 => {
                client.query("begin");
                client.query(&update);
                client.query("commit")
            }
            4 => {
                client.query("begin");
                client.query(&format!("update counters set n = -1 where id = {id}"));
                client.query("rollback");
                client.query(&update)
            }
            _ => client.query(&format!("with w as ({update} returning n) select n from w")),
        };
        assert_eq!(answer.errors(), []);
    }

    /// Neither waits for the other's answer.
    fn write_and_read_at_once(&mut self, n: u64) {
        let id = self.id.to_string();
        let write = Frontend::new().run(WRITE, &[&n.to_string(), &id]).sync();
        let both = write.bind("", "read", &[&id]).execute("", 0).sync();
        self.client.send(&both);
        assert_eq!(self.client.answer().tags(), "12CZ");
        let answer = self.client.answer();
        self.judge(&answer, self.id, n);
    }

    fn read(&mut self) {
        let id = match self.of_others {
            true => self.rng.random_range(0..CLIENTS),
            false => self.id,
        };
        let least = self.counters.acknowledged[id].load(Ordering::SeqCst);
        let (number, text) = (id.to_string(), READ.replace("$1", &id.to_string()));
        let client = &mut self.client;
        // One that comes to the primary counts as a write, for all.
        let kinds = if self.of_others { 3 } else { 5 };
        let answer = match self.rng.random_range(0..kinds) {
            0 => client.query(&text),
            1 => client.exchange(&Frontend::new().run(READ, &[&number]).sync()),
            2 => {
                let bound = Frontend::new().bind("", "read", &[&number]);
                client.exchange(&bound.execute("", 0).sync())
            }
            3 => {
                client.query("begin read only");
                let answer = client.query(&text);
                client.query("commit");
                answer
            }
            _ => {
                let begin = Frontend::new().query("begin read only");
                client.send(&begin.query(&text).query("commit"));
                client.answer();
                let answer = client.answer();
                client.answer();
                answer
            }
        };
        self.judge(&answer, id, least);
    }

    fn judge(&mut self, answer: &Answer, id: usize, least: u64) {
        let most = self.counters.sent[id].load(Ordering::SeqCst);
        let rows = answer.rows();
        let [row] = rows.as_slice() else {
            panic!("no row: {:?}", answer.messages);
        };
        let [Some(n), Some(place)] = row.as_slice() else {
            panic!("NULL: {row:?}");
        };
        match *place == self.primary {
            true => self.seen.on_the_primary += 1,
            false => self.seen.on_replicas += 1,
        }
        let n: u64 = n.parse().expect("a number");
        assert!(n <= most, "{n} was never committed");
        if n < least {
            let text = format!("{n} instead of {least} at port {place}");
            self.seen.stale.push(text);
        }
    }
}

/// Lets replicas fall behind and catch up, as chance will have it.
fn hold_back(trio: &Trio, over: &AtomicBool, mut rng: StdRng) {
    let mut admins = trio.replicas.each_ref().map(|r| r.admin("postgres"));
    while !over.load(Ordering::Relaxed) {
        let admin = &mut admins[rng.random_range(0..2)];
        match rng.random_range(0..5) {
            0 => drop(admin.query("select pg_wal_replay_pause()")),
            1 | 2 => drop(admin.query("select pg_wal_replay_resume()")),
            _ => {
                let delay = [0, 0, 10, 50][rng.random_range(0..4)];
                admin.query(&format!(
                    "alter system set recovery_min_apply_delay = '{delay}ms'"
                ));
                admin.query("select pg_reload_conf()");
            }
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(5..80)));
    }
    for admin in &mut admins {
        admin.query("alter system reset recovery_min_apply_delay");
        admin.query("select pg_reload_conf()");
        admin.query("select pg_wal_replay_resume()");
    }
}

/// So many pairs of a write and reads, by all clients together.
fn pairs(trio: &Trio, consistency: &str, pairs: u64, seed: u64) -> Seen {
    let setup = trio
        .setup()
        .pool_size(8)
        .set("host_check_period", secs(0.02))
        .set("read_consistency", consistency);
    let pooler = start(trio, setup);
    let mut admin = pooler.admin();
    admin.query("create table counters (id int primary key, n int)");
    admin.query(&format!(
        "insert into counters select i, 0 from generate_series(0, {CLIENTS} - 1) i"
    ));
    admin.query("grant all on counters to public");
    known(trio, &pooler, "counters");
    let begin = Instant::now();
    let counters = Counters::default();
    let over = AtomicBool::new(false);
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let (pooler, counters) = (&pooler, &counters);
        let writer = move |id: usize| {
            let mut client = pooler.login();
            let parsed = Frontend::new().parse("write", WRITE).parse("read", READ);
            assert_eq!(client.exchange(&parsed.sync()).tags(), "11Z");
            let mut writer = Writer {
                client,
                id,
                counters,
                primary: port(&trio.primary),
                of_others: consistency == "global",
                rng: StdRng::seed_from_u64(seed + id as u64),
                seen: Seen::default(),
            };
            let mut n = 0;
            while n < pairs / CLIENTS as u64 {
                // While anybody writes, `global` keeps all from the replicas.
                if begin.elapsed().as_millis() % ROUND < WRITING {
                    n += 1;
                    writer.pair(n);
                } else {
                    writer.read();
                    writer.sleep(6);
                }
            }
            writer.seen
        };
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| scope.spawn(move || writer(id)))
            .collect();
        let rng = StdRng::seed_from_u64(seed);
        scope.spawn(|| hold_back(trio, &over, rng));
        let seen: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        over.store(true, Ordering::Relaxed);
        seen.into_iter()
            .map(|seen| seen.expect("a client"))
            .collect()
    });
    let all = seen.into_iter().fold(Seen::default(), |mut all, seen| {
        all.on_replicas += seen.on_replicas;
        all.on_the_primary += seen.on_the_primary;
        all.stale.extend(seen.stale);
        all
    });
    let reads = all.on_replicas + all.on_the_primary;
    eprintln!(
        "{consistency}: {pairs} pairs in {:.1} s; {reads} reads, {:.1} % of them on replicas; {} stale",
        begin.elapsed().as_secs_f64(),
        100.0 * all.on_replicas as f64 / reads as f64,
        all.stale.len(),
    );
    all
}

#[test]
fn no_read_is_older_than_promised() {
    let number = |name| {
        let text = std::env::var(name).ok();
        text.map(|text| text.parse().expect("a number"))
    };
    let seed = number("SEED").unwrap_or_else(|| rand::random::<u32>().into());
    let many = number("PAIRS").unwrap_or(10_000);
    println!("SEED={seed}");
    let trio = Trio::fresh();
    // The replicas are behind indeed, and it shows.
    let seen = pairs(&trio, "eventual", 1_000, seed);
    assert!(!seen.stale.is_empty(), "no replica was held back");
    for consistency in ["session", "global"] {
        let seen = pairs(&trio, consistency, many, seed);
        assert!(seen.stale.is_empty(), "{consistency}: {:?}", seen.stale);
        assert!(seen.on_replicas > 0, "no replica has served a read");
    }
}
