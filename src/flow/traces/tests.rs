use super::*;
use crate::sql::Dialect;

/// A server connection that reports its time zone.
struct Server {
    params: Params,
    values: Values,
    traces: Traces,
}

impl Server {
    fn new() -> Server {
        let mut params = Params::default();
        params.set(b"TimeZone", b"UTC", true);
        Server {
            params,
            values: Values::default(),
            traces: Traces::default(),
        }
    }

    /// A client's simple query.
    fn runs(mut self, text: &str) -> Server {
        self.add(text);
        self.traces.sent_by(FrontendTag::Query, None);
        self
    }

    /// Its text is bound to this portal, and then this is sent.
    fn binds(mut self, text: &str, portal: &str, next: &[(FrontendTag, &[u8])]) -> Server {
        self.add(text);
        self.traces
            .sent_by(FrontendTag::Bind, Some(portal.as_bytes()));
        for (tag, body) in next {
            self.traces.follow(*tag, Some(body));
        }
        self
    }

    fn add(&mut self, text: &str) {
        if let Some(effects) = Effects::of(text.as_bytes(), Dialect::default()) {
            self.traces.add(&effects, Some(&self.values));
        }
    }

    fn fails(mut self) -> Server {
        self.traces.fail();
        self
    }

    fn question(&self) -> Option<String> {
        let suspects = Suspects::default();
        let question = self
            .traces
            .question(&self.params, Features::empty(), false, &suspects)?;
        let question = String::from_utf8(question).unwrap();
        Some(question.replace("pg_catalog.", ""))
    }

    /// Its transaction is over, and the server answers with these rows.
    #[track_caller]
    fn ends(mut self, rows: &[(&str, &str)]) -> Server {
        assert_eq!(self.question().is_some(), !rows.is_empty());
        let rows = rows.iter().map(|(name, value)| {
            let mut row = 2_u16.to_be_bytes().to_vec();
            for column in [name, value] {
                row.extend_from_slice(&(column.len() as u32).to_be_bytes());
                row.extend_from_slice(column.as_bytes());
            }
            row
        });
        let finding = Finding {
            rows: rows.collect(),
            ..Finding::default()
        };
        self.traces.teach(&finding, &self.values);
        let stock = self.traces.conclude(&self.params, None, Some(&finding));
        self.params = stock.params;
        self.traces = Traces::default();
        self
    }

    fn has(&self, name: &str) -> Option<&str> {
        let value = self.params.get(name.as_bytes())?;
        Some(std::str::from_utf8(value).unwrap())
    }
}

fn ask(names: &[&str]) -> Option<String> {
    let row = |name: &&str| format!("('={name}', current_setting('{name}', true))");
    let rows: Vec<_> = names.iter().map(row).collect();
    Some(format!("VALUES {}", rows.join(", ")))
}

const SET: &str = "set statement_timeout = 5000";

#[test]
fn the_server_is_asked_once_what_a_literal_is() {
    let server = Server::new().runs(SET);
    assert_eq!(server.question(), ask(&["statement_timeout"]));
    let server = server.ends(&[("=statement_timeout", "5s")]);
    assert_eq!(server.has("statement_timeout"), Some("5s"));

    let again = server.runs("SET SESSION Statement_Timeout TO 5000;");
    let server = again.ends(&[]);
    assert_eq!(server.has("statement_timeout"), Some("5s"));

    // Another one is another question; what is known is not asked.
    let server = server
        .runs("set lock_timeout = 5000")
        .runs("begin")
        .runs(SET);
    assert_eq!(server.question(), ask(&["lock_timeout"]));
    let server = server.ends(&[("=lock_timeout", "5s")]);
    let server = server.runs(SET).runs("set lock_timeout = 5000").ends(&[]);
    assert_eq!(server.has("lock_timeout"), Some("5s"));
}

#[test]
fn what_the_server_reports_is_not_asked() {
    Server::new().runs("set timezone to 'Asia/Tokyo'").ends(&[]);
    let server = Server::new().runs("set timezone = 'UTC'; set work_mem = 5000");
    assert_eq!(server.question(), ask(&["work_mem"]));
}

#[test]
fn what_may_not_have_run_is_asked() {
    let known = || {
        Server::new()
            .runs(SET)
            .ends(&[("=statement_timeout", "5s")])
    };
    assert_eq!(known().runs(SET).question(), None);
    assert!(known().runs(SET).fails().question().is_some());
    assert!(known().runs(SET).runs("do ''").question().is_some());
    let (describe, execute, sync) = (
        (FrontendTag::Describe, &b"P\0"[..]),
        (FrontendTag::Execute, &b"\0\0\0\0\0"[..]),
        (FrontendTag::Sync, &b""[..]),
    );
    let bind = (FrontendTag::Bind, &b"\0"[..]);
    let other = (FrontendTag::Execute, &b"p\0\0\0\0\0"[..]);
    for next in [&[execute][..], &[execute, bind], &[describe, execute, sync]] {
        assert_eq!(known().binds(SET, "", next).question(), None, "{next:?}");
    }
    for next in [
        &[][..],
        &[describe],
        &[sync, execute],
        &[bind, execute],
        &[other],
    ] {
        let asked = known().binds(SET, "", next).question();
        assert_eq!(asked, ask(&["statement_timeout"]), "{next:?}");
    }
    assert!(known().binds(SET, "p", &[other]).question().is_some());
}

#[test]
fn values_are_not_learned_where_they_are_shown_otherwise() {
    let on = "set quote_all_identifiers = on; set search_path = a";
    let server = Server::new()
        .runs(on)
        .ends(&[("=quote_all_identifiers", "on"), ("=search_path", "\"a\"")]);
    assert!(server.runs("set search_path = a").question().is_some());
}

#[test]
fn a_reset_needs_no_question_if_it_has_run() {
    let set = || {
        let set = Server::new().runs("set work_mem = '5MB'; set app.a = 'x'; set role bob");
        set.ends(&[("=work_mem", "5MB"), ("=app.a", "x"), ("=role", "bob")])
    };
    let server = set().runs("begin").runs("reset work_mem").ends(&[]);
    assert_eq!(
        (server.has("work_mem"), server.has("app.a")),
        (None, Some("x"))
    );
    let server = set().runs("set work_mem = '7MB'").runs("reset work_mem");
    assert_eq!(server.ends(&[]).has("work_mem"), None);
    assert!(set().runs("reset work_mem").fails().question().is_some());

    // What an application's setting goes back to is not known.
    let server = set().runs("reset all");
    assert_eq!(server.question(), ask(&["app.a"]));
    let server = server.ends(&[("=app.a", "default")]);
    assert_eq!(server.has("app.a"), Some("default"));
    assert_eq!(
        (server.has("work_mem"), server.has("role")),
        (None, Some("bob"))
    );
    let server = set().runs("reset all; set app.a = 'x'").ends(&[]);
    assert_eq!(server.has("app.a"), Some("x"));
}

#[test]
fn what_is_reset_is_again_what_the_client_began_with() {
    let mut start = Params::default();
    for (name, value) in [
        ("TimeZone", "Asia/Tokyo"),
        ("work_mem", "1MB"),
        ("jit", "off"),
    ] {
        start.set(name.as_bytes(), value.as_bytes(), false);
    }
    let client = |texts: &[&str]| {
        let mut server = Server::new();
        server.params.set(b"work_mem", b"5MB", false);
        let server = texts.iter().fold(server, |server, text| server.runs(text));
        assert_eq!(server.question(), None, "{texts:?}");
        let stock = server.traces.conclude(&server.params, None, None);
        let mine = stock.of_client(&start);
        let value = |name: &str| {
            let value = mine.get(name.as_bytes()).unwrap_or_default();
            String::from_utf8(value.to_vec()).unwrap()
        };
        ["TimeZone", "work_mem", "jit"].map(value)
    };
    assert_eq!(client(&["reset work_mem"]), ["UTC", "1MB", ""]);
    assert_eq!(client(&["reset timezone"]), ["Asia/Tokyo", "5MB", ""]);
    assert_eq!(client(&["reset all"]), ["Asia/Tokyo", "1MB", "off"]);
    let kept = client(&["reset all", "set timezone = 'UTC'"]);
    assert_eq!(kept, ["UTC", "1MB", "off"]);
}

/// What pgweir sets in order to ask is not taken for what the client has set.
#[test]
fn settings_are_asked_for_ahead_of_what_takes_another_one() {
    let function = "create function f() returns text language sql \
        as 'select set_config(''work_mem'', ''1MB'', false)'";
    let question = Server::new().runs(function).runs("do ''").question();
    let question = question.unwrap();
    let [settings, jit] = ["FROM pg_settings", "SET LOCAL jit"].map(|part| question.find(part));
    assert!(settings.is_some() && settings < jit, "{question}");
    let alone = Server::new().runs(function).question().unwrap();
    assert!(alone.starts_with("SET LOCAL jit = off; "), "{alone}");
}
