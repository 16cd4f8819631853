//! What a text does to the channels that a session listens to, and what undoes
//! it within a transaction.

use std::collections::VecDeque;

use super::lexer::{Dialect, TokenKind};
use super::statements::Statements;
use super::tokens::{Token, Tokens};

/// A channel's name as the server has it.
pub type Channel = Box<[u8]>;

/// A statement that matters here. Others are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Listen(Channel),
    Unlisten(Channel),
    /// `UNLISTEN *`, `DISCARD ALL`
    UnlistenAll,
    Savepoint(Channel),
    Release(Channel),
    RollbackTo(Channel),
    /// Ends the transaction, in one way or the other.
    End,
}

impl Step {
    /// Whether this is the tag by which the server says that it is done. (A COMMIT
    /// may turn out to be a ROLLBACK.)
    pub fn ends_with(&self, tag: &[u8]) -> bool {
        match self {
            Step::Listen(_) => tag == b"LISTEN",
            Step::Unlisten(_) => tag == b"UNLISTEN",
            Step::UnlistenAll => matches!(tag, b"UNLISTEN" | b"DISCARD ALL"),
            Step::Savepoint(_) => tag == b"SAVEPOINT",
            Step::Release(_) => tag == b"RELEASE",
            Step::RollbackTo(_) => tag == b"ROLLBACK",
            Step::End => matches!(tag, b"COMMIT" | b"ROLLBACK" | b"PREPARE TRANSACTION"),
        }
    }
}

/// False: no statement of the text is a LISTEN. Takes a few nanoseconds, unless
/// there are several statements.
#[inline]
pub fn may_listen(text: &[u8]) -> bool {
    let Some(front) = text.first_chunk::<4>() else {
        return false;
    };
    if front.eq_ignore_ascii_case(b"list") {
        return true;
    }
    let hidden = !front[0].is_ascii_alphabetic() || {
        // One at the end, or before the NUL that ends it, separates nothing.
        let separator = memchr::memchr(b';', text);
        let after = separator.and_then(|at| text.get(at + 1..));
        !matches!(after, None | Some([] | [0, ..]))
    };
    hidden && mentions(text, b"listen")
}

/// Whether `word`, in lower case, stands somewhere in the text.
pub fn mentions(text: &[u8], word: &[u8]) -> bool {
    let Some(&first) = word.first() else {
        return true;
    };
    memchr::memchr2_iter(first, first.to_ascii_uppercase(), text).any(|at| {
        let found = text.get(at..at + word.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(word))
    })
}

/// The steps of `text`, which holds no NUL. `None`: the channel of a LISTEN is not
/// understood, so that only the server knows what it does.
pub fn steps(text: &[u8], dialect: Dialect) -> Option<VecDeque<Step>> {
    let mut steps = VecDeque::new();
    for statement in Statements::new(text, dialect) {
        let mut tokens = Tokens::new(statement.text, dialect);
        match step(&mut tokens.clone()) {
            Some(step) => steps.push_back(step),
            None if tokens.accept("listen") => return None,
            None => {}
        }
    }
    Some(steps)
}

/// `NotifyStmt`, `ListenStmt`, `TransactionStmt` and `DiscardStmt` of gram.y.
fn step(tokens: &mut Tokens<'_>) -> Option<Step> {
    let first = tokens.advance()?;
    let is = |word| first.is_word(word);
    let step = if is("listen") {
        Step::Listen(identifier(tokens)?)
    } else if is("unlisten") {
        match tokens.accept_symbol(b'*') {
            true => Step::UnlistenAll,
            false => Step::Unlisten(identifier(tokens)?),
        }
    } else if is("discard") {
        tokens.accept("all").then_some(Step::UnlistenAll)?
    } else if is("savepoint") {
        Step::Savepoint(identifier(tokens)?)
    } else if is("release") {
        savepoint(tokens).map(Step::Release)?
    } else if is("rollback") || is("abort") {
        let _ = tokens.accept("work") || tokens.accept("transaction");
        match tokens.accept("to") {
            true => savepoint(tokens).map(Step::RollbackTo)?,
            // It is about another transaction.
            false if tokens.accept("prepared") => return None,
            false => return Some(Step::End),
        }
    } else if is("commit") || is("end") {
        return (!tokens.accept("prepared")).then_some(Step::End);
    } else if is("prepare") {
        return tokens.accept("transaction").then_some(Step::End);
    } else {
        return None;
    };
    tokens.advance().is_none().then_some(step)
}

fn savepoint(tokens: &mut Tokens<'_>) -> Option<Channel> {
    let before = tokens.clone();
    if tokens.accept("savepoint") {
        if let Some(name) = identifier(tokens) {
            return Some(name);
        }
        // It is the name itself: no reserved word.
        *tokens = before;
    }
    identifier(tokens)
}

/// `ColId`. None: nothing that is understood; if the server does, its answer
/// shows.
fn identifier(tokens: &mut Tokens<'_>) -> Option<Channel> {
    let Token { kind, text } = tokens.advance()?;
    Some(match kind {
        // scansup.c, downcase_identifier: bytes above 127 stay in every multi-byte
        // encoding.
        TokenKind::Word => clip(&text.to_ascii_lowercase()),
        TokenKind::QuotedIdent => {
            let inside = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            let mut name = Vec::with_capacity(inside.len());
            let mut bytes = inside.iter();
            while let Some(&byte) = bytes.next() {
                name.push(byte);
                if byte == b'"' {
                    bytes.next();
                }
            }
            clip(&name)
        }
        _ => return None,
    })
}

/// Cuts a name off as the server does (scansup.c, `truncate_identifier`), between
/// two characters.
fn clip(name: &[u8]) -> Channel {
    const LONGEST: usize = 63;
    let Some(front) = name.get(..LONGEST).filter(|_| name.len() > LONGEST) else {
        return name.into();
    };
    let end = match std::str::from_utf8(name) {
        Ok(text) => text.floor_char_boundary(LONGEST),
        Err(_) => front.len(),
    };
    name.get(..end).unwrap_or(front).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Step> {
        steps(text.as_bytes(), Dialect::default()).unwrap().into()
    }

    fn listen(name: &str) -> Step {
        Step::Listen(name.as_bytes().into())
    }

    #[test]
    fn channels_are_named_as_the_server_names_them() {
        let long = "\u{e9}".repeat(32);
        for (text, name) in [
            ("listen a", "a"),
            ("LISTEN News;", "news"),
            ("/* x */ Listen -- y\n \"News\"\"; x\" ", "News\"; x"),
            ("listen \u{c4}B", "\u{c4}b"),
            ("listen all_of_it$1", "all_of_it$1"),
            (&*format!("listen {long}"), &"\u{e9}".repeat(31)),
            (&*format!("listen {}", "x".repeat(64)), &"x".repeat(63)),
            (&*format!("listen {}", "x".repeat(63)), &"x".repeat(63)),
        ] {
            assert_eq!(of(text), [listen(name)], "{text}");
            assert!(may_listen(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn each_statement_counts() {
        let name = |name: &str| Channel::from(name.as_bytes());
        let text = "begin; listen a; savepoint s; select 1; unlisten A; release savepoint s; \
            rollback work to s; rollback to savepoint S; savepoint savepoint; unlisten *; \
            release savepoint; discard all; commit and chain; end; abort; rollback";
        let expected = [
            listen("a"),
            Step::Savepoint(name("s")),
            Step::Unlisten(name("a")),
            Step::Release(name("s")),
            Step::RollbackTo(name("s")),
            Step::RollbackTo(name("s")),
            Step::Savepoint(name("savepoint")),
            Step::UnlistenAll,
            Step::Release(name("savepoint")),
            Step::UnlistenAll,
            Step::End,
            Step::End,
            Step::End,
            Step::End,
        ];
        assert_eq!(of(text), expected);
        assert!(may_listen(text.as_bytes()));
    }

    #[test]
    fn other_statements_do_not() {
        for text in [
            "",
            "notify a",
            "discard plans",
            "select 'listen a'",
            "commit prepared 'x'",
            "rollback prepared 'x'",
            "prepare x as select 1",
            "do $$ begin listen a; end $$",
        ] {
            assert_eq!(of(text), [], "{text}");
        }
        for text in [
            "listen",
            "select 1; listen 'a'",
            "listen a b",
            "listen a.b",
            "listen *",
            "listen U&\"a\"",
        ] {
            assert_eq!(steps(text.as_bytes(), Dialect::default()), None, "{text}");
        }
    }

    #[test]
    fn most_texts_need_no_look() {
        for text in [
            "select 1",
            "select listen;",
            "begin;\0",
            "",
            "insert",
            "; x",
        ] {
            assert!(!may_listen(text.as_bytes()), "{text}");
        }
        assert!(may_listen(b"select 1; LISTEN a"));
        assert!(may_listen(b"\nlisten a"));
    }

    #[test]
    fn a_step_knows_its_tag() {
        for (text, tag) in [
            ("listen a", "LISTEN"),
            ("unlisten a", "UNLISTEN"),
            ("unlisten *", "UNLISTEN"),
            ("discard all", "DISCARD ALL"),
            ("savepoint a", "SAVEPOINT"),
            ("release a", "RELEASE"),
            ("rollback to a", "ROLLBACK"),
            ("rollback", "ROLLBACK"),
            ("commit", "COMMIT"),
            ("commit", "ROLLBACK"),
        ] {
            assert!(of(text)[0].ends_with(tag.as_bytes()), "{text} {tag}");
        }
        assert!(!of("listen a")[0].ends_with(b"UNLISTEN"));
    }
}
