//! PgBouncer's command line: what init scripts, units and operators type.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;

use crate::support::{
    Address, Cluster, Program, RawClient, eventually, free_port, patiently, pgweir, server_user,
    temp_dir,
};

/// An ini with its files in a directory of its own, and a link called pgbouncer.
struct Installed {
    dir: TempDir,
    port: u16,
    database: String,
}

impl Installed {
    fn new(more: &str) -> Installed {
        let installed = Installed {
            dir: temp_dir("bouncer"),
            port: free_port(),
            database: Cluster::shared().create_database(),
        };
        installed.write(more);
        symlink(env!("CARGO_BIN_EXE_pgweir"), installed.path("pgbouncer")).expect("link");
        installed
    }

    fn write(&self, more: &str) {
        let ini = format!(
            "[databases]\n{} = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {}\nunix_socket_dir = {}\nauth_type = trust\nauth_file = {}\n\
             admin_users = app\nlogfile = {}\npidfile = {}\n{more}\n",
            self.database,
            Cluster::shared().port,
            self.port,
            self.dir.path().display(),
            self.at("userlist.txt"),
            self.at("log"),
            self.at("pid"),
        );
        std::fs::write(self.path("userlist.txt"), "\"app\" \"x\"\n").expect("userlist");
        std::fs::write(self.path("pgbouncer.ini"), ini).expect("ini");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// `pgbouncer [OPTION]... pgbouncer.ini`, as somebody who is not root.
    fn pgbouncer(&self, options: &[&str]) -> Program {
        let user = self.user().name;
        let mut words = vec!["-u", user.as_str()];
        words.extend(options);
        self.as_whoever_runs(&words)
    }

    fn as_whoever_runs(&self, options: &[&str]) -> Program {
        let program = Program::new(&self.at("pgbouncer")).args(options);
        program.args(&[&self.at("pgbouncer.ini")])
    }

    /// Whom it is to run as: who runs the tests, unless that is root.
    fn user(&self) -> User {
        let uid = server_user().map_or(geteuid(), |(uid, _)| uid.into());
        User::from_uid(uid).expect("passwd").expect("a user")
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn client(&self, database: &str) -> RawClient {
        let address = Address::local(self.port);
        patiently("it answers", || {
            RawClient::try_login(&address, "app", database, None).ok()
        })
    }

    fn setting(&self, name: &str) -> String {
        let rows = self.client("pgbouncer").query("show config").rows();
        let row = rows.into_iter().find(|row| row[0].as_deref() == Some(name));
        row.expect("the setting")[1].clone().unwrap_or_default()
    }
}

impl Drop for Installed {
    /// What a failed test left in the background.
    fn drop(&mut self) {
        if let Ok(pid) = self.text("pid").trim().parse()
            && std::path::Path::new(&format!("/proc/{pid}")).exists()
        {
            // It may end by itself just now.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[test]
fn help_version_and_mistakes() {
    let installed = Installed::new("");
    let program = installed.at("pgbouncer");
    let run = |words: &[&str]| Program::new(&program).args(words).run();
    for words in [["-h"], ["--help"], ["--he"]] {
        let help = run(&words);
        assert!(help.success);
        assert!(help.stdout.starts_with(&format!("{program} is a connection pooler for PostgreSQL.\n\nUsage:\n  {program} [OPTION]... CONFIG_FILE\n\nOptions:\n  -d, --daemon         run in background (as a daemon)\n")), "{help:?}");
        assert_eq!(help.stdout.lines().count(), 13, "{help:?}");
    }
    let version = run(&["--version"]).stdout;
    assert_eq!(version, run(&["-vV", "nothing"]).stdout);
    assert_eq!(version, pgweir(&["pgbouncer", "-V"]).run().stdout);
    let _running = installed.pgbouncer(&["-q"]).start();
    let shown = installed.client("pgbouncer").value("show version");
    assert_eq!(version.lines().next(), Some(&*shown));

    let hint = format!("Try \"{program} --help\" for more information.\n");
    for (words, text) in [
        (&[][..], "no configuration file specified"),
        (&["a", "b"], "no configuration file specified"),
        (&["-x"], "unexpected argument '-x' found"),
    ] {
        let output = run(words);
        assert!(!output.success);
        assert_eq!(output.stderr, format!("{program}: {text}\n{hint}"));
    }
    let missing = run(&["/nowhere/pgbouncer.ini"]);
    assert!(!missing.success && missing.stderr.contains("/nowhere/pgbouncer.ini"));
}

#[test]
fn a_daemon_takes_the_place_of_another() {
    let installed = Installed::new("");
    installed.pgbouncer(&["-d"]).succeed();
    let old = installed.text("pid");
    let mut client = installed.client(&installed.database);
    client.query("begin");
    installed.pgbouncer(&["-d", "-R"]).succeed();
    let new = installed.text("pid");
    assert_ne!(new, old);
    assert_eq!(client.query("commit").status(), 'I');
    drop(client);
    let stopped = format!("[{}] LOG pgweir has stopped", old.trim());
    eventually("it ends", true, || installed.text("log").contains(&stopped));
    assert_eq!(installed.text("pid"), new);
    assert_eq!(installed.client(&installed.database).value("select 1"), "1");
}

#[test]
fn runs_as_the_user_that_it_is_told() {
    let installed = Installed::new("");
    if geteuid().is_root() {
        let refused = installed.as_whoever_runs(&[]).run();
        assert!(!refused.success);
        let text = " FATAL PgBouncer should not run as root\n";
        assert!(refused.stderr.ends_with(text), "{refused:?}");
        std::fs::remove_file(installed.path("log")).expect("log");
    }
    let nobody = installed.as_whoever_runs(&["--user=no such user"]).run();
    let text = "could not find user 'no such user' to switch to";
    assert!(
        !nobody.success && nobody.stderr.contains(text),
        "{nobody:?}"
    );

    let user = installed.user();
    installed.write(&format!("user = {}", user.name));
    let running = installed.as_whoever_runs(&[]).start();
    installed.client(&installed.database).query("select 1");
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).expect("status");
    let line = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.expect("a line")
            .split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    assert_eq!(line("Uid:"), [&*uid; 4].join(" "));
    assert_eq!(line("Gid:"), [&*gid; 4].join(" "));
    // root's groups are gone, too.
    let groups = line("Groups:");
    assert!(
        !geteuid().is_root() || !groups.split(' ').any(|group| group == "0"),
        "{groups}"
    );
    for file in ["log", "pid", &format!(".s.PGSQL.{}", installed.port)] {
        let owner = std::fs::metadata(installed.path(file)).expect(file).uid();
        assert_eq!(owner, user.uid.as_raw(), "{file}");
    }
    let mut console = installed.client("pgbouncer");
    assert_eq!(console.query("reload").command_tags(), ["RELOAD"]);
    assert_eq!(installed.setting("user"), user.name);
    running.signal(Signal::SIGQUIT);
    assert!(running.finish().success);
    assert!(!installed.path("pid").exists());
    assert!(
        !installed
            .path(&format!(".s.PGSQL.{}", installed.port))
            .exists()
    );
}

#[test]
fn goes_to_the_background_and_says_when_it_is_up() {
    let installed = Installed::new("");
    let started = installed.pgbouncer(&["-d", "-v"]).run();
    assert!(started.success, "{started:?}");
    assert_eq!(started.stdout, "");
    // No patience needed: it listens.
    let address = Address::local(installed.port);
    let mut client = RawClient::login(&address, "app", &installed.database);
    assert_eq!(client.value("select 1"), "1");
    let pid: i32 = installed.text("pid").trim().parse().expect("pid");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    // pid (name) state ppid pgrp session tty
    let (name, rest) = stat.split_once(") ").expect("stat");
    let rest: Vec<&str> = rest.split(' ').collect();
    assert_eq!(name, format!("{pid} (pgbouncer"));
    assert_eq!((rest[3], rest[4]), (&*pid.to_string(), "0"), "{stat}");
    assert_eq!(installed.setting("verbose"), "1");

    let second = installed.pgbouncer(&["-d"]).run();
    let place = installed.at("pid");
    let text = format!("FATAL pidfile '{place}' exists, another instance running?\n");
    assert!(
        !second.success && second.stderr.ends_with(&text),
        "{second:?}"
    );
    kill(Pid::from_raw(pid), Signal::SIGQUIT).expect("kill");
    eventually("a pidfile", false, || installed.path("pid").exists());

    // The file of a process that was killed is in nobody's way.
    std::fs::write(installed.path("pid"), format!("{}\n", 1 << 22)).expect("pid");
    assert!(installed.pgbouncer(&["--daemon"]).run().success);
    let pid: i32 = installed.text("pid").trim().parse().expect("pid");
    assert!(installed.text("log").contains("stale pidfile, removing"));
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("kill");
    eventually("a pidfile", false, || installed.path("pid").exists());
}

#[test]
fn who_stays_at_the_terminal_hears_why_not() {
    let installed = Installed::new("");
    let taken = std::net::TcpListener::bind(("127.0.0.1", installed.port)).expect("port");
    let failed = installed.pgbouncer(&["-d"]).run();
    assert!(!failed.success);
    assert!(failed.stderr.contains("has ended"), "{failed:?}");
    let reason = format!("cannot listen on 127.0.0.1:{}", installed.port);
    assert!(
        installed.text("log").contains(&reason),
        "{}",
        installed.text("log")
    );
    drop(taken);
    installed.write("pidfile =");
    let failed = installed.pgbouncer(&["-d"]).run();
    let text = " FATAL daemon needs pidfile configured\n";
    assert!(
        !failed.success && failed.stderr.ends_with(text),
        "{failed:?}"
    );
}

#[test]
fn quiet_and_verbose() {
    let installed = Installed::new("verbose = 1");
    let running = installed.pgbouncer(&["-q", "-v"]).start();
    let mut console = installed.client("pgbouncer");
    assert_eq!(installed.setting("verbose"), "2");
    installed.write("");
    console.query("reload");
    assert_eq!(installed.setting("verbose"), "1");
    running.signal(Signal::SIGQUIT);
    let output = running.finish();
    assert_eq!((&*output.stdout, &*output.stderr), ("", ""));
    assert!(installed.text("log").contains(" LOG listening on "));
}

#[test]
fn the_next_reload_reads_conffile() {
    let installed = Installed::new("");
    let _running = installed.pgbouncer(&["-q"]).start();
    let mut console = installed.client("pgbouncer");
    let first = installed.at("pgbouncer.ini");
    assert_eq!(installed.setting("conffile"), first);
    let other = installed.text("pgbouncer.ini") + "max_client_conn = 77\n";
    std::fs::write(installed.path("other.ini"), other).expect("ini");
    let other = installed.at("other.ini");
    console.query(&format!("set conffile = '{other}'"));
    assert_ne!(installed.setting("max_client_conn"), "77");
    console.query("reload");
    assert_eq!(installed.setting("max_client_conn"), "77");
    assert_eq!(installed.setting("conffile"), other);
    console.query("set conffile = '/nowhere'");
    let error = console.try_query("reload").error();
    assert_eq!(error.sqlstate(), "F0000");
}

#[test]
fn the_log_is_opened_anew_whatever_else_is_wrong() {
    let installed = Installed::new("");
    let running = installed.pgbouncer(&["-q"]).start();
    drop(installed.client("pgbouncer"));
    std::fs::write(installed.path("pgbouncer.ini"), "[pgbouncer\n").expect("ini");
    std::fs::rename(installed.path("log"), installed.path("log.1")).expect("rotate");
    running.signal(Signal::SIGHUP);
    eventually("a new log", true, || installed.path("log").exists());
    drop(installed.client("pgbouncer"));
    assert!(
        installed
            .text("log")
            .contains("login attempt: db=pgbouncer")
    );
}
