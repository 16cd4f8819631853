//! `pgweir.role`, which is set and shown without a server.

use super::messages::*;
use super::script::Script;
use crate::config::PoolMode;
use crate::wire::build::Refusal;
use crate::wire::frame::put_header;

const SET: &str = "set pgweir.role = 'primary'";
const SHOW: &str = "show pgweir.role";
const WRONG: &str = "set pgweir.role to master";

/// RowDescription as PostgreSQL builds it for SHOW.
fn column(format: u8) -> Bytes {
    let mut body = b"\0\x01pgweir.role\0".to_vec();
    body.extend([0; 6]);
    body.extend(25_u32.to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend((-1_i32).to_be_bytes());
    body.extend([0, format]);
    framed(b'T', &body)
}

fn framed(tag: u8, body: &[u8]) -> Bytes {
    let mut out = Vec::new();
    put_header(&mut out, tag, body.len());
    out.extend_from_slice(body);
    out
}

fn shown(value: &str) -> [Bytes; 3] {
    [column(0), row(value), complete("SHOW")]
}

/// A Bind without parameters, all results in one format.
fn bind_plain(portal: &str, statement: &str, format: u8) -> Bytes {
    let names = [portal.as_bytes(), b"\0", statement.as_bytes(), b"\0"].concat();
    framed(b'B', &[&names, &[0, 0, 0, 0, 0, 1, 0, format][..]].concat())
}

/// Parse, Bind, Describe, Execute as libpq sends them.
fn run(text: &str) -> Bytes {
    [
        parse("", text),
        bind_plain("", "", 0),
        describe_portal(""),
        execute(),
    ]
    .concat()
}

fn refusal() -> Bytes {
    let mut out = Vec::new();
    Refusal::error(
        "22023",
        "invalid value for parameter \"pgweir.role\": \"master\"",
    )
    .hint("Available values: replica, primary, any, default.")
    .encode(&mut out);
    out
}

/// No server is given: what is sent must be answered without one.
fn alone() -> Script {
    Script::new().give(usize::MAX)
}

#[test]
fn without_a_transaction_no_server_is_needed() {
    let done = |tag| [complete(tag), ready('I')];
    alone()
        .sends(
            &[query(SHOW)],
            &[],
            &[shown("default").concat(), ready('I')],
        )
        .sends(&[query(SET)], &[], &done("SET"))
        .sends(
            &[query(SHOW)],
            &[],
            &[shown("primary").concat(), ready('I')],
        )
        .sends(
            &[query("SET SESSION pgweir.role TO ANY;")],
            &[],
            &done("SET"),
        )
        .sends(&[query(SHOW)], &[], &[shown("any").concat(), ready('I')])
        .sends(&[query(WRONG)], &[], &[refusal(), ready('I')])
        .sends(&[query(SHOW)], &[], &[shown("any").concat(), ready('I')])
        .sends(&[query("set pgweir.role = replica")], &[], &done("SET"))
        .sends(
            &[query(SHOW)],
            &[],
            &[shown("replica").concat(), ready('I')],
        )
        .sends(&[query("reset pgweir.role")], &[], &done("RESET"))
        .sends(
            &[query(SHOW)],
            &[],
            &[shown("default").concat(), ready('I')],
        )
        .run();
}

#[test]
fn the_extended_protocol_needs_none_either() {
    let set = [parsed(), bound(), no_data(), complete("SET")];
    let show = |value: &str| [parsed(), bound(), shown(value).concat()].concat();
    alone()
        .sends(&[run(SET), sync()], &[], &[set.concat(), ready('I')])
        .sends(&[run(SHOW), sync()], &[], &[show("primary"), ready('I')])
        // Prepared first, in a request of its own and without Sync.
        .sends(
            &[parse("s", SHOW), describe("s"), flush()],
            &[],
            &[parsed(), parameter_description(), column(0)],
        )
        .sends(
            &[
                bind_plain("p", "s", 1),
                describe_portal("p"),
                execute_portal("p"),
                sync(),
            ],
            &[],
            &[
                bound(),
                column(1),
                row("primary"),
                complete("SHOW"),
                ready('I'),
            ],
        )
        // Portals end with their transaction, statements do not.
        .sends(
            &[bind_plain("", "s", 0), execute(), sync()],
            &[],
            &[bound(), row("primary"), complete("SHOW"), ready('I')],
        )
        .sends(
            &[run("reset pgweir.role"), sync()],
            &[],
            &[parsed(), bound(), no_data(), complete("RESET"), ready('I')],
        )
        .sends(
            &[bind_plain("", "s", 0), execute_portal(""), sync()],
            &[],
            &[bound(), row("default"), complete("SHOW"), ready('I')],
        )
        // What follows an error is skipped.
        .sends(
            &[run(WRONG), run(SET), sync()],
            &[],
            &[parsed(), bound(), no_data(), refusal(), ready('I')],
        )
        .sends(&[run(SHOW), sync()], &[], &[show("default"), ready('I')])
        .sends(&[close("s"), sync()], &[], &[closed(), ready('I')])
        .run();
}

#[test]
fn a_limit_of_rows_is_kept() {
    let limited = |rows| framed(b'E', &[0, 0, 0, 0, rows]);
    alone()
        .sends(
            &[parse("", SHOW), bind_plain("", "", 0), limited(1), sync()],
            &[],
            &[parsed(), bound(), row("default"), suspended(), ready('I')],
        )
        .sends(
            &[parse("", SHOW), bind_plain("", "", 0), limited(2), sync()],
            &[],
            &[
                parsed(),
                bound(),
                row("default"),
                complete("SHOW"),
                ready('I'),
            ],
        )
        .run();
}

#[test]
fn within_a_transaction_the_server_knows_nothing_of_it() {
    Script::new()
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T')])
        .sends(&[query(SET)], &[], &[complete("SET"), ready('T')])
        .sends(
            &[query(SHOW)],
            &[],
            &[shown("primary").concat(), ready('T')],
        )
        .sends(
            &[run(SHOW)],
            &[],
            &[parsed(), bound(), shown("primary").concat()],
        )
        .passes(&[sync()])
        .answers(&[ready('T')])
        .held()
        .passes(&[query("commit")])
        .answers(&[complete("COMMIT"), ready('I')])
        .free()
        .sends(
            &[query(SHOW)],
            &[],
            &[shown("primary").concat(), ready('I')],
        )
        .run();
}

#[test]
fn an_error_fails_the_transaction_on_the_server() {
    let no_portal = || error("34000", "portal \"pgweir_missing\" does not exist");
    let aborted = error("25P02", "current transaction is aborted");
    Script::new()
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T')])
        .sends(
            &[query(WRONG)],
            &[execute_portal("pgweir_missing"), sync()],
            &[],
        )
        .gives(&[no_portal(), ready('E')], &[refusal(), ready('E')])
        // Now the server says what it has to say.
        .passes(&[query(SET)])
        .answers(&[aborted.clone(), ready('E')])
        .passes(&[query("rollback")])
        .answers(&[complete("ROLLBACK"), ready('I')])
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T')])
        .sends(
            &[run(WRONG), run(SET), sync()],
            &[execute_portal("pgweir_missing"), sync()],
            &[parsed(), bound(), no_data()],
        )
        .gives(&[no_portal(), ready('E')], &[refusal(), ready('E')])
        .passes(&[query("rollback")])
        .answers(&[complete("ROLLBACK"), ready('I')])
        .sends(
            &[query(SHOW)],
            &[],
            &[shown("default").concat(), ready('I')],
        )
        .run();
}

#[test]
fn in_a_pipeline_it_waits_for_its_turn() {
    let read = [parse("", "select 1"), bind("", ""), execute()].concat();
    Script::new()
        .sends(
            &[read.clone(), run(SET), sync()],
            &[read.clone(), sync()],
            &[],
        )
        .gives(
            &[parsed(), bound(), complete("SELECT 1"), ready('I')],
            &[
                parsed(),
                bound(),
                complete("SELECT 1"),
                parsed(),
                bound(),
                no_data(),
                complete("SET"),
                ready('I'),
            ],
        )
        .free()
        .sends(
            &[query(SHOW)],
            &[],
            &[shown("primary").concat(), ready('I')],
        )
        // What the server skips has not been done.
        .sends(
            &[read.clone(), run("reset pgweir.role"), sync()],
            &[read.clone(), sync()],
            &[],
        )
        .gives(
            &[error("42601", "syntax error"), ready('I')],
            &[error("42601", "syntax error"), ready('I')],
        )
        .sends(
            &[query(SHOW)],
            &[],
            &[shown("primary").concat(), ready('I')],
        )
        .run();
}

#[test]
fn behind_a_query_it_waits_for_the_answer() {
    let read = [complete("SELECT 1"), ready('I')].concat();
    Script::new()
        .sends(
            &[query("select 1"), query(SET), query(SHOW)],
            &[query("select 1")],
            &[],
        )
        .gives(
            std::slice::from_ref(&read),
            &[
                read.clone(),
                complete("SET"),
                ready('I'),
                shown("primary").concat(),
                ready('I'),
            ],
        )
        .free()
        .run();
}

#[test]
fn what_resets_everything_resets_it() {
    let discard = "select 1; Discard all; select 2";
    Script::new()
        .sends(&[query(SET)], &[], &[complete("SET"), ready('I')])
        .passes(&[query("reset work_mem")])
        .answers(&[complete("RESET"), ready('I')])
        .sends(
            &[query(SHOW)],
            &[],
            &[shown("primary").concat(), ready('I')],
        )
        .passes(&[query(discard)])
        .answers(&[
            complete("SELECT 1"),
            complete("DISCARD ALL"),
            complete("SELECT 1"),
            ready('I'),
        ])
        .sends(
            &[query(SHOW)],
            &[],
            &[shown("default").concat(), ready('I')],
        )
        .run();
}

#[test]
fn what_would_have_no_effect_is_refused() {
    for (sql, message, hint) in [
        (
            "set local pgweir.role = 'any'",
            "pgweir.role cannot be set for a transaction",
            "A transaction stays where it began: set it before, or put /* pgweir: role=primary */ \
             in front of BEGIN READ ONLY.",
        ),
        (
            "set pgweir.role = 'any'; select 1",
            "pgweir.role needs a statement of its own",
            "Send it without other statements in the same query.",
        ),
    ] {
        let mut error = Vec::new();
        Refusal::error("0A000", message)
            .hint(hint)
            .encode(&mut error);
        alone()
            .sends(&[query(sql)], &[], &[error, ready('I')])
            .run();
    }
}

#[test]
fn in_session_mode_and_in_other_texts_it_is_the_servers() {
    Script::new()
        .mode(PoolMode::Session)
        .passes(&[query(SET)])
        .run();
    for text in [
        "set pgweir.rule = 'any'",
        "select 'set pgweir.role = any'",
        "set pgweir.role = 'a', 'b'",
    ] {
        Script::new().passes(&[query(text)]).run();
    }
    // Prepared statements that are not followed.
    Script::new()
        .not_following()
        .passes(&[run(SET), sync()])
        .sends(&[], &[], &[])
        .run();
    // With parameters that it does not have.
    Script::new()
        .sends(&[parse("", SET)], &[], &[parsed()])
        .sends(&[bind("", "")], &[parse("", SET), bind("", "")], &[])
        .run();
}
