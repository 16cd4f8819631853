//! Reads a text whose words matter.

use std::iter;

use super::literal::literal;
use super::suspects::may_hide;
use super::{Effects, Features};
use crate::sql::keyword::{Command, classify};
use crate::sql::lexer::{Dialect, TokenKind};
use crate::sql::statements::Statements;
use crate::sql::tokens::{Token, Tokens};

pub(super) fn effects(text: &[u8], dialect: Dialect) -> Effects {
    let mut effects = Effects {
        names_statements: lists_statements(text),
        ..Effects::default()
    };
    for statement in Statements::new(text, dialect) {
        effects.opaque |= statement.broken;
        let mut tokens = Tokens::new(statement.text, dialect);
        begin(&mut effects, &mut tokens);
        effects.alters_code |= effects.makes_code && may_hide(statement.text);
        effects.names_statements |=
            deallocates(statement.text, dialect) && !deallocates(text, dialect);
        let mut all = Tokens::new(statement.text, dialect);
        words(&mut effects, &mut all);
    }
    effects
}

/// What the first words of a statement say.
fn begin(effects: &mut Effects, tokens: &mut Tokens<'_>) {
    let Some(first) = tokens.advance() else {
        return;
    };
    let is = |keyword: &str| first.is_word(keyword);
    if is("set") {
        set(effects, tokens);
    } else if is("reset") {
        reset(effects, tokens);
    } else if is("discard") {
        effects.releases = true;
        if tokens.accept("all") {
            effects.reset_all();
        }
    } else if is("prepare") {
        match tokens.accept("transaction") {
            true => effects.transaction = true,
            false => prepared(effects),
        }
    } else if is("listen") {
        effects.leaves |= Features::LISTEN;
    } else if is("load") {
        effects.leaves |= Features::LIBRARY;
    } else if is("do") || is("call") {
        effects.opaque = true;
        effects.names_statements |= is("do") && prepares_inside(tokens);
    } else if is("drop") && tokens.accept("database") {
        effects.needs_empty_database = true;
    } else if is("create") && tokens.accept("database") {
        effects.needs_empty_database |= has_word(tokens, &["template"]);
    } else if is("deallocate") || is("unlisten") || is("close") || is("drop") {
        effects.releases = true;
    } else if is("create") && makes_code(tokens) {
        effects.makes_code = true;
    } else if is("alter") && tokens.accept("database") {
        let mut ahead = tokens.clone();
        effects.needs_empty_database |= has_word(&mut ahead, &["rename", "tablespace"]);
        effects.alters_defaults |= has_word(tokens, &["set", "reset"]);
    } else if is("alter") && (tokens.accept("role") || is_user(tokens)) {
        effects.alters_defaults |= has_word(tokens, &["set", "reset"]);
    } else if [
        "begin",
        "start",
        "commit",
        "end",
        "rollback",
        "abort",
        "savepoint",
        "release",
    ]
    .iter()
    .any(|word| is(word))
    {
        effects.transaction = true;
        effects.unsettled |= effects.goes_back() && (is("rollback") || is("abort"));
    }
}

fn prepared(effects: &mut Effects) {
    effects.leaves |= Features::PREPARE;
    effects.names_statements = true;
}

/// Whether it is DEALLOCATE of one name, and nothing else: where the client has given
/// the name by Parse, that is answered by pgweir (`flow/session/own.rs`).
fn deallocates(text: &[u8], dialect: Dialect) -> bool {
    matches!(classify(text, dialect), Command::Deallocate(_))
}

/// Whether the view is named anywhere, the body of a `DO` included.
fn lists_statements(text: &[u8]) -> bool {
    contains(text, b"pg_prepared_statement")
}

/// Whether the body of a `DO` may name statements. `EXECUTE` runs a text there, which
/// can begin with the same word.
fn prepares_inside(tokens: &Tokens<'_>) -> bool {
    let mut tokens = tokens.clone();
    let words: [&[u8]; 3] = [b"prepare ", b"deallocate ", b"'execute "];
    iter::from_fn(|| tokens.advance())
        .any(|token| token.is_string() && words.iter().any(|word| contains(token.text, word)))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    let mut windows = text.windows(word.len());
    windows.any(|window| window.eq_ignore_ascii_case(word))
}

/// `CREATE` of what may run a function unseen.
fn makes_code(tokens: &mut Tokens<'_>) -> bool {
    const CODE: [&str; 6] = ["function", "procedure", "trigger", "view", "rule", "event"];
    for qualifier in ["or", "replace", "constraint", "materialized", "recursive"] {
        tokens.accept(qualifier);
    }
    CODE.iter().any(|word| tokens.accept(word))
}

/// `USER` that is not `USER MAPPING`.
fn is_user(tokens: &mut Tokens<'_>) -> bool {
    tokens.accept("user") && !tokens.accept("mapping")
}

fn has_word(tokens: &mut Tokens<'_>, wanted: &[&str]) -> bool {
    while let Some(token) = tokens.advance() {
        if wanted.iter().any(|word| token.is_word(word)) {
            return true;
        }
    }
    false
}

/// `VariableSetStmt` of gram.y.
fn set(effects: &mut Effects, tokens: &mut Tokens<'_>) {
    if tokens.accept("local") {
        effects.unsettled |= effects.goes_back();
        return;
    }
    if tokens.accept("session") {
        if tokens.accept("characteristics") {
            for name in ["isolation", "read_only", "deferrable"] {
                effects.set(boxed(&format!("default_transaction_{name}")), None);
            }
            return;
        }
        if tokens.accept("authorization") {
            effects.leaves |= Features::AUTHORIZATION;
            // It takes the role back (miscinit.c, SetSessionAuthorization).
            effects.reset(boxed("role"));
            return;
        }
    }
    let mut ahead = tokens.clone();
    if ahead.accept("transaction") || ahead.accept("constraints") {
        return;
    }
    // After `FROM CURRENT` and other words the text does not tell the value.
    let mut is_literal = false;
    let name: Box<[u8]> = if ahead.accept("time") && ahead.accept("zone") {
        *tokens = ahead;
        boxed("timezone")
    } else if let Some(name) = short_form(tokens) {
        boxed(name)
    } else if let Some(name) = setting_name(tokens) {
        is_literal = tokens.accept("to") || tokens.accept_symbol(b'=');
        if !is_literal && !tokens.accept("from") {
            // A syntax error.
            return;
        }
        name
    } else {
        effects.opaque = true;
        return;
    };
    if &*name == b"seed" {
        effects.leaves |= Features::SEED;
        return;
    }
    let goes_back = tokens.accept("default") || (&*name == b"timezone" && tokens.accept("local"));
    if goes_back {
        return effects.reset(name);
    }
    let literal = is_literal.then(|| literal(&name, tokens.clone())).flatten();
    effects.set(name, literal);
}

/// Forms of SET that name a setting by another word, up to the value.
fn short_form(tokens: &mut Tokens<'_>) -> Option<&'static str> {
    const FORMS: [(&str, &str); 4] = [
        ("names", "client_encoding"),
        ("role", "role"),
        ("schema", "search_path"),
        ("xml", "xmloption"),
    ];
    let mut ahead = tokens.clone();
    let (word, name) = FORMS.iter().find(|(word, _)| ahead.accept(word))?;
    if *word == "xml" && !ahead.accept("option") {
        return None;
    }
    // `SET role TO x` is a setting by its name.
    if ahead.next_is(b'=') || ahead.clone().accept("to") {
        return None;
    }
    // `SET NAMES` alone is the default.
    if ahead.at_end() {
        return None;
    }
    *tokens = ahead;
    Some(name)
}

fn reset(effects: &mut Effects, tokens: &mut Tokens<'_>) {
    let mut ahead = tokens.clone();
    if ahead.accept("all") {
        effects.reset_all();
    } else if ahead.accept("session") && ahead.accept("authorization") {
        effects.releases = true;
        effects.reset(boxed("role"));
    } else if tokens.clone().accept("time") {
        effects.reset(boxed("timezone"));
    } else if let Some(name) = setting_name(tokens) {
        effects.reset(name);
    } else {
        effects.opaque = true;
    }
}

/// The name of a setting, in lower case: it has no case, with quotes or without
/// (guc.c, `guc_name_compare`).
fn setting_name(tokens: &mut Tokens<'_>) -> Option<Box<[u8]>> {
    let mut name = Vec::new();
    loop {
        let token = tokens.advance()?;
        name.extend_from_slice(match token.kind {
            TokenKind::Word => token.text,
            TokenKind::QuotedIdent => token.text.strip_prefix(b"\"")?.strip_suffix(b"\"")?,
            _ => return None,
        });
        if !tokens.accept_symbol(b'.') {
            name.make_ascii_lowercase();
            return Some(name.into());
        }
        name.push(b'.');
    }
}

/// What stands anywhere in a statement.
fn words(effects: &mut Effects, tokens: &mut Tokens<'_>) {
    let (mut creates, mut updates, mut from) = (false, false, false);
    let mut into = false;
    let before = effects.leaves;
    while let Some(token) = tokens.advance() {
        let is = |keyword: &str| token.is_word(keyword);
        if is("create") {
            creates = true;
        } else if is("from") {
            from = true;
        } else if is("update") {
            updates = true;
        } else if is("temp") || is("temporary") {
            // `SELECT ... INTO TEMP`; otherwise the name of a column.
            if creates || into {
                effects.leaves |= Features::TEMPORARY;
            }
        } else if is("hold") {
            effects.leaves |= Features::CURSOR;
        } else if is("execute") {
            // A trigger's is none, nor is the privilege.
            let others = ["function", "procedure", "on"];
            let next = tokens.peek();
            if !next.is_some_and(|next| others.iter().any(|word| next.is_word(word))) {
                prepared(effects);
            }
        } else if token.kind == TokenKind::UnicodeIdent {
            effects.opaque = true;
        } else if token.is_name() {
            name(effects, &token, tokens, updates);
        }
        into = is("into") || (into && (is("local") || is("global")));
    }
    if from {
        // It is compared with something, rather than told to the client.
        effects.leaves -= Features::BACKEND_PID - before;
    }
}

/// A name that may be that of a function with an effect.
fn name(effects: &mut Effects, token: &Token<'_>, tokens: &mut Tokens<'_>, updates: bool) {
    let text = token.text;
    let bare = text
        .strip_prefix(b"\"")
        .and_then(|text| text.strip_suffix(b"\""));
    let text = bare.unwrap_or(text);
    let is = |name: &str| text.eq_ignore_ascii_case(name.as_bytes());
    let begins = |front: &str| {
        let found = text.get(..front.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(front.as_bytes()))
    };
    if begins("pg_temp") {
        effects.leaves |= Features::TEMPORARY;
    } else if is("pg_settings") {
        // A rule makes an UPDATE of it a call of set_config.
        if updates {
            effects.leaves |= Features::SETTING;
        }
    } else if !tokens.next_is(b'(') {
        // No function.
    } else if begins("pg_advisory_xact") || begins("pg_try_advisory_xact") {
        // Until the end of the transaction.
    } else if begins("pg_advisory_unlock") {
        effects.releases = true;
    } else if begins("pg_advisory") || begins("pg_try_advisory") {
        effects.leaves |= Features::ADVISORY_LOCK;
    } else if is("currval") || is("lastval") {
        effects.leaves |= Features::SEQUENCE;
    } else if is("setseed") {
        effects.leaves |= Features::SEED;
    } else if is("pg_backend_pid") {
        effects.leaves |= Features::BACKEND_PID;
    } else if is("set_config") {
        set_config(effects, tokens.clone());
    } else if is("set_limit") {
        effects.set(boxed("pg_trgm.similarity_threshold"), None);
    } else if begins("dblink_connect") {
        // Nobody can be asked whether it is there, and nothing but the end of the
        // session closes it for sure.
        effects.leaves |= Features::LIBRARY;
    }
}

/// The arguments of `set_config(name, value, is_local)`.
fn set_config(effects: &mut Effects, mut tokens: Tokens<'_>) {
    effects.unsettled |= effects.goes_back();
    tokens.skip();
    // A backslash may be an escape, or not.
    let is_plain = |token: &Token<'_>| token.is_string() && !token.text.contains(&b'\\');
    let name = tokens.advance().filter(is_plain);
    let name = name.filter(|_| tokens.next_is(b','));
    let mut depth = 0;
    let mut last = None;
    let mut count = 0;
    while let Some(token) = tokens.advance() {
        match token.kind {
            TokenKind::Symbol(b'(' | b'[') => depth += 1,
            TokenKind::Symbol(b')') if depth == 0 => break,
            TokenKind::Symbol(b')' | b']') => depth -= 1,
            TokenKind::Symbol(b',') if depth == 0 => count = 0,
            _ => {}
        }
        count += 1;
        last = Some(token);
    }
    // The last argument is one word.
    let is_local = last.filter(|_| count == 2 && depth == 0);
    if is_local.is_some_and(|token| token.is_word("true")) {
        return;
    }
    let name = name.and_then(|name| name.text.strip_prefix(b"'")?.strip_suffix(b"'"));
    match name {
        Some(name) if !name.contains(&b'\'') => {
            effects.set(name.to_ascii_lowercase().into(), None);
        }
        _ => effects.leaves |= Features::SETTING,
    }
}

fn boxed(name: &str) -> Box<[u8]> {
    name.as_bytes().into()
}
