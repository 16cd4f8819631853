//! `pgweir demo` as a person runs it: it shows a load without errors, is there
//! until told to go, and leaves nothing behind.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A demo whose files are in a directory of its own.
struct Demo {
    child: Child,
    home: tempfile::TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Demo {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        // As root the servers run as another user, who must get through.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pgweir"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Demo { child, home }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).unwrap();
    }

    /// Reads on until a line begins so, and returns the rest of that line.
    fn line(&mut self, start: &str) -> String {
        let lines = BufReader::new(self.child.stdout.as_mut().unwrap()).lines();
        for line in lines {
            if let Some(rest) = line.unwrap().strip_prefix(start) {
                return rest.to_owned();
            }
        }
        let mut complaint = String::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut complaint).unwrap();
        panic!("the demo ended before {start:?}: {complaint}");
    }

    /// Waits for the end, checks that nothing is left, and returns the exit
    /// code and both outputs.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        let stdout = self.child.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut out).unwrap();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut err).unwrap();
        let status = self.child.wait().unwrap();
        let left: Vec<_> = fs::read_dir(self.home.path()).unwrap().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let running = processes_with(self.home.path());
        assert!(running.is_empty(), "still running: {running:?}");
        (status.code(), out, err)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // A failing test must not leave servers either.
        if self.child.try_wait().unwrap().is_none() {
            self.signal(Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// Processes that have the path in their command line.
fn processes_with(path: &Path) -> Vec<PathBuf> {
    let path = path.to_string_lossy().into_owned();
    let has_it = |process: &PathBuf| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&path)
    };
    let entries = fs::read_dir("/proc").unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(has_it)
        .collect()
}

#[test]
fn once_it_shows_a_load_without_errors_and_ends() {
    let (code, out, err) = Demo::start(&["--once", "--seconds", "2"]).end();
    assert_eq!(code, Some(0), "{out}{err}");
    for load in ["writes on the primary", "reads on the replica"] {
        let row = out.lines().find_map(|l| l.trim().strip_prefix(load));
        let row = row.unwrap_or_else(|| panic!("no row for {load}:\n{out}"));
        let cells: Vec<&str> = row.split_whitespace().collect();
        let (clients, servers) = (cells[0], cells[1].parse::<u32>().unwrap());
        assert_eq!(clients, "100", "{row}");
        assert!((1..=10).contains(&servers), "{row}");
        assert_eq!(cells.last(), Some(&"0"), "{row}");
    }
}

#[test]
fn it_stays_up_until_ctrl_c() {
    let mut demo = Demo::start(&["--seconds", "2"]);
    let url = demo.line("DATABASE_URL=");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let accounts: i64 = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let question = "SELECT count(*) FROM pgbench_accounts";
        client.query_one(question, &[]).await.unwrap().get(0)
    });
    assert_eq!(accounts, 1_000_000);
    assert!(!processes_with(demo.home.path()).is_empty());
    demo.signal(Signal::SIGINT);
    let (code, ..) = demo.end();
    assert_eq!(code, Some(0));
}

#[test]
fn it_leaves_nothing_when_it_is_stopped_half_way() {
    for (moment, signal) in [
        ("== starting a primary", Signal::SIGTERM),
        ("== loading", Signal::SIGINT),
        ("== writes on the primary", Signal::SIGHUP),
    ] {
        let mut demo = Demo::start(&["--seconds", "2"]);
        demo.line(moment);
        sleep(Duration::from_millis(150));
        let asked = Instant::now();
        demo.signal(signal);
        let (code, ..) = demo.end();
        assert_eq!(code, Some(128 + signal as i32), "{moment}");
        assert!(asked.elapsed() < Duration::from_secs(20), "{moment}");
    }
}
