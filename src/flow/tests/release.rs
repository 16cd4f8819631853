//! When a server connection may be used again.

use super::messages::*;
use super::script::Script;
use crate::config::PoolMode;
use crate::flow::{Release, ServerFault};

#[test]
fn half_a_message_cannot_be_completed_by_anybody_else() {
    // Short ones are not sent on before they are complete.
    let half = query(&"x".repeat(20_000))[..18_000].to_vec();
    Script::new().passes(&[half]).release(Release::Broken).run();
}

#[test]
fn an_abandoned_query_is_read_to_its_end() {
    Script::new()
        .passes(&[query("select 1")])
        .answers(&[row_description(), row("1")])
        .abandon(&[])
        .release(Release::Dirty)
        .gives(&[row("2"), complete("SELECT 2"), ready('I')], &[])
        .rollback(&[])
        .release(Release::Ready)
        .run();
}

#[test]
fn an_abandoned_transaction_is_rolled_back() {
    Script::new()
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T')])
        .abandon(&[])
        .release(Release::Dirty)
        .rollback(&[query("ROLLBACK")])
        .release(Release::Dirty)
        .gives(&[complete("ROLLBACK")], &[])
        .release(Release::Dirty)
        .gives(&[ready('I')], &[])
        .release(Release::Ready)
        .run();
}

#[test]
fn an_abandoned_pipeline_is_failed_and_synced() {
    // Without the error, Sync would commit it; CopyFail is ignored where there
    // is no COPY.
    let fail = || execute_portal("pgweir_missing");
    Script::new()
        .passes(&[parse("", "select 1"), bind("", "")])
        .abandon(&[copy_fail("client disconnected"), fail(), sync()])
        .gives(&[parsed(), bound()], &[])
        .release(Release::Dirty)
        .gives(&[error("34000", "no such portal"), ready('I')], &[])
        .release(Release::Ready)
        .run();
    // Also one whose error has come already.
    Script::new()
        .passes(&[parse("", "broken"), flush()])
        .answers(&[error("42601", "syntax error")])
        .abandon(&[sync()])
        .gives(&[ready('I')], &[])
        .release(Release::Ready)
        .run();
    // Or comes later.
    Script::new()
        .passes(&[parse("", "broken"), bind("", "")])
        .abandon(&[copy_fail("client disconnected"), fail(), sync()])
        .gives(&[error("42601", "syntax error"), ready('I')], &[])
        .release(Release::Ready)
        .run();
}

#[test]
fn half_an_answer_is_not_the_end() {
    let end = ready('I');
    Script::new()
        .passes(&[query("select 1")])
        .answers(&[complete("SELECT 1")])
        .gives(&[end[..5].to_vec()], &[])
        .release(Release::Dirty)
        .gives(&[end[5..].to_vec()], &[end])
        .free()
        .run();
    let data = row("a long row");
    Script::new()
        .passes(&[query("select 1")])
        .answers(&[data[..9].to_vec()])
        .abandon(&[])
        .gives(&[data[9..].to_vec(), complete("SELECT 1"), ready('I')], &[])
        .release(Release::Ready)
        .run();
}

#[test]
fn nothing_goes_back_while_a_local_answer_waits() {
    Script::new()
        .sends(
            &[parse("", "select 1"), sync(), close("s")],
            &[parse("", "select 1"), sync()],
            &[],
        )
        .gives(&[parsed(), ready('I')], &[parsed(), ready('I'), closed()])
        // The client's Sync is still to come.
        .release(Release::Dirty)
        .passes(&[sync()])
        .answers(&[ready('I')])
        .free()
        .run();
}

#[test]
fn after_a_fault_the_connection_is_not_used_again() {
    Script::new()
        .mode(PoolMode::Session)
        .passes(&[query("select 1")])
        .answers(&[complete("SELECT 1"), ready('I')])
        .fault(&[ready('I')], ServerFault::Unexpected { tag: 'Z' })
        .release(Release::Broken)
        .run();
}
