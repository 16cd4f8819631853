//! Sending by io_uring(7), and without where it is not allowed, as in most containers.

use std::fs;

use crate::support::{Pooler, Program, Setup, eventually, free_port};

/// A shell's command: what it becomes gets EPERM from io_uring_setup(2). It is what the
/// seccomp profiles of container runtimes do.
fn forbid(dir: &std::path::Path) -> String {
    let program = r#"
import ctypes, os, struct, sys
# Call number 425 everywhere: load it, compare, EPERM or allowed.
code = b"".join(struct.pack("HBBI", *op) for op in
    [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, program) == 0, ctypes.get_errno()
os.execvp(sys.argv[1], sys.argv[1:])
"#;
    let path = dir.join("forbid.py");
    fs::write(&path, program).expect("file");
    format!("set -- python3 {} \"$@\"", path.display())
}

/// How many rings its workers have.
fn rings(pooler: &Pooler) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", pooler.id())).expect("the process");
    let names = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    names
        .filter(|name| name.ends_with("anon_inode:[io_uring]"))
        .count()
}

/// Clients that are answered in the same turns, each with what is its own.
fn serves_many_at_once(pooler: &Pooler) {
    std::thread::scope(|scope| {
        for number in 0..20 {
            scope.spawn(move || {
                let mut client = pooler.login();
                for round in 0..100 {
                    let text = format!("{number} {round}");
                    let answer = client.query(&format!("SELECT '{text}'"));
                    assert_eq!(answer.value(), text);
                }
            });
        }
    });
}

fn setup(io_uring: &str) -> Setup {
    Setup::new()
        .pool_size(4)
        .set("workers", 2)
        .set("io_uring", io_uring)
}

#[test]
fn workers_send_by_it_as_the_setting_says() {
    for (io_uring, count) in [("on", 2), ("off", 0)] {
        let pooler = setup(io_uring).in_toml().start();
        assert_eq!(rings(&pooler), count);
        let said = format!("io_uring={}", count > 0);
        eventually("its mode", true, || pooler.log().contains(&said));
        serves_many_at_once(&pooler);
    }
}

#[test]
fn where_it_is_forbidden_messages_go_one_by_one_and_the_log_says_so() {
    let dir = tempfile::tempdir().expect("directory");
    let pooler = setup("auto").before(&forbid(dir.path())).start();
    assert_eq!(rings(&pooler), 0);
    let log = pooler.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("io_uring=off"))
        .collect();
    assert!(
        matches!(lines[..], [line] if line.contains("Operation not permitted")),
        "{log}"
    );
    serves_many_at_once(&pooler);
}

#[test]
fn who_insists_on_it_is_told_what_forbids_it() {
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("pgweir.toml");
    let text = format!(
        "[pgweir]\nlisten_port = {}\nunix_socket_dir = \"\"\nlisten_addr = \"127.0.0.1\"\n\
         io_uring = \"on\"\n[databases.app]\nhost = \"db1\"\n[users.app]\npassword = \"x\"\n",
        free_port()
    );
    fs::write(&config, text).expect("file");
    let command = format!("{} && exec \"$@\"", forbid(dir.path()));
    let pgweir = env!("CARGO_BIN_EXE_pgweir");
    let config = config.display().to_string();
    let said = Program::new("sh")
        .args(&["-c", &command, "sh", pgweir, "run", &config])
        .fail();
    for word in [
        "io_uring=on",
        "kernel.io_uring_disabled",
        "io_uring=auto",
        "not permitted",
    ] {
        assert!(said.contains(word), "no {word} in\n{said}");
    }
}
