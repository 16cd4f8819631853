//! Prepared statements of clients, carried over server connections.

use super::messages::*;
use super::script::Script;
use crate::flow::Release;

/// The client prepares `name`, on a server that lacks the statement.
pub fn prepared(script: Script, name: &str, on_server: &str, sql: &str) -> Script {
    script
        .sends(
            &[parse(name, sql), sync()],
            &[parse(on_server, sql), sync()],
            &[],
        )
        .answers(&[parsed(), ready('I')])
        .free()
}

pub fn used(script: Script, name: &str, on_server: &str) -> Script {
    script
        .sends(
            &[bind("", name), execute(), sync()],
            &[bind("", on_server), execute(), sync()],
            &[],
        )
        .answers(&[bound(), complete("SELECT 1"), ready('I')])
        .free()
}

pub fn missing(name: &str) -> Vec<u8> {
    error(
        "26000",
        &format!("prepared statement \"{name}\" does not exist"),
    )
}

fn taken(name: &str) -> Vec<u8> {
    error(
        "42P05",
        &format!("prepared statement \"{name}\" already exists"),
    )
}

#[test]
fn a_name_follows_its_client_to_other_servers() {
    let script = prepared(Script::new(), "s", "pgweir_1", "select 1");
    let script = used(script, "s", "pgweir_1").give(1);
    let script = script
        .sends(
            &[bind("", "s"), execute(), sync()],
            &[
                parse("pgweir_1", "select 1"),
                bind("", "pgweir_1"),
                execute(),
                sync(),
            ],
            &[],
        )
        .gives(
            &[parsed(), bound(), complete("SELECT 1"), ready('I')],
            &[bound(), complete("SELECT 1"), ready('I')],
        )
        .free();
    used(script, "s", "pgweir_1")
        .sends(
            &[describe("s"), sync()],
            &[describe("pgweir_1"), sync()],
            &[],
        )
        .answers(&[parameter_description(), row_description(), ready('I')])
        .on_server(1)
        .run();
}

#[test]
fn describe_prepares_as_well() {
    prepared(Script::new(), "s", "pgweir_1", "select 1")
        .give(1)
        .sends(
            &[describe("s"), flush()],
            &[parse("pgweir_1", "select 1"), describe("pgweir_1"), flush()],
            &[],
        )
        .gives(
            &[parsed(), parameter_description(), no_data()],
            &[parameter_description(), no_data()],
        )
        .run();
}

#[test]
fn two_clients_share_a_statement() {
    let script = prepared(Script::new(), "s", "pgweir_1", "select 1").client(1);
    let script = script
        .sends(&[parse("x", "select 1"), sync()], &[sync()], &[parsed()])
        .answers(&[ready('I')])
        .free();
    used(script, "x", "pgweir_1")
        // One closes it; it stays for the other.
        .sends(&[close("x"), sync()], &[], &[closed(), ready('I')])
        .client(0)
        .passes(&[])
        .on_server(1)
        .run();
}

#[test]
fn a_local_answer_waits_for_its_turn() {
    prepared(Script::new(), "s", "pgweir_1", "select 1")
        .sends(
            &[parse("", "a"), parse("t", "select 1"), close("t"), sync()],
            &[parse("", "a"), sync()],
            &[],
        )
        .gives(
            &[parsed(), ready('I')],
            &[parsed(), parsed(), closed(), ready('I')],
        )
        .free()
        .run();
}

#[test]
fn a_local_answer_does_not_split_a_message() {
    let long = notice("a long notice");
    let (front, back) = long.split_at(10);
    prepared(Script::new(), "s", "pgweir_1", "select 1")
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T')])
        .answers(&[front.to_vec()])
        .sends(&[parse("t", "select 1")], &[], &[])
        .gives(&[back.to_vec()], &[back.to_vec(), parsed()])
        .run();
}

#[test]
fn a_name_that_is_taken_is_an_error_with_the_clients_name() {
    let script = prepared(Script::new(), "s", "pgweir_1", "select 1")
        .sends(
            &[parse("s", "select 2"), sync()],
            &[
                parse("pgweir_2", "select 2"),
                parse("pgweir_2", "select 2"),
                sync(),
            ],
            &[],
        )
        .gives(
            &[parsed(), taken("pgweir_2"), ready('I')],
            &[taken("s"), ready('I')],
        )
        .free()
        .on_server(2)
        // The same text: the server has it already.
        .sends(
            &[parse("s", "select 1"), sync()],
            &[parse("pgweir_1", "select 1"), sync()],
            &[],
        )
        .gives(&[taken("pgweir_1"), ready('I')], &[taken("s"), ready('I')])
        .free()
        .on_server(2);
    // And the name means what it meant.
    used(script, "s", "pgweir_1").run();
}

#[test]
fn a_name_that_is_missing_is_an_error_with_the_clients_name() {
    Script::new()
        .sends(
            &[bind("", "nix"), execute(), sync()],
            &[bind("", "pgweir_missing"), execute(), sync()],
            &[],
        )
        .gives(
            &[missing("pgweir_missing"), ready('I')],
            &[missing("nix"), ready('I')],
        )
        .free()
        .sends(
            &[describe("nix"), sync()],
            &[describe("pgweir_missing"), sync()],
            &[],
        )
        .gives(
            &[missing("pgweir_missing"), ready('I')],
            &[missing("nix"), ready('I')],
        )
        .free()
        .run();
}

#[test]
fn a_parse_that_fails_leaves_no_name() {
    let script = Script::new()
        .sends(
            &[parse("s", "broken"), sync()],
            &[parse("pgweir_1", "broken"), sync()],
            &[],
        )
        .answers(&[error("42601", "syntax error"), ready('I')])
        .free()
        .on_server(0);
    prepared(script, "s", "pgweir_2", "select 1").run();
}

#[test]
fn what_is_skipped_has_not_happened() {
    let script = prepared(Script::new(), "s", "pgweir_1", "select 1")
        .sends(
            &[
                parse("", "broken"),
                close("s"),
                parse("t", "select 2"),
                sync(),
            ],
            &[parse("", "broken"), parse("pgweir_3", "select 2"), sync()],
            &[],
        )
        .answers(&[error("42601", "syntax error"), ready('I')])
        .free()
        .on_server(1);
    used(script, "s", "pgweir_1")
        .sends(
            &[bind("", "t"), sync()],
            &[bind("", "pgweir_missing"), sync()],
            &[],
        )
        .run();
}

#[test]
fn in_a_failed_transaction_the_server_decides() {
    let aborted = error("25P02", "current transaction is aborted");
    let script = prepared(Script::new(), "s", "pgweir_1", "select 1")
        .passes(&[query("begin; broken")])
        .answers(&[complete("BEGIN"), error("42601", "no"), ready('E')])
        .sends(
            &[parse("t", "select 1"), sync()],
            &[close("pgweir_1"), parse("pgweir_1", "select 1"), sync()],
            &[],
        )
        .gives(
            &[closed(), aborted.clone(), ready('E')],
            &[aborted, ready('E')],
        )
        .on_server(0)
        .passes(&[query("rollback")])
        .answers(&[complete("ROLLBACK"), ready('I')])
        .free();
    script
        .sends(
            &[bind("", "s"), sync()],
            &[parse("pgweir_1", "select 1"), bind("", "pgweir_1"), sync()],
            &[],
        )
        .run();
}

#[test]
fn a_server_keeps_only_so_many() {
    let script = Script::new().max_prepared(1);
    let script = prepared(script, "a", "pgweir_1", "select 1");
    let script = script
        .sends(
            &[parse("b", "select 2"), sync()],
            &[close("pgweir_1"), parse("pgweir_2", "select 2"), sync()],
            &[],
        )
        .gives(&[closed(), parsed(), ready('I')], &[parsed(), ready('I')])
        .free()
        .on_server(1);
    script
        .sends(
            &[bind("", "a"), bind("", "b"), sync()],
            &[
                close("pgweir_2"),
                parse("pgweir_1", "select 1"),
                bind("", "pgweir_1"),
                close("pgweir_1"),
                parse("pgweir_2", "select 2"),
                bind("", "pgweir_2"),
                sync(),
            ],
            &[],
        )
        .gives(
            &[
                closed(),
                parsed(),
                bound(),
                closed(),
                parsed(),
                bound(),
                ready('I'),
            ],
            &[bound(), bound(), ready('I')],
        )
        .free()
        .on_server(1)
        .run();
}

#[test]
fn an_eviction_that_is_skipped_has_not_happened() {
    let script = Script::new().max_prepared(1);
    let script = prepared(script, "a", "pgweir_1", "select 1")
        .sends(
            &[parse("", "broken"), parse("b", "select 2"), sync()],
            &[
                parse("", "broken"),
                close("pgweir_1"),
                parse("pgweir_3", "select 2"),
                sync(),
            ],
            &[],
        )
        .answers(&[error("42601", "syntax error"), ready('I')])
        .free()
        .on_server(1);
    used(script, "a", "pgweir_1").run();
}

#[test]
fn an_own_parse_that_fails_is_the_clients_error() {
    prepared(Script::new(), "s", "pgweir_1", "select from t")
        .give(1)
        .sends(
            &[bind("", "s"), execute(), sync()],
            &[
                parse("pgweir_1", "select from t"),
                bind("", "pgweir_1"),
                execute(),
                sync(),
            ],
            &[],
        )
        .answers(&[error("42P01", "relation \"t\" does not exist"), ready('I')])
        .free()
        .on_server(0)
        .run();
}

#[test]
fn forgetting_all_statements() {
    for (tag, sql) in [
        ("DEALLOCATE ALL", "deallocate all"),
        ("DISCARD ALL", "discard all"),
    ] {
        prepared(Script::new(), "s", "pgweir_1", "select 1")
            .passes(&[query(sql)])
            .answers(&[complete(tag), ready('I')])
            .free()
            .on_server(0)
            .sends(
                &[bind("", "s"), sync()],
                &[bind("", "pgweir_missing"), sync()],
                &[],
            )
            .gives(
                &[missing("pgweir_missing"), ready('I')],
                &[missing("s"), ready('I')],
            )
            .free()
            .sends(
                &[parse("s", "select 1"), sync()],
                &[parse("pgweir_1", "select 1"), sync()],
                &[],
            )
            .run();
    }
}

#[test]
fn without_following_names_pass_as_they_are() {
    Script::new()
        .not_following()
        .passes(&[parse("s", "select 1"), bind("", "s"), describe("s"), sync()])
        .release(Release::Dirty)
        .answers(&[parsed(), bound(), parameter_description(), no_data()])
        .answers(&[ready('I')])
        .free()
        .passes(&[close("s"), sync()])
        .answers(&[closed(), ready('I')])
        .free()
        .run();
}

#[test]
fn a_name_waits_for_what_may_have_failed() {
    // Sent ahead of the error, the second Parse finds the name free.
    let script = Script::new()
        .sends(
            &[parse("s", "broken"), sync(), parse("s", "select 1"), sync()],
            &[parse("pgweir_1", "broken"), sync()],
            &[],
        )
        .answers(&[error("42601", "syntax error"), ready('I')])
        .sends(&[], &[parse("pgweir_2", "select 1"), sync()], &[])
        .answers(&[parsed(), ready('I')])
        .free();
    used(script, "s", "pgweir_2")
        // A Close that is skipped leaves the name.
        .sends(
            &[bind("", "nix"), close("s"), sync(), bind("", "s"), sync()],
            &[bind("", "pgweir_missing"), sync()],
            &[],
        )
        .gives(
            &[missing("pgweir_missing"), ready('I')],
            &[missing("nix"), ready('I')],
        )
        .sends(&[], &[bind("", "pgweir_2"), sync()], &[])
        .answers(&[bound(), ready('I')])
        .free()
        .run();
}

#[test]
fn in_a_transaction_that_may_fail_the_server_decides() {
    let aborted = error("25P02", "current transaction is aborted");
    prepared(Script::new(), "s", "pgweir_1", "select 1")
        .sends(
            &[
                bind("", ""),
                execute(),
                sync(),
                parse("t", "select 1"),
                sync(),
            ],
            &[
                close(""),
                bind("", ""),
                execute(),
                sync(),
                close("pgweir_1"),
                parse("pgweir_1", "select 1"),
                sync(),
            ],
            &[],
        )
        .gives(
            &[
                closed(),
                error("26000", "no"),
                ready('E'),
                closed(),
                aborted.clone(),
                ready('E'),
            ],
            &[error("26000", "no"), ready('E'), aborted, ready('E')],
        )
        .held()
        .run();
}
