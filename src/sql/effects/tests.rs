use super::*;
use crate::sql::tokens::Tokens;

/// Without the values.
fn of(text: &str) -> Effects {
    let effects = Effects::of(text.as_bytes(), Dialect::default());
    let mut effects = effects.map(|effects| *effects).unwrap_or_default();
    for set in &mut effects.sets {
        set.literal = None;
    }
    effects
}

fn leaves(features: Features) -> Effects {
    Effects {
        leaves: features,
        ..Effects::default()
    }
}

fn sets(names: &[&str]) -> Effects {
    Effects {
        sets: names
            .iter()
            .map(|name| Assignment {
                name: name.as_bytes().into(),
                literal: None,
            })
            .collect(),
        ..Effects::default()
    }
}

fn resets(names: &[&str]) -> Effects {
    Effects {
        resets: names.iter().map(|name| name.as_bytes().into()).collect(),
        ..Effects::default()
    }
}

#[test]
fn most_texts_leave_nothing() {
    for text in [
        "",
        ";",
        "select 1",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
        "UPDATE t SET temp = 1, setting = 2 WHERE hold_ = 3",
        "insert into drop_ values (1) returning id",
        "-- set\nselect 1",
        "/* reset; */ select 1",
        "begin",
        "commit; begin",
        "select 'x' -- set a = 1",
        "select * from t for update",
        "with do as (select 1) select * from do",
    ] {
        assert_eq!(of(text), Effects::default(), "{text}");
    }
    // They only look so.
    for text in [
        "select temp from readings",
        "select 'nextval'",
        "alter table t add x int",
        "set local work_mem = '1MB'",
        "SET TRANSACTION READ ONLY",
        "set constraints all deferred",
        "select pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(2)",
        "select set_config('a.b', $1, TRUE)",
        "prepare transaction 'x'",
        "select setting from pg_settings",
        "select currval from t",
        "select * from pg_stat_activity where pid <> pg_backend_pid()",
        "alter user mapping for bob server s options (set x 'y')",
    ] {
        assert_eq!(of(text), Effects::default(), "{text}");
    }
}

#[test]
fn settings() {
    for (text, expected) in [
        ("set work_mem = '1MB'", sets(&["work_mem"])),
        ("/* a */ SET Work_Mem TO 5", sets(&["work_mem"])),
        ("-- a\n set session \"My\".Own = 'x'", sets(&["my.own"])),
        ("set search_path to a, b, \"C\"", sets(&["search_path"])),
        ("SET TIME ZONE 'UTC'", sets(&["timezone"])),
        (
            "set time zone interval '1' hour to minute",
            sets(&["timezone"]),
        ),
        ("set time zone local", resets(&["timezone"])),
        ("set timezone to default", resets(&["timezone"])),
        ("set names 'LATIN1'", sets(&["client_encoding"])),
        ("set schema 'a'", sets(&["search_path"])),
        ("set role bob", sets(&["role"])),
        ("set session role to 'bob'", sets(&["role"])),
        ("set role none", sets(&["role"])),
        ("set xml option document", sets(&["xmloption"])),
        ("set a from current", sets(&["a"])),
        (
            "set session characteristics as transaction read only",
            sets(&[
                "default_transaction_isolation",
                "default_transaction_read_only",
                "default_transaction_deferrable",
            ]),
        ),
        ("reset work_mem", resets(&["work_mem"])),
        ("RESET TIME ZONE", resets(&["timezone"])),
        ("reset a.b", resets(&["a.b"])),
        ("select set_config('A.b', 'x', false)", sets(&["a.b"])),
        (
            "select pg_catalog.set_config('a', f(1, (2)), FALSE), 2",
            sets(&["a"]),
        ),
        ("select \"set_config\"('a', $1, $2)", sets(&["a"])),
        (
            "select current_setting('jit') as cur,\n set_config('jit', 'off', false) as new",
            sets(&["jit"]),
        ),
        ("\n select\n set_config('jit', $1, false)\n", sets(&["jit"])),
        (
            "select set_limit(0.5)",
            sets(&["pg_trgm.similarity_threshold"]),
        ),
        (
            "select set_config($1, $2, false)",
            leaves(Features::SETTING),
        ),
        (
            "select set_config('a' || b, c, not true)",
            leaves(Features::SETTING),
        ),
        ("select set_config($1, $2, true)", Effects::default()),
        (
            "update pg_settings set setting = 'x' where name = 'y'",
            leaves(Features::SETTING),
        ),
        ("set a = 1; select 2; set b = 3", sets(&["a", "b"])),
    ] {
        assert_eq!(of(text), expected, "{text}");
    }
    for text in [
        "reset all",
        "RESET ALL;",
        "select 1; /* x */ reset all",
        "set a = 1; reset b; reset all",
    ] {
        let expected = Effects {
            resets_all: true,
            ..Effects::default()
        };
        assert_eq!(of(text), expected, "{text}");
    }
}

#[test]
fn the_last_word_about_a_setting_counts() {
    assert_eq!(of("reset a; set a = 1"), sets(&["a"]));
    assert_eq!(of("set a = 1; set a to default"), resets(&["a"]));
    let all = of("set a = 1; set role bob; reset all; set b = 1");
    assert_eq!(
        (all.sets, all.resets_all),
        (sets(&["role", "b"]).sets, true)
    );
    for (text, unsettled) in [
        ("begin; reset a; commit", false),
        ("begin; rollback; reset a", false),
        ("reset a; rollback to b", true),
        ("reset a; set local a = 1", true),
        ("reset all; select set_config('a', 'b', true)", true),
    ] {
        assert_eq!(of(text).unsettled, unsettled, "{text}");
    }
}

#[test]
fn a_name_is_read_in_every_dialect() {
    for standard_conforming_strings in [true, false] {
        let dialect = Dialect {
            standard_conforming_strings,
            ..Dialect::default()
        };
        let of = |text: &str| *Effects::of(text.as_bytes(), dialect).unwrap();
        assert_eq!(of("select set_config('jit', $1, false)"), sets(&["jit"]));
        let unknown = leaves(Features::SETTING);
        assert_eq!(of("select set_config('j\\it', $1, false)"), unknown);
        assert_eq!(of("select set_config(E'jit', $1, false)"), unknown);
    }
}

#[test]
fn everything_else_that_stays() {
    for (text, feature) in [
        ("create temp table t (a int)", Features::TEMPORARY),
        (
            "CREATE OR REPLACE LOCAL TEMPORARY VIEW v AS SELECT 1",
            Features::TEMPORARY,
        ),
        ("select * into temp t from u", Features::TEMPORARY),
        ("select 1 into local temporary table t", Features::TEMPORARY),
        ("create type pg_temp.f as (a int)", Features::TEMPORARY),
        ("insert into pg_temp_3.t values (1)", Features::TEMPORARY),
        ("declare c cursor with hold for select 1", Features::CURSOR),
        ("select pg_advisory_lock(1)", Features::ADVISORY_LOCK),
        (
            "select pg_catalog.pg_try_advisory_lock_shared (1, 2)",
            Features::ADVISORY_LOCK,
        ),
        ("listen a", Features::LISTEN),
        ("load 'auto_explain'", Features::LIBRARY),
        ("select dblink_connect('a', 'dbname=b')", Features::LIBRARY),
        ("select x.dblink_connect_u('b')", Features::LIBRARY),
        ("select currval('s')", Features::SEQUENCE),
        ("select LASTVAL()", Features::SEQUENCE),
        ("select setseed(0.5)", Features::SEED),
        ("set seed to 0.5", Features::SEED),
        ("select pg_backend_pid()", Features::BACKEND_PID),
    ] {
        assert_eq!(of(text), leaves(feature), "{text}");
    }
    let authorization = Effects {
        leaves: Features::AUTHORIZATION,
        ..resets(&["role"])
    };
    assert_eq!(of("set session authorization bob"), authorization);
}

#[test]
fn statements_by_their_names() {
    for (text, leaves) in [
        ("prepare p as select 1", Features::PREPARE),
        ("execute p(1)", Features::PREPARE),
        ("explain analyze execute p", Features::PREPARE),
        ("create table t as execute p", Features::PREPARE),
        ("select name from pg_prepared_statements", Features::empty()),
        (
            "select 1 from \"pg_catalog\".\"pg_prepared_statements\"",
            Features::empty(),
        ),
        ("select * from PG_PREPARED_STATEMENT()", Features::empty()),
    ] {
        let expected = Effects {
            names_statements: true,
            ..self::leaves(leaves)
        };
        assert_eq!(of(text), expected, "{text}");
    }
    assert!(of("do 'begin perform from pg_prepared_statements; end'").names_statements);
    for text in [
        "execute 'deallocate all'",
        "execute 'Prepare p as select 1'",
        "EXECUTE 'execute p'",
    ] {
        assert!(
            of(&format!("do $$ begin {text}; end $$")).names_statements,
            "{text}"
        );
    }
    for text in [
        "select 1; deallocate p",
        "deallocate p; deallocate prepare q",
    ] {
        assert!(of(text).names_statements, "{text}");
    }
    assert!(!of("do $$ begin execute 'select 1'; end $$").names_statements);
    for text in [
        "grant execute on function f to bob",
        "create trigger t before insert on u execute function f()",
        "deallocate p",
        " ; DEALLOCATE PREPARE p; ",
        "deallocate all; select 1",
        "do 'begin end'",
    ] {
        assert!(!of(text).names_statements, "{text}");
    }
}

#[test]
fn what_may_take_something_back() {
    for text in [
        "drop table t",
        "deallocate p",
        "close c",
        "unlisten *",
        "discard temp",
        "select pg_advisory_unlock_all()",
    ] {
        let effects = of(text);
        assert!(effects.releases, "{text}");
        assert!(effects.leaves.is_empty() && !effects.resets_all, "{text}");
    }
    let reset = of("SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;");
    assert!(reset.releases && reset.resets_all && !reset.transaction);
    assert!(of("discard all").resets_all);
    assert!(of("begin; reset all").transaction);
}

#[test]
fn what_nobody_can_tell() {
    for text in [
        "do $$ begin perform set_config('a', 'b', false); end $$",
        "call p()",
        "set 'a' = 1",
        "select set_config('a",
        "select U&\"\\0073et_config\"('a', 'b', false)",
        "/* /* */ */ call p()",
    ] {
        assert!(of(text).opaque, "{text}");
    }
}

#[test]
fn defaults_of_new_sessions() {
    for text in [
        "alter role bob set work_mem = '1MB'",
        "ALTER USER bob IN DATABASE d RESET ALL",
        "alter database d set timezone = 'UTC'",
    ] {
        assert!(of(text).alters_defaults, "{text}");
    }
    assert!(!of("alter role bob login").alters_defaults);
}

#[test]
fn code_that_others_run() {
    for text in [
        "create function f() returns void language sql as 'select set_config(a, b, c)'",
        "create function f() returns int language plpgsql as $$ begin EXECUTE $1; end $$",
        "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT pg_advisory_lock(1); END",
        "create or replace view v as select setseed(1)",
    ] {
        assert!(of(text).alters_code, "{text}");
    }
    // They do if what they use does.
    for text in [
        "create function f() returns int language sql as 'select offset_of(1)'",
        "create constraint trigger t after insert on u execute function f()",
        "create event trigger t on sql_drop execute function f()",
        "create or replace view v as select f()",
    ] {
        let effects = of(text);
        assert!(effects.makes_code && !effects.alters_code, "{text}");
    }
    let effects = of("create table function_ (a int)");
    assert!(!effects.makes_code && !effects.alters_code);
}

#[test]
fn databases_in_which_nobody_may_be() {
    for text in [
        "drop database if exists d",
        "CREATE DATABASE d OWNER bob TEMPLATE t",
        "alter database d rename to e",
        "alter database d set tablespace fast",
    ] {
        assert!(of(text).needs_empty_database, "{text}");
    }
    for text in [
        "create database d",
        "drop table template",
        "alter role bob rename to rob",
    ] {
        assert!(!of(text).needs_empty_database, "{text}");
    }
}

#[test]
fn every_feature_has_a_label() {
    let mut labels: Vec<_> = Features::all().iter().map(Features::label).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), Features::all().iter().count());
    assert!(!labels.contains(&"several"));
}

#[test]
fn a_glance_finds_every_word() {
    for word in [
        "temp",
        "temporary",
        "setval",
        "setseed",
        "set_config",
        "execute",
        "nextval",
        "currval",
        "lastval",
        "pg_temp",
        "pg_temp_3",
        "pg_backend_pid",
        "pg_settings",
        "pg_advisory_lock",
        "pg_try_advisory_lock",
    ] {
        let upper = word.to_uppercase();
        // Wherever the windows of the search fall.
        for before in [
            "",
            "(",
            "a.b,",
            "select 1 + ",
            "sel/",
            "__ ",
            "temp_ ",
            "==",
        ] {
            // No statement begins with it.
            if before.is_empty() && word.starts_with("temp") {
                continue;
            }
            for after in ["", ")", " x", "\0", "('a')"] {
                for word in [word, &upper] {
                    let text = format!("{before}{word}{after}");
                    assert!(may_matter(text.as_bytes()), "{text}");
                }
            }
        }
        for text in [
            format!("a{word}"),
            format!("x, {word}x"),
            format!("{word}9"),
        ] {
            let is_front = word.starts_with("pg_temp") || word.contains("advisory");
            assert!(!may_matter(text.as_bytes()) || is_front, "{text}");
        }
    }
}

#[test]
fn a_glance_finds_every_first_word() {
    for word in [
        "do",
        "set",
        "call",
        "load",
        "drop",
        "reset",
        "close",
        "alter",
        "listen",
        "create",
        "discard",
        "prepare",
        "declare",
        "unlisten",
        "deallocate",
        "SET",
        "Reset",
    ] {
        for before in [
            "",
            "  \n",
            "--x\n",
            "/* a; */ ",
            "select 1;",
            "select ';--' ; ",
            ";;",
            "(",
            "select 1; -- set\n/**/",
            "select 1 /* ; */; ",
        ] {
            for after in ["", " x", ";", "\0", "(1)", "\tx = 1; select 2"] {
                let text = format!("{before}{word}{after}");
                assert!(may_matter(text.as_bytes()), "{text}");
            }
        }
        for text in [
            format!("select {word}"),
            format!("a{word}; x"),
            format!("{word}_"),
        ] {
            assert!(!may_matter(text.as_bytes()), "{text}");
        }
    }
}

/// It is asked in sessions that have `standard_conforming_strings = off`, too.
#[test]
fn the_question_for_suspects_is_the_same_whatever_strings_conform_to() {
    let mut tokens = Tokens::new(SUSPECTS.as_bytes(), Dialect::default());
    let mut escaped = 0;
    while let Some(token) = tokens.advance() {
        if token.is_string() && token.text.contains(&b'\\') {
            let text = String::from_utf8_lossy(token.text);
            assert!(text.starts_with('E'), "{text}");
            escaped += 1;
        }
    }
    assert!(escaped > 3, "{escaped}");
}
