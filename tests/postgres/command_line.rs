//! The command line and the configuration, as far as an operator sees them:
//! what is wrong is said with file, line, word and the nearest right one.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::{Address, Cluster, Program, RawClient, free_port, patiently, pgweir};

/// A file with this text, in a directory that goes with it.
fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join(name);
    std::fs::write(&path, text).expect("file");
    (dir, path)
}

/// `check` and `run` must both refuse the file with all of these words.
#[track_caller]
fn is_refused(name: &str, text: &str, words: &[&str]) {
    let (_dir, path) = file(name, text);
    let path = path.display().to_string();
    for command in [vec!["check", &path], vec!["run", &path], vec![&*path]] {
        let output = pgweir(&command).run();
        assert!(!output.success, "{command:?} accepts\n{text}");
        let said = output.stdout + &output.stderr;
        for word in words {
            assert!(
                said.contains(word),
                "{command:?} does not say {word}:\n{said}"
            );
        }
        assert!(!said.contains("panicked"), "{said}");
    }
}

const GOOD: &str = "[pgweir]\nauth_type = \"trust\"\n[databases.app]\nhosts = [{ host = \"db1\" }]\n\
                    [users.app]\npassword = \"x\"\n";

#[test]
fn typo_in_toml() {
    let text = GOOD.replace("auth_type", "pool_mod = \"session\"\nauth_type");
    is_refused(
        "pgweir.toml",
        &text,
        &["pgweir.toml:2", "pool_mod", "pool_mode"],
    );
    let text = GOOD.replace("hosts", "pol_size = 3\nhosts");
    is_refused(
        "pgweir.toml",
        &text,
        &["pgweir.toml:4", "pol_size", "pool_size"],
    );
}

#[test]
fn typo_in_an_ini() {
    let text =
        "[databases]\napp = host=db1 prot=5433\n[pgbouncer]\nauth_type = any\npol_mode = session\n";
    is_refused(
        "pgbouncer.ini",
        text,
        &[":2", "prot", "port", ":5", "pol_mode", "pool_mode"],
    );
}

#[test]
fn wrong_values() {
    for (wrong, words) in [
        (
            "pool_mode = \"transactional\"",
            ["pgweir.toml:2", "transactional", "transaction"],
        ),
        (
            "default_pool_size = \"many\"",
            ["pgweir.toml:2", "default_pool_size", "integer"],
        ),
        (
            "query_wait_timeout = \"30 parsecs\"",
            ["pgweir.toml:2", "query_wait_timeout", "30 parsecs"],
        ),
        (
            "listen_port = 99999",
            ["pgweir.toml:2", "listen_port", "99999"],
        ),
    ] {
        let text = GOOD.replace("auth_type", &format!("{wrong}\nauth_type"));
        is_refused("pgweir.toml", &text, &words);
    }
}

#[test]
fn every_mistake_at_once() {
    let text = "[pgweir]\npool_mod = 1\nlisten_prt = 2\n[databases.app]\nhots = []\n";
    is_refused("pgweir.toml", text, &["pool_mod", "listen_prt", "hots"]);
}

#[test]
fn what_is_not_built_is_refused_by_name_in_toml() {
    let text = GOOD.replace("auth_type", "client_tls_sslmode = \"require\"\nauth_type");
    is_refused(
        "pgweir.toml",
        &text,
        &["pgweir.toml:2", "client_tls_sslmode"],
    );
}

#[test]
fn broken_and_missing_files() {
    is_refused("pgweir.toml", "[pgweir\n", &["pgweir.toml:1"]);
    is_refused("pgbouncer.ini", "[pgbouncer\n", &[":1"]);
    for command in ["check", "run"] {
        let said = pgweir(&[command, "/nowhere/pgweir.toml"]).fail();
        assert!(said.contains("/nowhere/pgweir.toml"), "{said}");
    }
    pgweir(&["no-such-command"]).fail();
}

#[test]
fn check_prints_what_would_run() {
    let (_dir, path) = file(
        "pgweir.toml",
        &GOOD.replace("auth_type", "default_pool_size = 7\nauth_type"),
    );
    let output = pgweir(&["check", &path.display().to_string()]).succeed();
    assert!(output.contains("app"), "{output}");
    assert!(output.contains('7'), "{output}");
    assert!(
        !output.contains("password = \"x\""),
        "secrets stay secret: {output}"
    );
}

#[test]
fn convert_prints_toml_that_check_accepts() {
    let ini = "[databases]\napp = host=db1 port=5433 pool_size=7\n* = host=db2\n[users]\n\
               app = pool_mode=session\n[pgbouncer]\nlisten_addr = *\nauth_type = any\n\
               server_idle_timeout = 30\nadmin_users = root, app\n";
    let ini = ini
        .replace("host=db1", "host=db1 user=app")
        .replace("host=db2", "host=db2 user=app");
    let (_dir, path) = file("pgbouncer.ini", &ini);
    let toml = pgweir(&["convert", &path.display().to_string()]).succeed();
    for word in [
        "[databases.app]",
        "pool_size = 7",
        "[users.app]",
        "server_idle_timeout",
    ] {
        assert!(toml.contains(word), "{word} is missing:\n{toml}");
    }
    let (_dir, path) = file("pgweir.toml", &toml);
    pgweir(&["check", &path.display().to_string()]).succeed();
}

#[test]
fn version_and_help() {
    let version = pgweir(&["--version"]).succeed();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let help = pgweir(&["--help"]).succeed();
    for command in ["run", "check", "convert"] {
        assert!(help.contains(command), "{command} is missing:\n{help}");
    }
}

/// The second argument of `--database`, for the test cluster.
fn definition(database: &str) -> String {
    let port = Cluster::shared().port;
    format!("mine=postgres://app@127.0.0.1:{port}/{database}")
}

#[test]
fn runs_without_a_file() {
    let database = Cluster::shared().create_database();
    let port = free_port();
    let _running = pgweir(&["run", "--database", &definition(&database)])
        .env("PGWEIR_LISTEN_PORT", &port.to_string())
        .env("PGWEIR_UNIX_SOCKET_DIR", "")
        .start();
    let mut client = patiently("pgweir answers", || {
        RawClient::try_login(&Address::local(port), "whoever", "mine", None).ok()
    });
    assert_eq!(client.value("select current_database()"), database);
    assert_eq!(client.value("select current_user"), "app");
}

#[test]
fn environment_overrides_the_file() {
    let database = Cluster::shared().create_database();
    let port = free_port();
    let text = format!(
        "[pgweir]\nlisten_addr = \"127.0.0.1\"\nlisten_port = 1\nauth_type = \"trust\"\n\
         unix_socket_dir = \"\"\npool_mode = \"session\"\nadmin_users = [\"app\"]\n\
         [databases.{database}]\nhosts = [{{ host = \"127.0.0.1\", port = {} }}]\n\
         [users.app]\npassword = \"x\"\n",
        Cluster::shared().port
    );
    let (_dir, path) = file("pgweir.toml", &text);
    let _running = pgweir(&["run", &path.display().to_string()])
        .env("PGWEIR_LISTEN_PORT", &port.to_string())
        .env("PGWEIR_POOL_MODE", "transaction")
        .start();
    let address = Address::local(port);
    let mut client = patiently("pgweir answers", || {
        RawClient::try_login(&address, "app", &database, None).ok()
    });
    client.query("select 1");
    let mut console = RawClient::login(&address, "app", "pgbouncer");
    let answer = console.query("show config");
    let rows = answer.rows();
    let mode = rows
        .iter()
        .find(|row| row[0].as_deref() == Some("pool_mode"))
        .expect("pool_mode");
    assert_eq!(mode[1].as_deref(), Some("transaction"));
    let wrong = pgweir(&["check", &path.display().to_string()]).env("PGWEIR_POOL_MOD", "x");
    let said = wrong.fail();
    assert!(said.to_lowercase().contains("pool_mod"), "{said}");
}

#[test]
fn an_unchanged_pgbouncer_ini_runs() {
    let database = Cluster::shared().create_database();
    let port = free_port();
    let dir = tempfile::tempdir().expect("directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("userlist.txt"), "\"app\" \"secret of app\"\n").expect("userlist");
    let ini = format!(
        ";; a comment\n[databases]\n{database} = host=127.0.0.1 port={} \n* = host=127.0.0.1\n\n\
         [users]\n[pgbouncer]\nlogfile = {}\npidfile = {}\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = md5\nauth_file = {}\n\
         pool_mode = transaction\nmax_client_conn = 100\ndefault_pool_size = 5\n\
         ignore_startup_parameters = extra_float_digits\nserver_tls_sslmode = prefer\n\
         pkt_buf = 4096\nsbuf_loopcnt = 5\nlog_stats = 0\nquery_wait_notify = 5\n",
        Cluster::shared().port,
        at("log"),
        at("pid"),
        at("userlist.txt"),
    );
    std::fs::write(at("pgbouncer.ini"), ini).expect("ini");
    let running = pgweir(&[&at("pgbouncer.ini")]).start();
    let address = Address::local(port);
    let mut client = patiently("pgweir answers", || {
        RawClient::try_login(&address, "app", &database, Some("secret of app")).ok()
    });
    assert_eq!(client.value("select current_database()"), database);
    let pid = std::fs::read_to_string(at("pid")).expect("pidfile");
    assert_eq!(pid.trim(), running.id().to_string());
    // PgBouncer's log line, which tools parse: C-ptr: db/user@host:port text.
    let log = std::fs::read_to_string(at("log")).expect("log");
    let login = format!("{database}/app@127.0.0.1:");
    let line = log.lines().find(|line| line.contains("login attempt:"));
    let line = line.unwrap_or_else(|| panic!("no login attempt in\n{log}"));
    assert!(line.contains(&login) && line.contains(" LOG C-"), "{line}");
    assert!(
        line.contains(&format!("db={database} user=app tls=no")),
        "{line}"
    );
}

#[test]
fn route_reads_statements_from_standard_input() {
    let text = GOOD.replace(
        "hosts",
        "route_reads = true\npool_mode = \"transaction\"\nhosts",
    );
    let (_dir, path) = file("pgweir.toml", &text);
    let command = format!(
        "printf 'select 1; begin; /* pgweir: role=any */ select 2; end;' | {} route {} -",
        env!("CARGO_BIN_EXE_pgweir"),
        path.display()
    );
    let output = Program::new("sh").args(&["-c", &command]).succeed();
    let places: Vec<&str> = output
        .lines()
        .filter_map(|line| line.strip_prefix("place"))
        .map(|place| place.split(',').next().unwrap_or_default().trim())
        .collect();
    let replica = "a replica that has what its client wrote before; without one";
    let inside = "where its transaction is";
    assert_eq!(places, [replica, "primary", inside, inside], "{output}");

    let (_dir, path) = file("pgweir.toml", GOOD);
    let said = pgweir(&["route", &path.display().to_string(), "select 1"]).fail();
    assert!(said.contains("set route_reads = true"), "{said}");
}
