//! What a client began with is what its settings go back to: message by message
//! as on a direct connection, where the startup packet says what the defaults are.

use crate::support::{Address, Cluster, Frontend, Message, Pooler, RawClient, Setup};

const STARTUP: [(&str, &str); 4] = [
    ("user", "app"),
    ("TimeZone", "America/Los_Angeles"),
    ("application_name", "mine"),
    (
        "options",
        "-c work_mem=5MB -c app.a=1 -c search_path=mine,public",
    ),
];

fn start() -> Pooler {
    let setup = Setup::new().one_worker().pool_size(2).pinning();
    // One client has left, and its place may not be free yet when the next one comes.
    setup.set("max_pinned_connections", 2).start()
}

/// What is sent at once, and whether each text by the extended protocol.
struct Burst<'a> {
    texts: &'a [&'a str],
    extended: bool,
}

impl Burst<'_> {
    fn exchange(&self, client: &mut RawClient) -> Vec<Message> {
        let messages = self.texts.iter().fold(Frontend::new(), |all, text| {
            if self.extended {
                all.run(text, &[]).sync()
            } else {
                all.query(text)
            }
        });
        client.send(&messages);
        let answers = self.texts.iter().flat_map(|_| client.read_until(b'Z'));
        answers.collect()
    }
}

/// Plays bursts with a direct connection and with one through the pool, where
/// somebody else uses the server connections in between.
#[track_caller]
fn same(pooler: &Pooler, script: &[&[&str]]) {
    let mut startup = STARTUP.to_vec();
    startup.push(("database", &pooler.database));
    let login = |address: &Address| RawClient::try_login_with(address, &startup, None).unwrap();
    for extended in [false, true] {
        let mut direct = login(&pooler.server_address());
        let mut pooled = login(&pooler.address);
        let mut other = pooler.login();
        for texts in script {
            if extended && texts.iter().any(|text| text.contains(';')) {
                break;
            }
            let burst = Burst { texts, extended };
            let shown = |messages: Vec<Message>| -> Vec<String> {
                let shown = messages
                    .iter()
                    .map(|m| format!("{} {}", m.tag as char, m.text()));
                shown.collect()
            };
            let expected = shown(burst.exchange(&mut direct));
            let seen = shown(burst.exchange(&mut pooled));
            assert_eq!(seen, expected, "{texts:?} of {script:?}, {extended}");
            other.query("select 1");
        }
        assert_eq!(pooled.parameters, direct.parameters, "{script:?}");
    }
}

const SHOW: &[&str] = &[
    "select current_setting('timezone'), current_setting('work_mem'), \
     current_setting('app.a'), current_setting('search_path'), \
     current_setting('application_name')",
];

#[test]
fn a_reset_inside_a_transaction_goes_back_to_the_startup_value() {
    let pooler = start();
    for reset in [
        "reset timezone",
        "set timezone to default",
        "set time zone local",
        "reset work_mem",
        "reset app.a",
        "reset search_path",
        "set application_name to default",
        "reset all",
    ] {
        same(&pooler, &[&["begin"], &[reset], SHOW, &["commit"], SHOW]);
        same(&pooler, &[&["begin"], &[reset], SHOW, &["rollback"], SHOW]);
        for set in [
            "set local timezone = 'Asia/Tokyo'",
            "set timezone = 'Asia/Tokyo'",
            "set work_mem = '7MB'",
            "set local app.a = 'x'",
            "set search_path = other",
            "set application_name = 'another'",
            // The server's own.
            "set timezone = 'Etc/UTC'",
        ] {
            same(
                &pooler,
                &[&["begin"], &[set], &[reset], SHOW, &["commit"], SHOW],
            );
            same(
                &pooler,
                &[&["begin"], &[set], &[reset], SHOW, &["rollback"], SHOW],
            );
            same(
                &pooler,
                &[&[set], &["begin"], &[reset], &["rollback"], SHOW],
            );
            same(&pooler, &[&[set], SHOW, &[reset], SHOW]);
        }
    }
}

#[test]
fn what_follows_in_a_pipeline_finds_the_startup_value() {
    let pooler = start();
    for reset in ["reset timezone", "reset all", "discard all", "reset app.a"] {
        same(&pooler, &[&[reset, SHOW[0]], SHOW]);
        same(
            &pooler,
            &[&["set timezone = 'Asia/Tokyo'", reset, SHOW[0]], SHOW],
        );
        same(
            &pooler,
            &[
                &["set app.a = 'x'"],
                &[reset, SHOW[0], "set work_mem = '3MB'"],
                SHOW,
            ],
        );
    }
    same(
        &pooler,
        &[&[
            "begin",
            "set local timezone = 'Asia/Tokyo'",
            "reset timezone",
            SHOW[0],
            "commit",
        ]],
    );
}

#[test]
fn what_takes_a_reset_back_takes_it_back() {
    let pooler = start();
    same(
        &pooler,
        &[
            &["begin"],
            &["set timezone = 'Asia/Tokyo'"],
            &["savepoint a"],
            &["reset timezone"],
            SHOW,
            &["rollback to a"],
            SHOW,
            &["commit"],
            SHOW,
        ],
    );
    same(
        &pooler,
        &[
            &["set timezone = 'Asia/Tokyo'"],
            &["begin; reset timezone; rollback"],
            SHOW,
            &["begin; reset timezone"],
            SHOW,
            &["rollback"],
            SHOW,
            &["begin; savepoint a; reset all; rollback to a"],
            SHOW,
            &["commit"],
            SHOW,
        ],
    );
    // What fails.
    same(
        &pooler,
        &[
            &["set timezone = 'Asia/Tokyo'"],
            &["begin"],
            &["reset timezone; select 1/0"],
            &["show timezone"],
            &["rollback"],
            SHOW,
            &["reset all; select 1/0"],
            SHOW,
        ],
    );
}

#[test]
fn what_is_set_after_a_reset_counts() {
    let pooler = start();
    for text in [
        "reset timezone; set timezone = 'Etc/UTC'",
        "reset all; set app.a = 'x'; set timezone = 'Asia/Tokyo'",
        "set timezone = 'Asia/Tokyo'; reset all",
    ] {
        same(&pooler, &[&[text], SHOW]);
        same(&pooler, &[&["begin"], &[text], SHOW, &["commit"], SHOW]);
    }
}

#[test]
fn a_copy_is_not_disturbed() {
    let pooler = start();
    let startup = [("TimeZone", "America/Los_Angeles")];
    let mut client = pooler.login_with(&startup);
    client.query("create temp table t (a text)");
    client.query("begin");
    let copy = "reset timezone; copy t from stdin";
    client.send(&Frontend::new().query(copy).copy_data(b"a\n").copy_done());
    assert_eq!(client.answer().status(), 'T');
    assert_eq!(client.value("show timezone"), "America/Los_Angeles");
    assert_eq!(client.value("select count(*) from t"), "1");
}

#[test]
fn a_client_that_stays_on_its_connection_begins_anew_as_well() {
    let pooler = start();
    let pin: &[&str] = &["create temp table t0 (a int)"];
    for text in [
        "reset all; notify ch; deallocate all",
        "deallocate all; reset all",
        "reset all",
    ] {
        same(&pooler, &[pin, &[text], SHOW]);
    }
    same(
        &pooler,
        &[pin, &["reset all", "notify ch", "deallocate all"], SHOW],
    );
    same(
        &pooler,
        &[
            &["listen ch"],
            pin,
            &["reset all", "notify x", "deallocate all"],
            SHOW,
        ],
    );
}

#[test]
fn the_name_of_an_own_setting_is_not_forgotten() {
    let pooler = start();
    let value: &[&str] = &["select current_setting('app.fresh')"];
    for forget in ["reset all", "reset app.fresh", "discard all"] {
        same(
            &pooler,
            &[&["set app.fresh = 'x'"], value, &[forget], value],
        );
    }
    same(&pooler, &[&["set app.fresh = ''"], value]);
    same(
        &pooler,
        &[&["select set_config('app.fresh', '', false)"], value],
    );
}

#[test]
fn discard_all_gives_up_the_role_and_reset_all_does_not() {
    let pooler = start();
    let role: &[&str] = &["show role"];
    for end in ["discard all", "reset all", "reset role"] {
        same(&pooler, &[&["set role app"], role, &[end], role, SHOW]);
    }
}

#[test]
fn another_role_has_the_startup_value_as_well() {
    let pooler = start();
    let role: &[&str] = &["set role app"];
    for reset in ["reset timezone", "reset all"] {
        same(
            &pooler,
            &[role, &["begin"], &[reset], SHOW, &["commit"], SHOW],
        );
    }
    same(
        &pooler,
        &[role, &["begin"], &["commit", "discard all"], SHOW],
    );
    same(
        &pooler,
        &[&["begin", "set local role app", "reset all", SHOW[0]]],
    );
}

#[test]
fn what_another_role_may_not_set_is_left_alone() {
    let cluster = Cluster::fresh();
    cluster.admin("postgres").query("alter role app superuser");
    let pooler = Setup::with(&cluster).set("session_features", "pin").start();
    let startup = [("options", "-c log_min_messages=panic -c work_mem=5MB")];
    let mut client = pooler.login_with(&startup);
    client.query("begin; set role app2; reset all");
    assert_eq!(client.value("show work_mem"), "5MB");
    client.query("commit; reset role");
    assert_eq!(client.value("show log_min_messages"), "panic");
}

#[test]
fn what_is_set_to_the_servers_default_is_not_lost() {
    let pooler = start();
    let hidden: &[&str] = &["do 'begin perform 1; end'"];
    let set: &[&str] = &["set timezone = 'Etc/UTC'"];
    same(&pooler, &[set, &["select 1"], hidden, SHOW]);
    same(
        &pooler,
        &[
            set,
            &["select 1"],
            &["select set_config('app.' || 'a', 'x', false)"],
            SHOW,
        ],
    );
    same(
        &pooler,
        &[set, &["begin"], &["reset all"], &["rollback"], SHOW],
    );
}

#[test]
fn what_was_rolled_back_is_not_carried() {
    let pooler = start();
    let (mut client, mut other) = (pooler.login(), pooler.login());
    let source = "select source from pg_settings where name = 'maintenance_work_mem'";
    let before = client.value(source);
    for end in ["rollback", "savepoint b; rollback to a; commit"] {
        client.query("begin; savepoint a");
        client.query("set maintenance_work_mem = '7MB'");
        client.query(end);
        // The connection that has it no more is not the next.
        other.query("begin");
        assert_eq!(client.value(source), before, "{end}");
        other.query("commit");
    }
}
