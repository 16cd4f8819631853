//! The unnamed prepared statement of clients.

use super::messages::*;
use super::script::Script;

#[test]
fn the_unnamed_statement_follows_too() {
    Script::new()
        .prepares("", "", "select 1")
        .passes(&[bind("", ""), sync()])
        .answers(&[bound(), ready('I')])
        .free()
        .give(1)
        .binds("", &[parse("", "select 1"), bind("", ""), sync()])
        .gives(&[parsed(), bound(), ready('I')], &[bound(), ready('I')])
        .free()
        .run();
}

#[test]
fn nobody_gets_the_unnamed_statement_of_another() {
    let gone = error("26000", "unnamed prepared statement does not exist");
    Script::new()
        .prepares("", "", "select 1")
        .client(1)
        .binds("", &[close(""), bind("", ""), sync()])
        .gives(&[closed(), gone.clone(), ready('I')], &[gone, ready('I')])
        .free()
        .run();
}

#[test]
fn a_simple_query_drops_the_unnamed_statement() {
    Script::new()
        .passes(&[parse("", "select 1"), sync(), query("select 2")])
        .answers(&[parsed(), ready('I'), complete("SELECT 1"), ready('I')])
        .free()
        .binds("", &[close(""), bind("", ""), sync()])
        .run();
}

#[test]
fn a_refused_unnamed_parse_drops_the_one_before() {
    // postgres.c, exec_parse_message: "release any prior unnamed statement"
    // comes first.
    Script::new()
        .prepares("", "", "select 1")
        .passes(&[parse("", "broken"), sync()])
        .answers(&[error("42601", "syntax error"), ready('I')])
        .free()
        .binds("", &[close(""), bind("", ""), sync()])
        .run();
}

#[test]
fn a_skipped_unnamed_parse_drops_nothing() {
    Script::new()
        .prepares("", "", "select 1")
        .sends(
            &[bind("", "nix"), parse("", "select 2"), sync()],
            &[bind("", "pgweir_missing"), parse("", "select 2"), sync()],
            &[],
        )
        .misses("nix")
        .free()
        .binds("", &[parse("", "select 1"), bind("", ""), sync()])
        .run();
}

#[test]
fn a_later_unnamed_parse_survives_the_failure_of_an_earlier_one() {
    Script::new()
        .passes(&[parse("", "broken"), sync(), parse("", "select 2"), sync()])
        .answers(&[error("42601", "syntax error"), ready('I')])
        .answers(&[parsed(), ready('I')])
        .free()
        .give(1)
        .binds("", &[parse("", "select 2"), bind("", ""), sync()])
        .run();
}

#[test]
fn the_unnamed_statement_waits_for_what_may_have_failed() {
    Script::new()
        .prepares("", "", "select 1")
        .give(1)
        .sends(
            &[bind("", "nix"), parse("", "select 2"), sync()],
            &[bind("", "pgweir_missing"), parse("", "select 2"), sync()],
            &[],
        )
        .binds("", &[])
        .misses("nix")
        .sends(&[], &[parse("", "select 1"), bind("", ""), sync()], &[])
        .gives(&[parsed(), bound(), ready('I')], &[bound(), ready('I')])
        .free()
        .run();
}

#[test]
fn whole_pipelines_of_unnamed_statements_do_not_wait() {
    let one = [parse("", "select 1"), describe(""), bind("", ""), sync()];
    Script::new()
        .passes(&[one.concat(), one.concat(), one.concat()])
        .run();
}

#[test]
fn a_query_between_pipelines_keeps_the_unnamed_statement_dropped() {
    Script::new()
        .passes(&[parse("", "select 1")])
        .passes(&[sync()])
        .answers(&[parsed(), ready('I')])
        .free()
        .passes(&[execute(), parse("", "select 2"), sync(), query("x")])
        .answers(&[error("34000", "no portal"), ready('I')])
        .answers(&[complete("SELECT 1"), ready('I')])
        .free()
        .binds("", &[close(""), bind("", ""), sync()])
        .run();
    // Unless the query was skipped.
    Script::new()
        .prepares("", "", "select 1")
        .passes(&[execute(), query("x"), sync()])
        .answers(&[error("34000", "no portal"), ready('I')])
        .free()
        .binds("", &[parse("", "select 1"), bind("", ""), sync()])
        .run();
}

#[test]
fn an_unnamed_parse_of_ours_that_is_skipped_is_sent_again() {
    Script::new()
        .prepares("", "", "select 1")
        .give(1)
        .sends(
            &[execute(), describe(""), sync(), bind("", ""), sync()],
            &[execute(), parse("", "select 1"), describe(""), sync()],
            &[],
        )
        .answers(&[error("34000", "no portal"), ready('I')])
        .sends(&[], &[parse("", "select 1"), bind("", ""), sync()], &[])
        .gives(&[parsed(), bound(), ready('I')], &[bound(), ready('I')])
        .free()
        .run();
}
