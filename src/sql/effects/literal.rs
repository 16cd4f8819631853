//! Values that `SET` gives as literals, and that mean the same whenever they do.

use crate::sql::lexer::TokenKind;
use crate::sql::tokens::Tokens;

/// Settings whose value after `SET` follows from its text alone: neither from other
/// settings nor from what the database holds. Applications' own are so, too.
const PURE: [&[u8]; 28] = [
    b"array_nulls",
    b"bytea_output",
    b"check_function_bodies",
    b"client_min_messages",
    b"constraint_exclusion",
    b"cursor_tuple_fraction",
    b"default_transaction_deferrable",
    b"default_transaction_isolation",
    b"default_transaction_read_only",
    b"effective_cache_size",
    b"extra_float_digits",
    b"from_collapse_limit",
    b"gin_fuzzy_search_limit",
    b"hash_mem_multiplier",
    b"idle_in_transaction_session_timeout",
    b"idle_session_timeout",
    b"jit",
    b"join_collapse_limit",
    b"lock_timeout",
    b"maintenance_work_mem",
    b"plan_cache_mode",
    b"random_page_cost",
    b"row_security",
    b"search_path",
    b"statement_timeout",
    b"synchronous_commit",
    b"work_mem",
    b"xmloption",
];

/// No literal is kept that is longer than this, in bytes.
const LONGEST: usize = 256;

fn is_pure(name: &[u8]) -> bool {
    PURE.binary_search(&name).is_ok() || name.contains(&b'.') || name.starts_with(b"enable_")
}

/// The value of a `SET` of `name` as its text has it, token by token. `None`: the
/// text alone does not tell what it means.
pub(super) fn literal(name: &[u8], mut tokens: Tokens<'_>) -> Option<Box<[u8]>> {
    if !is_pure(name) {
        return None;
    }
    let mut literal = Vec::new();
    while !tokens.at_end() {
        let token = tokens.advance()?;
        match token.kind {
            TokenKind::Word
            | TokenKind::QuotedIdent
            | TokenKind::String
            | TokenKind::Number
            | TokenKind::Symbol(b',' | b'-' | b'+') => {}
            _ => return None,
        }
        literal.extend_from_slice(token.text);
        literal.push(b' ');
    }
    // Other bytes depend on client_encoding, a backslash on
    // standard_conforming_strings.
    let is_plain = literal.is_ascii() && !literal.contains(&b'\\');
    (is_plain && literal.len() <= LONGEST).then(|| literal.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Dialect;
    use crate::sql::effects::Effects;

    fn of(text: &str) -> Option<String> {
        let effects = Effects::of(text.as_bytes(), Dialect::default())?;
        let literal = effects.sets.first()?.literal.as_deref()?;
        Some(String::from_utf8(literal.to_vec()).unwrap())
    }

    #[test]
    fn literals_are_kept_as_they_are_written() {
        assert!(PURE.is_sorted());
        for (text, literal) in [
            ("set statement_timeout = 5000", "5000 "),
            ("SET SESSION Work_Mem TO '5MB';", "'5MB' "),
            ("set search_path to a, \"B\" -- x", "a , \"B\" "),
            ("set extra_float_digits = -1", "- 1 "),
            ("set app.tenant = 'it''s'", "'it''s' "),
            ("set enable_seqscan = off", "off "),
        ] {
            assert_eq!(of(text).as_deref(), Some(literal), "{text}");
        }
    }

    #[test]
    fn what_may_mean_something_else_another_time_is_not() {
        for text in [
            "set role bob",
            "set timezone to 'UTC'",
            "set default_text_search_config = english",
            "set transaction_isolation = 'serializable'",
            "set quote_all_identifiers = on",
            "set app.a from current",
            "set app.a = E'x'",
            "set app.a = U&'x'",
            "set app.a = 'a\\b'",
            "set app.a = 'ä'",
            "set app.a = $1",
            "select set_config('app.a', 'x', false)",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        let long = format!("set app.a = '{}'", "x".repeat(LONGEST));
        assert_eq!(of(&long), None);
    }
}
