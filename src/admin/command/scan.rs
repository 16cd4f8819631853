//! The two shapes that a command may have.

/// A word without its quotes.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    /// Bytes that it took in the command, quotes included.
    pub raw_len: usize,
}

/// Walks over a command; each method eats what it recognises.
pub struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Scanner { rest: text }
    }

    /// `WORD [WORD] [;]`.
    pub fn command(mut self) -> Option<(Word, Option<Word>)> {
        self.blanks();
        let command = self.word()?;
        let argument = if self.blanks() { self.word() } else { None };
        self.end().then_some((command, argument))
    }

    /// `SET WORD (=|TO) (WORD|'string') [;]`.
    pub fn set(mut self) -> Option<(Word, Word)> {
        self.blanks();
        if !self.keyword("set") || !self.blanks() {
            return None;
        }
        let key = self.word()?;
        self.blanks();
        if !self.keyword("=") && !self.keyword("to") {
            return None;
        }
        self.blanks();
        let value = match self.quoted('\'') {
            Some(value) => value,
            None => self.word()?,
        };
        self.end().then_some((key, value))
    }

    /// Whether there were any.
    fn blanks(&mut self) -> bool {
        let rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let any = rest.len() < self.rest.len();
        self.rest = rest;
        any
    }

    fn end(&mut self) -> bool {
        self.blanks();
        if self.keyword(";") {
            self.blanks();
        }
        self.rest.is_empty()
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        match self.rest.split_at_checked(keyword.len()) {
            Some((head, tail)) if head.eq_ignore_ascii_case(keyword) => {
                self.rest = tail;
                true
            }
            _ => false,
        }
    }

    fn word(&mut self) -> Option<Word> {
        if self.rest.starts_with('"') {
            return self.quoted('"');
        }
        let tail = self
            .rest
            .trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let raw_len = self.rest.len() - tail.len();
        let text = self.rest.get(..raw_len)?.to_owned();
        self.rest = tail;
        (raw_len > 0).then_some(Word { text, raw_len })
    }

    /// A doubled quote stands for one.
    fn quoted(&mut self, quote: char) -> Option<Word> {
        let mut inner = self.rest.strip_prefix(quote)?;
        let mut text = String::new();
        loop {
            let (head, tail) = inner.split_once(quote)?;
            text.push_str(head);
            match tail.strip_prefix(quote) {
                Some(more) => {
                    text.push(quote);
                    inner = more;
                }
                None => {
                    let raw_len = self.rest.len() - tail.len();
                    self.rest = tail;
                    return Some(Word { text, raw_len });
                }
            }
        }
    }
}
