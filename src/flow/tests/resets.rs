//! RESET of what the client began with, before its transaction or pipeline is over.

use super::messages::*;
use super::script::Script;
use crate::flow::ServerFault;

/// Where the server has confirmed the reset.
const SET: &str = "SELECT pg_catalog.set_config('timezone', 'Asia/Tokyo', false)";

/// Where it has not, or other things have run since.
const RESTORE: &str = "SELECT pg_catalog.set_config(own.name, value, false) \
    FROM (VALUES ('timezone', 'Asia/Tokyo')) AS own (name, value) \
    LEFT JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = own.name \
    WHERE CASE WHEN own.name LIKE '%.%' \
    THEN COALESCE(pg_catalog.current_setting(own.name, true), '') = '' \
    ELSE pg_catalog.current_setting(own.name, true) IS DISTINCT FROM value \
    AND source <> 'session' END AND (context IS NULL OR context = 'user' \
    OR pg_catalog.current_setting('is_superuser')::bool)";

/// On a connection that has the client's time zone already, and in a transaction.
fn begun() -> Script {
    let set = "SELECT pg_catalog.set_config('TimeZone', 'Asia/Tokyo', false)";
    Script::new()
        .carrying()
        .params(&[("TimeZone", "Asia/Tokyo")], &[("TimeZone", "UTC")])
        .sends(&[query("begin")], &[query(set), query("begin")], &[])
        .gives(&restored('I'), &[])
        .answers(&[complete("BEGIN"), ready('T')])
}

fn restored(state: char) -> [Vec<u8>; 5] {
    [
        row_description(),
        status("TimeZone", "Asia/Tokyo"),
        row("Asia/Tokyo"),
        complete("SELECT 1"),
        ready(state),
    ]
}

fn reset() -> [Vec<u8>; 3] {
    [complete("RESET"), status("TimeZone", "UTC"), ready('T')]
}

#[test]
fn the_clients_value_is_back_before_the_next_request() {
    begun()
        .passes(&[query("reset timezone")])
        .gives(&reset(), &[complete("RESET"), ready('T')])
        .passes_behind(SET, "select 1")
        .gives(&restored('T'), &[])
        .answers(&[complete("SELECT 1"), ready('T')])
        // Once.
        .passes(&[query("select 2")])
        .run();
}

#[test]
fn the_client_is_told_of_its_own_value() {
    let set = query("set timezone = 'Asia/Seoul'");
    let run = [parse("", "reset timezone"), bind("", ""), execute(), sync()];
    begun()
        .passes(&[set])
        .answers(&[
            complete("SET"),
            status("TimeZone", "Asia/Seoul"),
            ready('T'),
        ])
        .passes(&run)
        .gives(
            &[&[parsed(), bound()][..], &reset()].concat(),
            &[
                parsed(),
                bound(),
                complete("RESET"),
                status("TimeZone", "Asia/Tokyo"),
                ready('T'),
            ],
        )
        .session_param("TimeZone", "Asia/Tokyo")
        .run();
}

#[test]
fn each_answer_of_a_pipeline_tells_its_own() {
    let texts = ["set timezone = 'Asia/Seoul'", "reset timezone", "commit"].map(query);
    let [set, reset, commit] = texts.clone();
    begun()
        .sends(&texts, &[set, reset, query(RESTORE), commit], &[])
        .answers(&[
            complete("SET"),
            status("TimeZone", "Asia/Seoul"),
            ready('T'),
        ])
        .gives(
            &[complete("RESET"), status("TimeZone", "UTC"), ready('T')],
            &[
                complete("RESET"),
                status("TimeZone", "Asia/Tokyo"),
                ready('T'),
            ],
        )
        .gives(&restored('T'), &[])
        .answers(&[complete("COMMIT"), ready('I')])
        .run();
}

#[test]
fn a_value_that_is_set_after_the_reset_is_told() {
    begun()
        .passes(&[query("reset timezone; set timezone = 'UTC'")])
        .answers(&[
            complete("RESET"),
            complete("SET"),
            status("TimeZone", "UTC"),
            ready('T'),
        ])
        .passes(&[query("select 1")])
        .run();
}

#[test]
fn in_a_failed_transaction_nothing_is_restored() {
    let no = error("22012", "division by zero");
    let refused = error("25P02", "current transaction is aborted");
    begun()
        .passes(&[query("reset timezone; select 1/0")])
        .answers(&[complete("RESET"), no, ready('E')])
        .passes(&[query("rollback")])
        .answers(&[complete("ROLLBACK"), ready('I')])
        .run();
    let texts = [
        query("select 1/0"),
        query("reset timezone"),
        query("rollback"),
    ];
    let [divide, reset, rollback] = texts.clone();
    begun()
        .sends(&texts, &[divide, reset, query(RESTORE), rollback], &[])
        .answers(&[error("22012", "division by zero"), ready('E')])
        .answers(&[refused.clone(), ready('E')])
        .gives(&[refused, ready('E')], &[])
        .answers(&[complete("ROLLBACK"), ready('I')])
        .run();
}

/// In a pipeline it is committed at once.
#[test]
fn an_error_does_not_take_discard_all_back() {
    let [discard, divide] = ["discard all", "select 1/0"].map(|text| parse("", text));
    let set = "SELECT pg_catalog.set_config('TimeZone', 'Asia/Tokyo', false)";
    let sent = [
        discard,
        bind("", ""),
        execute(),
        divide,
        bind("", ""),
        execute(),
        sync(),
    ];
    Script::new()
        .carrying()
        .params(&[("TimeZone", "Asia/Tokyo")], &[("TimeZone", "UTC")])
        .sends(&sent, &[&[query(set)], &sent[..]].concat(), &[])
        .gives(&restored('I'), &[])
        .answers(&[parsed(), bound(), complete("DISCARD ALL")])
        .gives(
            &[
                parsed(),
                bound(),
                error("22012", "division by zero"),
                status("TimeZone", "UTC"),
                ready('I'),
            ],
            &[
                parsed(),
                bound(),
                error("22012", "division by zero"),
                ready('I'),
            ],
        )
        .run();
}

#[test]
fn a_transaction_that_fails_by_it_is_not_gone_on_with() {
    let no = error("42501", "permission denied");
    begun()
        .passes(&[query("reset timezone")])
        .gives(&reset(), &[complete("RESET"), ready('T')])
        .passes_behind(SET, "commit")
        .fault(
            &[no, ready('E')],
            ServerFault::Parameters("permission denied (SQLSTATE 42501)".into()),
        )
        .run();
}

#[test]
fn another_role_makes_no_difference() {
    begun()
        .passes(&[query("set role bob")])
        .answers(&[complete("SET"), ready('T')])
        .passes(&[query("reset timezone")])
        .gives(&reset(), &[complete("RESET"), ready('T')])
        .passes_behind(RESTORE, "select 1")
        .run();
}

#[test]
fn who_has_the_servers_defaults_pays_nothing() {
    Script::new()
        .carrying()
        .params(&[("TimeZone", "UTC")], &[("TimeZone", "UTC")])
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T')])
        .passes(&[query("reset all")])
        .answers(&[complete("RESET"), ready('T')])
        .passes(&[query("select 1")])
        .run();
}

#[test]
fn a_reset_that_was_bound_may_not_have_run() {
    let bind_only = [parse("", "reset timezone"), bind("", ""), sync()];
    begun()
        .passes(&bind_only)
        .answers(&[parsed(), bound(), ready('T')])
        .passes_behind(RESTORE, "select 1")
        .run();
}

#[test]
fn what_was_set_since_the_reset_stays() {
    begun()
        .passes(&[query("reset timezone; set timezone = 'UTC'; select 1")])
        .answers(&[
            complete("RESET"),
            complete("SET"),
            complete("SELECT 1"),
            ready('T'),
        ])
        .passes(&[query("select 2")])
        .run();
    let local = query("reset timezone; set local timezone = 'UTC'");
    begun()
        .passes(&[local])
        .answers(&[complete("RESET"), complete("SET"), ready('T')])
        .passes_behind(RESTORE, "select 2")
        .run();
}
