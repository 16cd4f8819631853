//! Splits the text of a simple query into its statements.
//!
//! The server's grammar ends a statement at a `;` (`stmtmulti` in gram.y),
//! but for two places: the action list of `CREATE RULE`, in parentheses, and
//! the body of a SQL-standard function, `BEGIN ATOMIC ... END`. Texts that are
//! a syntax error may be split anywhere: the server runs nothing of them.

use super::lexer::{Dialect, Lexer, Token, TokenKind};

/// One statement of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Offset of its first byte in the text.
    pub start: usize,
    /// From its first token to its last, without comments around it and
    /// without its semicolon; never empty.
    pub text: &'a [u8],
    /// It holds a token that [`is_broken`](TokenKind::is_broken), and reaches
    /// to the end of the text because nobody knows where it ends.
    pub broken: bool,
}

/// The statements of a text in order; empty ones are left out, as the server
/// does. Allocates nothing, takes linear time.
#[derive(Clone, Debug)]
pub struct Statements<'a> {
    text: &'a [u8],
    tokens: Lexer<'a>,
}

impl<'a> Statements<'a> {
    /// Splits `text`, which holds no NUL.
    pub fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Statements {
            text,
            tokens: Lexer::new(text, dialect),
        }
    }
}

impl<'a> Iterator for Statements<'a> {
    type Item = Statement<'a>;

    fn next(&mut self) -> Option<Statement<'a>> {
        let mut nesting = Nesting::default();
        let mut span = None;
        let mut broken = false;
        for token in self
            .tokens
            .by_ref()
            .filter(|token| !token.kind.is_comment())
        {
            if nesting.ends_statement(&token) {
                if span.is_some() {
                    break;
                }
                continue;
            }
            let start = span.map_or(token.start, |(start, _)| start);
            span = Some((start, token.end()));
            broken = token.kind.is_broken();
        }
        let (start, end) = span?;
        Some(Statement {
            start,
            text: self.text.get(start..end)?,
            broken,
        })
    }
}

/// Where in a statement we are.
#[derive(Debug, Default)]
struct Nesting {
    parentheses: usize,
    header: Header,
    previous: Previous,
}

/// How much of `CREATE [OR REPLACE] {FUNCTION | PROCEDURE} ... BEGIN ATOMIC`
/// has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Header {
    #[default]
    Start,
    Create,
    Or,
    Replace,
    Routine,
    /// Between `ATOMIC` and the `END` that belongs to it.
    Body,
    /// No such statement, or behind its body.
    None,
}

#[derive(Debug, Default, PartialEq)]
enum Previous {
    #[default]
    Other,
    Begin,
    /// The body begins here, or a statement of it has just ended.
    BodySeparator,
}

impl Nesting {
    /// Takes the next token in; true if it is the `;` that ends the statement.
    #[inline]
    fn ends_statement(&mut self, token: &Token<'_>) -> bool {
        match token.kind {
            TokenKind::Symbol(b'(') => self.parentheses += 1,
            TokenKind::Symbol(b')') => self.parentheses = self.parentheses.saturating_sub(1),
            TokenKind::Symbol(b';') if self.parentheses == 0 && self.header != Header::Body => {
                return true;
            }
            _ => {}
        }
        if self.header != Header::None {
            self.read_header(token);
        }
        false
    }

    fn read_header(&mut self, token: &Token<'_>) {
        let previous = std::mem::take(&mut self.previous);
        let is = |keyword| token.is_word(keyword);
        self.header = match self.header {
            Header::Start if is("create") => Header::Create,
            Header::Create if is("or") => Header::Or,
            Header::Or if is("replace") => Header::Replace,
            Header::Create | Header::Replace if is("function") || is("procedure") => {
                Header::Routine
            }
            Header::Routine if previous == Previous::Begin && is("atomic") => {
                self.previous = Previous::BodySeparator;
                Header::Body
            }
            Header::Routine => {
                if self.parentheses == 0 && is("begin") {
                    self.previous = Previous::Begin;
                }
                Header::Routine
            }
            // Every statement of a body ends in `;`, and none begins with
            // END: no other END (of a CASE, a column's name) stands here.
            Header::Body if previous == Previous::BodySeparator && is("end") => Header::None,
            Header::Body => {
                if self.parentheses == 0 && token.kind == TokenKind::Symbol(b';') {
                    self.previous = Previous::BodySeparator;
                }
                Header::Body
            }
            _ => Header::None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        Statements::new(text.as_bytes(), Dialect::default())
            .map(|s| {
                assert_eq!(&text.as_bytes()[s.start..s.start + s.text.len()], s.text);
                String::from_utf8(s.text.to_vec()).unwrap()
            })
            .collect()
    }

    #[test]
    fn splits_at_semicolons_of_the_top_level() {
        assert_eq!(split("select 1; select 2"), ["select 1", "select 2"]);
        assert_eq!(split("  a ; -- b;\n c /* ; */ ; "), ["a", "c"]);
        assert_eq!(
            split("select ';' || $$;$$ || e'\\';' ;\";\""),
            ["select ';' || $$;$$ || e'\\';'", "\";\""]
        );
    }

    #[test]
    fn leaves_out_empty_statements() {
        assert!(split("").is_empty());
        assert!(split(" ;; /* */ ; -- x").is_empty());
        assert_eq!(split(";;a;;b;;"), ["a", "b"]);
    }

    #[test]
    fn keeps_parentheses_together() {
        let rule = "create rule r as on insert to t do (select 1; select 2)";
        assert_eq!(split(&format!("{rule}; x")), [rule, "x"]);
        assert_eq!(split("a); b"), ["a)", "b"]);
    }

    #[test]
    fn keeps_bodies_of_sql_functions_together() {
        for body in [
            "create function f() returns int begin atomic select 1; select 2; end",
            "CREATE OR REPLACE PROCEDURE p(begin int default case when true then 1 end) \
             BEGIN ATOMIC insert into t values (1);; END",
            "create function f() language sql begin atomic end",
            "create function f() begin atomic select case when a then b end; select 2; end",
            "create function f() begin atomic select 1 as end, t.end, 2 end; select 2; end",
            "create function f() begin atomic select begin atomic; select 1; end",
            "create function f() begin /* a */ atomic select 1; -- b\n end",
        ] {
            assert_eq!(split(&format!("{body}; commit; x")), [body, "commit", "x"]);
        }
    }

    #[test]
    fn begin_elsewhere_opens_no_body() {
        assert_eq!(
            split("begin; end; begin atomic; end"),
            ["begin", "end", "begin atomic", "end"]
        );
        assert_eq!(
            split("create table begin (atomic int); end"),
            ["create table begin (atomic int)", "end"]
        );
        assert_eq!(
            split("create function begin() returns int as 'x'; a"),
            ["create function begin() returns int as 'x'", "a"]
        );
        assert_eq!(
            split("create function f(begin atomic) as 'x'; a"),
            ["create function f(begin atomic) as 'x'", "a"]
        );
    }

    #[test]
    fn says_what_is_broken() {
        let broken = |text: &str| {
            Statements::new(text.as_bytes(), Dialect::default())
                .map(|s| s.broken)
                .collect::<Vec<_>>()
        };
        assert_eq!(broken("a; b"), [false, false]);
        assert_eq!(broken("a; 'b; c"), [false, true]);
        assert_eq!(broken("/* a"), [true]);
        assert_eq!(broken("a; /* b"), [false, true]);
        assert_eq!(broken("a /* b"), [true]);
        assert_eq!(broken("1a; b"), [true]);
    }
}
