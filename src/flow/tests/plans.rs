//! What a statement means when settings, the schema or the server's statements
//! change.

use super::messages::*;
use super::phrases::missing;
use super::script::Script;

/// Client 0 has prepared `s` on server 0.
fn with_statement() -> Script {
    Script::new().prepares("s", "pgweir_1", "select 1")
}

// ---- settings ----

#[test]
fn other_settings_are_another_statement() {
    with_statement()
        .sets("TimeZone", "Asia/Tokyo")
        .prepares("t", "pgweir_2", "select 1")
        // And the first one is the same from now on.
        .uses("s", "pgweir_2")
        .uses("t", "pgweir_2")
        .sets("TimeZone", "UTC")
        .uses_anew("s", "pgweir_3", "select 1")
        .on_server(3)
        .run();
}

#[test]
fn a_statement_is_what_the_present_settings_make_of_it() {
    Script::new()
        .params(&[("TimeZone", "UTC")], &[("TimeZone", "UTC")])
        .prepares("s", "pgweir_1", "select 1")
        .sets("TimeZone", "Asia/Tokyo")
        .uses_anew("s", "pgweir_2", "select 1")
        .sets("TimeZone", "UTC")
        .uses("s", "pgweir_1")
        .on_server(2)
        .run();
}

#[test]
fn settings_without_meaning_change_nothing() {
    with_statement()
        .sets("application_name", "x")
        .uses("s", "pgweir_1")
        .run();
}

#[test]
fn the_unnamed_statement_is_what_the_present_settings_make_of_it() {
    let set = [
        parse("set", "set timezone = x"),
        bind("", "set"),
        execute(),
        sync(),
    ];
    let on_server = [
        parse("pgweir_2", "set timezone = x"),
        bind("", "pgweir_2"),
        execute(),
        sync(),
    ];
    Script::new()
        .prepares("", "", "select 1")
        .sends(&set, &on_server, &[])
        .answers(&[
            parsed(),
            bound(),
            complete("SET"),
            status("TimeZone", "x"),
            ready('I'),
        ])
        .free()
        .binds("", &[parse("", "select 1"), bind("", ""), sync()])
        .gives(&[parsed(), bound(), ready('I')], &[bound(), ready('I')])
        .free()
        .run();
}

/// In one pipeline with what changes the settings nobody knows under which ones a
/// text is analysed: it is shared with nobody.
#[test]
fn what_follows_a_set_in_a_pipeline_is_shared_with_nobody() {
    Script::new()
        .sends(
            &[
                parse("", "set timezone = x"),
                bind("", ""),
                execute(),
                parse("s", "select 1"),
                sync(),
            ],
            &[
                parse("", "set timezone = x"),
                bind("", ""),
                execute(),
                flush(),
            ],
            &[],
        )
        .answers(&[parsed(), bound(), complete("SET")])
        .sends(&[], &[parse("pgweir_2", "select 1"), sync()], &[])
        .answers(&[parsed(), status("TimeZone", "Asia/Tokyo"), ready('I')])
        .free()
        // From now on it is like any other.
        .uses_anew("s", "pgweir_3", "select 1")
        .uses("s", "pgweir_3")
        .run();
}

#[test]
fn a_name_after_a_simple_query_in_a_pipeline_waits_for_its_end() {
    with_statement()
        .sends(
            &[query("set timezone = x"), bind("", "s"), execute(), sync()],
            &[query("set timezone = x")],
            &[],
        )
        .answers(&[
            complete("SET"),
            status("TimeZone", "Asia/Tokyo"),
            ready('I'),
        ])
        .sends(
            &[],
            &[
                parse("pgweir_2", "select 1"),
                bind("", "pgweir_2"),
                execute(),
                sync(),
            ],
            &[],
        )
        .gives(
            &[parsed(), bound(), complete("SELECT 1"), ready('I')],
            &[bound(), complete("SELECT 1"), ready('I')],
        )
        .free()
        .run();
}

// ---- the schema ----

#[test]
fn who_prepares_after_a_change_of_the_schema_has_another_statement() {
    for tag in ["CREATE TABLE", "ALTER TABLE", "DROP TABLE", "DO"] {
        with_statement()
            .prepares_known("a", "select 1")
            .runs("whatever", tag)
            .prepares("b", "pgweir_2", "select 1")
            .uses("b", "pgweir_2")
            .uses("a", "pgweir_1")
            .prepares_known("c", "select 1")
            .on_server(2)
            .run();
    }
    with_statement()
        .runs("whatever", "INSERT 0 1")
        .prepares_known("b", "select 1")
        .run();
}

/// What only this transaction sees is prepared for nobody else.
#[test]
fn a_change_counts_before_it_is_committed() {
    with_statement()
        .passes(&[query("begin; alter table t")])
        .answers(&[complete("BEGIN"), complete("ALTER TABLE"), ready('T')])
        .sends(
            &[parse("a", "select 1"), sync()],
            &[parse("pgweir_2", "select 1"), sync()],
            &[],
        )
        .answers(&[parsed(), ready('T')])
        .runs("rollback", "ROLLBACK")
        .client(1)
        .prepares("b", "pgweir_3", "select 1")
        .client(0)
        .binds("a", &[bind("", "pgweir_3"), sync()])
        .run();
}

/// The error is for those who go by the columns that they know.
#[test]
fn who_asks_for_the_columns_gets_new_ones() {
    let refused = |script: Script| {
        script
            .executes("s", &[bind("", "pgweir_1"), execute(), sync()])
            .answers(&[changed_plan(), ready('I')])
            .free()
    };
    refused(refused(with_statement()))
        .sends(
            &[[bind("", "s"), describe_portal("")].concat(), sync()],
            &[
                parse("pgweir_2", "select 1"),
                bind("", "pgweir_2"),
                describe_portal(""),
                sync(),
            ],
            &[],
        )
        .gives(
            &[parsed(), bound(), row_description(), ready('I')],
            &[bound(), row_description(), ready('I')],
        )
        .free()
        .uses("s", "pgweir_2")
        .run_whole();
    refused(with_statement())
        .describes(
            "s",
            &[parse("pgweir_2", "select 1"), describe("pgweir_2"), sync()],
        )
        .run();
}

/// A server that parses it only now would give them other columns.
#[test]
fn another_server_is_asked_for_the_columns_that_the_client_knows() {
    for (columns, same) in [(row_description(), true), (no_data(), false)] {
        let script = with_statement()
            .describes("s", &[describe("pgweir_1"), sync()])
            .answers(&[parameter_description(), row_description(), ready('I')])
            .free()
            .runs("alter table t", "ALTER TABLE")
            .give(1)
            .executes(
                "s",
                &[parse("pgweir_1", "select 1"), describe("pgweir_1"), flush()],
            )
            .gives(&[parsed(), parameter_description(), columns], &[]);
        if same {
            script
                .sends(&[], &[bind("", "pgweir_1"), execute(), sync()], &[])
                .answers(&[bound(), complete("SELECT 1"), ready('I')])
                .free()
                .uses("s", "pgweir_1")
                .run();
        } else {
            script
                .sends(
                    &[],
                    &[execute_portal("pgweir_missing"), execute(), sync()],
                    &[],
                )
                .gives(
                    &[error("34000", "no such portal"), ready('I')],
                    &[changed_plan(), ready('I')],
                )
                .free()
                .run();
        }
    }
}

/// Whoever names a format for each column goes by those that it knows, even if it
/// asks for them, too.
#[test]
fn formats_are_of_the_columns_that_the_client_knows() {
    for (formats, goes_by_them) in [(1, false), (2, true)] {
        let script = with_statement()
            .sends(
                &[describe("s"), sync()],
                &[describe("pgweir_1"), sync()],
                &[],
            )
            .answers(&[parameter_description(), row_description(), ready('I')])
            .free();
        let rest = |name| [bind_columns(name, formats), describe_portal(""), sync()].concat();
        let script = script.runs("alter table t", "ALTER TABLE").give(1);
        let prepare = [parse("pgweir_1", "select 1")];
        let asked = [&prepare[..], &[describe("pgweir_1"), flush()]].concat();
        let unasked = [&prepare[..], &[rest("pgweir_1")]].concat();
        let expected = if goes_by_them { asked } else { unasked };
        script.sends(&[rest("s")], &expected, &[]).run_whole();
    }
}

#[test]
fn a_statement_that_a_function_has_dropped_is_parsed_anew() {
    with_statement()
        .runs("do ''", "DO")
        .describes("s", &[describe("pgweir_1"), sync()])
        .gives(
            &[missing("pgweir_1"), ready('I')],
            &[missing("s"), ready('I')],
        )
        .free()
        .on_server(0)
        .describes(
            "s",
            &[parse("pgweir_1", "select 1"), describe("pgweir_1"), sync()],
        )
        .run();
}

// ---- notices ----

#[test]
fn notices_of_a_parse_are_for_those_who_parse() {
    let wordy = notice("identifier will be truncated");
    Script::new()
        .sends(
            &[parse("s", "select 1"), sync()],
            &[parse("pgweir_1", "select 1"), sync()],
            &[],
        )
        .answers(&[wordy.clone(), parsed(), ready('I')])
        .free()
        .sends(
            &[parse("t", "select 1"), sync()],
            &[close("pgweir_1"), parse("pgweir_1", "select 1"), sync()],
            &[],
        )
        .gives(
            &[closed(), wordy.clone(), parsed(), ready('I')],
            &[wordy.clone(), parsed(), ready('I')],
        )
        .free()
        .give(1)
        .executes(
            "s",
            &[
                parse("pgweir_1", "select 1"),
                bind("", "pgweir_1"),
                execute(),
                sync(),
            ],
        )
        .gives(
            &[wordy, parsed(), bound(), complete("SELECT 1"), ready('I')],
            &[bound(), complete("SELECT 1"), ready('I')],
        )
        .free()
        .run();
}

// ---- DEALLOCATE ----

#[test]
fn names_after_deallocate_all_in_a_pipeline_are_new() {
    with_statement()
        .sends(
            &[query("deallocate all"), parse("s", "select 1"), sync()],
            &[query("deallocate all")],
            &[],
        )
        .answers(&[complete("DEALLOCATE ALL"), ready('I')])
        .sends(&[], &[parse("pgweir_1", "select 1"), sync()], &[])
        .answers(&[parsed(), ready('I')])
        .free()
        .on_server(1)
        .run();
}

#[test]
fn the_same_in_the_extended_protocol() {
    let all = [parse("", "deallocate all"), bind("", ""), execute()];
    with_statement()
        .sends(
            &[all.concat(), parse("s", "select 1"), close("t"), sync()],
            &[all.concat(), flush()],
            &[],
        )
        .answers(&[parsed(), bound(), complete("DEALLOCATE ALL")])
        .sends(&[], &[parse("pgweir_3", "select 1"), sync()], &[])
        .gives(&[parsed(), ready('I')], &[parsed(), closed(), ready('I')])
        .free()
        .on_server(1)
        .run();
}
