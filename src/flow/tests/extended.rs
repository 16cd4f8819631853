//! The extended protocol: pipelines, errors in them, Flush. Manual, "Extended
//! Query" and "Pipelining".

use super::messages::*;
use super::script::Script;
use crate::flow::Release;

#[test]
fn an_unnamed_statement_in_one_go() {
    Script::new()
        .passes(&[parse("", "select 1"), bind("", ""), describe_portal("")])
        .passes(&[execute(), sync()])
        .answers(&[parsed(), bound(), row_description(), row("1")])
        .answers(&[complete("SELECT 1")])
        .held()
        .answers(&[ready('I')])
        .free()
        .run();
}

#[test]
fn flush_brings_answers_but_no_end() {
    Script::new()
        .passes(&[parse("", "select 1"), describe(""), flush()])
        .answers(&[parsed(), parameter_description(), no_data()])
        .held()
        .release(Release::Dirty)
        .passes(&[bind("", ""), execute(), flush()])
        .answers(&[bound(), row("1"), suspended()])
        .held()
        .passes(&[execute(), flush()])
        .answers(&[empty_query()])
        .release(Release::Dirty)
        .passes(&[close_portal(""), sync()])
        .answers(&[closed(), ready('I')])
        .free()
        .run();
}

#[test]
fn an_error_skips_to_the_next_sync() {
    Script::new()
        .passes(&[parse("", "broken"), bind("", ""), execute(), sync()])
        .passes(&[parse("", "select 2"), bind("", ""), execute(), sync()])
        .answers(&[error("42601", "syntax error"), ready('I')])
        .held()
        .answers(&[parsed(), bound(), complete("SELECT 0"), ready('I')])
        .free()
        .run();
}

#[test]
fn what_follows_an_error_is_not_even_sent() {
    Script::new()
        .passes(&[parse("", "broken"), flush()])
        .answers(&[error("42601", "syntax error")])
        .release(Release::Dirty)
        .sends(&[bind("", ""), execute(), query("x"), flush()], &[], &[])
        .release(Release::Dirty)
        .passes(&[sync()])
        .answers(&[ready('I')])
        .free()
        .run();
}

#[test]
fn an_error_in_a_segment_takes_simple_queries_with_it() {
    Script::new()
        .passes(&[parse("", "broken"), query("select 1"), function_call()])
        .passes(&[sync(), query("select 2")])
        .answers(&[error("42601", "syntax error"), ready('I')])
        .held()
        .answers(&[complete("SELECT 1"), ready('I')])
        .free()
        .run();
}

#[test]
fn a_simple_query_ends_what_was_not_synced() {
    Script::new()
        .passes(&[parse("", "select 1"), bind("", ""), execute()])
        .passes(&[query("select 2")])
        .answers(&[parsed(), bound(), complete("SELECT 1")])
        .answers(&[complete("SELECT 1"), ready('I')])
        .free()
        .run();
}

#[test]
fn an_error_at_sync_is_answered_by_both() {
    // A deferred constraint fails when the implicit transaction ends.
    Script::new()
        .passes(&[parse("", "insert"), bind("", ""), execute(), sync()])
        .answers(&[parsed(), bound(), complete("INSERT 0 1")])
        .answers(&[error("23503", "foreign key"), ready('I')])
        .free()
        .run();
}

#[test]
fn a_transaction_over_several_syncs() {
    Script::new()
        .passes(&[parse("", "begin"), bind("", ""), execute(), sync()])
        .answers(&[parsed(), bound(), complete("BEGIN"), ready('T')])
        .held()
        .passes(&[sync(), parse("", "broken"), sync(), sync()])
        .answers(&[ready('T'), error("42601", "syntax error"), ready('E')])
        .answers(&[ready('E')])
        .release(Release::Dirty)
        .passes(&[parse("", "rollback"), bind("", ""), execute(), sync()])
        .answers(&[parsed(), bound(), complete("ROLLBACK"), ready('I')])
        .free()
        .run();
}

#[test]
fn two_rounds_before_the_first_answer() {
    Script::new()
        .passes(&[parse("", "a"), sync(), parse("", "b"), sync()])
        .answers(&[parsed(), ready('I')])
        .held()
        .answers(&[parsed(), ready('I')])
        .free()
        .run();
}
