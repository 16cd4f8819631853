//! Parameters of a session over several server connections.

use super::messages::*;
use super::script::Script;
use crate::flow::{Release, ServerFault};

const SET: &str = "SELECT pg_catalog.set_config('TimeZone', 'Asia/Tokyo', false)";

fn set_answer() -> [Vec<u8>; 5] {
    [
        row_description(),
        status("TimeZone", "Asia/Tokyo"),
        row("Asia/Tokyo"),
        complete("SELECT 1"),
        ready('I'),
    ]
}

fn tokyo() -> Script {
    Script::new().params(&[("TimeZone", "Asia/Tokyo")], &[("TimeZone", "UTC")])
}

#[test]
fn what_differs_is_set_ahead_and_nobody_sees_it() {
    tokyo()
        .sends(&[query("select 1")], &[query(SET), query("select 1")], &[])
        .gives(&set_answer(), &[])
        .release(Release::Dirty)
        .answers(&[complete("SELECT 1"), ready('I')])
        .free()
        // Now it fits.
        .passes(&[query("select 2")])
        .answers(&[complete("SELECT 1"), ready('I')])
        .free()
        .run();
}

#[test]
fn what_the_client_sets_goes_with_it() {
    Script::new()
        .params(&[("TimeZone", "UTC")], &[("TimeZone", "UTC")])
        .passes(&[query("set timezone = 'Asia/Tokyo'")])
        .answers(&[
            complete("SET"),
            status("TimeZone", "Asia/Tokyo"),
            ready('I'),
        ])
        .free()
        .session_param("timezone", "Asia/Tokyo")
        .give(1)
        .sends(&[query("select 1")], &[query(SET), query("select 1")], &[])
        .gives(&set_answer(), &[])
        .answers(&[complete("SELECT 1"), ready('I')])
        .free()
        // Another client gets its own value on the connection that was
        // changed.
        .client(1)
        .sends(
            &[query("select 3")],
            &[
                query("SELECT pg_catalog.set_config('TimeZone', 'UTC', false)"),
                query("select 3"),
            ],
            &[],
        )
        .run();
}

#[test]
fn a_rollback_takes_the_setting_back() {
    Script::new()
        .params(&[("TimeZone", "UTC")], &[("TimeZone", "UTC")])
        .passes(&[query("begin; set timezone = 'Asia/Tokyo'")])
        .answers(&[
            status("TimeZone", "Asia/Tokyo"),
            complete("SET"),
            ready('T'),
        ])
        .session_param("TimeZone", "Asia/Tokyo")
        .passes(&[query("rollback")])
        .answers(&[complete("ROLLBACK"), status("TimeZone", "UTC"), ready('I')])
        .session_param("TimeZone", "UTC")
        .free()
        .give(1)
        .passes(&[query("select 1")])
        .run();
}

#[test]
fn what_the_server_makes_of_a_value_is_what_the_client_has() {
    Script::new()
        .params(&[("TimeZone", "asia/tokyo")], &[("TimeZone", "UTC")])
        .sends(
            &[query("select 1")],
            &[
                query("SELECT pg_catalog.set_config('TimeZone', 'asia/tokyo', false)"),
                query("select 1"),
            ],
            &[],
        )
        .gives(&set_answer(), &[])
        .answers(&[complete("SELECT 1"), ready('I')])
        .session_param("TimeZone", "Asia/Tokyo")
        .free()
        .passes(&[query("select 1")])
        .run();
}

#[test]
fn news_about_the_server_reach_the_client() {
    Script::new()
        .params(&[("server_version", "17")], &[("server_version", "18")])
        .sends(
            &[query("select 1")],
            &[query("select 1")],
            &[status("server_version", "18")],
        )
        .session_param("server_version", "18")
        .run();
}

#[test]
fn parameters_that_are_refused_end_the_link() {
    let no = error("22023", "invalid value");
    tokyo()
        .sends(&[query("select 1")], &[query(SET), query("select 1")], &[])
        .fault(
            &[no, ready('I')],
            ServerFault::Parameters("invalid value (SQLSTATE 22023)".into()),
        )
        .release(Release::Broken)
        .run();
}

#[test]
fn a_farewell_during_our_own_query_reaches_the_client() {
    let end = fatal("57P01", "terminating connection");
    tokyo()
        .sends(&[query("select 1")], &[query(SET), query("select 1")], &[])
        .answers(&[end])
        .release(Release::Broken)
        .run();
}

#[test]
fn reset_makes_what_is_not_reported_unknown() {
    for tag in ["RESET", "DISCARD ALL"] {
        Script::new()
            .params(&[("TimeZone", "UTC")], &[("TimeZone", "UTC")])
            .passes(&[query("reset all")])
            .answers(&[complete(tag), ready('I')])
            .free()
            .passes(&[query("select 1")])
            .run();
    }
}
