use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::slapd::{READER, READERS_PASSWORD, Slapd};
use crate::support::{
    Certificates, Failure, Frontend, PATIENCE, Pooler, RawClient, Setup, eventually, secs, temp_dir,
};
use crate::{CLEARTEXT_PASSWORD, asked_for, login, refused};

/// A user whom PostgreSQL asks for this password as well.
const USER: &str = "scram";
const PASSWORD: &str = "secret of scram";
const ODD: &str = "o*dd, (x) +\\\"";

const SIMPLE: &str = r#"ldapprefix="uid=" ldapsuffix=",ou=people,dc=example,dc=net""#;
const FAILED: &str = "LDAP authentication failed";

fn search() -> String {
    format!(
        r#"ldapbasedn="dc=example,dc=net" ldapbinddn="{READER}" ldapbindpasswd="{READERS_PASSWORD}""#
    )
}

fn slapd() -> Slapd {
    Slapd::start(&[(USER, PASSWORD), ("app", "another"), (ODD, "odd")])
}

/// No user is known to pgweir itself.
fn setup(options: &str) -> Setup {
    let setup = Setup::new().set("auth_type", "ldap");
    let setup = setup.set("auth_ldap_options", options);
    ["app", "app2", "app3", "admin"]
        .into_iter()
        .fold(setup, Setup::without_user)
}

/// For users whom only the directory knows.
fn forced(options: &str) -> Setup {
    setup(options).for_database("user", "app")
}

fn denied(pooler: &Pooler, user: &str, password: &str) {
    let expected = (FAILED.to_owned(), "28000".to_owned());
    assert_eq!(refused(pooler, user, password), expected, "{user}");
}

#[test]
fn the_directory_decides_and_the_password_is_good_for_the_server() {
    let slapd = slapd();
    for options in [SIMPLE.to_owned(), search()] {
        let pooler = setup(&slapd.options(&options)).start();
        assert_eq!(asked_for(&pooler, USER), Some(CLEARTEXT_PASSWORD));
        let mut client = login(&pooler, USER, PASSWORD).expect("login");
        assert_eq!(client.value("select current_user"), USER);
        denied(&pooler, USER, "wrong");
        denied(&pooler, USER, "another");
        denied(&pooler, "nobody", PASSWORD);
        eventually("the reason is logged", true, || {
            let log = pooler.log();
            log.contains("wrong password for") && log.contains("nobody")
        });
    }
}

#[test]
fn an_ini_has_pgbouncers_code() {
    let slapd = slapd();
    let pooler = setup(&slapd.options(SIMPLE)).in_ini().start();
    login(&pooler, USER, PASSWORD).expect("login");
    let (message, code) = refused(&pooler, USER, "wrong");
    assert_eq!((message.as_str(), code.as_str()), (FAILED, "08P01"));
}

#[test]
fn an_empty_password_is_never_sent_to_the_directory() {
    let slapd = slapd();
    for options in [SIMPLE.to_owned(), search()] {
        let pooler = forced(&slapd.options(&options)).start();
        let (message, _) = refused(&pooler, USER, "");
        assert_eq!(message, "empty password returned by client");
    }
}

#[test]
fn a_users_name_is_a_name_and_nothing_else() {
    let slapd = slapd();
    for options in [
        SIMPLE.to_owned(),
        search(),
        search() + r#" ldapsearchfilter="(|(uid=$username)(mail=$username))""#,
    ] {
        let pooler = forced(&slapd.options(&options)).start();
        login(&pooler, ODD, "odd").expect("login");
        for name in [
            "*",
            "scra*",
            "scram)(uid=scram",
            "nobody)(|(uid=scram)",
            "*)(uid=*))(|(uid=*",
            "scram,ou=people,dc=example,dc=net",
            "scram+cn=scram",
            "$username",
            "o*",
        ] {
            denied(&pooler, name, PASSWORD);
        }
    }
}

#[test]
fn a_url_names_the_directory() {
    let slapd = slapd();
    let url = format!(
        r#"ldapurl="ldap://127.0.0.1:{}/ou=people,dc=example,dc=net?mail?one" ldapbinddn="{READER}" ldapbindpasswd="{READERS_PASSWORD}""#,
        slapd.port
    );
    let pooler = forced(&url).start();
    login(&pooler, "scram@example.net", PASSWORD).expect("login");
    denied(&pooler, "scram", PASSWORD);
}

#[test]
fn a_rule_names_the_directory() {
    let slapd = slapd();
    let dir = temp_dir("hba");
    let rules = dir.path().join("hba");
    let options = slapd.options(SIMPLE);
    let lines = format!("host all {USER} all ldap {options}\nhost all all all reject\n");
    std::fs::write(&rules, lines).expect("rules");
    let setup = setup(&options).unset("auth_ldap_options");
    let setup = setup.set("auth_type", "hba");
    let pooler = setup.set("auth_hba_file", &*rules.display().to_string());
    let pooler = pooler.start();
    login(&pooler, USER, PASSWORD).expect("login");
    denied(&pooler, USER, "another");
    let (message, _) = refused(&pooler, "app", "another");
    assert_eq!(message, "login rejected");
}

#[test]
fn a_password_for_the_search_is_shown_to_nobody() {
    let slapd = slapd();
    let pooler = forced(&slapd.options(&search())).set("admin_users", USER);
    let pooler = pooler.start();
    let address = &pooler.address;
    let mut console = RawClient::try_login(address, USER, "pgbouncer", Some(PASSWORD));
    let config = console.as_mut().expect("login").query("show config");
    let shown = format!("{:?}", config.rows());
    assert!(shown.contains("ldapbindpasswd=***"), "{shown}");
    assert!(!shown.contains(READERS_PASSWORD), "{shown}");
}

#[test]
fn a_search_by_nobody_finds_nothing_here() {
    let slapd = slapd();
    let pooler = setup(&slapd.options("ldapbasedn=dc=example,dc=net")).start();
    denied(&pooler, USER, PASSWORD);
    let wrong = format!(r#"ldapbasedn=dc=net ldapbinddn="{READER}" ldapbindpasswd=wrong"#);
    let pooler = setup(&slapd.options(&wrong)).start();
    denied(&pooler, USER, PASSWORD);
    eventually("an operator is told", true, || {
        pooler.log().contains("LDAP could not check a password")
    });
}

#[test]
fn encrypted_with_a_certificate_that_is_checked() {
    let slapd = slapd();
    let tls = format!(
        "ldapserver=localhost ldapport={} ldapscheme=ldaps {SIMPLE}",
        slapd.tls_port
    );
    let start_tls = format!(
        "ldapserver=localhost ldapport={} ldaptls=1 {SIMPLE}",
        slapd.port
    );
    let authority = |name| Certificates::shared().path(name);
    for options in [tls, start_tls] {
        let trusted = setup(&options).environment("SSL_CERT_FILE", &authority("ca.crt"));
        login(&trusted.start(), USER, PASSWORD).expect("login");
        let other = setup(&options).environment("SSL_CERT_FILE", &authority("other-ca.crt"));
        denied(&other.start(), USER, PASSWORD);
    }
}

#[test]
fn the_next_server_is_asked_if_one_cannot_be_reached() {
    let slapd = slapd();
    let two = format!(
        r#"ldapserver="127.0.0.2 127.0.0.1" ldapport={} {SIMPLE}"#,
        slapd.port
    );
    login(&setup(&two).start(), USER, PASSWORD).expect("login");
}

#[test]
fn a_silent_directory_holds_up_nobody_else() {
    let slapd = slapd();
    let pooler = setup(&slapd.options(SIMPLE)).one_worker().start();
    let mut client = login(&pooler, USER, PASSWORD).expect("login");
    slapd.signal(Signal::SIGSTOP);
    let waiting: Vec<_> = (0..40).map(|_| later(&pooler)).collect();
    eventually("a full queue is logged", true, || {
        pooler.log().contains("logins wait for LDAP already")
    });
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(client.value("select 1"), "1");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    slapd.signal(Signal::SIGCONT);
    for login in waiting {
        login.join().expect("thread").expect("login");
    }
}

#[test]
fn an_answer_is_not_waited_for_longer_than_a_login_may_take() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = silent.local_addr().expect("address").port();
    let options = format!("ldapserver=127.0.0.1 ldapport={port} {SIMPLE}");
    let setup = setup(&options).set("client_login_timeout", secs(0.5));
    let pooler = setup.start();
    // More than there are threads.
    let logins: Vec<_> = (0..12).map(|_| later(&pooler)).collect();
    for login in logins {
        let failure = login.join().expect("thread").expect_err("login");
        assert_eq!(failure.message(), "client_login_timeout");
    }
    // All threads have hung up, and nothing has come of those in the queue.
    for _ in 0..8 {
        let (mut asked, _) = silent.accept().expect("accept");
        asked.set_read_timeout(Some(PATIENCE)).expect("timeout");
        asked.read_to_end(&mut Vec::new()).expect("end");
    }
    silent.set_nonblocking(true).expect("nonblocking");
    let more = silent.accept().expect_err("a ninth question");
    assert_eq!(more.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_client_that_leaves_is_forgotten() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = silent.local_addr().expect("address").port();
    let options = format!("ldapserver=127.0.0.1 ldapport={port} {SIMPLE}");
    let setup = setup(&options).set("client_login_timeout", secs(600.0));
    let pooler = setup.start();
    // The process's own user is asked for no password.
    let mut console = RawClient::login(&pooler.socket, "pgbouncer", "pgbouncer");
    let mut clients = || {
        let lists = console.query("show lists").rows();
        let used = |row: &Vec<Option<String>>| row[0].as_deref() == Some("used_clients");
        lists
            .into_iter()
            .find(used)
            .and_then(|mut row| row.remove(1))
    };
    let parameters = [("user", USER), ("database", pooler.database.as_str())];
    let waiting: Vec<_> = (0..12)
        .map(|_| {
            let mut client = RawClient::connect(&pooler.address);
            client.send(&Frontend::new().startup((3, 0), &parameters));
            assert_eq!(client.read().tag, b'R');
            client.send(&Frontend::new().password(b"x\0"));
            client
        })
        .collect();
    // And the console.
    eventually("they wait", Some("13".to_owned()), &mut clients);
    let _asked: Vec<_> = (0..8).map(|_| silent.accept().expect("accept")).collect();
    drop(waiting);
    eventually("they are gone", Some("1".to_owned()), &mut clients);
}

fn later(pooler: &Pooler) -> JoinHandle<Result<RawClient, Failure>> {
    let (address, database) = (pooler.address.clone(), pooler.database.clone());
    std::thread::spawn(move || RawClient::try_login(&address, USER, &database, Some(PASSWORD)))
}
