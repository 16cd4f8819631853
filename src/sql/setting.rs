//! `SET`, `SHOW` and `RESET` of one setting.

use super::lexer::{Dialect, TokenKind};
use super::statements::Statements;
use super::tokens::{Token, Tokens};

/// What a text does with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `SET` or `SET SESSION`; `None` is `DEFAULT`.
    Set(Option<String>),
    /// `SET LOCAL`
    SetLocal,
    /// `RESET`
    Reset,
    /// `SHOW`
    Show,
    /// It begins with one of these, and has further statements.
    Several,
}

/// False: [`change_of`] has nothing to say of a text that begins like this.
#[inline]
pub fn may_begin(text: &[u8]) -> bool {
    let Some(&front) = text.first_chunk::<4>() else {
        return false;
    };
    let lower = u32::from_ne_bytes(front) | 0x2020_2020;
    // Nearly always.
    if lower == u32::from_ne_bytes(*b"sele") {
        return false;
    }
    match &lower.to_ne_bytes() {
        [b's', b'e', b't', _] | b"show" | b"rese" => true,
        // A comment, or blanks.
        [first, ..] => !first.is_ascii_lowercase(),
    }
}

/// What `text` does with the setting `name`, given in lower case. `None`: it
/// does something else, or is not understood (`VariableSetStmt` and
/// `VariableShowStmt` of gram.y).
pub fn change_of(text: &[u8], name: &str) -> Option<Change> {
    let mut tokens = Tokens::new(text, Dialect::default());
    let first = tokens.advance()?;
    let change = if first.is_word("set") {
        let local = tokens.accept("local");
        if !local {
            tokens.accept("session");
        }
        named(&mut tokens, name)?;
        if !tokens.accept("to") && !tokens.accept_symbol(b'=') {
            return None;
        }
        let value = value(&mut tokens)?;
        match local {
            true => Change::SetLocal,
            false => Change::Set(value),
        }
    } else if first.is_word("show") {
        named(&mut tokens, name)?;
        Change::Show
    } else if first.is_word("reset") {
        named(&mut tokens, name)?;
        Change::Reset
    } else {
        return None;
    };
    if tokens.peek().is_some() && !tokens.accept_symbol(b';') {
        return None;
    }
    while tokens.accept_symbol(b';') {}
    match tokens.advance() {
        None => Some(change),
        Some(_) => Some(Change::Several),
    }
}

/// Whether `RESET ALL` or `DISCARD ALL` is among the statements of a text.
pub fn resets_all(text: &[u8]) -> bool {
    Statements::new(text, Dialect::default()).any(|statement| {
        let mut tokens = Tokens::new(statement.text, Dialect::default());
        (tokens.accept("reset") || tokens.accept("discard"))
            && tokens.accept("all")
            && tokens.advance().is_none()
    })
}

/// The names of settings have no case, with quotes or without (guc.c,
/// `guc_name_compare`).
fn named(tokens: &mut Tokens<'_>, name: &str) -> Option<()> {
    let mut found = identifier(&tokens.advance()?)?.to_vec();
    while tokens.accept_symbol(b'.') {
        found.push(b'.');
        found.extend_from_slice(identifier(&tokens.advance()?)?);
    }
    found.eq_ignore_ascii_case(name.as_bytes()).then_some(())
}

fn value(tokens: &mut Tokens<'_>) -> Option<Option<String>> {
    let token = tokens.advance()?;
    let text = String::from_utf8_lossy(token.text);
    let inside = || {
        let mut inside = text.chars();
        inside.next();
        inside.next_back();
        inside.as_str()
    };
    Some(Some(match token.kind {
        TokenKind::Word if token.is_word("default") => return Some(None),
        TokenKind::Word => text.to_ascii_lowercase(),
        TokenKind::QuotedIdent => inside().replace("\"\"", "\""),
        TokenKind::String => inside().replace("''", "'"),
        TokenKind::Symbol(sign @ (b'-' | b'+')) => {
            let number = tokens
                .advance()
                .filter(|token| token.kind == TokenKind::Number)?;
            let number = String::from_utf8_lossy(number.text);
            format!("{}{number}", if sign == b'-' { "-" } else { "" })
        }
        TokenKind::Number
        | TokenKind::EscapeString
        | TokenKind::UnicodeString
        | TokenKind::DollarString => text.into_owned(),
        _ => return None,
    }))
}

fn identifier<'a>(token: &Token<'a>) -> Option<&'a [u8]> {
    match token.kind {
        TokenKind::Word => Some(token.text),
        TokenKind::QuotedIdent => token.text.strip_prefix(b"\"")?.strip_suffix(b"\""),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Change> {
        change_of(text.as_bytes(), "app.role")
    }

    #[test]
    fn one_setting_is_set_shown_and_reset() {
        let set = |value: &str| Some(Change::Set(Some(value.to_owned())));
        for (text, expected) in [
            ("set app.role = 'a'", set("a")),
            ("\n\tset app.role = 'a'", set("a")),
            ("--\nset app.role = 'a'", set("a")),
            ("SET SESSION App.Role TO B ;", set("b")),
            ("/* x */ set \"app\".\"ROLE\"='it''s' -- y", set("it's")),
            ("set \"app.role\" to \"A\"", set("A")),
            ("set app.role = 1", set("1")),
            ("set app.role = - 1.5", set("-1.5")),
            ("set app.role = $$a$$", set("$$a$$")),
            ("set app.role to default", Some(Change::Set(None))),
            ("set app.role to 'default'", set("default")),
            ("set local app.role = 'a'", Some(Change::SetLocal)),
            ("show app.role", Some(Change::Show)),
            ("reset app.role;;", Some(Change::Reset)),
            ("set app.role = 'a'; select 1", Some(Change::Several)),
            ("show app.role;show app.role", Some(Change::Several)),
        ] {
            assert_eq!(of(text), expected, "{text}");
            assert!(may_begin(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn most_texts_need_no_look() {
        for text in [
            "select 1", "SELECT 1", "begin", "insert", "", "se", "with", "revoke",
        ] {
            assert!(!may_begin(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn other_texts_are_something_else() {
        for text in [
            "",
            ";",
            "set",
            "select 1",
            "set app.rule = 'a'",
            "set app.role.x = 'a'",
            "set role = 'a'",
            "set app.role",
            "set app.role 'a'",
            "set app.role = 'a', 'b'",
            "set app.role = a b",
            "set app.role = 'a",
            "set app.role from current",
            "set app.role = (1)",
            "show app.role x",
            "show all",
            "reset all",
            "select 1; set app.role = 'a'",
            "\"set\" app.role = 'a'",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn everything_is_reset_wherever_that_stands() {
        for text in [
            "reset all",
            "DISCARD ALL;",
            "select pg_advisory_unlock_all(); close all; unlisten *; reset all;",
        ] {
            assert!(resets_all(text.as_bytes()), "{text}");
        }
        for text in [
            "reset x",
            "discard plans",
            "select 'reset all'",
            "reset all x",
            "",
        ] {
            assert!(!resets_all(text.as_bytes()), "{text}");
        }
    }
}
