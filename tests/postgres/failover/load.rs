//! Clients that write and read while something happens to the servers, and
//! what must be true afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Answer, Cluster, Failure, Frontend, PATIENCE, Pooler, RawClient, patiently};

const CLIENTS: usize = 8;

/// Clients that write and read until it is over.
pub struct Load<'a> {
    pooler: &'a Pooler,
    over: AtomicBool,
    /// How many transactions each has seen the end of.
    done: [AtomicU64; CLIENTS],
}

/// What became of a client's transactions. Each writes the next number.
#[derive(Debug, Default)]
pub struct Account {
    last: u64,
    pub acknowledged: Vec<(u64, Instant)>,
    rolled_back: Vec<u64>,
    failed_writes: Vec<Failure>,
    failed_reads: Vec<Failure>,
    refused_logins: usize,
}

struct Client<'a> {
    pooler: &'a Pooler,
    id: usize,
    connection: RawClient,
    /// What was last acknowledged on this connection: nobody promises that the
    /// next one sees it at once.
    written: u64,
    account: Account,
}

impl Client<'_> {
    fn write(&mut self) -> Result<(), Failure> {
        let n = self.next();
        self.ask(&self.insert(n))?;
        self.acknowledged(n);
        Ok(())
    }

    fn write_in_a_transaction(&mut self) -> Result<(), Failure> {
        let n = self.next();
        if let Err(failure) = self.before_commit(n) {
            self.account.rolled_back.push(n);
            return Err(failure);
        }
        self.ask("commit")?;
        self.acknowledged(n);
        Ok(())
    }

    fn before_commit(&mut self, n: u64) -> Result<(), Failure> {
        self.ask("begin")?;
        self.ask(&self.insert(n))?;
        let seen = self.ask(&self.select())?;
        assert_eq!(seen.value(), n.to_string());
        Ok(())
    }

    /// It may go to any server that has what this client has written.
    fn read(&mut self) -> Result<(), Failure> {
        let answer = self.ask(&self.select())?;
        let seen: u64 = answer.value().parse().expect("n");
        let (least, most) = (self.written, self.account.last);
        let rows = answer.rows();
        assert!(
            (least..=most).contains(&seen),
            "{rows:?}, after write {least}"
        );
        Ok(())
    }

    fn acknowledged(&mut self, n: u64) {
        self.written = n;
        self.account.acknowledged.push((n, Instant::now()));
    }

    fn next(&mut self) -> u64 {
        self.account.last += 1;
        self.account.last
    }

    fn insert(&self, n: u64) -> String {
        format!("insert into log values ({}, {n})", self.id)
    }

    fn select(&self) -> String {
        format!(
            "select coalesce(max(n), 0), port() from log where id = {}",
            self.id
        )
    }

    /// Runs a query. After an error no transaction is open, and there is a
    /// connection again.
    fn ask(&mut self, sql: &str) -> Result<Answer, Failure> {
        // Whether it was taken, the answer tells.
        let _ = self.connection.try_send(&Frontend::new().query(sql).bytes);
        let mut messages = Vec::new();
        while let Some(message) = self.connection.read_or_end() {
            messages.push(message);
            if messages.last().is_some_and(|message| message.tag == b'Z') {
                break;
            }
        }
        let answer = Answer { messages };
        let ended = answer.messages.last().is_none_or(|last| last.tag != b'Z');
        let failure = answer.errors().into_iter().next();
        if ended {
            self.log_in();
            let fields = BTreeMap::from([('M', "closed without a word".to_owned())]);
            return Err(failure.unwrap_or(Failure { fields }));
        }
        match failure {
            Some(failure) => {
                self.connection.query("rollback");
                Err(failure)
            }
            None => Ok(answer),
        }
    }

    fn log_in(&mut self) {
        self.written = 0;
        let begin = Instant::now();
        let pooler = self.pooler;
        loop {
            match RawClient::try_login(&pooler.address, "app", &pooler.database, None) {
                Ok(connection) => return self.connection = connection,
                Err(failure) => assert!(begin.elapsed() < PATIENCE, "{failure:?}"),
            }
            self.account.refused_logins += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Load<'_> {
    fn client(&self, id: usize) -> Account {
        let mut rng = StdRng::seed_from_u64(id as u64);
        let mut client = Client {
            pooler: self.pooler,
            id,
            connection: self.pooler.login(),
            written: 0,
            account: Account::default(),
        };
        while !self.over.load(Ordering::Relaxed) {
            match rng.random_range(0..6) {
                0 => {
                    let outcome = client.write();
                    client.account.failed_writes.extend(outcome.err());
                }
                1 => {
                    let outcome = client.write_in_a_transaction();
                    client.account.failed_writes.extend(outcome.err());
                }
                _ => {
                    let outcome = client.read();
                    client.account.failed_reads.extend(outcome.err());
                }
            }
            self.done[id].fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(rng.random_range(0..8)));
        }
        client.account
    }

    fn done(&self) -> [u64; CLIENTS] {
        self.done
            .each_ref()
            .map(|done| done.load(Ordering::Relaxed))
    }

    /// How many clients get nothing done for a while.
    pub fn stuck(&self) -> usize {
        let before = self.done();
        std::thread::sleep(Duration::from_secs(1));
        let after = self.done();
        (0..CLIENTS).filter(|&id| before[id] == after[id]).count()
    }

    /// Waits until every client has begun and ended something.
    pub fn everybody_goes_on(&self) {
        let before = self.done();
        patiently("everybody goes on", || {
            let done = self.done();
            (0..CLIENTS)
                .all(|id| done[id] >= before[id] + 10)
                .then_some(())
        });
    }
}

/// Ends the load when it goes, also if the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs clients while something happens.
pub fn under_load(what: &str, pooler: &Pooler, happens: impl FnOnce(&Load<'_>)) -> Vec<Account> {
    let load = Load {
        pooler,
        over: AtomicBool::default(),
        done: Default::default(),
    };
    let accounts: Vec<Account> = std::thread::scope(|scope| {
        let load = &load;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| scope.spawn(move || load.client(id)))
            .collect();
        let over = Over(&load.over);
        load.everybody_goes_on();
        happens(load);
        load.everybody_goes_on();
        drop(over);
        let account = |client: std::thread::ScopedJoinHandle<'_, Account>| client.join();
        clients
            .into_iter()
            .map(|client| account(client).expect("a client"))
            .collect()
    });
    let sum = |of: fn(&Account) -> usize| accounts.iter().map(of).sum::<usize>();
    eprintln!(
        "{what}: {} transactions, {} writes acknowledged; {} writes and {} reads failed, {} logins refused",
        load.done().iter().sum::<u64>(),
        sum(|account| account.acknowledged.len()),
        sum(|account| account.failed_writes.len()),
        sum(|account| account.failed_reads.len()),
        sum(|account| account.refused_logins),
    );
    accounts
}

/// Every write is there once that was acknowledged, and none that was rolled
/// back; who failed was told why, and had a transaction open on a server that
/// was lost.
pub fn settle(primary: &Cluster, pooler: &Pooler, accounts: &[Account], lost: (usize, usize)) {
    let mut found = BTreeMap::new();
    let rows = primary
        .admin(&pooler.database)
        .query("select id, n, count(*) from log group by id, n");
    for row in rows.rows() {
        let number = |text: &Option<String>| text.as_ref().and_then(|t| t.parse().ok());
        let row: Vec<u64> = row.iter().filter_map(number).collect();
        found.insert((row[0], row[1]), row[2]);
    }
    for (id, account) in accounts.iter().enumerate() {
        let times = |n: &u64| found.get(&(id as u64, *n)).copied().unwrap_or(0);
        for (n, _) in &account.acknowledged {
            assert_eq!(times(n), 1, "write {n} of client {id}");
        }
        for n in &account.rolled_back {
            assert_eq!(times(n), 0, "write {n} of client {id}");
        }
        assert!((1..=account.last).all(|n| times(&n) <= 1), "repeated");
    }
    let all =
        |of: fn(&Account) -> &Vec<Failure>| -> Vec<_> { accounts.iter().flat_map(of).collect() };
    let writes = all(|account| &account.failed_writes);
    let reads = all(|account| &account.failed_reads);
    for failure in writes.iter().chain(&reads) {
        let told = ["08006", "08P01", "57P01", "57P02"].contains(&failure.sqlstate());
        assert!(told, "{failure:?}");
    }
    assert!(writes.len() <= lost.0, "{writes:?}");
    assert!(writes.len() + reads.len() <= lost.0 + lost.1, "{reads:?}");
}
