use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::{pg_bin, plain, run_as_server};
use super::guard::Guard;

/// A program that a test runs as an outsider would.
#[derive(Debug)]
pub struct Program {
    command: Command,
}

/// What a program did.
#[derive(Debug)]
pub struct Output {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// A program that has been started; killed when dropped.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    guard: Guard,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

/// Longer than the patience of one step: a program takes many.
const LIMIT: Duration = Duration::from_secs(120);

/// `psql` without the reader's own settings, tuples only; stops at errors.
pub fn psql(dsn: &str) -> Program {
    let program = Program::new(&pg_program("psql"));
    program.args(&["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn])
}

/// The path of `psql`, for a shell.
pub fn psql_program() -> String {
    pg_program("psql")
}

/// `pgbench`; the connection string goes last.
pub fn pgbench(arguments: &[&str], dsn: &str) -> Program {
    Program::new(&pg_program("pgbench"))
        .args(arguments)
        .args(&[dsn])
}

/// Another of PostgreSQL's own programs.
pub fn postgresql(name: &str) -> Program {
    Program::new(&pg_program(name))
}

/// A scenario of a script in tests/drivers under the Python that has the drivers.
pub fn python(script: &str, scenario: &str, dsn: &str) -> Program {
    let python = dependency("venv/bin/python");
    Program::new(&python).args(&[&driver(script), scenario, dsn])
}

/// A scenario of a script in tests/drivers under Node with the drivers.
pub fn node(script: &str, scenario: &str, dsn: &str) -> Program {
    let modules = dependency("node/node_modules");
    Program::new("node")
        .env("NODE_PATH", &modules)
        .args(&[&driver(script), scenario, dsn])
}

/// The pgweir just built, with these arguments.
pub fn pgweir(arguments: &[&str]) -> Program {
    Program::new(env!("CARGO_BIN_EXE_pgweir")).args(arguments)
}

fn pg_program(name: &str) -> String {
    let beside = pg_bin().join(name);
    if beside.exists() {
        return beside.display().to_string();
    }
    name.to_owned()
}

fn driver(script: &str) -> String {
    format!("{}/tests/drivers/{script}", env!("CARGO_MANIFEST_DIR"))
}

/// Something that scripts/install-test-deps.sh puts under target/.
fn dependency(path: &str) -> String {
    let path = format!("{}/target/{path}", env!("CARGO_MANIFEST_DIR"));
    assert!(
        Path::new(&path).exists(),
        "{path} is missing: run scripts/install-test-deps.sh"
    );
    path
}

impl Program {
    pub fn new(program: &str) -> Program {
        Program {
            command: plain(Command::new(program)),
        }
    }

    pub fn args(mut self, arguments: &[&str]) -> Program {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Program {
        self.command.env(name, value);
        self
    }

    /// Started by another user of the machine, if we are root.
    pub fn by_another_user(self) -> Program {
        Program {
            command: run_as_server(self.command),
        }
    }

    /// Runs it to its end, which must come before the watchdog's.
    #[track_caller]
    pub fn run(self) -> Output {
        self.start().finish()
    }

    /// Starts it.
    #[track_caller]
    pub fn start(mut self) -> Running {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{:?}: {e}", self.command));
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        Running {
            what: format!("{:?}", self.command),
            guard: Guard::new(child.id(), "KILL", None),
            child,
            stdout,
            stderr,
        }
    }

    /// Runs it; it must succeed. Returns what it printed.
    #[track_caller]
    pub fn succeed(self) -> String {
        let what = format!("{:?}", self.command);
        let output = self.run();
        assert!(
            output.success,
            "{what}\n--- stdout\n{}\n--- stderr\n{}",
            output.stdout, output.stderr
        );
        output.stdout.trim_end().to_owned()
    }

    /// Runs it; it must fail. Returns what it complained.
    #[track_caller]
    pub fn fail(self) -> String {
        let what = format!("{:?}", self.command);
        let output = self.run();
        assert!(!output.success, "{what} succeeded:\n{}", output.stdout);
        output.stderr
    }
}

impl Running {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("kill");
    }

    /// Tells pgbench that its time (`-T`) is over, and waits for its report.
    #[track_caller]
    pub fn time_is_over(self) -> Output {
        self.signal(Signal::SIGALRM);
        self.finish()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break Some(status);
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        self.guard.release();
        let stdout = self.stdout.join().expect("stdout");
        let stderr = self.stderr.join().expect("stderr");
        let Some(status) = status else {
            panic!("{} hangs:\n{stdout}\n{stderr}", self.what);
        };
        Output {
            success: status.success(),
            stdout,
            stderr,
        }
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut stream = stream.expect("piped");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
