//! Texts without what differs from one call to the next.

use super::lexer::{Dialect, Lexer, Token, TokenKind};

/// What texts have in common that differ only in constants, case, blanks and
/// comments: words in lower case, one blank between tokens, `$` in place of each
/// constant and parameter, and of each list of them.
///
/// What pg_stat_statements shows gives the same as the statement itself. `None`:
/// the text cannot be read to its end.
pub fn normalised(sql: &[u8], dialect: Dialect) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(sql.len());
    let mut previous = Previous::Other;
    for token in Lexer::new(sql, dialect).filter(|token| !token.kind.is_comment()) {
        if token.kind.is_broken() {
            return None;
        }
        if is_constant(&token) {
            match previous {
                Previous::ListComma(end) => out.truncate(end),
                Previous::Sign(end) => {
                    out.truncate(end);
                    push(&mut out, b"$");
                }
                _ => push(&mut out, b"$"),
            }
            previous = Previous::Constant;
            continue;
        }
        previous = match (previous, token.kind) {
            (Previous::Constant, TokenKind::Symbol(b',')) => Previous::ListComma(out.len()),
            (Previous::ListComma(end), TokenKind::Symbol(b'-')) => Previous::ListComma(end),
            (Previous::Operator, TokenKind::Symbol(b'-')) => Previous::Sign(out.len()),
            (_, kind) if wants_operand(kind) => Previous::Operator,
            _ => Previous::Other,
        };
        push(&mut out, token.text);
        if token.kind == TokenKind::Word {
            let start = out.len() - token.text.len();
            out.get_mut(start..)?.make_ascii_lowercase();
        }
    }
    while out.ends_with(b" ;") {
        out.truncate(out.len() - 2);
    }
    Some(out)
}

/// Whether `sql` has `table` in the place of a table: a name in lower case, with
/// or without its schema.
///
/// The text alone decides: a name without schema is that of any schema, and
/// what `search_path`, views and functions lead to is not known.
pub fn names_table(sql: &[u8], dialect: Dialect, schema: Option<&str>, table: &str) -> bool {
    let tokens = Lexer::new(sql, dialect).filter(|token| !token.kind.is_comment());
    let mut tokens = tokens.peekable();
    // Of each open parenthesis, whether a comma is followed by a table.
    let mut outer = Vec::new();
    let (mut in_from, mut expected) = (false, false);
    while let Some(token) = tokens.next() {
        let is_any = |words: &[&str]| words.iter().any(|word| token.is_word(word));
        match token.kind {
            TokenKind::Symbol(b'(') => {
                outer.push(in_from);
                in_from &= expected;
            }
            TokenKind::Symbol(b')') => {
                in_from = outer.pop().unwrap_or_default();
                expected = false;
            }
            TokenKind::Symbol(b',') => expected = in_from,
            _ if is_any(&["from", "join", "table", "copy"]) => {
                (in_from, expected) = (true, true);
            }
            _ if is_any(&["only", "lateral"]) => {}
            _ if is_any(&END_OF_FROM) => (in_from, expected) = (false, false),
            _ if !std::mem::take(&mut expected) => {}
            _ => {
                let mut names = vec![name(&token)];
                while tokens
                    .next_if(|t| t.kind == TokenKind::Symbol(b'.'))
                    .is_some()
                {
                    names.push(tokens.next().as_ref().and_then(name));
                }
                let mut names = names.iter().rev().map(Option::as_deref);
                let same = names.next().flatten() == Some(table.as_bytes());
                let in_schema =
                    schema.is_none_or(|schema| names.next().flatten() == Some(schema.as_bytes()));
                let called = tokens
                    .peek()
                    .is_some_and(|t| t.kind == TokenKind::Symbol(b'('));
                if same && in_schema && !called {
                    return true;
                }
            }
        }
    }
    false
}

/// What follows a FROM clause.
const END_OF_FROM: [&str; 12] = [
    "select",
    "where",
    "group",
    "having",
    "order",
    "limit",
    "offset",
    "fetch",
    "window",
    "union",
    "intersect",
    "except",
];

/// The name that the server makes of an identifier, as far as that can be told.
fn name(token: &Token<'_>) -> Option<Vec<u8>> {
    match token.kind {
        TokenKind::Word => Some(token.text.to_ascii_lowercase()),
        TokenKind::QuotedIdent => {
            let inside = token.text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            (!inside.contains(&b'"')).then(|| inside.to_vec())
        }
        _ => None,
    }
}

/// What the last token was.
#[derive(Clone, Copy)]
enum Previous {
    Constant,
    /// The comma behind a constant, and where it begins.
    ListComma(usize),
    /// Something that an operand must follow.
    Operator,
    /// The minus of a number, and where it begins.
    Sign(usize),
    Other,
}

fn is_constant(token: &Token<'_>) -> bool {
    match token.kind {
        TokenKind::Word => ["true", "false", "null"]
            .iter()
            .any(|word| token.is_word(word)),
        kind => kind.is_constant(),
    }
}

fn wants_operand(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Operator
        | TokenKind::LessEquals
        | TokenKind::GreaterEquals
        | TokenKind::NotEquals => true,
        TokenKind::Symbol(symbol) => b"([,=<>+*/%^".contains(&symbol),
        _ => false,
    }
}

fn push(out: &mut Vec<u8>, token: &[u8]) {
    if !out.is_empty() {
        out.push(b' ');
    }
    out.extend_from_slice(token);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> String {
        let text = normalised(sql.as_bytes(), Dialect::default()).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn constants_case_blanks_and_comments_do_not_count() {
        let expected = "select abalance from accounts where aid = $";
        for sql in [
            "SELECT abalance FROM accounts WHERE aid = $1;",
            "select abalance from accounts where aid=5",
            "/* a */ Select abalance\n\tfrom accounts -- b\n where aid = '5' ; ;",
            "select abalance from accounts where aid = -5",
            "select abalance from accounts where aid = null",
        ] {
            assert_eq!(of(sql), expected, "{sql}");
        }
        assert_ne!(
            of("select abalance from \"Accounts\" where aid = 5"),
            expected
        );
        assert_eq!(
            of("select \"A\", E'a\\'', $$x$$, now() - 1"),
            "select \"A\" , $ , now ( ) - $"
        );
        assert_eq!(of(""), "");
        assert_eq!(of(";"), ";");
    }

    #[test]
    fn lists_of_constants_are_one() {
        let expected = "select * from t where a in ( $ ) and b - $ > $";
        for sql in [
            "select * from t where a in (1) and b - 1 > 2",
            "select * from t where a in (1, -2, 3) and b - 1 > -2",
            "SELECT * FROM t WHERE a IN ($1 /*, ... */) AND b - $2 > $3",
        ] {
            assert_eq!(of(sql), expected, "{sql}");
        }
        assert_eq!(of("values (1, a, 2, - a)"), "values ( $ , a , $ , - a )");
    }

    #[test]
    fn a_text_without_an_end_has_none() {
        for sql in ["select 'a", "select /* a", "select \"a"] {
            assert_eq!(
                normalised(sql.as_bytes(), Dialect::default()),
                None,
                "{sql}"
            );
        }
    }

    fn names(sql: &str, schema: Option<&str>) -> bool {
        names_table(sql.as_bytes(), Dialect::default(), schema, "orders")
    }

    #[test]
    fn tables_are_found_where_tables_stand() {
        for sql in [
            "select 1 from orders",
            "select 1 from a, Orders o where x = 1",
            "select 1 from a left join lateral (b cross join only shop.orders) on true",
            "select 1 from (select 2 from \"orders\" group by 1) x",
            "select (select 1 from orders), 2 from b",
            "table orders",
            "copy orders to stdout",
            "with x as (select 1 from shop.orders) select * from x",
            "select 1 from (a), orders",
        ] {
            assert!(names(sql, None), "{sql}");
        }
        for sql in [
            "select orders from a",
            "select 1, orders from a",
            "select 1 from a where orders = 1 group by 1, orders",
            "select a.orders from a",
            "select 1 from \"Orders\"",
            "select 1 from orders.a",
            "select 1 from orders(1)",
            "select 'from orders' from a -- from orders",
            "select 1 from a where b in (c, orders)",
            "select f(1, orders) from a",
            "select 1 from f(1, orders)",
        ] {
            assert!(!names(sql, None), "{sql}");
        }
        assert!(names("select 1 from shop.orders", Some("shop")));
        assert!(names("select 1 from db.\"shop\".orders", Some("shop")));
        assert!(!names("select 1 from orders", Some("shop")));
        assert!(!names("select 1 from other.orders", Some("shop")));
    }
}
