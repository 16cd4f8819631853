//! The simple protocol, function calls, and what comes unasked.

use super::messages::*;
use super::script::Script;
use crate::config::PoolMode;
use crate::flow::{Release, ServerFault};

#[test]
fn a_query_takes_a_server_and_gives_it_back() {
    Script::new()
        .passes(&[query("select 1")])
        .held()
        .release(Release::Dirty)
        .answers(&[row_description(), row("1"), complete("SELECT 1")])
        .held()
        .answers(&[ready('I')])
        .free()
        .run();
}

#[test]
fn a_transaction_keeps_its_server() {
    Script::new()
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T')])
        .held()
        .release(Release::Dirty)
        .passes(&[query("select broken")])
        .answers(&[error("42703", "column does not exist"), ready('E')])
        .held()
        .runs("rollback", "ROLLBACK")
        .run();
}

#[test]
fn several_queries_at_once_are_several_answers() {
    let answer = [row_description(), row("1"), complete("SELECT 1")].concat();
    Script::new()
        .passes(&[query("select 1"), query(""), query("select 2; broken")])
        .answers(&[answer.clone(), ready('I'), empty_query(), ready('I')])
        .held()
        .answers(&[answer, error("42601", "syntax error"), ready('I')])
        .free()
        .run();
}

#[test]
fn a_function_call_is_answered_or_fails() {
    Script::new()
        .passes(&[function_call(), function_call()])
        .answers(&[function_result(), ready('I')])
        .held()
        .answers(&[error("42883", "no such function"), ready('I')])
        .free()
        .run();
}

#[test]
fn notices_and_notifications_pass_at_any_time() {
    Script::new()
        .passes(&[query("begin")])
        .answers(&[notice("a"), complete("BEGIN"), notice("b"), ready('T')])
        .answers(&[notice("between"), notification()])
        .held()
        .passes(&[query("commit")])
        .answers(&[complete("COMMIT"), notification(), ready('I')])
        .free()
        .run();
}

#[test]
fn a_fatal_error_is_the_end_of_the_connection() {
    let end = fatal("57P01", "terminating connection");
    Script::new()
        .passes(&[query("select pg_sleep(9)")])
        .answers(std::slice::from_ref(&end))
        .release(Release::Broken)
        .run();
    Script::new()
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T'), end])
        .release(Release::Broken)
        .run();
}

#[test]
fn what_nobody_asked_for_ends_the_link() {
    for surprise in [row("1"), ready('I'), complete("SELECT 1"), parsed()] {
        let tag = surprise[0] as char;
        Script::new()
            .passes(&[query("begin")])
            .answers(&[complete("BEGIN"), ready('T')])
            .fault(&[surprise], ServerFault::Unexpected { tag })
            .run();
    }
    Script::new()
        .passes(&[query("select 1")])
        .fault(&[bound()], ServerFault::Unexpected { tag: '2' })
        .run();
}

#[test]
fn session_mode_keeps_the_server_and_the_names() {
    Script::new()
        .mode(PoolMode::Session)
        .passes(&[parse("s", "select 1"), sync()])
        .answers(&[parsed(), ready('I')])
        .held()
        .release(Release::Ready)
        .passes(&[bind("", "s"), close("s"), sync()])
        .answers(&[bound(), closed(), ready('I')])
        .held()
        .on_server(0)
        .run();
}

#[test]
fn statement_mode_has_no_transactions() {
    Script::new()
        .mode(PoolMode::Statement)
        .runs("select 1", "SELECT 1")
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN")])
        .fault(&[ready('T')], ServerFault::TransactionInStatementMode)
        .run();
}

#[test]
fn without_a_server_only_exact_answers_are_given() {
    Script::new()
        .give(usize::MAX)
        .sends(&[flush(), sync(), sync()], &[], &[ready('I'), ready('I')])
        // A COPY that is over may leave these behind.
        .sends(&[copy_data("1\n"), copy_done(), copy_fail("x")], &[], &[])
        .sends(
            &[close("s"), close_portal("p"), sync()],
            &[],
            &[closed(), closed(), ready('I')],
        )
        .free()
        .run();
}

#[test]
fn a_request_that_waits_can_be_refused() {
    let no = error("57014", "canceling statement due to user request");
    let refused = [no.clone(), ready('I')];
    Script::new()
        .give(usize::MAX)
        .sends(&[query("select 1"), sync()], &[], &[])
        .refuse(no.clone(), &refused)
        .sends(&[], &[], &[ready('I')])
        .give(0)
        .passes(&[query("select 2")])
        .run();
    // In the extended protocol the rest is discarded up to Sync.
    Script::new()
        .give(usize::MAX)
        .sends(&[parse("s", "select 1"), bind("", "s")], &[], &[])
        .refuse(no.clone(), std::slice::from_ref(&no))
        .sends(&[execute(), close("s"), query("select 1")], &[], &[])
        .sends(&[sync()], &[], &[ready('I')])
        .give(0)
        // The refused Parse has left no name.
        .binds("s", &[bind("", "pgweir_missing"), sync()])
        .run();
}
