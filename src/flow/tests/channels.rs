//! LISTEN, which another connection is there for.

use super::messages::*;
use super::script::Script;
use crate::flow::Release;

const LISTEN: &str = "listen channel";

fn unlisten() -> Bytes {
    query("UNLISTEN \"channel\";")
}

#[test]
fn the_server_answers_and_listens_no_longer() {
    Script::new()
        .carrying()
        .passes(&[query(LISTEN)])
        // What it hears itself the other one hears, too.
        .gives(
            &[complete("LISTEN"), notification(), ready('I')],
            &[complete("LISTEN"), ready('I')],
        )
        .hears(&["channel"])
        .release(Release::Dirty)
        .unlistens(&[unlisten()])
        .gives(&[notification(), complete("UNLISTEN"), ready('I')], &[])
        .free()
        .hears(&["channel"])
        .passes(&[query("unlisten *")])
        .answers(&[complete("UNLISTEN"), ready('I')])
        .free()
        .hears(&[])
        .run();
}

/// Nobody else listens for a DO that may have said LISTEN, also not while the server is
/// asked something by pgweir.
#[test]
fn what_may_be_heard_unseen_is_not_withheld() {
    Script::new()
        .carrying()
        .passes(&[query("do 'begin listen channel; end'")])
        .answers(&[complete("DO"), ready('I')])
        .passes_behind("DISCARD SEQUENCES", "select currval('s')")
        .gives(
            &[complete("DISCARD SEQUENCES"), notification(), ready('I')],
            &[notification()],
        )
        .answers(&[row("1"), complete("SELECT 1"), ready('I')])
        .run();
}

#[test]
fn what_was_sent_before_is_over_when_it_listens() {
    Script::new()
        .carrying()
        .sends(
            &[query("notify channel"), query(LISTEN)],
            &[query("notify channel")],
            &[],
        )
        .answers(&[complete("NOTIFY"), ready('I')])
        .sends(&[], &[query(LISTEN)], &[])
        .answers(&[complete("LISTEN"), ready('I')])
        .hears(&["channel"])
        .run();
}

#[test]
fn a_portal_outlasts_the_transaction_before_its_own() {
    let wrong = [parse("", "select +"), bind("", ""), execute(), sync()].concat();
    let listen = [parse("l", LISTEN), bind("", "l")].concat();
    let on_server = [parse("pgweir_2", LISTEN), bind("", "pgweir_2")].concat();
    Script::new()
        .carrying()
        .sends(
            &[wrong.clone(), listen, execute(), sync()],
            &[wrong, on_server],
            &[],
        )
        .answers(&[error("42601", "syntax error"), ready('I')])
        .sends(&[], &[execute(), sync()], &[])
        .answers(&[parsed(), bound(), complete("LISTEN"), ready('I')])
        .hears(&["channel"])
        .run();
}

#[test]
fn a_transaction_decides_at_its_end() {
    Script::new()
        .carrying()
        .passes(&[query("begin")])
        .answers(&[complete("BEGIN"), ready('T')])
        .passes(&[query(LISTEN)])
        .answers(&[complete("LISTEN"), ready('T')])
        .hears(&[])
        .unlistens(&[])
        .passes(&[query("rollback")])
        .answers(&[complete("ROLLBACK"), ready('I')])
        .hears(&[])
        .unlistens(&[unlisten()])
        .gives(&[complete("UNLISTEN"), ready('I')], &[])
        .free()
        .run();
}

#[test]
fn what_the_server_skips_is_not_heard() {
    let listen = [parse("l", LISTEN), bind("", "l"), execute()].concat();
    let on_server = [parse("pgweir_1", LISTEN), bind("", "pgweir_1"), execute()].concat();
    let wrong = [parse("", "select +"), bind("", ""), execute()].concat();
    let failed = error("42601", "syntax error");
    Script::new()
        .carrying()
        .sends(
            &[listen.clone(), wrong.clone(), sync()],
            &[on_server, wrong.clone(), sync()],
            &[],
        )
        .answers(&[
            parsed(),
            bound(),
            complete("LISTEN"),
            failed.clone(),
            ready('I'),
        ])
        .hears(&[])
        .unlistens(&[unlisten()])
        .gives(&[complete("UNLISTEN"), ready('I')], &[])
        .free()
        .sends(
            &[wrong.clone(), bind("", "l"), execute(), sync()],
            &[wrong, bind("", "pgweir_1"), execute(), sync()],
            &[],
        )
        .answers(&[failed, ready('I')])
        .hears(&[])
        .sends(
            &[bind("", "l"), execute(), sync()],
            &[bind("", "pgweir_1"), execute(), sync()],
            &[],
        )
        .answers(&[bound(), complete("LISTEN"), ready('I')])
        .hears(&["channel"])
        .run();
}

#[test]
fn what_was_sent_before_an_unlisten_comes_before_it() {
    let unlistens = |script: Script| {
        script
            .unlistens(&[unlisten()])
            .gives(&[complete("UNLISTEN"), ready('I')], &[])
            .free()
    };
    let script = Script::new()
        .carrying()
        .passes(&[query(LISTEN)])
        .answers(&[complete("LISTEN"), ready('I')])
        .asked(1);
    unlistens(script)
        .passes(&[query("select 1")])
        .answers(&[complete("SELECT 1"), ready('I')])
        .asked(1)
        .passes(&[query("unlisten other")])
        .answers(&[complete("UNLISTEN"), ready('I')])
        .asked(2)
        .passes(&[query("unlisten *")])
        .answers(&[complete("UNLISTEN"), ready('I')])
        .asked(3)
        // It hears nothing any more.
        .passes(&[query("unlisten *")])
        .answers(&[complete("UNLISTEN"), ready('I')])
        .asked(3)
        .run();
}

#[test]
fn who_asks_is_told_what_the_client_listens_to() {
    let asks = query("select pg_listening_channels()");
    let recited = [query("LISTEN \"channel\";"), asks.clone()];
    let answer = [row("channel"), complete("SELECT 1"), ready('I')];
    let own = [complete("LISTEN"), ready('I')];
    Script::new()
        .carrying()
        .passes(&[query(LISTEN)])
        .answers(&[complete("LISTEN"), ready('I')])
        .unlistens(&[unlisten()])
        .gives(&[complete("UNLISTEN"), ready('I')], &[])
        .free()
        .sends(std::slice::from_ref(&asks), &recited, &[])
        .gives(&[&own[..], &answer].concat(), &answer)
        .unlistens(&[unlisten()])
        .gives(&[complete("UNLISTEN"), ready('I')], &[])
        .free()
        // After another one in the same write.
        .sends(&[query("commit"), asks.clone()], &[query("commit")], &[])
        .answers(&[complete("COMMIT"), ready('I')])
        .sends(&[], &recited, &[])
        .gives(&[&own[..], &answer].concat(), &answer)
        .run();
}
