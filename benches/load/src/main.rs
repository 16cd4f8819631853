//! Load for the benchmarks, beside pgbench's: thousands of active clients,
//! clients that only wait, and logins as cheap as they can be for this side.
//!
//! It talks to the script that started it in lines: `ready` when all clients are
//! logged in, then it waits for a line on standard input (end of input ends it).
//! `idle` then lets each client run a query again and says `alive`; `query` and
//! `login` say `begin` and `end` where the measured time begins and ends, and at
//! last one line of `name=value`. Any failure is the end of it.

mod client;
mod scram;
mod tls;

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use client::{Address, Client};
use scram::Secret;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

/// How many log in at the same time.
const LOGINS: usize = 64;
/// Whoever is not in after this time has failed.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Work {
    /// Each client sends one query after the other.
    Query,
    /// Each client logs in and leaves, again and again.
    Login,
    /// Each client has run one query and waits.
    Idle,
    /// All log in at the same moment, once, and stay until the last one is in.
    Storm,
}

#[derive(Parser)]
struct Args {
    work: Work,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    user: String,
    #[arg(long)]
    database: String,
    /// More than 0: the clients go round so many databases, and the number is
    /// added to the name.
    #[arg(long, default_value_t = 0)]
    databases: usize,
    #[arg(long)]
    clients: usize,
    #[arg(long)]
    tls: bool,
    /// Answers SCRAM.
    #[arg(long, default_value = "")]
    password: String,
    /// Measured time.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Load before it.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Rows of pgbench_accounts.
    #[arg(long, default_value_t = 100_000)]
    rows: u32,
}

/// The measured time.
#[derive(Clone, Copy)]
struct Span {
    begin: Instant,
    end: Instant,
}

/// What one client has seen: only what began within the span.
#[derive(Default)]
struct Seen {
    /// Answered within the span.
    answered: u64,
    /// Microseconds; also of those answered after the span's end, because
    /// leaving out who waits longest would hide the wait.
    waits: Vec<u32>,
}

impl Seen {
    fn note(&mut self, span: Span, asked: Instant, answered: Instant) {
        self.answered += u64::from(answered >= span.begin && answered < span.end);
        if asked >= span.begin && asked < span.end {
            self.waits
                .push((answered - asked).as_micros().min(u32::MAX.into()) as u32);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    LocalSet::new().run_until(work(args)).await
}

async fn work(args: Args) -> Result<()> {
    let address = Rc::new(Address {
        port: args.port,
        user: args.user,
        database: args.database,
        tls: if args.tls { Some(tls::config()?) } else { None },
        secret: Secret::new(args.password),
    });
    let mut clients = Vec::new();
    if matches!(args.work, Work::Query | Work::Idle) {
        clients = log_in(&address, args.clients, args.databases).await?;
    }
    println!("ready");
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    if orders.next_line().await?.is_none() {
        return Ok(());
    }
    if args.work == Work::Idle {
        for client in &mut clients {
            client.query("SELECT 1").await?;
        }
        println!("alive");
        return Ok(());
    }
    if args.work == Work::Storm {
        return storm(address, args.clients).await;
    }
    let begin = Instant::now() + Duration::from_secs_f64(args.warm_up);
    let end = begin + Duration::from_secs_f64(args.seconds);
    let span = Span { begin, end };
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn_local(queries(client, span, args.rows));
    }
    if args.work == Work::Login {
        for _ in 0..args.clients {
            tasks.spawn_local(logins(address.clone(), span));
        }
    }
    tokio::time::sleep_until(begin.into()).await;
    println!("begin");
    tokio::time::sleep_until(end.into()).await;
    println!("end");
    report(args.seconds, tasks.join_all().await)
}

async fn log_in(address: &Rc<Address>, clients: usize, databases: usize) -> Result<Vec<Client>> {
    let permits = Rc::new(Semaphore::new(LOGINS));
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        let (permits, address) = (permits.clone(), address.clone());
        tasks.spawn_local(async move {
            let _permit = permits.acquire().await?;
            let suffix = match databases {
                0 => String::new(),
                _ => (number % databases).to_string(),
            };
            let mut client = Client::login(&address, &suffix).await?;
            client.query("SELECT 1").await?;
            Ok(client)
        });
    }
    tasks.join_all().await.into_iter().collect()
}

async fn storm(address: Rc<Address>, clients: usize) -> Result<()> {
    let begin = Instant::now();
    println!("begin");
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let address = address.clone();
        tasks.spawn_local(async move {
            let login = tokio::time::timeout(PATIENCE, Client::login(&address, ""));
            let client = login.await.unwrap_or_else(|_| bail!("not in after {PATIENCE:?}"));
            (client, begin.elapsed())
        });
    }
    let mut seen = Seen::default();
    let (mut failed, mut inside) = (0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        match done? {
            (Ok(client), after) => {
                inside.push(client);
                seen.answered += 1;
                seen.waits
                    .push(after.as_micros().min(u32::MAX.into()) as u32);
            }
            (Err(error), after) => {
                // One says enough, and nobody reads them before the end.
                if failed == 0 {
                    eprintln!("failed after {after:?}: {error:#}");
                }
                failed += 1;
            }
        }
    }
    println!("end");
    print!("failed={failed} ");
    report(begin.elapsed().as_secs_f64(), vec![Ok(seen)])
}

async fn queries(mut client: Client, span: Span, rows: u32) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut asked = Instant::now();
    while asked < span.end {
        let aid = fastrand::u32(1..=rows);
        // pgbench's own query of -S.
        let sql = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {aid};");
        client.query(&sql).await?;
        let answered = Instant::now();
        seen.note(span, asked, answered);
        asked = answered;
    }
    client.close().await?;
    Ok(seen)
}

async fn logins(address: Rc<Address>, span: Span) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut asked = Instant::now();
    while asked < span.end {
        Client::login(&address, "").await?.close().await?;
        let answered = Instant::now();
        seen.note(span, asked, answered);
        asked = answered;
    }
    Ok(seen)
}

fn report(seconds: f64, all: Vec<Result<Seen>>) -> Result<()> {
    let all = all.into_iter().collect::<Result<Vec<Seen>>>()?;
    let answered: u64 = all.iter().map(|seen| seen.answered).sum();
    let least = all.iter().map(|seen| seen.answered).min().unwrap_or(0);
    let mut waits: Vec<u32> = all.into_iter().flat_map(|seen| seen.waits).collect();
    waits.sort_unstable();
    let Some(longest) = waits.last() else {
        bail!("nothing was asked in the measured time");
    };
    let quantile = |q: f64| waits[(q * (waits.len() - 1) as f64) as usize];
    println!(
        "answered={answered} per_second={:.1} p50_us={} p99_us={} longest_us={longest} least_per_client={least}",
        answered as f64 / seconds,
        quantile(0.5),
        quantile(0.99),
    );
    Ok(())
}
