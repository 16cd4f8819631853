//! What a request is there for, as [`Session::request`] sees it before it is
//! sent to anybody.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::messages::*;
use crate::config::PoolMode;
use crate::flow::{
    Backend, Naming, Output, ParamTable, Params, Pins, Purpose, Session, Shared, Statements,
    Values, Watchlist,
};
use crate::stats::Counters;
use crate::wire::HEADER_LEN;

/// By its first word, as far as these tests go.
fn judge(text: &[u8]) -> Purpose {
    match text {
        b"" => Purpose::Read,
        _ if text.starts_with(b"read") => Purpose::Read,
        _ if text.starts_with(b"begin") => Purpose::BeginReadOnly,
        _ => Purpose::Other,
    }
}

fn session(naming: Naming, encoding: &str) -> Session {
    let mut params = Params::default();
    params.set(b"client_encoding", encoding.as_bytes(), true);
    let params = ParamTable::default().intern(params);
    Session::new(PoolMode::Transaction, naming, params)
}

/// Has a server take these messages, and answer with those.
fn exchange(session: &mut Session, send: &[Bytes], answer: &[Bytes]) {
    let mut statements = Statements::default();
    let mut params = Default::default();
    let counters = Counters::default();
    let mut shared = Shared {
        statements: &mut statements,
        params: &mut params,
        counters: &counters,
        pins: &Pins::default(),
        suspects: &Watchlist::default(),
        values: &Values::default(),
        bounds: Default::default(),
    };
    let mut backend = Backend::new(session.params().clone(), 100);
    let (send, answer, mut buffer) = (send.concat(), answer.concat(), Vec::new());
    let mut out = Output::new(&send, &mut buffer);
    let linked = Some(&mut backend);
    let taken = session.from_client(linked, &send, &mut out, &mut Vec::new(), &mut shared);
    assert_eq!(taken.unwrap().0, send.len());
    let mut buffer = Vec::new();
    let mut out = Output::new(&answer, &mut buffer);
    let taken = backend.from_server(Some(session), &answer, &mut out, &mut shared);
    assert_eq!(taken.unwrap(), answer.len());
    assert!(backend.is_settled(), "the answer is complete");
}

/// A session that has these statements.
fn having(list: &[(&str, &str)]) -> Session {
    let mut session = session(Naming::TheClients, "UTF8");
    prepare(&mut session, list);
    session
}

fn prepare(session: &mut Session, list: &[(&str, &str)]) {
    for (name, text) in list {
        exchange(
            session,
            &[parse(name, text), sync()],
            &[parsed(), ready('I')],
        );
    }
}

fn purpose(session: &Session, messages: &[Bytes]) -> Option<Purpose> {
    let input = messages.concat();
    let (length, purpose) = session.request(&input, &judge)?;
    assert_eq!(length, input.len(), "the length of the request");
    Some(purpose)
}

fn run(text: &str) -> Bytes {
    [parse("", text), bind("", ""), execute()].concat()
}

#[test]
fn a_simple_query_is_what_its_text_is() {
    let session = having(&[]);
    for (text, expected) in [
        ("read", Purpose::Read),
        ("begin", Purpose::BeginReadOnly),
        ("write", Purpose::Other),
    ] {
        assert_eq!(purpose(&session, &[query(text)]), Some(expected));
        // What follows it is another request.
        let input = [query(text), query("write"), sync()].concat();
        let found = session.request(&input, &judge);
        assert_eq!(found, Some((query(text).len(), expected)));
    }
}

#[test]
fn a_pipeline_reads_if_everything_in_it_does() {
    let session = having(&[]);
    let read = run("read 1");
    for (messages, expected) in [
        (vec![sync()], Purpose::Read),
        (vec![read.clone(), sync()], Purpose::Read),
        (
            vec![read.clone(), flush(), run("read 2"), sync()],
            Purpose::Read,
        ),
        (vec![read.clone(), run("write"), sync()], Purpose::Other),
        (vec![run("write"), read.clone(), sync()], Purpose::Other),
        // Parsed is enough.
        (
            vec![read.clone(), parse("s", "write"), sync()],
            Purpose::Other,
        ),
        (
            vec![
                parse("s", "read"),
                describe("s"),
                bind("p", "s"),
                describe_portal("p"),
                sync(),
            ],
            Purpose::Read,
        ),
        (vec![run("read"), close_portal(""), sync()], Purpose::Read),
        // Whatever that does, PostgreSQL shall say it.
        (vec![bind("", "unknown"), execute(), sync()], Purpose::Other),
        (vec![read.clone(), query("read")], Purpose::Other),
        (vec![read.clone(), function_call(), sync()], Purpose::Other),
        (
            vec![read.clone(), copy_data("1"), copy_done(), sync()],
            Purpose::Other,
        ),
        (vec![read.clone(), copy_fail("no"), sync()], Purpose::Other),
    ] {
        assert_eq!(purpose(&session, &messages), Some(expected), "{messages:?}");
    }
    // What follows Sync is another request.
    let input = [read.clone(), sync(), run("write"), sync()].concat();
    let found = session.request(&input, &judge);
    assert_eq!(found, Some((read.len() + 5, Purpose::Read)));
}

#[test]
fn a_pipeline_may_begin_a_transaction_that_only_reads() {
    let session = having(&[("b", "begin")]);
    let of = |messages: &[Bytes]| purpose(&session, &[messages, &[sync()]].concat()).unwrap();
    let begin = [bind("", "b"), execute()].concat();
    for messages in [
        vec![run("begin")],
        vec![begin.clone()],
        vec![begin.clone(), run("read")],
        vec![run("read"), begin.clone(), run("begin")],
    ] {
        assert_eq!(of(&messages), Purpose::BeginReadOnly, "{messages:?}");
    }
    assert_eq!(of(&[begin.clone(), run("write")]), Purpose::Other);
    assert_eq!(of(&[run("write"), begin]), Purpose::Other);
}

#[test]
fn statements_that_were_parsed_before_count() {
    let session = having(&[("r", "read"), ("w", "write"), ("", "read too")]);
    let of = |messages: &[Bytes]| purpose(&session, &[messages, &[sync()]].concat()).unwrap();
    assert_eq!(of(&[bind("", "r"), execute()]), Purpose::Read);
    assert_eq!(of(&[bind("", "w"), execute()]), Purpose::Other);
    assert_eq!(of(&[describe("r"), bind("", ""), execute()]), Purpose::Read);
    assert_eq!(of(&[describe("w")]), Purpose::Other);
    assert_eq!(of(&[close("w")]), Purpose::Other);
    assert_eq!(
        of(&[bind("", "r"), bind("b", "w"), execute()]),
        Purpose::Other
    );
    // In the place of the unnamed one.
    assert_eq!(of(&[run("write")]), Purpose::Other);
    assert_eq!(of(&[bind("", ""), parse("", "write")]), Purpose::Other);
    let session = having(&[("", "write")]);
    let of = |messages: &[Bytes]| purpose(&session, &[messages, &[sync()]].concat()).unwrap();
    assert_eq!(of(&[bind("", ""), execute()]), Purpose::Other);
    assert_eq!(of(&[run("read")]), Purpose::Read);
    assert_eq!(of(&[bind("", ""), run("read")]), Purpose::Other);
}

#[test]
fn names_that_are_taken_or_given_anew_are_not_for_replicas() {
    let session = having(&[("s", "read")]);
    let of = |messages: &[Bytes]| purpose(&session, &[messages, &[sync()]].concat()).unwrap();
    assert_eq!(of(&[parse("s", "read"), bind("", "s")]), Purpose::Other);
    for text in ["read 2", "write"] {
        let anew = [close("s"), parse("s", text), bind("", "s"), execute()];
        assert_eq!(of(&anew), Purpose::Other, "{text}");
    }
    // The name means nothing any more when Bind is read.
    assert_eq!(
        of(&[bind("", "s"), close("s"), bind("", "s")]),
        Purpose::Other
    );
}

#[test]
fn what_was_dropped_is_not_remembered() {
    let mut session = having(&[("s", "read"), ("", "read")]);
    exchange(&mut session, &[close("s"), sync()], &[ready('I')]);
    assert_eq!(
        purpose(&session, &[bind("", "s"), sync()]),
        Some(Purpose::Other)
    );
    // A simple query drops the unnamed statement.
    let answer = [complete("SELECT 1"), ready('I')];
    exchange(&mut session, &[query("read")], &answer);
    assert_eq!(
        purpose(&session, &[bind("", ""), sync()]),
        Some(Purpose::Other)
    );
    prepare(&mut session, &[("s", "read")]);
    exchange(
        &mut session,
        &[query("discard")],
        &[complete("DISCARD ALL"), ready('I')],
    );
    assert_eq!(
        purpose(&session, &[bind("", "s"), sync()]),
        Some(Purpose::Other)
    );
}

#[test]
fn without_following_names_only_what_the_request_parses_is_known() {
    let mut session = session(Naming::TheServers, "UTF8");
    prepare(&mut session, &[("s", "read"), ("", "read")]);
    for name in ["s", ""] {
        assert_eq!(
            purpose(&session, &[bind("", name), sync()]),
            Some(Purpose::Other)
        );
    }
    let request = [parse("s", "read"), bind("", "s"), run("read"), sync()];
    assert_eq!(purpose(&session, &request), Some(Purpose::Read));
}

/// A Parse that gives its parameters these types.
fn parse_typed(name: &str, text: &str, types: &[u32]) -> Bytes {
    let mut body = [name.as_bytes(), b"\0", text.as_bytes(), b"\0"].concat();
    body.extend((types.len() as u16).to_be_bytes());
    for oid in types {
        body.extend(oid.to_be_bytes());
    }
    framed(b'P', &body)
}

fn framed(tag: u8, body: &[u8]) -> Bytes {
    let mut out = Vec::new();
    crate::wire::frame::put_header(&mut out, tag, body.len());
    out.extend_from_slice(body);
    out
}

#[test]
fn a_parameter_of_a_type_of_others_is_no_read() {
    let mut session = having(&[]);
    for (types, expected) in [
        (&[][..], Purpose::Read),
        (&[23, 0, 25, 16_383], Purpose::Read),
        (&[23, 16_384], Purpose::Other),
        (&[u32::MAX], Purpose::Other),
    ] {
        let parse = parse_typed("s", "read", types);
        let request = [parse.clone(), bind("", "s"), execute(), sync()];
        assert_eq!(purpose(&session, &request), Some(expected), "{types:?}");
        exchange(&mut session, &[parse, sync()], &[parsed(), ready('I')]);
        let request = [bind("", "s"), execute(), sync()];
        assert_eq!(purpose(&session, &request), Some(expected), "{types:?}");
        exchange(&mut session, &[close("s"), sync()], &[ready('I')]);
    }
}

#[test]
fn a_text_in_an_encoding_that_hides_ascii_is_not_judged_later() {
    for (encoding, text, expected) in [
        ("SJIS", "read é", Purpose::Other),
        ("SJIS", "read", Purpose::Read),
        ("LATIN1", "read é", Purpose::Read),
    ] {
        let mut session = session(Naming::TheClients, encoding);
        prepare(&mut session, &[("s", text), ("", text)]);
        for name in ["s", ""] {
            let request = [bind("", name), execute(), sync()];
            assert_eq!(
                purpose(&session, &request),
                Some(expected),
                "{encoding} {text}"
            );
        }
    }
}

#[test]
fn a_text_with_backslashes_that_escape_is_not_judged_later() {
    for (setting, text, expected) in [
        ("off", "read '\\'", Purpose::Other),
        ("off", "read", Purpose::Read),
        ("on", "read '\\'", Purpose::Read),
    ] {
        let mut params = Params::default();
        params.set(b"standard_conforming_strings", setting.as_bytes(), true);
        let params = ParamTable::default().intern(params);
        let mut session = Session::new(PoolMode::Transaction, Naming::TheClients, params);
        prepare(&mut session, &[("s", text)]);
        let request = [bind("", "s"), execute(), sync()];
        let found = purpose(&session, &request);
        assert_eq!(found, Some(expected), "{setting} {text}");
    }
}

#[test]
fn garbage_is_not_for_replicas() {
    let session = having(&[("r", "read")]);
    let nul_inside = framed(b'Q', b"read\0write\0");
    assert_eq!(
        purpose(&session, &[nul_inside]),
        Some(Purpose::Read),
        "the text ends at NUL"
    );
    for garbage in [framed(b'Q', b"read"), framed(b'Q', b"")] {
        assert_eq!(purpose(&session, &[garbage]), Some(Purpose::Other));
    }
    for garbage in [
        framed(b'P', b"s\0read"),
        framed(b'P', b"s\0read\0"),
        framed(b'P', b"s\0read\0\0\x01"),
        framed(b'P', b""),
        framed(b'B', b"\0r"),
        framed(b'D', b"Xr\0"),
        framed(b'D', b""),
        framed(b'C', b"S"),
        framed(b'X', b""),
        framed(b'p', b"secret\0"),
        framed(b'z', b""),
    ] {
        let request = [garbage.clone(), run("read"), sync()];
        assert_eq!(
            purpose(&session, &request),
            Some(Purpose::Other),
            "{garbage:?}"
        );
    }
    assert_eq!(
        purpose(&session, &[run("read"), b"Q\0\0\0\0".to_vec()]),
        None
    );
    assert_eq!(
        purpose(&session, &[b"Q\xff\xff\xff\xffread\0".to_vec()]),
        None
    );
}

#[test]
fn nothing_is_said_of_a_request_that_is_incomplete() {
    let session = having(&[("r", "read")]);
    for request in [
        query("read"),
        [run("read"), bind("p", "r"), execute_portal("p"), sync()].concat(),
        [run("write"), flush(), sync()].concat(),
    ] {
        for end in 0..request.len() {
            assert_eq!(session.request(&request[..end], &judge), None, "{end}");
        }
        assert!(session.request(&request, &judge).is_some());
    }
}

#[test]
fn a_request_ends_at_sync_query_or_the_end_of_a_copy() {
    let session = having(&[]);
    let rest = [query("a"), sync()].concat();
    for request in [
        query("read"),
        function_call(),
        [run("read"), flush(), sync()].concat(),
        [copy_data("1"), copy_data("2"), copy_done()].concat(),
        [copy_data("1"), copy_fail("no")].concat(),
        // PostgreSQL takes it, too, though nobody sends it.
        [run("read"), query("read")].concat(),
    ] {
        let input = [&request[..], &rest].concat();
        assert_eq!(session.request_end(&input), request.len());
        for end in 0..request.len() {
            // Half a header is left where it is.
            let found = session.request_end(&input[..end]);
            assert!(found <= end && end - found < HEADER_LEN, "{found} of {end}");
        }
    }
}

#[test]
fn the_rest_of_a_long_message_belongs_to_its_request() {
    let mut session = having(&[]);
    let long = copy_data(&"x".repeat(100_000));
    let (front, rest) = long.split_at(50_000);
    let mut backend = Backend::new(session.params().clone(), 1);
    let (mut statements, mut params) = (Statements::default(), Default::default());
    let counters = Counters::default();
    let mut shared = Shared {
        statements: &mut statements,
        params: &mut params,
        counters: &counters,
        pins: &Pins::default(),
        suspects: &Watchlist::default(),
        values: &Values::default(),
        bounds: Default::default(),
    };
    let mut buffer = Vec::new();
    let mut out = Output::new(front, &mut buffer);
    let linked = Some(&mut backend);
    assert!(!session.is_inside_message());
    session
        .from_client(linked, front, &mut out, &mut Vec::new(), &mut shared)
        .unwrap();
    assert!(session.is_inside_message());
    let input = [rest, &copy_done(), &query("next")].concat();
    assert_eq!(session.request_end(&input), rest.len() + copy_done().len());
    assert_eq!(session.request_end(&rest[..100]), 100);
}

// ---- any request ----

#[derive(Clone, Debug)]
enum Ask {
    Parse(&'static str, &'static str),
    Bind(&'static str, &'static str),
    Describe(&'static str),
    Close(&'static str),
    ClosePortal(&'static str),
    Execute(&'static str),
    Flush,
    Query(&'static str),
    Copy,
}

impl Ask {
    fn bytes(&self) -> Bytes {
        match self {
            Ask::Parse(name, text) => parse(name, text),
            Ask::Bind(portal, name) => bind(portal, name),
            Ask::Describe(name) => describe(name),
            Ask::Close(name) => close(name),
            Ask::ClosePortal(name) => close_portal(name),
            Ask::Execute(portal) => execute_portal(portal),
            Ask::Flush => flush(),
            Ask::Query(text) => query(text),
            Ask::Copy => copy_done(),
        }
    }
}

fn asks() -> impl Strategy<Value = Ask> {
    let name = || prop_oneof![Just(""), Just("a"), Just("b")];
    let text = || prop_oneof![4 => Just("read"), 1 => Just("write")];
    prop_oneof![
        4 => (name(), text()).prop_map(|(name, text)| Ask::Parse(name, text)),
        6 => (name(), name()).prop_map(|(portal, name)| Ask::Bind(portal, name)),
        2 => name().prop_map(Ask::Describe),
        2 => name().prop_map(Ask::Close),
        1 => name().prop_map(Ask::ClosePortal),
        6 => name().prop_map(Ask::Execute),
        1 => Just(Ask::Flush),
        1 => text().prop_map(Ask::Query),
        1 => Just(Ask::Copy),
    ]
}

/// PostgreSQL's side: what is parsed and run of a request, errors or not.
#[derive(Default)]
struct Server {
    statements: HashMap<&'static str, &'static str>,
    portals: HashMap<&'static str, &'static str>,
    touched: HashSet<&'static str>,
}

impl Server {
    /// False: an error.
    fn takes(&mut self, ask: &Ask) -> bool {
        match ask {
            Ask::Parse(name, text) => {
                self.touched.insert(text);
                let free = name.is_empty() || !self.statements.contains_key(name);
                if free {
                    self.statements.insert(name, text);
                }
                free
            }
            Ask::Bind(portal, name) => {
                let Some(text) = self.statements.get(name) else {
                    return false;
                };
                let free = portal.is_empty() || !self.portals.contains_key(portal);
                if free {
                    self.portals.insert(portal, text);
                }
                free
            }
            Ask::Describe(name) => self.statements.contains_key(name),
            Ask::Close(name) => {
                self.statements.remove(name);
                true
            }
            Ask::ClosePortal(name) => {
                self.portals.remove(name);
                true
            }
            Ask::Execute(portal) => {
                self.touched.extend(self.portals.get(portal));
                self.portals.contains_key(portal)
            }
            Ask::Flush | Ask::Copy => true,
            Ask::Query(text) => {
                self.touched.insert(text);
                true
            }
        }
    }
}

proptest! {
    /// Whatever a server makes of a request that is called a read: it parses and
    /// runs nothing that is none.
    #[test]
    fn no_request_that_writes_is_called_a_read(
        before in vec((prop_oneof![Just(""), Just("a"), Just("b")], prop_oneof![Just("read"), Just("write")]), 0..3),
        request in vec(asks(), 0..12),
    ) {
        let mut server = Server::default();
        let mut session = session(Naming::TheClients, "UTF8");
        for (name, text) in before {
            if server.takes(&Ask::Parse(name, text)) {
                prepare(&mut session, &[(name, text)]);
            }
        }
        server.touched.clear();
        let seen = RefCell::new(HashSet::new());
        let noting = |text: &[u8]| {
            seen.borrow_mut().insert(text.to_vec());
            judge(text)
        };
        let mut input: Bytes = request.iter().flat_map(Ask::bytes).collect();
        input.extend(sync());
        let (length, purpose) = session.request(&input, &noting).expect("it is complete");
        let own_end = request.iter().position(|ask| matches!(ask, Ask::Query(_)));
        let own = &request[..own_end.map_or(request.len(), |at| at + 1)];
        prop_assert_eq!(length, own.iter().map(|ask| ask.bytes().len()).sum::<usize>()
            + if own_end.is_some() { 0 } else { 5 });
        let good = own.iter().all(|ask| server.takes(ask));
        if purpose == Purpose::Read {
            prop_assert!(!server.touched.contains("write"), "{own:?}");
        } else if good && own_end.is_none() {
            // It is not called anything else without reason.
            let reason = |ask: &Ask| matches!(ask, Ask::Close(_) | Ask::ClosePortal(_) | Ask::Copy);
            let writes = seen.borrow().contains(&b"write"[..]);
            prop_assert!(writes || own.iter().any(reason), "{own:?}");
        }
    }
}

#[test]
fn parts_that_only_read() {
    let session = having(&[("r", "read"), ("w", "write")]);
    let reads = |messages: &[Bytes]| session.only_reads(&messages.concat(), &judge);
    let flush = framed(b'H', b"");
    let read = [parse("s", "read"), describe("s"), flush.clone()];
    let bound = [bind("", "r"), execute(), sync()];
    for part in [
        &[][..],
        &read,
        &bound,
        &[query("read"), query("read")],
        &[&bound[..], &read].concat(),
    ] {
        assert!(reads(part), "{part:?}");
    }
    for part in [
        &[parse("s", "write"), describe("s"), flush][..],
        &[bind("", "w"), execute(), sync()],
        &[query("read"), query("write")],
        &[query("read"), framed(b'd', b"x")],
        &[query("read"), query("read")[..7].to_vec()],
    ] {
        assert!(!reads(part), "{part:?}");
    }
}
