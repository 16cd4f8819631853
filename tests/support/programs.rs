use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use super::cluster::pg_bin;

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

/// `psql` without the reader's own settings, tuples only; stops at errors.
pub fn psql(dsn: &str) -> Program {
    let program = Program::new(&pg_program("psql"));
    program.args(&["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn])
}

/// `pgbench`; the connection string goes last.
pub fn pgbench(arguments: &[&str], dsn: &str) -> Program {
    Program::new(&pg_program("pgbench"))
        .args(arguments)
        .args(&[dsn])
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
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C.UTF-8");
        Program { command }
    }

    pub fn args(mut self, arguments: &[&str]) -> Program {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Program {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end, which must come before the watchdog's.
    #[track_caller]
    pub fn run(mut self) -> Output {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{:?}: {e}", self.command));
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        // Longer than the patience of one step: a program takes many.
        let deadline = std::time::Instant::now() + Duration::from_secs(120);
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait") {
                break status;
            }
            if std::time::Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                let (out, err) = (stdout.join(), stderr.join());
                panic!("{:?} hangs:\n{out:?}\n{err:?}", self.command);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Output {
            success: status.success(),
            stdout: stdout.join().expect("stdout"),
            stderr: stderr.join().expect("stderr"),
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

fn collect(stream: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut stream = stream.expect("piped");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
