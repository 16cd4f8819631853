//! The lexer against PostgreSQL's own scanner, by way of pglast (libpg_query).
//!
//! The cases are the files of `tests/corpus/sql` (whole, and the pieces that
//! lines of `-- ~` part), mutations of them, and fragments put together at
//! random. `SEED` and `CASES` choose other random ones; `SQL_FILES` names a
//! directory with more `.sql` files.

#![allow(clippy::unwrap_used)]

#[path = "oracle/mod.rs"]
mod oracle;

use std::fs;
use std::path::PathBuf;

use oracle::{number, root};
use pgweir::sql::{Dialect, Lexer, Token, TokenKind};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

const FRAGMENTS: &[&str] = &[
    "'", "'", "''", "\"", "\"\"", "$$", "$a$", "$", "$1", "\\", "\\'", "--", "/*", "*/", "/", "*",
    "\n", "\n", "\r", " ", " ", "\t", "\x0b", "\x0c", "e'", "E'", "b'", "X'", "n'", "u&'", "U&\"",
    "u&", ";", ",", "(", ")", "[", ".", "..", ":", "::", ":=", "=", ">", "<", "+", "-", "%", "^",
    "!", "@", "#", "~", "|", "&", "?", "`", "0", "1", "7", "9", "0x", "0o", "0b", "f", "_", "e",
    "E", "a", "x", "Z", "é", "日", "select", "UESCAPE", "'!'", "{", "\x01", "\u{a0}",
];

#[test]
fn tokens_are_those_of_postgresql() {
    let cases = cases();
    let answers = oracle::answers("lexer_oracle.py", &cases);

    let mut tally = Tally::default();
    let mut wrong = 0;
    for (case, answer) in cases.iter().zip(&answers) {
        if let Err(difference) = compare(case, answer, &mut tally) {
            wrong += 1;
            if wrong <= 10 {
                eprintln!("{case:?}\n  {difference}");
            }
        }
    }
    eprintln!("{tally:?}");
    assert_eq!(wrong, 0, "different of {}", cases.len());
    // A comparison that leaves out most cases would prove nothing.
    assert!(
        tally.read > cases.len() / 10 && tally.broken > cases.len() / 10,
        "{tally:?}"
    );
    assert!(tally.content_errors < cases.len() / 4, "{tally:?}");
}

/// How the cases ended.
#[derive(Debug, Default)]
struct Tally {
    /// Read to the end by both.
    read: usize,
    /// Refused by both at the same token.
    broken: usize,
    /// Refused for what is in a token, which the lexer leaves to the server.
    content_errors: usize,
}

fn compare(case: &str, answer: &Value, tally: &mut Tally) -> Result<(), String> {
    let ours: Vec<Token<'_>> = Lexer::new(case.as_bytes(), Dialect::default()).collect();
    let last = ours.last();
    // libpg_query is patched to read `$1a` as `$1` and `a`; PostgreSQL is not.
    let param_junk = last.filter(|t| t.kind == TokenKind::Invalid && t.text.starts_with(b"$"));

    if let Some(error) = answer["error"].as_str() {
        let near = error
            .split_once(" at or near \"")
            .map(|(_, near)| near.trim_end_matches('"'));
        let expected = if error.starts_with("unterminated ") {
            TokenKind::Unterminated
        } else if [
            "trailing junk after",
            "invalid hexadecimal",
            "invalid octal",
            "invalid binary",
        ]
        .iter()
        .any(|start| error.starts_with(start))
        {
            TokenKind::Invalid
        } else {
            tally.content_errors += 1;
            return Ok(());
        };
        if param_junk.is_some() {
            return Ok(());
        }
        tally.broken += 1;
        let text = last
            .and_then(|t| std::str::from_utf8(t.text).ok())
            .unwrap_or_default();
        let near = near.ok_or_else(|| error.to_string())?;
        let same_text = match expected {
            TokenKind::Unterminated => text.trim_end_matches('"') == near,
            _ => text.starts_with(near),
        };
        return match last {
            Some(token) if token.kind == expected && same_text => Ok(()),
            other => Err(format!("PostgreSQL: {error}; ours ends in {other:?}")),
        };
    }

    let theirs = answer["tokens"].as_array().ok_or("no tokens")?;
    tally.read += 1;
    let ours = if param_junk.is_some() {
        &ours[..ours.len() - 1]
    } else {
        &ours[..]
    };
    if param_junk.is_none() && ours.len() != theirs.len() {
        return Err(format!(
            "{} tokens for {}: {ours:?} {theirs:?}",
            ours.len(),
            theirs.len()
        ));
    }
    for (token, theirs) in ours.iter().zip(theirs) {
        let name = theirs[2].as_str().unwrap_or_default();
        let same_span = theirs[0] == token.start && theirs[1] == token.end();
        if !same_span || !has_name(token.kind, name) {
            return Err(format!("{token:?} for {theirs}"));
        }
    }
    Ok(())
}

/// Whether the scanner calls such a token `name`.
fn has_name(kind: TokenKind, name: &str) -> bool {
    use TokenKind::*;
    const NO_WORDS: &[&str] = &[
        "UIDENT",
        "FCONST",
        "SCONST",
        "USCONST",
        "BCONST",
        "XCONST",
        "Op",
        "ICONST",
        "PARAM",
        "TYPECAST",
        "DOT_DOT",
        "COLON_EQUALS",
        "EQUALS_GREATER",
        "LESS_EQUALS",
        "GREATER_EQUALS",
        "NOT_EQUALS",
        "SQL_COMMENT",
        "C_COMMENT",
        "UNKNOWN",
    ];
    match kind {
        Word => !NO_WORDS.contains(&name) && !name.starts_with("ASCII_"),
        QuotedIdent => name == "IDENT",
        UnicodeIdent => name == "UIDENT",
        String | EscapeString | DollarString => name == "SCONST",
        UnicodeString => name == "USCONST",
        BitString => name == "BCONST",
        HexString => name == "XCONST",
        Number => matches!(name, "ICONST" | "FCONST"),
        Param => name == "PARAM",
        Operator => name == "Op",
        Symbol(byte) => name == format!("ASCII_{byte}"),
        Cast => name == "TYPECAST",
        ColonEquals => name == "COLON_EQUALS",
        Arrow => name == "EQUALS_GREATER",
        DotDot => name == "DOT_DOT",
        LessEquals => name == "LESS_EQUALS",
        GreaterEquals => name == "GREATER_EQUALS",
        NotEquals => name == "NOT_EQUALS",
        LineComment => name == "SQL_COMMENT",
        BlockComment => name == "C_COMMENT",
        // libpg_query names only the single characters that the grammar uses.
        Other => matches!(name, "UNKNOWN" | "ASCII_36" | "ASCII_92"),
        Unterminated | Invalid | Unknown => false,
    }
}

fn cases() -> Vec<String> {
    let mut cases = Vec::new();
    for path in sql_files() {
        // pglast takes text only; what is not UTF-8 has its tests elsewhere.
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).replace('\0', "");
        cases.extend(text.split("-- ~\n").map(str::to_string));
        cases.push(text);
    }
    let written = cases.clone();
    assert!(written.len() > 50, "the corpus is gone");

    let mut rng = StdRng::seed_from_u64(number("SEED", 1));
    for _ in 0..number("CASES", 20_000) {
        cases.push(if rng.random_bool(0.5) {
            let len = rng.random_range(1..16);
            (0..len)
                .filter_map(|_| FRAGMENTS.choose(&mut rng).copied())
                .collect()
        } else {
            mutate(written.choose(&mut rng).unwrap(), &mut rng)
        });
    }
    cases
}

/// Cuts a window out of `text` and damages it in some places.
fn mutate(text: &str, rng: &mut StdRng) -> String {
    let chars: Vec<char> = text.chars().collect();
    let from = rng.random_range(0..=chars.len());
    let to = chars.len().min(from + rng.random_range(0..80));
    let mut chars = chars[from..to].to_vec();
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..=chars.len());
        if rng.random_bool(0.5) && at < chars.len() {
            chars.remove(at);
        } else {
            chars.splice(at..at, FRAGMENTS.choose(rng).unwrap().chars());
        }
    }
    chars.into_iter().collect()
}

fn sql_files() -> Vec<PathBuf> {
    let mut directories = vec![root().join("tests/corpus/sql")];
    directories.extend(std::env::var_os("SQL_FILES").map(PathBuf::from));
    let mut files: Vec<PathBuf> = directories
        .iter()
        .flat_map(|directory| fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    files.sort();
    files
}
