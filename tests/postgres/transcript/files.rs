//! Ini files with mistakes: who refuses which, and at which line.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{run_as_server, temp_dir};

/// Each is read with this in front.
const BASE: &str = "[databases]\ndb = host=127.0.0.1\n[pgbouncer]\nauth_type = trust\n";

/// Who takes it, of a PgBouncer from 1.24 on and pgweir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Both,
    /// Both name the same line.
    Neither,
    /// As docs/drop-in.md says: numbers that do not fit, what is not one of the words or
    /// numbers to choose from, files that are missing.
    OnlyPgbouncer,
    /// As docs/drop-in.md says: longer names, and what was or will be a setting.
    OnlyPgweir,
    /// By both, and not by PgBouncers before 1.x.
    Since(u32),
}

use Taken::{Both, Neither, OnlyPgbouncer, OnlyPgweir, Since};

const FILES: &[(&str, Taken)] = &[
    // The format.
    ("pool_mode = session", Both),
    ("  pool_mode=session  ", Both),
    ("# comment\n; another\n\n", Both),
    ("pool_mode = session ; no comment", Neither),
    ("pool_mode = 'session'", Neither),
    ("pool_mode", Neither),
    ("pool_mode =", Neither),
    ("pool mode = session", Neither),
    ("Pool_Mode = session", Neither),
    ("pool_mode = SESSION", Both),
    ("nosuch = 1", Neither),
    ("[nosuch]\na = 1", Neither),
    ("[pgbouncer", Neither),
    ("[ pgbouncer ]", Neither),
    ("%include /nonexistent", Neither),
    ("%nosuch x", Neither),
    // Values.
    ("max_client_conn = many", Neither),
    ("max_client_conn =", Neither),
    ("max_client_conn = 5x", Neither),
    ("max_client_conn = 0x10", Both),
    ("max_client_conn = 010", Both),
    ("max_client_conn = +5", Both),
    ("max_client_conn = -1", OnlyPgbouncer),
    ("max_client_conn = 99999999999", OnlyPgbouncer),
    ("default_pool_size = -1", OnlyPgbouncer),
    ("max_prepared_statements = -1", OnlyPgbouncer),
    ("listen_port = 70000", OnlyPgbouncer),
    ("peer_id = 99999", OnlyPgbouncer),
    ("so_reuseport = yes", Neither),
    ("tcp_keepalive = 2", OnlyPgbouncer),
    ("server_lifetime = 30s", Neither),
    ("server_lifetime = -1", Neither),
    ("server_lifetime = 1e3", Both),
    ("server_lifetime = .5", Both),
    ("server_lifetime = inf", OnlyPgbouncer),
    ("auth_type = nosuch", Neither),
    ("auth_dbname = pgbouncer", Neither),
    ("auth_dbname = nosuch", Both),
    ("syslog_facility = nosuch", OnlyPgbouncer),
    ("client_tls_sslmode = nosuch", Neither),
    ("client_tls_protocols = nosuch", OnlyPgbouncer),
    ("client_tls_ciphers = nosuch", OnlyPgbouncer),
    ("auth_file = /nonexistent", Both),
    (
        "auth_type = hba\nauth_hba_file = /nonexistent",
        OnlyPgbouncer,
    ),
    ("server_tls_ca_file = /nonexistent", OnlyPgbouncer),
    ("server_tls_sslmode = verify-full", OnlyPgbouncer),
    ("service_name = x", OnlyPgweir),
    ("dns_zone_check_period = 5", Both),
    ("transaction_timeout = 5", Since(25)),
    ("query_wait_notify = 5", Since(25)),
    ("scram_iterations = 5000", Since(25)),
    ("pool_idle_timeout = 5", Since(26)),
    ("login_notify_message = hello", Since(26)),
    // Databases.
    ("[databases]\n* = host=a", Both),
    ("[databases]\n'my db' = host=a", Since(25)),
    ("[databases]\n\"my db\" = host=a", Neither),
    ("[databases]\npgbouncer = host=a", Neither),
    ("[databases]\nx =", Both),
    ("[databases]\nx = host=", Neither),
    ("[databases]\nx = host='a", Neither),
    ("[databases]\nx = host=a password='it''s'", Both),
    ("[databases]\nx = host='a'b", OnlyPgbouncer),
    ("[databases]\nx = host=a nosuch=1", Neither),
    ("[databases]\nx = host=a hostaddr=10.0.0.1", Neither),
    ("[databases]\nx = host=a port=many", Neither),
    ("[databases]\nx = host=a port=0", Neither),
    ("[databases]\nx = host=a port=99999", OnlyPgbouncer),
    ("[databases]\nx = host=a,b port=1", Both),
    ("[databases]\nx = host=a,b port=1,2", OnlyPgbouncer),
    ("[databases]\nx = host=a pool_mode=nosuch", Neither),
    ("[databases]\nx = host=a pool_size=many", OnlyPgbouncer),
    ("[databases]\nx = host=a load_balance_hosts=nosuch", Neither),
    ("[databases]\nx = host=a auth_dbname=pgbouncer", Both),
    ("[databases]\nx = host=a\nx = host=b", Both),
    (
        "[databases]\na-name-that-is-longer-than-names-in-postgresql-are-which-is-63-bytes = host=a",
        OnlyPgweir,
    ),
    // Users and peers.
    (
        "[users]\nx = pool_mode=session max_user_connections=1 query_timeout=5",
        Both,
    ),
    ("[users]\nx = transaction_timeout=5", Since(25)),
    ("[users]\nx = query_wait_timeout=5", Since(26)),
    ("[users]\nx = nosuch=1", Neither),
    ("[users]\nx = pool_mode=nosuch", Neither),
    ("[peers]\n1 = host=a port=1 pool_size=5", Both),
    ("[peers]\n1 = port=5", Neither),
    ("[peers]\n1 = host=a port=0", Neither),
    ("[peers]\n1 = host=a dbname=x", Neither),
    ("[peers]\n0 = host=a", Neither),
    ("[peers]\n16384 = host=a", OnlyPgbouncer),
    ("[peers]\n99999 = host=a", Neither),
    ("[peers]\nx = host=a", Neither),
];

#[test]
fn refuses_the_files_that_a_newer_pgbouncer_refuses() {
    let (pgbouncer, version) = super::known(&super::newer());
    assert!(version > 20, "the newer one is 1.{version}");
    let dir = temp_dir("files");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let mut wrong = Vec::new();
    for (text, expected) in FILES {
        // Without an address PgBouncer leaves when it has read it.
        let nowhere = format!("{BASE}unix_socket_dir =\n{text}\n");
        let theirs = refusal(&pgbouncer, &[], dir.path(), &nowhere, |ended, said| {
            assert!(!ended, "PgBouncer ends");
            !said.contains("nowhere to listen on")
        });
        let somewhere = format!("{BASE}unix_socket_dir = /tmp\n{text}\n");
        let pgweir = Path::new(env!("CARGO_BIN_EXE_pgweir"));
        let ours = refusal(pgweir, &["check"], dir.path(), &somewhere, |ended, _| {
            !ended
        });
        let expected = match *expected {
            Since(first) if version < first => OnlyPgweir,
            Since(_) => Both,
            known => known,
        };
        let same = match (&theirs, &ours) {
            (None, None) => expected == Both,
            (Some(theirs), Some(ours)) => {
                expected == Neither && (line(theirs).is_none() || line(theirs) == line(ours))
            }
            (None, Some(_)) => expected == OnlyPgbouncer,
            (Some(_), None) => expected == OnlyPgweir,
        };
        if !same {
            wrong.push(format!(
                "{text:?} {expected:?}\n  - {theirs:?}\n  + {ours:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is said of the file, if it is refused; `is_refusal` is told whether the
/// program has ended well, and what it said.
fn refusal(
    program: &Path,
    arguments: &[&str],
    dir: &Path,
    text: &str,
    is_refusal: impl Fn(bool, &str) -> bool,
) -> Option<String> {
    let file = dir.join("p.ini");
    fs::write(&file, text).expect("a file");
    let output = run_as_server(Command::new(program))
        .args(arguments)
        .arg(&file)
        .output()
        .expect("a program");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    is_refusal(output.status.success(), &said).then_some(said)
}

/// The first that is named, as in `p.ini:5`.
fn line(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("p.ini:")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()
}
