//! COPY in all directions and both protocols. Manual, "COPY Operations";
//! PostgreSQL source: copyfromparse.c, `CopyGetData`.

use super::messages::*;
use super::script::Script;
use crate::flow::Release;

fn extended() -> Vec<Vec<u8>> {
    vec![parse("", "copy t from stdin"), bind("", ""), execute()]
}

#[test]
fn copy_in_in_the_simple_protocol() {
    Script::new()
        .passes(&[query("copy t from stdin")])
        .answers(&[copy_in()])
        .held()
        .passes(&[copy_data("1\n"), copy_data("2\n"), flush(), sync()])
        .release(Release::Dirty)
        .passes(&[copy_done()])
        .answers(&[complete("COPY 2")])
        .held()
        .answers(&[ready('I')])
        .free()
        .run();
}

#[test]
fn copy_in_sent_ahead() {
    Script::new()
        .passes(&[query("copy t from stdin"), copy_data("1\n"), copy_done()])
        .passes(&[query("select 1")])
        .answers(&[copy_in(), complete("COPY 1"), ready('I')])
        .held()
        .answers(&[complete("SELECT 1"), ready('I')])
        .free()
        .run();
}

#[test]
fn two_copies_in_one_query() {
    Script::new()
        .passes(&[query("copy t from stdin; copy t from stdin")])
        .answers(&[copy_in()])
        .passes(&[copy_data("1\n"), copy_done()])
        .answers(&[complete("COPY 1"), copy_in()])
        .release(Release::Dirty)
        .passes(&[copy_data("2\n"), copy_fail("enough")])
        .answers(&[error("57014", "COPY failed"), ready('I')])
        .free()
        .run();
}

#[test]
fn copy_out_and_both() {
    for begin in [copy_out(), copy_both()] {
        Script::new()
            .passes(&[query("copy t to stdout")])
            .answers(&[begin.clone(), copy_data("1\n"), copy_done()])
            .answers(&[complete("COPY 1"), ready('I')])
            .free()
            .passes(&[parse("", "copy t to stdout"), bind("", "")])
            .passes(&[execute(), sync()])
            .answers(&[parsed(), bound(), begin, copy_data("1\n"), copy_done()])
            .answers(&[complete("COPY 1"), ready('I')])
            .free()
            .run();
    }
}

#[test]
fn a_sync_right_after_execute_is_ignored() {
    // As libpq sends it: it does not know yet that this is a COPY.
    Script::new()
        .passes(&extended())
        .passes(&[sync()])
        .answers(&[parsed(), bound(), copy_in()])
        .release(Release::Dirty)
        .passes(&[copy_data("1\n"), copy_done(), sync()])
        .answers(&[complete("COPY 1")])
        .held()
        .answers(&[ready('I')])
        .free()
        .run();
}

#[test]
fn copy_in_without_an_early_sync() {
    Script::new()
        .passes(&extended())
        .passes(&[flush()])
        .answers(&[parsed(), bound(), copy_in()])
        .passes(&[copy_data("1\n"), copy_done()])
        .answers(&[complete("COPY 1")])
        .release(Release::Dirty)
        .passes(&[sync()])
        .answers(&[ready('I')])
        .free()
        .run();
}

#[test]
fn everything_of_an_extended_copy_sent_ahead() {
    Script::new()
        .passes(&extended())
        .passes(&[sync(), copy_data("1\n"), copy_done(), sync()])
        .answers(&[parsed(), bound(), copy_in(), complete("COPY 1")])
        .held()
        .answers(&[ready('I')])
        .free()
        .run();
}

#[test]
fn an_error_in_the_middle_of_the_data() {
    // Simple: whatever the client still sends is ignored.
    Script::new()
        .passes(&[query("copy t from stdin")])
        .answers(&[copy_in()])
        .passes(&[copy_data("x\n")])
        .answers(&[error("22P02", "invalid input"), ready('I')])
        .free()
        .sends(&[copy_data("2\n"), copy_done()], &[], &[])
        .passes(&[query("select 1")])
        .answers(&[complete("SELECT 1"), ready('I')])
        .free()
        .run();
    // Extended: up to the next Sync.
    Script::new()
        .passes(&extended())
        .passes(&[flush()])
        .answers(&[parsed(), bound(), copy_in()])
        .passes(&[copy_data("x\n")])
        .answers(&[error("22P02", "invalid input")])
        .sends(&[copy_data("2\n"), copy_fail("late")], &[], &[])
        .release(Release::Dirty)
        .passes(&[sync()])
        .answers(&[ready('I')])
        .free()
        .run();
}

#[test]
fn an_error_that_crosses_the_end_of_the_data() {
    Script::new()
        .passes(&[query("copy t from stdin")])
        .answers(&[copy_in()])
        .passes(&[copy_data("x\n"), copy_done()])
        .answers(&[error("22P02", "invalid input"), ready('I')])
        .free()
        .run();
    Script::new()
        .passes(&extended())
        .passes(&[flush()])
        .answers(&[parsed(), bound(), copy_in()])
        .passes(&[copy_data("x\n"), copy_done(), sync()])
        .answers(&[error("22P02", "invalid input"), ready('I')])
        .free()
        .run();
}

#[test]
fn an_error_before_the_copy_reads_leaves_the_early_sync_valid() {
    // A BEFORE STATEMENT trigger fails right after CopyInResponse: the Sync
    // has not been read yet and is answered.
    Script::new()
        .passes(&extended())
        .passes(&[sync()])
        .answers(&[parsed(), bound(), copy_in(), error("P0001", "no")])
        .release(Release::Dirty)
        .answers(&[ready('I')])
        .free()
        .run();
    // libpq ends the COPY with a Sync of its own, which is answered as well.
    Script::new()
        .passes(&extended())
        .passes(&[sync()])
        .answers(&[parsed(), bound(), copy_in(), error("P0001", "no")])
        .sends(&[copy_done(), sync()], &[sync()], &[])
        .answers(&[ready('I')])
        .release(Release::Dirty)
        .answers(&[ready('I')])
        .free()
        .run();
    // The early Sync's answer comes after the next request was sent.
    Script::new()
        .passes(&extended())
        .passes(&[sync()])
        .answers(&[parsed(), bound(), copy_in(), error("P0001", "no")])
        .sends(&[copy_done(), sync()], &[sync()], &[])
        .answers(&[ready('I')])
        .passes(&[query("select 1")])
        .answers(&[ready('I')])
        .held()
        .answers(&[row_description(), complete("SELECT 1"), ready('I')])
        .free()
        .run();
}

#[test]
fn an_error_after_the_copy_has_read_makes_the_early_sync_void() {
    Script::new()
        .passes(&extended())
        .passes(&[sync()])
        .answers(&[parsed(), bound(), copy_in()])
        .passes(&[copy_data("x\n"), copy_done(), sync()])
        .answers(&[error("22P02", "invalid input"), ready('I')])
        // Was it the answer to the first Sync or the second? The next answer
        // tells.
        .release(Release::Dirty)
        .passes(&[query("select 1")])
        .answers(&[row_description(), complete("SELECT 1"), ready('I')])
        .free()
        .run();
}

#[test]
fn a_client_that_leaves_during_a_copy() {
    Script::new()
        .passes(&[query("copy t from stdin")])
        .answers(&[copy_in()])
        .passes(&[copy_data("1\n")])
        .abandon(&[copy_fail("client disconnected")])
        .gives(&[error("57014", "COPY failed"), ready('I')], &[])
        .release(Release::Ready)
        .rollback(&[])
        .run();
    Script::new()
        .passes(&extended())
        .passes(&[sync()])
        .answers(&[parsed(), bound(), copy_in()])
        .abandon(&[copy_fail("client disconnected"), sync()])
        .gives(&[error("57014", "COPY failed"), ready('I')], &[])
        .release(Release::Dirty)
        .rollback(&[query("ROLLBACK")])
        .gives(
            &[notice("no transaction"), complete("ROLLBACK"), ready('I')],
            &[],
        )
        .release(Release::Ready)
        .run();
}

#[test]
fn a_copy_that_begins_after_its_client_has_left() {
    Script::new()
        .passes(&[query("copy t from stdin")])
        .abandon(&[])
        .gives(&[copy_in()], &[])
        .abandon(&[copy_fail("client disconnected")])
        .gives(&[error("57014", "COPY failed"), ready('I')], &[])
        .release(Release::Ready)
        .run();
    Script::new()
        .passes(&extended())
        .passes(&[sync()])
        .abandon(&[])
        .gives(&[parsed(), bound(), copy_in()], &[])
        .abandon(&[copy_fail("client disconnected"), sync()])
        .gives(&[error("57014", "COPY failed"), ready('I')], &[])
        .rollback(&[query("ROLLBACK")])
        .gives(&[complete("ROLLBACK"), ready('I')], &[])
        .release(Release::Ready)
        .run();
    Script::new()
        .passes(&extended())
        .abandon(&[
            copy_fail("client disconnected"),
            execute_portal("pgweir_missing"),
            sync(),
        ])
        .gives(&[parsed(), bound(), copy_in()], &[])
        .abandon(&[])
        .gives(&[error("57014", "COPY failed"), ready('I')], &[])
        .rollback(&[])
        .release(Release::Ready)
        .run();
}

#[test]
fn a_message_that_does_not_belong_into_a_copy() {
    // PostgreSQL loses its place in the stream and gives up.
    Script::new()
        .passes(&[query("copy t from stdin")])
        .answers(&[copy_in()])
        .passes(&[query("select 1")])
        .answers(&[error("08P01", "unexpected message type 0x51")])
        .answers(&[fatal("08P01", "protocol synchronization was lost")])
        .release(Release::Broken)
        .run();
}

#[test]
fn a_pipeline_behind_a_copy_that_fails_at_once() {
    Script::new()
        .passes(&extended())
        .passes(&[sync(), sync(), parse("", "a"), sync(), query("b")])
        .answers(&[parsed(), bound(), copy_in(), error("P0001", "no")])
        .answers(&[ready('I'), ready('I'), parsed(), ready('I')])
        .held()
        .answers(&[complete("SELECT 1"), ready('I')])
        .free()
        .run();
}

#[test]
fn several_early_syncs_are_answered_if_the_copy_fails_at_once() {
    Script::new()
        .passes(&extended())
        .passes(&[sync(), sync()])
        .answers(&[parsed(), bound(), copy_in(), error("P0001", "no")])
        .answers(&[ready('I')])
        .release(Release::Dirty)
        .answers(&[ready('I')])
        .free()
        .run();
}
