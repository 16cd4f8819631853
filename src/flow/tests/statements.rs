//! Prepared statements of clients, carried over server connections.

use super::messages::*;
use super::script::Script;
use crate::flow::Release;

fn taken(name: &str) -> Bytes {
    let text = format!("prepared statement \"{name}\" already exists");
    error("42P05", &text)
}

#[test]
fn a_name_follows_its_client_to_other_servers() {
    Script::new()
        .prepares("s", "pgweir_1", "select 1")
        .uses("s", "pgweir_1")
        .give(1)
        .uses_anew("s", "pgweir_1", "select 1")
        .uses("s", "pgweir_1")
        .describes("s", &[describe("pgweir_1"), sync()])
        .answers(&[parameter_description(), row_description(), ready('I')])
        .on_server(1)
        .run();
}

#[test]
fn describe_prepares_as_well() {
    Script::new()
        .prepares("s", "pgweir_1", "select 1")
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
    Script::new()
        .prepares("s", "pgweir_1", "select 1")
        .client(1)
        .prepares_known("x", "select 1")
        .uses("x", "pgweir_1")
        // One closes it; it stays for the other.
        .sends(&[close("x"), sync()], &[], &[closed(), ready('I')])
        .client(0)
        .passes(&[])
        .on_server(1)
        .run();
}

#[test]
fn a_local_answer_waits_for_its_turn() {
    Script::new()
        .prepares("s", "pgweir_1", "select 1")
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
    Script::new()
        .prepares("s", "pgweir_1", "select 1")
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T')])
        .answers(&[front.to_vec()])
        .sends(&[parse("t", "select 1")], &[], &[])
        .gives(&[back.to_vec()], &[back.to_vec(), parsed()])
        .run();
}

#[test]
fn a_name_that_is_taken_is_an_error_with_the_clients_name() {
    Script::new()
        .prepares("s", "pgweir_1", "select 1")
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
        .on_server(2)
        // And the name means what it meant.
        .uses("s", "pgweir_1")
        .run();
}

#[test]
fn a_name_that_is_missing_is_an_error_with_the_clients_name() {
    Script::new()
        .executes("nix", &[bind("", "pgweir_missing"), execute(), sync()])
        .misses("nix")
        .free()
        .describes("nix", &[describe("pgweir_missing"), sync()])
        .misses("nix")
        .free()
        .run();
}

#[test]
fn a_parse_that_fails_leaves_no_name() {
    Script::new()
        .sends(
            &[parse("s", "broken"), sync()],
            &[parse("pgweir_1", "broken"), sync()],
            &[],
        )
        .answers(&[error("42601", "syntax error"), ready('I')])
        .free()
        .on_server(0)
        .prepares("s", "pgweir_2", "select 1")
        .run();
}

#[test]
fn what_is_skipped_has_not_happened() {
    Script::new()
        .prepares("s", "pgweir_1", "select 1")
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
        .on_server(1)
        .uses("s", "pgweir_1")
        .binds("t", &[bind("", "pgweir_missing"), sync()])
        .run();
}

#[test]
fn in_a_failed_transaction_the_server_decides() {
    let aborted = error("25P02", "current transaction is aborted");
    Script::new()
        .prepares("s", "pgweir_1", "select 1")
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
        .runs("rollback", "ROLLBACK")
        .binds(
            "s",
            &[parse("pgweir_1", "select 1"), bind("", "pgweir_1"), sync()],
        )
        .run();
}

#[test]
fn a_server_keeps_only_so_many() {
    Script::new()
        .max_prepared(1)
        .prepares("a", "pgweir_1", "select 1")
        .sends(
            &[parse("b", "select 2"), sync()],
            &[close("pgweir_1"), parse("pgweir_2", "select 2"), sync()],
            &[],
        )
        .gives(&[closed(), parsed(), ready('I')], &[parsed(), ready('I')])
        .free()
        .on_server(1)
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
    Script::new()
        .max_prepared(1)
        .prepares("a", "pgweir_1", "select 1")
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
        .on_server(1)
        .uses("a", "pgweir_1")
        .run();
}

#[test]
fn an_own_parse_that_fails_is_the_clients_error() {
    Script::new()
        .prepares("s", "pgweir_1", "select from t")
        .give(1)
        .executes(
            "s",
            &[
                parse("pgweir_1", "select from t"),
                bind("", "pgweir_1"),
                execute(),
                sync(),
            ],
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
        Script::new()
            .prepares("s", "pgweir_1", "select 1")
            .runs(sql, tag)
            .on_server(0)
            .binds("s", &[bind("", "pgweir_missing"), sync()])
            .misses("s")
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
    Script::new()
        .sends(
            &[parse("s", "broken"), sync(), parse("s", "select 1"), sync()],
            &[parse("pgweir_1", "broken"), sync()],
            &[],
        )
        .answers(&[error("42601", "syntax error"), ready('I')])
        .sends(&[], &[parse("pgweir_2", "select 1"), sync()], &[])
        .answers(&[parsed(), ready('I')])
        .free()
        .uses("s", "pgweir_2")
        // A Close that is skipped leaves the name.
        .sends(
            &[bind("", "nix"), close("s"), sync(), bind("", "s"), sync()],
            &[bind("", "pgweir_missing"), sync()],
            &[],
        )
        .misses("nix")
        .sends(&[], &[bind("", "pgweir_2"), sync()], &[])
        .answers(&[bound(), ready('I')])
        .free()
        .run();
}

#[test]
fn in_a_transaction_that_may_fail_the_server_decides() {
    let aborted = error("25P02", "current transaction is aborted");
    Script::new()
        .prepares("s", "pgweir_1", "select 1")
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
