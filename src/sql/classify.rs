//! Whether a text reads or writes, proved without a parser.
//!
//! [`classify`] reads each token once, allocates nothing and asks a
//! [`Catalog`] about every name that could make PostgreSQL run something. What
//! it calls a read changes nothing on any server, whatever the text looks
//! like; everything else may be anything.

mod builtin;
pub mod catalog;
mod name;
mod query;
mod transaction;
mod verdict;
mod word;

#[cfg(test)]
mod tests;

pub use catalog::Catalog;
pub use verdict::{Fault, Isolation, Kind, Modes, Reason, Transaction, Verdict};

use super::lexer::{Dialect, TokenKind};
use super::tokens::{Token, Tokens};
use query::{Proof, prove, unexpected};
use word::Keyword;

/// What `sql` does, and why. Allocates nothing; takes time linear in the text.
///
/// Several statements are a read if each is one; if not, the first that is
/// none decides. Of `Session` and `Transaction` only the command's first words have been read.
///
/// Three things a text does not show, and the caller must know them: temporary
/// tables of the session, transactions that are open, and the types that a
/// Parse message gives to parameters by OID.
pub fn classify<'a>(sql: &'a [u8], dialect: Dialect, catalog: &Catalog) -> Verdict<'a> {
    let mut tokens = Tokens::new(sql, dialect);
    let mut reads = None;
    loop {
        while tokens.accept_symbol(b';') {}
        let Some(first) = tokens.peek() else { break };
        let verdict = statement(&mut tokens, first, catalog).unwrap_or_else(|verdict| verdict);
        match verdict.kind {
            Kind::Read => reads = Some(verdict),
            Kind::Write | Kind::Unknown => return verdict,
            _ if reads.is_none() && is_last(&mut tokens) => return verdict,
            _ => {
                return Verdict {
                    kind: Kind::Unknown,
                    reason: Reason::Several,
                };
            }
        }
    }
    reads.unwrap_or(Verdict {
        kind: Kind::Empty,
        reason: Reason::Empty,
    })
}

/// Whether no statement follows the one that is being read.
fn is_last(tokens: &mut Tokens<'_>) -> bool {
    let mut depth = 0_usize;
    while let Some(token) = tokens.advance() {
        match token.kind {
            TokenKind::Symbol(b'(') => depth += 1,
            TokenKind::Symbol(b')') => depth = depth.saturating_sub(1),
            TokenKind::Symbol(b';') if depth == 0 => {
                while tokens.accept_symbol(b';') {}
                return tokens.peek().is_none();
            }
            _ => {}
        }
    }
    true
}

/// Commands that write, lock, or do what a replica does not.
const WRITES: [&str; 27] = [
    "alter",
    "analyse",
    "analyze",
    "call",
    "checkpoint",
    "cluster",
    "comment",
    "create",
    "delete",
    "do",
    "drop",
    "grant",
    "import",
    "insert",
    "lock",
    "merge",
    "notify",
    "reassign",
    "refresh",
    "reindex",
    "repack",
    "revoke",
    "security",
    "truncate",
    "update",
    "vacuum",
    "wait",
];

/// Commands that change the session or depend on it.
const SESSION: [&str; 12] = [
    "close",
    "deallocate",
    "declare",
    "discard",
    "execute",
    "fetch",
    "listen",
    "load",
    "move",
    "prepare",
    "reset",
    "unlisten",
];

/// The verdict of the statement that begins with `first`, the next token. Of a
/// read, everything up to its end has been taken.
fn statement<'a>(
    tokens: &mut Tokens<'a>,
    first: Token<'a>,
    catalog: &Catalog,
) -> Proof<'a, Verdict<'a>> {
    if begins_query(&first) {
        prove(tokens, catalog)?;
        return end(tokens, Reason::Query);
    }
    tokens.advance();
    match first.kind {
        TokenKind::Word => {}
        kind if kind.is_broken() => return query::unknown(Reason::Unreadable),
        _ => return unexpected(Some(first)),
    }
    let command = |kind| {
        Ok(Verdict {
            kind,
            reason: Reason::Command(first.text),
        })
    };
    if let Some(transaction) = transaction::read(first, tokens)? {
        return command(Kind::Transaction(transaction));
    }
    let is_one_of = |words: &[&str]| words.iter().any(|word| first.is_word(word));
    if first.is_word("explain") {
        explain(tokens, catalog)
    } else if first.is_word("copy") {
        copy(tokens, catalog)
    } else if first.is_word("show") {
        command(Kind::Show)
    } else if first.is_word("set") || is_one_of(&SESSION) {
        command(Kind::Session)
    } else if is_one_of(&WRITES) {
        command(Kind::Write)
    } else {
        unexpected(Some(first))
    }
}

fn begins_query(token: &Token<'_>) -> bool {
    let word = match token.kind {
        TokenKind::Symbol(b'(') => return true,
        TokenKind::Word => Keyword::of(token.text),
        _ => None,
    };
    matches!(
        word,
        Some(Keyword::Select | Keyword::Values | Keyword::Table | Keyword::With)
    )
}

/// A read, if the statement ends here.
fn end<'a>(tokens: &mut Tokens<'a>, reason: Reason<'a>) -> Proof<'a, Verdict<'a>> {
    if !tokens.at_end() {
        return unexpected(tokens.advance());
    }
    Ok(Verdict {
        kind: Kind::Read,
        reason,
    })
}

/// Takes what is left of the statement.
fn skip<'a>(tokens: &mut Tokens<'a>) -> Proof<'a> {
    while !tokens.at_end() {
        if tokens.advance().is_some_and(|token| token.kind.is_broken()) {
            return query::unknown(Reason::Unreadable);
        }
    }
    Ok(())
}

/// `EXPLAIN`: the options, then what is explained.
fn explain<'a>(tokens: &mut Tokens<'a>, catalog: &Catalog) -> Proof<'a, Verdict<'a>> {
    let mut runs = false;
    let mut behind = tokens.clone();
    if behind.accept_symbol(b'(') && !behind.peek().is_some_and(|token| begins_query(&token)) {
        // An option's name may be quoted. `ANALYZE off` is taken for on.
        while let Some(option) = behind.advance() {
            match option.kind {
                TokenKind::Symbol(b')') => break,
                TokenKind::Word => {
                    runs |= option.is_word("analyze") || option.is_word("analyse");
                }
                TokenKind::QuotedIdent | TokenKind::UnicodeIdent => runs = true,
                _ => {}
            }
        }
        *tokens = behind;
    } else {
        runs = tokens.accept("analyze") || tokens.accept("analyse");
        tokens.accept("verbose");
    }
    let Some(first) = tokens.peek() else {
        return unexpected(None);
    };
    let changes = WRITES_DATA.iter().any(|word| first.is_word(word));
    // Planning calls what makes values of constants, and nothing volatile.
    let plans_run_nothing = !catalog.implicit && !catalog.unsafe_type;
    if !runs && (changes || begins_query(&first)) && plans_run_nothing {
        skip(tokens)?;
        return end(tokens, Reason::Planned);
    }
    if changes || begins_query(&first) {
        return statement(tokens, first, catalog);
    }
    unexpected(Some(first))
}

const WRITES_DATA: [&str; 4] = ["insert", "update", "delete", "merge"];

/// `COPY ... TO STDOUT` of a query or a table that may be read.
fn copy<'a>(tokens: &mut Tokens<'a>, catalog: &Catalog) -> Proof<'a, Verdict<'a>> {
    let mut table = None;
    if tokens.accept_symbol(b'(') {
        prove(tokens, catalog)?;
        if !tokens.accept_symbol(b')') {
            return unexpected(tokens.advance());
        }
    } else {
        tokens.accept("binary");
        table = Some(query::path_of_name(tokens)?);
        if tokens.accept_symbol(b'(') {
            while tokens
                .advance()
                .is_some_and(|t| t.kind != TokenKind::Symbol(b')'))
            {}
        }
    }
    if !(tokens.accept("to") && tokens.accept("stdout")) {
        return Err(Verdict {
            kind: Kind::Write,
            reason: Reason::CopyTarget,
        });
    }
    skip(tokens)?;
    if let Some(path) = table {
        query::prove_relation(catalog, &path)?;
    }
    end(tokens, Reason::Query)
}
