//! Texts that go by the names of prepared statements.

use std::slice::from_ref;

use super::messages::*;
use super::phrases::missing;
use super::script::Script;
use crate::flow::Release;

const VIEW: &str = "select name from pg_prepared_statements";

/// Client 0 has prepared `s`, client 1 `t`, both on server 0.
fn with_statements() -> Script {
    Script::new()
        .carrying()
        .prepares("s", "pgweir_1", "select 1")
        .client(1)
        .prepares("t", "pgweir_2", "select 2")
        .client(0)
}

/// What goes ahead of such a text of client 0 then.
fn ahead() -> Bytes {
    let closed = [close("pgweir_1"), close("pgweir_2")];
    [closed.concat(), parse("s", "select 1"), sync()].concat()
}

fn ahead_answered() -> Bytes {
    [closed(), closed(), parsed(), ready('I')].concat()
}

fn listed(script: Script) -> Script {
    let answer = [
        row_description(),
        row("s"),
        complete("SELECT 1"),
        ready('I'),
    ];
    let all = [ahead_answered(), answer.concat()];
    script
        .sends(&[query(VIEW)], &[ahead(), query(VIEW)], &[])
        .gives(&all, &[answer.concat()])
}

#[test]
fn the_view_lists_the_clients_own() {
    listed(with_statements()).free().on_server(1).run();
}

#[test]
fn nothing_is_brought_without_need() {
    for sql in ["select 1", "create temp table t ()", "deallocate x"] {
        with_statements().passes(&[query(sql)]).run();
    }
    for script in [Script::new(), Script::new().carrying().not_following()] {
        script.passes(&[query(VIEW)]).run();
    }
}

/// Alone it is answered by pgweir.
#[test]
fn deallocate_among_other_statements_finds_the_clients_own() {
    let text = query("select 1; deallocate s");
    let answer = [complete("SELECT 1"), complete("DEALLOCATE"), ready('I')];
    with_statements()
        .sends(from_ref(&text), &[ahead(), text.clone()], &[])
        .gives(&[ahead_answered(), answer.concat()], &answer)
        .run_whole();
}

#[test]
fn names_stay_the_clients_as_long_as_it_has_the_server() {
    let answer = [bound(), complete("SELECT 1"), ready('I')];
    listed(with_statements())
        .uses("s", "s")
        .describes("s", &[describe("s"), sync()])
        .answers(&[parameter_description(), row_description(), ready('I')])
        .passes(&[parse("n", "select 1"), bind("", "n"), execute(), sync()])
        .answers(&[parsed(), answer.concat()])
        .on_server(2)
        .runs("prepare p as select 3", "PREPARE")
        // It is PREPARE's.
        .uses("p", "p")
        // Elsewhere it is a shared one again.
        .give(1)
        .uses_anew("n", "pgweir_1", "select 1")
        .run();
}

#[test]
fn what_the_client_closes_is_closed_there() {
    listed(with_statements())
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T')])
        .passes(&[close("s"), sync()])
        .answers(&[closed(), ready('T')])
        .on_server(0)
        .passes(&[parse("s", "select 4"), sync()])
        .answers(&[parsed(), ready('T')])
        .sends(
            &[query("deallocate s")],
            &[close("s"), sync()],
            &[complete("DEALLOCATE"), ready('T')],
        )
        .gives(&[closed(), ready('T')], &[])
        .on_server(0)
        .passes(&[bind("", "s"), execute(), sync()])
        .answers(&[missing("s"), ready('E')])
        .held()
        .run();
}

#[test]
fn a_name_is_taken_by_either_kind() {
    let taken = error("42P05", "prepared statement \"s\" already exists");
    listed(with_statements())
        .passes(&[parse("s", "select 5"), sync()])
        .answers(&[taken.clone(), ready('I')])
        .passes(&[query("prepare s as select 6")])
        .answers(&[taken.clone(), ready('I')])
        .passes(&[parse("p", "select 7"), sync()])
        .answers(&[taken, ready('I')])
        .passes(&[bind("", "s"), execute(), sync()])
        .answers(&[bound(), complete("SELECT 1"), ready('I')])
        .on_server(1)
        .run();
}

#[test]
fn what_cannot_be_parsed_any_more_is_left_out() {
    let gone = error("42P01", "relation \"t\" does not exist");
    let answer = [complete("SELECT 0"), ready('I')];
    with_statements()
        .sends(&[query(VIEW)], &[ahead(), query(VIEW)], &[])
        .gives(&[closed(), closed(), gone.clone(), ready('I')], &[])
        .answers(&answer)
        .on_server(0)
        // Who uses it is told.
        .sends(
            &[bind("", "s"), execute(), sync()],
            &[parse("s", "select 1"), bind("", "s"), execute(), sync()],
            &[],
        )
        .answers(&[gone, ready('I')])
        .run();
}

#[test]
fn a_transaction_survives_what_cannot_be_parsed() {
    let run = |sql: &str| [query(sql)].concat();
    let done = |tag: &str| [complete(tag), ready('T')].concat();
    let execute = "execute s";
    with_statements()
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T')])
        .sends(
            &[query(execute)],
            &[
                close("pgweir_1"),
                close("pgweir_2"),
                run("SAVEPOINT pgweir"),
                parse("s", "select 1"),
                sync(),
                run("ROLLBACK TO SAVEPOINT pgweir"),
                run("RELEASE SAVEPOINT pgweir"),
                query(execute),
            ],
            &[],
        )
        .gives(
            &[
                closed(),
                closed(),
                done("SAVEPOINT"),
                error("42P01", "relation \"t\" does not exist"),
                ready('E'),
                done("ROLLBACK"),
                done("RELEASE"),
            ],
            &[],
        )
        .answers(&[complete("SELECT 1"), ready('T')])
        .passes(&[query("commit")])
        .answers(&[complete("COMMIT"), ready('I')])
        .release(Release::Ready)
        .run();
}

#[test]
fn in_the_middle_of_a_request_they_come_without_a_guard() {
    let request = [parse("", "select 1"), bind("", ""), execute()];
    let text = [parse("", VIEW), bind("", ""), execute(), sync()];
    let brought = [close("pgweir_1"), close("pgweir_2"), parse("s", "select 1")];
    let script =
        with_statements()
            .passes(&request)
            .sends(&text, &[brought.concat(), text.concat()], &[]);
    let failed = error("22012", "division by zero");
    let before = [parsed(), bound(), failed];
    // The server has skipped it all.
    let script = script.answers(&[before.concat(), ready('I')]).on_server(2);
    let again = [
        close("pgweir_2"),
        close("pgweir_1"),
        parse("s", "select 1"),
        sync(),
    ];
    script
        .sends(&[query(VIEW)], &[again.concat(), query(VIEW)], &[])
        .gives(
            &[ahead_answered(), complete("SELECT 1")],
            &[complete("SELECT 1")],
        )
        .run();
}

#[test]
fn a_pipelined_text_waits_for_the_answers_before_it() {
    let answer = [complete("SELECT 1"), ready('I')];
    with_statements()
        .sends(&[query("select 1"), query(VIEW)], &[query("select 1")], &[])
        .answers(&answer)
        // It is free in between.
        .sends(&[], &[ahead(), query(VIEW)], &[])
        .gives(&[ahead_answered(), answer.concat()], &answer)
        .run_whole();
}

#[test]
fn all_are_forgotten_together() {
    listed(with_statements())
        .runs("deallocate all", "DEALLOCATE ALL")
        .on_server(0)
        .binds("s", &[bind("", "pgweir_missing"), sync()])
        .misses("s")
        // The other client still has its own.
        .client(1)
        .uses_anew("t", "pgweir_2", "select 2")
        .run();
}
