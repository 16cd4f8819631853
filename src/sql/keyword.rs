//! What kind of statement a text is, from its first keywords.
//!
//! Whether a statement reads or writes is not told here.

use super::chars;
use super::lexer::{Dialect, Lexer, Token, TokenKind};
use super::statements::Statements;

/// The kind of a query's text, as far as the session needs it.
///
/// Only `Begin`, `Commit`, `Rollback`, `Discard`, `Deallocate`,
/// `DeallocateAll`, `Prepare` and `Execute` have been read beyond their first
/// word, and whatever follows there and does not fit makes them `Other`. A
/// server may refuse any of them nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// No statement at all; the server answers with EmptyQueryResponse.
    Empty,
    /// More than one statement.
    Many,
    /// Anything else, and every text that cannot be read for certain.
    Other,
    /// `BEGIN` or `START TRANSACTION`.
    Begin {
        /// `READ ONLY` or `READ WRITE`; the last one counts.
        read_only: Option<bool>,
    },
    /// `COMMIT` or `END`; not `COMMIT PREPARED`.
    Commit {
        /// `AND CHAIN`: a new transaction begins at once.
        chain: bool,
    },
    /// `ROLLBACK` or `ABORT`; neither `ROLLBACK TO` nor `ROLLBACK PREPARED`.
    Rollback {
        /// `AND CHAIN`: a new transaction begins at once.
        chain: bool,
    },
    /// `SET` in any form, `SET LOCAL` and `SET TRANSACTION` included.
    Set,
    /// `RESET`.
    Reset,
    /// `DISCARD`.
    Discard(Discard),
    /// `DEALLOCATE name`.
    Deallocate(Name<'a>),
    /// `DEALLOCATE ALL`.
    DeallocateAll,
    /// `PREPARE name`; not `PREPARE TRANSACTION`.
    Prepare(Name<'a>),
    /// `EXECUTE name`; not inside `EXPLAIN` or `CREATE TABLE AS`.
    Execute(Name<'a>),
    /// `LISTEN`.
    Listen,
    /// `COPY` in either direction.
    Copy,
    /// Begins with `SELECT`; it may write all the same.
    Select,
}

/// What `DISCARD` throws away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// `ALL`
    All,
    /// `PLANS`
    Plans,
    /// `SEQUENCES`
    Sequences,
    /// `TEMP` or `TEMPORARY`
    Temp,
}

/// An identifier as it is written in a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    kind: TokenKind,
    text: &'a [u8],
}

impl Name<'_> {
    /// Appends the name that the server makes of it, without quotes and folded
    /// to lower case.
    ///
    /// False, and nothing appended, if that depends on what only the server
    /// knows: `U&"..."`, bytes above 127 (folding, and cutting off at 63 bytes,
    /// happen in the server's encoding) and names longer than 63 bytes.
    #[must_use]
    pub fn append_to(&self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        match self.kind {
            TokenKind::Word => out.extend(self.text.iter().map(u8::to_ascii_lowercase)),
            TokenKind::QuotedIdent => {
                let mut inner = self
                    .text
                    .iter()
                    .skip(1)
                    .take(self.text.len().saturating_sub(2));
                while let Some(&byte) = inner.next() {
                    out.push(byte);
                    if byte == b'"' {
                        inner.next();
                    }
                }
            }
            _ => return false,
        }
        let plain = self.text.is_ascii() && out.len() - before < NAMEDATALEN;
        if !plain {
            out.truncate(before);
        }
        plain
    }
}

/// The kind of the query `text`. Allocates nothing.
///
/// A text that the server refuses whole, because of a token without an end for
/// example, may get any kind.
pub fn classify(text: &[u8], dialect: Dialect) -> Command<'_> {
    // Without a semicolon before its end there is one statement at most, and
    // only its first tokens need be read. That is nearly every query.
    let end = text
        .iter()
        .rposition(|&byte| byte != b';' && !chars::is(byte, chars::SPACE));
    let trimmed = end.and_then(|end| text.get(..=end)).unwrap_or_default();
    if memchr::memchr(b';', trimmed).is_none() {
        return of_statement(trimmed, dialect);
    }
    let mut statements = Statements::new(text, dialect);
    match (statements.next(), statements.next()) {
        (None, _) => Command::Empty,
        (Some(only), None) if only.broken => Command::Other,
        (Some(only), None) => of_statement(only.text, dialect),
        (Some(_), Some(_)) => Command::Many,
    }
}

fn of_statement(text: &[u8], dialect: Dialect) -> Command<'_> {
    let mut words = Words::new(text, dialect);
    if words.ends() {
        return Command::Empty;
    }
    words.command().unwrap_or(Command::Other)
}

/// PostgreSQL's limit of an identifier, with the NUL that ends it.
const NAMEDATALEN: usize = 64;

/// The tokens of one statement without comments, with one of look-ahead.
struct Words<'a> {
    tokens: Lexer<'a>,
    next: Option<Token<'a>>,
}

/// Functions that give `None` have met something that does not fit.
impl<'a> Words<'a> {
    fn new(statement: &'a [u8], dialect: Dialect) -> Self {
        let mut words = Words {
            tokens: Lexer::new(statement, dialect),
            next: None,
        };
        words.advance();
        words
    }

    fn command(&mut self) -> Option<Command<'a>> {
        let first = self
            .advance()
            .filter(|token| token.kind == TokenKind::Word)?;
        let is = |keyword| first.is_word(keyword);
        match first.text.len() {
            3 if is("set") => Some(Command::Set),
            3 if is("end") => self.chain().map(|chain| Command::Commit { chain }),
            4 if is("copy") => Some(Command::Copy),
            5 if is("begin") => self.begin(),
            5 if is("start") => self.accept("transaction").then(|| self.modes())?,
            5 if is("abort") => self.chain().map(|chain| Command::Rollback { chain }),
            5 if is("reset") => Some(Command::Reset),
            6 if is("select") => Some(Command::Select),
            6 if is("commit") => self.chain().map(|chain| Command::Commit { chain }),
            6 if is("listen") => Some(Command::Listen),
            7 if is("execute") => self.execute(),
            7 if is("prepare") => self.prepare(),
            7 if is("discard") => self.discard(),
            8 if is("rollback") => self.chain().map(|chain| Command::Rollback { chain }),
            10 if is("deallocate") => self.deallocate(),
            _ => None,
        }
    }

    fn begin(&mut self) -> Option<Command<'a>> {
        let _ = self.accept("work") || self.accept("transaction");
        self.modes()
    }

    /// `transaction_mode_list_or_empty`
    fn modes(&mut self) -> Option<Command<'a>> {
        let mut read_only = None;
        let mut comma = false;
        while comma || self.next.is_some() {
            if self.accept("read") {
                read_only = Some(self.accept("only"));
                (read_only == Some(true) || self.accept("write")).then_some(())?;
            } else if self.accept("isolation") {
                self.accept("level").then_some(())?;
                let level = self.accept("serializable")
                    || (self.accept("repeatable") && self.accept("read"))
                    || (self.accept("read")
                        && (self.accept("committed") || self.accept("uncommitted")));
                level.then_some(())?;
            } else {
                let _ = self.accept("not");
                self.accept("deferrable").then_some(())?;
            }
            comma = self.accept_symbol(b',');
        }
        Some(Command::Begin { read_only })
    }

    /// `opt_transaction opt_transaction_chain`
    fn chain(&mut self) -> Option<bool> {
        let _ = self.accept("work") || self.accept("transaction");
        let mut chain = false;
        if self.accept("and") {
            chain = !self.accept("no");
            self.accept("chain").then_some(())?;
        }
        self.ends().then_some(chain)
    }

    fn discard(&mut self) -> Option<Command<'a>> {
        let what = self.advance()?;
        let what = if what.is_word("all") {
            Discard::All
        } else if what.is_word("plans") {
            Discard::Plans
        } else if what.is_word("sequences") {
            Discard::Sequences
        } else if what.is_word("temp") || what.is_word("temporary") {
            Discard::Temp
        } else {
            return None;
        };
        self.ends().then_some(Command::Discard(what))
    }

    fn deallocate(&mut self) -> Option<Command<'a>> {
        let mut target = self.advance()?;
        if target.is_word("prepare")
            && let Some(name) = self.advance()
        {
            target = name;
        }
        let command = if target.is_word("all") {
            Command::DeallocateAll
        } else {
            Command::Deallocate(name(target)?)
        };
        self.ends().then_some(command)
    }

    fn prepare(&mut self) -> Option<Command<'a>> {
        let name = self.advance().and_then(name)?;
        let follows = self.accept("as") || self.accept_symbol(b'(');
        follows.then_some(Command::Prepare(name))
    }

    fn execute(&mut self) -> Option<Command<'a>> {
        let name = self.advance().and_then(name)?;
        let follows = self.ends() || self.accept_symbol(b'(');
        follows.then_some(Command::Execute(name))
    }

    fn ends(&self) -> bool {
        self.next.is_none()
    }

    fn accept(&mut self, keyword: &str) -> bool {
        let found = self.next.is_some_and(|token| token.is_word(keyword));
        if found {
            self.advance();
        }
        found
    }

    fn accept_symbol(&mut self, symbol: u8) -> bool {
        let found = self
            .next
            .is_some_and(|token| token.kind == TokenKind::Symbol(symbol));
        if found {
            self.advance();
        }
        found
    }

    /// The next token, if there is one.
    fn advance(&mut self) -> Option<Token<'a>> {
        let next = self.tokens.find(|token| !token.kind.is_comment());
        std::mem::replace(&mut self.next, next)
    }
}

fn name(token: Token<'_>) -> Option<Name<'_>> {
    use TokenKind::{QuotedIdent, UnicodeIdent, Word};
    matches!(token.kind, Word | QuotedIdent | UnicodeIdent).then_some(Name {
        kind: token.kind,
        text: token.text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Command::*;

    fn of(text: &str) -> Command<'_> {
        classify(text.as_bytes(), Dialect::default())
    }

    #[test]
    fn transactions() {
        for text in [
            "begin",
            "BEGIN;",
            "begin work",
            "start transaction",
            "/* x */ Begin -- y",
        ] {
            assert_eq!(of(text), Begin { read_only: None }, "{text}");
        }
        for text in [
            "begin read only",
            "begin transaction isolation level repeatable read, read only, not deferrable",
            "start transaction read write read only deferrable",
            "begin isolation level serializable read only",
        ] {
            assert_eq!(
                of(text),
                Begin {
                    read_only: Some(true)
                },
                "{text}"
            );
        }
        assert_eq!(
            of("begin read only, read write"),
            Begin {
                read_only: Some(false)
            }
        );
        for text in [
            "begin read",
            "begin foo",
            "start",
            "begin ,",
            "begin read only,",
            "start work",
        ] {
            assert_eq!(of(text), Other, "{text}");
        }
        for text in [
            "commit",
            "end",
            "commit work",
            "END TRANSACTION",
            "commit and no chain",
        ] {
            assert_eq!(of(text), Commit { chain: false }, "{text}");
        }
        assert_eq!(of("end and chain"), Commit { chain: true });
        for text in [
            "rollback",
            "abort",
            "rollback transaction",
            "abort and no chain",
        ] {
            assert_eq!(of(text), Rollback { chain: false }, "{text}");
        }
        assert_eq!(of("rollback and chain"), Rollback { chain: true });
        for text in [
            "rollback to s",
            "rollback prepared 'x'",
            "commit prepared 'x'",
            "commit and",
        ] {
            assert_eq!(of(text), Other, "{text}");
        }
    }

    #[test]
    fn first_keywords() {
        assert_eq!(of("set x = 1"), Set);
        assert_eq!(of("RESET ALL"), Reset);
        assert_eq!(of("listen a"), Listen);
        assert_eq!(of("copy t from stdin"), Copy);
        assert_eq!(of("select 1"), Select);
        for text in [
            "\"set\" x",
            "sets",
            "se",
            "insert into t values (1)",
            "with a as (b) c",
            "(",
        ] {
            assert_eq!(of(text), Other, "{text}");
        }
    }

    #[test]
    fn empty_many_and_broken() {
        assert_eq!(of(""), Empty);
        assert_eq!(of(" ; -- x\n;/* */"), Empty);
        assert_eq!(of("begin; select 1"), Many);
        assert_eq!(of("begin; 'x"), Many);
        assert_eq!(of("select ';'; -- ;"), Select);
        assert_eq!(of("/* x */ select 1 -- ;"), Select);
        // Before PostgreSQL 15, `1a` is a number and a name.
        assert_eq!(of("select 1a"), Select);
        assert_eq!(of("select 1a; listen x"), Other);
        assert_eq!(of("/* x"), Other);
        assert_eq!(of("/* x;"), Other);
        let sjis = Dialect {
            encoding: crate::sql::Encoding::AsciiTrail,
            ..Default::default()
        };
        assert_eq!(classify(b"select '\x83\x5c'", sjis), Other);
        assert_eq!(classify(b"select ''", sjis), Select);
    }

    #[test]
    fn discard() {
        assert_eq!(of("discard all"), Discard(super::Discard::All));
        assert_eq!(of("DISCARD PLANS;"), Discard(super::Discard::Plans));
        assert_eq!(of("discard sequences"), Discard(super::Discard::Sequences));
        assert_eq!(of("discard temporary"), Discard(super::Discard::Temp));
        assert_eq!(of("discard temp"), Discard(super::Discard::Temp));
        for text in ["discard", "discard x", "discard all all", "discard \"all\""] {
            assert_eq!(of(text), Other, "{text}");
        }
    }

    fn resolved(text: &str) -> (char, Option<String>) {
        let (kind, name) = match of(text) {
            Deallocate(name) => ('d', name),
            Prepare(name) => ('p', name),
            Execute(name) => ('e', name),
            DeallocateAll => return ('a', None),
            _ => return ('o', None),
        };
        let mut out = b"x".to_vec();
        let plain = name.append_to(&mut out);
        assert_eq!(out.remove(0), b'x');
        assert!(plain || out.is_empty());
        (kind, plain.then(|| String::from_utf8(out).unwrap()))
    }

    #[test]
    fn names() {
        let some = |kind, name: &str| (kind, Some(name.to_string()));
        assert_eq!(resolved("deallocate Foo"), some('d', "foo"));
        assert_eq!(
            resolved("deallocate prepare \"Fo\"\"o\""),
            some('d', "Fo\"o")
        );
        assert_eq!(resolved("deallocate prepare"), some('d', "prepare"));
        assert_eq!(resolved("deallocate \"all\""), some('d', "all"));
        assert_eq!(resolved("deallocate ALL"), ('a', None));
        assert_eq!(resolved("deallocate prepare all"), ('a', None));
        assert_eq!(resolved("deallocate a b"), ('o', None));
        assert_eq!(resolved("deallocate 'a'"), ('o', None));
        assert_eq!(resolved("prepare a as select 1"), some('p', "a"));
        assert_eq!(resolved("prepare A(int) as select 1"), some('p', "a"));
        assert_eq!(
            resolved("prepare transaction as select 1"),
            some('p', "transaction")
        );
        assert_eq!(resolved("prepare transaction 'x'"), ('o', None));
        assert_eq!(resolved("execute a"), some('e', "a"));
        assert_eq!(resolved("execute a (1)"), some('e', "a"));
        assert_eq!(resolved("execute a b"), ('o', None));
        assert_eq!(resolved("execute U&\"a\""), ('e', None));
        assert_eq!(resolved("execute \u{e9}"), ('e', None));
        let longest = "a".repeat(63);
        assert_eq!(resolved(&format!("execute {longest}")), some('e', &longest));
        assert_eq!(resolved(&format!("execute {longest}a")), ('e', None));
    }
}
