//! A look-up: its answer is kept, and nobody else sees it.

use std::rc::Rc;
use std::sync::Arc;

use super::messages::*;
use crate::flow::{
    Backend, Finding, Output, ParamTable, Pins, Release, ServerFault, Shared, Statements, Texts,
    Values, Watchlist,
};
use crate::stats::Counters;
use crate::wire::Header;

fn asked() -> Backend {
    let mut backend = Backend::new(Rc::default(), 10);
    let mut out = Vec::new();
    backend.look_up(b"select $1", b"ann", &mut out);
    let mut tags = String::new();
    let mut rest = &out[..];
    while let Some(header) = Header::peek(rest).unwrap() {
        tags.push(header.tag.into());
        rest = &rest[header.total..];
    }
    assert_eq!((tags.as_str(), rest), ("PBDES", &[][..]));
    assert_eq!(backend.release(), Release::Dirty);
    backend
}

/// Gives the backend these bytes, so many at a time.
fn feed(backend: &mut Backend, bytes: &[u8], at_once: usize) -> Result<(), ServerFault> {
    let (mut input, mut sent) = (Vec::new(), Vec::new());
    let counters = Counters::default();
    let mut statements = Statements::new(Arc::new(Texts::default()));
    for part in bytes.chunks(at_once) {
        input.extend_from_slice(part);
        let mut shared = Shared {
            statements: &mut statements,
            params: &mut ParamTable::default(),
            counters: &counters,
            pins: &Pins::default(),
            suspects: &Watchlist::default(),
            values: &Values::default(),
            bounds: Default::default(),
        };
        let mut out = Output::new(&input, &mut sent);
        let taken = backend.from_server(None, &input, &mut out, &mut shared)?;
        assert!(out.finish().is_empty());
        input.drain(..taken);
    }
    assert!(input.is_empty());
    Ok(())
}

/// What it finds when it is answered so, however the answer is cut.
#[track_caller]
fn finding(answer: &[Bytes]) -> Finding {
    let answer = answer.concat();
    let at_once = |size: usize| {
        let mut backend = asked();
        feed(&mut backend, &answer, size).unwrap();
        assert_eq!(backend.release(), Release::Ready);
        *backend.take_finding().unwrap()
    };
    let whole = at_once(answer.len());
    assert!((1..answer.len()).all(|size| at_once(size) == whole));
    whole
}

fn start() -> [Bytes; 3] {
    [parsed(), bound(), row_description()]
}

fn body(message: Bytes) -> Vec<u8> {
    message[5..].to_vec()
}

#[test]
fn rows_are_kept_up_to_two() {
    let rows = |rows: &[&str]| {
        let mut answer = start().to_vec();
        answer.extend(rows.iter().map(|text| row(text)));
        answer.extend([complete("SELECT"), ready('I')]);
        finding(&answer)
    };
    assert_eq!(rows(&[]).columns, Some(1));
    assert_eq!(rows(&[]).rows, Vec::<Bytes>::new());
    assert_eq!(rows(&["one"]).rows, [body(row("one"))]);
    let two = [body(row("one")), body(row("two"))];
    assert_eq!(rows(&["one", "two", "three"]).rows, two);
}

#[test]
fn an_error_is_kept_wherever_it_comes() {
    let failed = error("42601", "syntax error");
    for before in 0..4 {
        let mut answer = start()[..before.min(3)].to_vec();
        answer.extend([failed.clone(), ready('I')]);
        assert_eq!(finding(&answer).error, Some(body(failed.clone())));
    }
}

#[test]
fn a_query_without_rows() {
    let answer = [parsed(), bound(), no_data(), complete("SET"), ready('I')];
    assert_eq!(finding(&answer), Finding::default());
}

#[test]
fn what_else_a_query_may_do_is_no_answer() {
    let mut backend = asked();
    let answer = [parsed(), bound(), copy_in()].concat();
    let fault = feed(&mut backend, &answer, answer.len());
    assert_eq!(fault, Err(ServerFault::Unexpected { tag: 'G' }));
    assert_eq!(backend.release(), Release::Broken);
}

#[test]
fn nobody_waits_for_it_any_more() {
    let mut backend = asked();
    backend.take_finding();
    let answer = [&start()[..], &[row("x"), complete("SELECT"), ready('I')]].concat();
    feed(&mut backend, &answer.concat(), 7).unwrap();
    assert_eq!(backend.release(), Release::Ready);
    assert_eq!(backend.take_finding(), None);
}
