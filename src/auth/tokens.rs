//! The words of `auth_hba_file` and `auth_ident_file`.

use thiserror::Error;

/// A word of a line, or the comma between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Comma,
    Word(String),
    /// In double quotes: a name whatever it says.
    Quoted(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("closing quote is missing")]
pub(super) struct OpenQuote;

/// Takes a line apart. `#` begins a comment, `""` within quotes is a quote.
pub(super) fn tokens(line: &str) -> Result<Vec<Token>, OpenQuote> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next().filter(|&first| first != '#') {
        let (token, after) = match first {
            ',' => (Token::Comma, rest.get(1..)),
            '"' => {
                let (text, after) = quoted(rest.get(1..).unwrap_or_default())?;
                (Token::Quoted(text), Some(after))
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '#' | '"');
                let (word, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
                (Token::Word(word.to_owned()), Some(after))
            }
        };
        tokens.push(token);
        rest = after.unwrap_or_default().trim_start();
    }
    Ok(tokens)
}

/// `text` begins behind the opening quote.
fn quoted(text: &str) -> Result<(String, &str), OpenQuote> {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let (head, tail) = rest.split_once('"').ok_or(OpenQuote)?;
        out.push_str(head);
        match tail.strip_prefix('"') {
            Some(tail) => {
                out.push('"');
                rest = tail;
            }
            None => return Ok((out, tail)),
        }
    }
}
