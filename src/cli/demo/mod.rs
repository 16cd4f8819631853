//! `pgweir demo`: a throw-away primary and replica, pgweir in front, a real
//! load through it, and what happened. Nothing of it stays behind.

mod daemon;
mod load;
mod pooler;
mod postgres;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use daemon::Owner;
use load::{Load, Site};
use pooler::{Client, POOL_SIZE, Pooler, Ports};
use postgres::{DATABASE, Programs, Server, free_port};

/// Start PostgreSQL and pgweir in a temporary directory and run a load.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// End after the load instead of staying up until Ctrl-C
    #[arg(long)]
    pub once: bool,
    /// How long each of the three loads runs
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub seconds: u64,
    /// The port that pgweir listens on [default: any free one]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
}

const LOADS: [Load; 3] = [
    Load {
        title: "writes on the primary",
        site: Site::Primary,
        arguments: &["--protocol=extended"],
        clients: 100,
        reconnects: false,
    },
    Load {
        title: "reads on the replica",
        site: Site::Replica,
        arguments: &["--protocol=prepared", "--select-only"],
        clients: 100,
        reconnects: false,
    },
    Load {
        title: "a connection per read",
        site: Site::Replica,
        arguments: &["--protocol=simple", "--select-only", "--connect"],
        clients: 20,
        reconnects: true,
    },
];

/// Runs the demo. Success means that the load ran without an error.
///
/// Everything that it starts is stopped and removed when it returns, fails,
/// panics, or gets SIGINT, SIGTERM or SIGHUP.
pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        let mut stage = tokio::select! {
            stage = Stage::play(&args) => stage?,
            // Dropping the play half way drops, and so stops, what it started.
            signal = stop.wait() => return Ok(ExitCode::from(128 + signal as u8)),
        };
        if !args.once {
            println!("{}", stage.invitation());
            tokio::select! {
                ended = stage.watch() => ended?,
                _ = stop.wait() => println!("stopping"),
            }
        }
        Ok(stage.verdict)
    })
}

/// Everything that runs. The fields drop in this order: what is in front first.
struct Stage {
    pooler: Pooler,
    replica: Server,
    primary: Server,
    _dir: tempfile::TempDir,
    verdict: ExitCode,
}

impl Stage {
    async fn play(args: &DemoArgs) -> anyhow::Result<Stage> {
        let programs = Programs::find()?;
        let owner = Owner::choose()?;
        let dir = tempfile::Builder::new().prefix("pgweir-demo-").tempdir()?;
        let path = dir.path();
        owner.take(path)?;
        let version = programs.version(owner, path).await?;
        let password = format!("{:032x}", rand::random::<u128>());

        println!("== starting a primary and a streaming replica: {version}");
        let primary = Server::primary(&programs, owner, path, &password).await?;
        let mut replica = primary.replica().await?;

        println!("== loading pgbench's tables");
        let direct = Client {
            programs: programs.clone(),
            dir: path.to_owned(),
            port: primary.port(),
            password: password.clone(),
        };
        load::fill(&direct, DATABASE).await?;
        replica.caught_up(&primary).await?;

        println!("== starting pgweir in front, pool_mode = transaction, pool_size = {POOL_SIZE}");
        let ports = Ports {
            primary: primary.port(),
            replica: replica.port(),
            listen: args.port.map_or_else(free_port, Ok)?,
            stats: free_port()?,
        };
        let mut stage = Stage {
            pooler: Pooler::start(&programs, path, ports, &password).await?,
            replica,
            primary,
            _dir: dir,
            verdict: ExitCode::SUCCESS,
        };
        stage.load(args.seconds).await?;
        Ok(stage)
    }

    async fn load(&mut self, seconds: u64) -> anyhow::Result<()> {
        let mut outcomes = Vec::new();
        for load in LOADS {
            let Load { title, clients, .. } = load;
            println!("== {title}: {clients} clients for {seconds} s");
            let server = match load.site {
                Site::Primary => &mut self.primary,
                Site::Replica => &mut self.replica,
            };
            outcomes.push(load::run(load, seconds, &mut self.pooler, server).await?);
        }
        let hosts = self.pooler.console("SHOW HOSTS").await?;
        println!("{}", report::text(&outcomes, &hosts));
        for fault in outcomes.iter().filter_map(|outcome| outcome.fault()) {
            eprintln!("error: {fault}");
            self.verdict = ExitCode::FAILURE;
        }
        Ok(())
    }

    /// Returns only when something has ended that should not have.
    async fn watch(&mut self) -> anyhow::Result<()> {
        loop {
            self.pooler.check()?;
            self.replica.check()?;
            self.primary.check()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn invitation(&self) -> String {
        let client = &self.pooler.client;
        format!(
            "DATABASE_URL={}\nconsole      {}\nmetrics      {}\n\n\
             It stays up until Ctrl-C. Try: psql \"$DATABASE_URL\"",
            client.url(DATABASE),
            client.url("pgbouncer"),
            self.pooler.stats_url(),
        )
    }
}

/// The signals that end the demo.
struct Stop {
    signals: Vec<(Signal, tokio::signal::unix::Signal)>,
}

impl Stop {
    fn new() -> anyhow::Result<Stop> {
        let mut signals = Vec::new();
        for which in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.push((which, signal(SignalKind::from_raw(which as i32))?));
        }
        Ok(Stop { signals })
    }

    async fn wait(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (which, stream) in &mut self.signals {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*which);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
