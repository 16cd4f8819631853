//! The tokens of a text without its comments, with one of look-ahead.

use crate::sql::lexer::{Dialect, Lexer, TokenKind};

/// A token, as small as can be: it is copied around much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub kind: TokenKind,
    pub text: &'a [u8],
}

impl Token<'_> {
    /// Whether it is this keyword (given in lower case).
    pub(super) fn is_word(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }

    /// A word or a quoted identifier.
    pub(super) fn is_name(&self) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::QuotedIdent)
    }

    /// A string that may be the literal of any type.
    pub(super) fn is_string(&self) -> bool {
        self.kind.is_string()
    }

    #[inline]
    pub(super) fn is_symbol(&self, symbol: u8) -> bool {
        self.kind == TokenKind::Symbol(symbol)
    }
}

#[derive(Clone)]
pub(super) struct Tokens<'a> {
    sql: &'a [u8],
    lexer: Lexer<'a>,
    /// The next token. A slice in its place would be written in two parts and
    /// read in one right after: the processor waits then.
    kind: Option<TokenKind>,
    start: usize,
    end: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(sql: &'a [u8], dialect: Dialect) -> Self {
        let mut tokens = Tokens {
            sql,
            lexer: Lexer::new(sql, dialect),
            kind: None,
            start: 0,
            end: 0,
        };
        tokens.skip();
        tokens
    }

    /// The next token, taken.
    #[inline]
    pub(super) fn advance(&mut self) -> Option<Token<'a>> {
        let taken = self.peek();
        self.skip();
        taken
    }

    /// Takes the next token.
    pub(super) fn skip(&mut self) {
        loop {
            match self.lexer.read() {
                Some(token) if token.kind.is_comment() => {}
                Some(token) => {
                    self.kind = Some(token.kind);
                    self.start = token.start;
                    self.end = token.end();
                    return;
                }
                None => {
                    self.kind = None;
                    return;
                }
            }
        }
    }

    /// The next token, left where it is.
    #[inline]
    pub(super) fn peek(&self) -> Option<Token<'a>> {
        let kind = self.kind?;
        let text = self.sql.get(self.start..self.end)?;
        Some(Token { kind, text })
    }

    #[inline]
    pub(super) fn next_is(&self, symbol: u8) -> bool {
        self.kind == Some(TokenKind::Symbol(symbol))
    }

    /// Takes the next token if it is this word.
    pub(super) fn accept(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_word(word));
        if found {
            self.skip();
        }
        found
    }

    /// Takes the next token if it is this symbol.
    #[inline]
    pub(super) fn accept_symbol(&mut self, symbol: u8) -> bool {
        let found = self.next_is(symbol);
        if found {
            self.skip();
        }
        found
    }

    /// Whether the statement ends here.
    pub(super) fn at_end(&self) -> bool {
        self.kind.is_none() || self.next_is(b';')
    }
}
