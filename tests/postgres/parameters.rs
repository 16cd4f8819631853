//! Each client sees its own parameters, whichever server connection it gets.

use crate::support::{Address, Failure, Frontend, RawClient, Setup};

/// The parameters that PostgreSQL reports and a client may change, each with
/// two values that are shown as they are set.
const REPORTED: &[(&str, [&str; 2])] = &[
    ("client_encoding", ["LATIN1", "UTF8"]),
    ("DateStyle", ["German, DMY", "SQL, MDY"]),
    ("TimeZone", ["Asia/Tokyo", "America/New_York"]),
    ("application_name", ["it's one", "two; \\ \"three\""]),
    ("IntervalStyle", ["iso_8601", "sql_standard"]),
    ("standard_conforming_strings", ["off", "on"]),
];

fn set(client: &mut RawClient, name: &str, value: &str) {
    let sql = format!("select set_config('{name}', $1, false)");
    let answer = client.exchange(&Frontend::new().run(&sql, &[value]).sync());
    assert_eq!(answer.value(), value);
}

#[test]
fn set_parameters_follow_their_client() {
    let pooler = Setup::new().pool_size(1).start();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    for (name, [one, two]) in REPORTED {
        set(&mut first, name, one);
        set(&mut second, name, two);
    }
    for _ in 0..3 {
        for (name, [one, two]) in REPORTED {
            assert_eq!(first.value(&format!("show {name}")), *one);
            assert_eq!(second.value(&format!("show {name}")), *two);
            let script = Frontend::new().run(&format!("show {name}"), &[]).sync();
            assert_eq!(first.exchange(&script).value(), *one);
        }
    }
    for (name, [one, two]) in REPORTED {
        assert_eq!(first.parameters[*name], *one, "reported");
        assert_eq!(second.parameters[*name], *two, "reported");
    }
    assert_eq!(pooler.backends().len(), 1);
}

/// asyncpg asks for 'utf-8', in quotes, and compares what is reported.
#[test]
fn values_in_other_words_are_reported_in_the_servers() {
    let pooler = Setup::new().pool_size(1).start();
    for _ in 0..2 {
        let asked = [("client_encoding", "'utf-8'"), ("datestyle", "iso")];
        let mut client = pooler.login_with(&asked);
        assert_eq!(client.parameters["client_encoding"], "UTF8");
        assert_eq!(client.parameters["DateStyle"], "ISO, MDY");
        assert_eq!(client.value("show client_encoding"), "UTF8");
    }
}

#[test]
fn set_statement_follows_its_client() {
    let pooler = Setup::new().pool_size(1).start();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    let before = second.value("show timezone");
    first.query("set timezone = 'Asia/Tokyo'");
    assert_eq!(second.value("show timezone"), before);
    assert_eq!(first.value("show timezone"), "Asia/Tokyo");
    first.query("reset timezone");
    assert_eq!(first.value("show timezone"), before);
    assert_eq!(second.value("show timezone"), before);
    assert_eq!(first.value("show timezone"), before);
}

#[test]
fn rolled_back_set_is_undone() {
    let pooler = Setup::new().pool_size(1).start();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    first.query("set datestyle = 'German'");
    second.query("begin; set datestyle = 'SQL'; select 1; rollback");
    assert_ne!(second.value("show datestyle"), "SQL, MDY");
    second.query("begin; set local datestyle = 'SQL'; commit");
    assert_ne!(second.value("show datestyle"), "SQL, MDY");
    assert_eq!(first.value("show datestyle"), "German, DMY");
    second.query("begin; set datestyle = 'SQL'; commit");
    assert_eq!(first.value("show datestyle"), "German, DMY");
    assert_eq!(second.value("show datestyle"), "SQL, MDY");
}

#[test]
fn replay_is_invisible() {
    let pooler = Setup::new().pool_size(1).start();
    let mut first = pooler.login_with(&[("TimeZone", "Asia/Tokyo")]);
    let mut second = pooler.login_with(&[("TimeZone", "America/New_York")]);
    for _ in 0..3 {
        assert_eq!(first.query("select 1").tags(), "TDCZ");
        let script = Frontend::new().run("show timezone", &[]).sync();
        let answer = second.exchange(&script);
        assert_eq!(answer.tags(), "12DCZ");
        assert_eq!(answer.value(), "America/New_York");
        // An error comes back as if nothing had been set before it.
        assert_eq!(first.try_query("select 1/0").tags(), "EZ");
        assert_eq!(second.query("begin").status(), 'T');
        assert_eq!(
            second.query("show timezone; commit").value(),
            "America/New_York"
        );
    }
}

#[test]
fn startup_parameters_are_honoured() {
    let pooler = Setup::new().pool_size(1).start();
    let startup: Vec<_> = REPORTED
        .iter()
        .map(|(name, [one, _])| (*name, *one))
        .collect();
    let mut first = pooler.login_with(&startup);
    let mut plain = pooler.login();
    for (name, [one, _]) in REPORTED {
        assert_eq!(first.parameters[*name], *one, "reported at login");
        assert_ne!(plain.value(&format!("show {name}")), *one);
        assert_eq!(first.value(&format!("show {name}")), *one);
    }
}

#[test]
fn unreported_startup_parameters_are_honoured() {
    let pooler = Setup::new().pool_size(1).start();
    let mut first = pooler.login_with(&[
        ("extra_float_digits", "-10"),
        ("work_mem", "1234kB"),
        ("search_path", "elsewhere, \"Odd one\""),
    ]);
    let mut plain = pooler.login();
    for _ in 0..2 {
        assert_eq!(first.value("select pi()"), "3.1416");
        assert_eq!(first.value("show work_mem"), "1234kB");
        assert_eq!(first.value("show search_path"), "elsewhere, \"Odd one\"");
        assert_eq!(plain.value("select pi()"), "3.141592653589793");
        assert_ne!(plain.value("show work_mem"), "1234kB");
        assert_eq!(plain.value("show search_path"), "\"$user\", public");
    }
}

#[test]
fn options_are_honoured() {
    let pooler = Setup::new().pool_size(1).start();
    let options = "-c work_mem=1234kB --geqo=off -c DateStyle=German -cstatement_timeout=54321 \
                   -c application_name=with\\ blank";
    let mut first = pooler.login_with(&[("options", options)]);
    let mut plain = pooler.login();
    for _ in 0..2 {
        assert_eq!(first.value("show work_mem"), "1234kB");
        assert_eq!(first.value("show geqo"), "off");
        assert_eq!(first.value("show datestyle"), "German, DMY");
        assert_eq!(first.value("show statement_timeout"), "54321ms");
        assert_eq!(first.value("show application_name"), "with blank");
        assert_ne!(plain.value("show work_mem"), "1234kB");
        assert_eq!(plain.value("show geqo"), "on");
        assert_eq!(plain.value("show statement_timeout"), "0");
    }
}

#[test]
fn of_several_options_the_last_counts() {
    let pooler = Setup::new().start();
    let startup = [
        ("user", "app"),
        ("database", pooler.database.as_str()),
        ("work_mem", "3MB"),
        ("options", "-c geqo=off -c work_mem=5MB"),
        ("options", "-c work_mem=4MB -c jit=off"),
    ];
    let shown = |address: &Address| {
        let mut client = RawClient::try_login_with(address, &startup, None).expect("a login");
        let settings = ["work_mem", "geqo", "jit"];
        settings.map(|name| client.value(&format!("show {name}")))
    };
    assert_eq!(shown(&pooler.address), ["3MB", "on", "off"]);
    assert_eq!(shown(&pooler.server_address()), ["3MB", "on", "off"]);
}

/// What makes an error for the client; not where in the source it was raised.
fn essence(failure: &Failure) -> Vec<Option<&String>> {
    ['S', 'V', 'C', 'M', 'D', 'H']
        .map(|field| failure.fields.get(&field))
        .into()
}

#[test]
fn wrong_startup_parameters_are_refused_in_postgres_words() {
    let pooler = Setup::new().in_toml().start();
    for wrong in [
        ("TimeZone", "Nowhere/Land"),
        ("client_encoding", "KLINGON"),
        ("DateStyle", "moon, phase"),
        ("work_mem", "plenty"),
        ("no_such_parameter", "1"),
        ("options", "-c no_such_parameter=1"),
        ("options", "-c work_mem=plenty"),
        ("options", "-c"),
        ("options", "-c work_mem"),
        ("options", "--work-mem"),
        ("shared_buffers", "1GB"),
    ] {
        let parameters = [
            ("user", "app"),
            ("database", pooler.database.as_str()),
            // Converted from the encoding that is asked for.
            ("application_name", "\u{fc}"),
            wrong,
        ];
        let direct = pooler.server_address();
        let expected = RawClient::try_login_with(&direct, &parameters, None).expect_err("direct");
        let seen = RawClient::try_login_with(&pooler.address, &parameters, None);
        let seen = seen.err().unwrap_or_else(|| panic!("{wrong:?} was let in"));
        assert_eq!(essence(&seen), essence(&expected), "{wrong:?}");
        assert_eq!(pooler.login().value("select 1"), "1");
    }
}

#[test]
fn ignore_startup_parameters() {
    let setup = Setup::new().set(
        "ignore_startup_parameters",
        "extra_float_digits,no_such_thing",
    );
    let pooler = setup.start();
    let mut client = pooler.login_with(&[("extra_float_digits", "-10"), ("no_such_thing", "x")]);
    assert_eq!(client.value("select pi()"), "3.141592653589793");
}

#[test]
fn options_that_an_ini_ignores_keep_what_pgbouncer_follows() {
    let setup = Setup::new().set("ignore_startup_parameters", "options, timezone");
    let options = [(
        "options",
        "-c datestyle=German -c work_mem=1MB --IntervalStyle=iso_8601 -c TimeZone=Asia/Tokyo",
    )];
    let shown = |mut client: RawClient| {
        ["datestyle", "intervalstyle", "timezone", "work_mem"]
            .map(|name| client.value(&format!("show {name}")))
    };
    let ini = setup.clone().in_ini().start();
    let seen = shown(ini.login_with(&options));
    assert_eq!(seen, ["German, DMY", "iso_8601", "Etc/UTC", "4MB"]);
    let toml = setup.in_toml().start();
    let seen = shown(toml.login_with(&options));
    assert_eq!(seen, ["ISO, MDY", "postgres", "Etc/UTC", "4MB"]);
}

#[test]
fn login_reports_what_postgres_reports() {
    let pooler = Setup::new().start();
    // The second login is answered from what the pooler knows.
    for round in 0..2 {
        let startup = [("application_name", "me"), ("DateStyle", "German")];
        let seen = pooler.login_with(&startup).parameters;
        let mut all = vec![("user", "app"), ("database", pooler.database.as_str())];
        all.extend(startup);
        let direct = pooler.server_address();
        let expected = RawClient::try_login_with(&direct, &all, None)
            .expect("login")
            .parameters;
        assert_eq!(seen, expected, "round {round}");
    }
}

#[test]
fn application_name_is_seen_in_pg_stat_activity() {
    let pooler = Setup::new().pool_size(1).start();
    let mut first = pooler.login_with(&[("application_name", "first")]);
    let mut second = pooler.login_with(&[("application_name", "second")]);
    let sql = "select application_name from pg_stat_activity where pid = pg_backend_pid()";
    for _ in 0..3 {
        assert_eq!(first.value(sql), "first");
        assert_eq!(second.value(sql), "second");
    }
}

#[test]
fn bytes_of_other_encodings_pass_unchanged() {
    let pooler = Setup::new().pool_size(1).start();
    let mut latin = pooler.login_with(&[("client_encoding", "LATIN1")]);
    let mut utf8 = pooler.login_with(&[("client_encoding", "UTF8")]);
    for _ in 0..2 {
        let answer =
            latin.exchange(&Frontend::new().message(b'Q', b"select '\xe4', length('\xe4')\0"));
        let row = answer
            .messages
            .iter()
            .find(|m| m.tag == b'D')
            .expect("a row");
        assert_eq!(row.body, b"\0\x02\0\0\0\x01\xe4\0\0\0\x011");
        assert_eq!(utf8.value("select 'ä'"), "ä");
        // Prepared under one encoding, the text means something else in the other.
        let parse = Frontend::new().message(b'P', b"s\0select length('\xc3\xa4')\0\0\0");
        let run = parse
            .bind("", "s", &[])
            .execute("", 0)
            .close(b'S', "s")
            .sync();
        assert_eq!(latin.exchange(&run).value(), "2");
        assert_eq!(utf8.exchange(&run).value(), "1");
    }
}

#[test]
fn parameters_of_the_database_definition() {
    let setup = Setup::new().for_database("timezone", "Asia/Tokyo");
    let pooler = setup.for_database("application_name", "fixed").start();
    let mut client = pooler.login();
    assert_eq!(client.value("show timezone"), "Asia/Tokyo");
}

#[test]
fn session_mode_keeps_what_is_set() {
    let pooler = Setup::new().set("pool_mode", "session").start();
    let mut client = pooler.login_with(&[("TimeZone", "Asia/Tokyo"), ("work_mem", "1234kB")]);
    assert_eq!(client.value("show timezone"), "Asia/Tokyo");
    assert_eq!(client.value("show work_mem"), "1234kB");
    client.query("set timezone = 'America/New_York'");
    assert_eq!(client.value("show timezone"), "America/New_York");
    let mut next = pooler.login();
    drop(client);
    assert_ne!(next.value("show work_mem"), "1234kB");
}

/// Of the database's definition, in the startup packet of each server connection.
#[test]
fn what_the_database_says_is_sent_at_startup() {
    let settings = [
        ("client_encoding", "LATIN1"),
        ("datestyle", "German"),
        ("timezone", "Asia/Tokyo"),
        ("application_name", "of the database"),
    ];
    for setup in [Setup::new(), Setup::new().in_ini()] {
        let mut setup = setup.pool_size(1);
        for (name, value) in settings {
            setup = setup.for_database(name, value);
        }
        let pooler = setup.start();
        let mut client = pooler.login();
        // Where it comes from: the client has set nothing.
        let sources = "select count(*) from pg_settings where source = 'client'
            and lower(name) in ('client_encoding', 'datestyle', 'timezone', 'application_name')";
        assert_eq!(client.value(sources), "4");
        assert_eq!(client.value("show datestyle"), "German, DMY");
        assert_eq!(client.value("show timezone"), "Asia/Tokyo");
        assert_eq!(client.value("show client_encoding"), "LATIN1");
        assert_eq!(client.value("show application_name"), "of the database");
        assert_eq!(client.parameters["client_encoding"], "LATIN1");
        assert_eq!(client.parameters["application_name"], "of the database");
        // What a client says goes before it, for this client.
        let mut other = pooler.login_with(&[("application_name", "mine"), ("timezone", "UTC")]);
        assert_eq!(other.value("show timezone"), "UTC");
        assert_eq!(other.value("show application_name"), "mine");
        assert_eq!(client.value("show timezone"), "Asia/Tokyo");
        assert_eq!(client.value("show application_name"), "of the database");
    }
}
