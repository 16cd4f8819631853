//! What texts have in common that differ only in integers.

use super::chars::{DIGIT, IDENT_CONT, SELF, SPACE, is};

/// The text with 0 in place of each integer that is surely a token of its own, in
/// `buffer` unless there is none: for what tells texts apart by everything but their
/// numbers this is one look, where to read the text would be ten.
///
/// It holds under [`Dialect::default`](super::Dialect): every token stays what it is,
/// and none but numbers changes (an exponent is taken for an integer, too). Behind the first comment, dollar quote or `E'...'`
/// nothing is looked at any more.
pub fn shape<'a>(sql: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    buffer.clear();
    let (mut at, mut copied) = (0, 0);
    while let Some(found) = next_special(sql, at)
        && let Some(rest) = sql.get(found..)
    {
        let before = found.checked_sub(1).and_then(|before| sql.get(before));
        at = found
            + match rest {
                [b'\'', ..] if before.is_some_and(|&byte| is(byte, IDENT_CONT)) => break,
                [quote @ (b'\'' | b'"'), quoted @ ..] => {
                    match quoted.iter().position(|byte| byte == quote) {
                        Some(end) => end + 2,
                        None => break,
                    }
                }
                [b'$', number @ ..] if digits(number) > 0 => 1 + digits(number),
                [b'$', ..] | [b'-', b'-', ..] | [b'/', b'*', ..] => break,
                [b'-' | b'/', ..] => 1,
                _ => {
                    let length = digits(rest);
                    let after = rest.get(length);
                    if before.is_some_and(stands_apart) && after.is_none_or(stands_apart) {
                        buffer.extend_from_slice(sql.get(copied..found).unwrap_or_default());
                        buffer.push(b'0');
                        copied = found + length;
                    }
                    length
                }
            };
    }
    if copied == 0 {
        return sql;
    }
    buffer.extend_from_slice(sql.get(copied..).unwrap_or_default());
    buffer
}

fn next_special(sql: &[u8], from: usize) -> Option<usize> {
    let mut rest = sql.get(from..)?.iter();
    let at = rest.position(|&byte| SPECIAL[usize::from(byte)])?;
    Some(from + at)
}

/// How many digits a text begins with.
fn digits(text: &[u8]) -> usize {
    let end = text.iter().position(|&byte| !is(byte, DIGIT));
    end.unwrap_or(text.len())
}

/// Whether an integer ends at this byte, and may begin behind it.
fn stands_apart(byte: &u8) -> bool {
    is(*byte, SPACE | SELF) && *byte != b'.'
}

static SPECIAL: [bool; 256] = special();

const fn special() -> [bool; 256] {
    let mut table = [false; 256];
    let bytes = b"0123456789'\"$-/";
    let mut i = 0;
    while i < bytes.len() {
        table[bytes[i] as usize] = true;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> String {
        let mut buffer = b"what was there before".to_vec();
        String::from_utf8(shape(sql.as_bytes(), &mut buffer).to_vec()).unwrap()
    }

    #[test]
    fn integers_are_alike() {
        for (sql, expected) in [
            (
                "select a from t where b = 12345",
                "select a from t where b = 0",
            ),
            (
                "select 1,-2,(3),a[4:5] limit 6;",
                "select 0,-0,(0),a[0:0] limit 0;",
            ),
            ("a=1 and b<>22/3", "a=0 and b<>0/0"),
            (
                "where n = 'x 1 ' and \"b 2 \" = 3",
                "where n = 'x 1 ' and \"b 2 \" = 0",
            ),
            ("select 'it''s 1', 2", "select 'it''s 1', 0"),
            ("select $1, $23 + 4", "select $1, $23 + 0"),
        ] {
            assert_eq!(of(sql), expected);
        }
    }

    #[test]
    fn everything_else_stays() {
        for sql in [
            "",
            "1",
            "select a1, t2.b, 1.5, .5, 1e5, 0x1F, 1_000, 1a, $1, 5.",
            "select /* 1 */ 2",
            "select a -- 1\n, 2",
            "select E'\\' 1 ', 2",
            "select $$ 1 $$, 2",
            "select $a$ 1 $a$, 2",
            "select a$1 , b$ , 2",
            "select ' 1",
            "select \" 1",
            "select U&'1' , U&\"2\"",
        ] {
            assert_eq!(of(sql), sql);
        }
    }
}
