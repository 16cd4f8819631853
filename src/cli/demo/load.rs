//! A pgbench run through the pooler, watched while it goes on.

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::daemon::{output, spawn};
use super::pooler::{Client, Pooler, Table};
use super::postgres::{DATABASE, Server};

/// One kind of work.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub title: &'static str,
    /// Where it is to run; through the pooler it is one database.
    pub site: Site,
    pub clients: u64,
    /// What pgbench gets besides the common arguments.
    pub arguments: &'static [&'static str],
    /// Whether each transaction comes on a connection of its own.
    pub reconnects: bool,
}

/// One of the demo's servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    Primary,
    Replica,
}

/// What one load did. The numbers come from pgbench and from PostgreSQL, not
/// from the pooler that they judge.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub title: &'static str,
    pub bench: Bench,
    /// Connections that the clients made.
    pub connections_in: u64,
    /// Connections that the server saw opened meanwhile.
    pub connections_opened: u64,
    /// The most connections that the server had at one moment.
    pub connections_peak: u64,
    /// `SHOW POOLS` in the middle of the run.
    pub pools: Option<Table>,
}

/// What pgbench reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bench {
    pub transactions: u64,
    pub failed: u64,
    /// Clients gave up: pgbench calls its own results incomplete.
    pub aborted: bool,
    pub latency_ms: f64,
    pub tps: f64,
}

/// Fills pgbench's tables on the server that `direct` reaches.
pub async fn fill(direct: &Client, database: &str) -> anyhow::Result<()> {
    let mut pgbench = direct.command("pgbench", database);
    pgbench.args(["--initialize", "--scale=10", "--quiet"]);
    output(pgbench).await.map(drop)
}

/// Runs one load for so many seconds and prints its progress.
pub async fn run(
    load: Load,
    seconds: u64,
    pooler: &mut Pooler,
    server: &mut Server,
) -> anyhow::Result<Outcome> {
    let before = server.connections_ever();
    let mut command = pooler.client.command("pgbench", DATABASE);
    command
        .args(["--no-vacuum", "--progress=1", "--jobs=2"])
        .args(["--client", &load.clients.to_string()])
        .args(["--time", &seconds.to_string()])
        .args(load.arguments);
    let (mut pgbench, group) = spawn(command)?;
    let (Some(mut stdout), Some(stderr)) = (pgbench.stdout.take(), pgbench.stderr.take()) else {
        bail!("pgbench has no output");
    };

    let watch = Watch::new(pooler, server, seconds);
    let joined = tokio::try_join!(read_all(&mut stdout), watch.follow(stderr));
    // A server that died explains more than the client that noticed.
    pooler.check()?;
    server.check()?;
    let (report, watched) = joined?;
    let status = pgbench.wait().await?;
    group.ended();

    let mut bench = Bench::parse(&report).with_context(|| {
        let complaints = watched.complaints.join("\n");
        format!("pgbench ({status}) reported nothing usable:\n{complaints}")
    })?;
    bench.aborted |= !status.success();
    for line in watched.complaints.iter().take(5) {
        println!("   {line}");
    }
    Ok(Outcome {
        title: load.title,
        bench,
        connections_in: match load.reconnects {
            true => bench.transactions,
            false => load.clients,
        },
        connections_opened: server.connections_ever() - before,
        connections_peak: watched.peak,
        pools: watched.pools,
    })
}

async fn read_all(stdout: &mut (impl tokio::io::AsyncRead + Unpin)) -> anyhow::Result<String> {
    let mut text = String::new();
    stdout.read_to_string(&mut text).await?;
    Ok(text)
}

/// Looks at both sides whenever pgbench says how far it is.
struct Watch<'a> {
    pooler: &'a Pooler,
    server: &'a Server,
    middle: u64,
}

#[derive(Default)]
struct Watched {
    peak: u64,
    pools: Option<Table>,
    complaints: Vec<String>,
}

impl<'a> Watch<'a> {
    fn new(pooler: &'a Pooler, server: &'a Server, seconds: u64) -> Watch<'a> {
        let middle = seconds.div_ceil(2);
        Watch {
            pooler,
            server,
            middle,
        }
    }

    async fn follow(self, stderr: impl tokio::io::AsyncRead + Unpin) -> anyhow::Result<Watched> {
        let mut seen = Watched::default();
        let mut lines = BufReader::new(stderr).lines();
        let mut ticks = 0;
        while let Some(line) = lines.next_line().await? {
            let Some(progress) = line.strip_prefix("progress: ") else {
                if !line.starts_with("pgbench (") {
                    seen.complaints.push(line);
                }
                continue;
            };
            ticks += 1;
            let now = self.server.connections().await?;
            seen.peak = seen.peak.max(now);
            if ticks == self.middle {
                seen.pools = Some(self.pooler.console("SHOW POOLS").await?);
            }
            println!("   {progress}, {now} server connections");
        }
        Ok(seen)
    }
}

impl Bench {
    /// Reads pgbench's report (manual, "pgbench": it ends with these lines).
    fn parse(report: &str) -> anyhow::Result<Bench> {
        let mut bench = Bench::default();
        for line in report.lines() {
            // "number of transactions actually processed: 123/456" with -t.
            if let Some(rest) = line.strip_prefix("number of transactions actually processed: ") {
                bench.transactions = leading(rest)?;
            } else if let Some(rest) = line.strip_prefix("number of failed transactions: ") {
                bench.failed = leading(rest)?;
            } else if let Some(rest) = line.strip_prefix("latency average = ") {
                bench.latency_ms = leading(rest)?;
            } else if let Some(rest) = line.strip_prefix("tps = ") {
                bench.tps = leading(rest)?;
            } else if line.starts_with("Run was aborted") {
                bench.aborted = true;
            }
        }
        if bench.transactions == 0 {
            bail!("no transaction was processed");
        }
        Ok(bench)
    }
}

/// The number at the start of the text.
fn leading<T>(text: &str) -> anyhow::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number = text.get(..end).unwrap_or_default();
    number
        .parse()
        .with_context(|| format!("pgbench wrote {text:?} where a number was expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
transaction type: <builtin: select only>
number of transactions actually processed: 42137
number of failed transactions: 3 (0.007%)
latency average = 9.449 ms
initial connection time = 40.211 ms
tps = 10583.127 (without initial connection time)
";

    #[test]
    fn the_report_of_pgbench_is_read() {
        let bench = Bench::parse(REPORT).unwrap();
        assert_eq!(bench.transactions, 42137);
        assert_eq!(bench.failed, 3);
        assert_eq!((bench.latency_ms, bench.tps), (9.449, 10583.127));
        assert!(!bench.aborted);
    }

    #[test]
    fn an_aborted_run_is_seen() {
        let report = format!("{REPORT}Run was aborted; the above results are incomplete.\n");
        assert!(Bench::parse(&report).unwrap().aborted);
    }

    #[test]
    fn a_report_without_transactions_is_an_error() {
        assert!(Bench::parse("").is_err());
        assert!(Bench::parse("tps = nan\n").is_err());
    }
}
