//! Whether a text is worth reading: most are not, and each simple query is
//! looked at.

use memchr::memmem;

use crate::sql::chars::{self, IDENT_CONT, IDENT_START};

/// False: the text leaves nothing behind that its words could tell. Strings and
/// comments are not told from the rest: a word there only costs a second look.
pub fn may_matter(text: &[u8]) -> bool {
    let mut at = 0;
    // No word of the present statement has been seen yet.
    let mut first = true;
    while let Some(&byte) = text.get(at) {
        if chars::is(byte, IDENT_START) {
            let rest = text.get(at..).unwrap_or_default();
            let length = rest.iter().position(|&b| !chars::is(b, IDENT_CONT));
            let word = rest.get(..length.unwrap_or(rest.len())).unwrap_or_default();
            if anywhere(word) || (first && in_front(word)) {
                return true;
            }
            at += word.len();
            // An identifier that is written in code points.
            if word.len() == 1 && text.get(at..at + 2) == Some(b"&\"") {
                return true;
            }
            first = false;
            continue;
        }
        at += 1;
        match byte {
            b';' => first = true,
            b'-' if first && text.get(at) == Some(&b'-') => {
                let rest = text.get(at..).unwrap_or_default();
                at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            }
            b'/' if first && text.get(at) == Some(&b'*') => {
                let rest = text.get(at + 1..).unwrap_or_default();
                let end = memmem::find(rest, b"*/").unwrap_or(rest.len());
                if memmem::find(rest.get(..end).unwrap_or_default(), b"/*").is_some() {
                    return true;
                }
                at += 1 + end;
            }
            _ => {}
        }
    }
    false
}

/// False: no word of the text advances a sequence.
pub fn may_advance_a_sequence(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 7] = [
        b"insert", b"merge", b"copy", b"nextval", b"setval", b"do", b"call",
    ];
    let mut words = text.split(|&byte| !chars::is(byte, IDENT_CONT));
    words.any(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// Words that matter as the first of a statement.
#[inline]
fn in_front(word: &[u8]) -> bool {
    let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
    match word.len() {
        2 => is(b"do"),
        3 => is(b"set"),
        4 => is(b"call") || is(b"load") || is(b"drop"),
        5 => is(b"reset") || is(b"close") || is(b"alter"),
        6 => is(b"listen") || is(b"create"),
        7 => is(b"discard") || is(b"prepare"),
        8 => is(b"unlisten"),
        10 => is(b"deallocate"),
        _ => false,
    }
}

/// Words that matter wherever they stand.
#[inline]
fn anywhere(word: &[u8]) -> bool {
    let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
    let begins = |front: &[u8]| {
        let found = word.get(..front.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(front))
    };
    match (word.len(), word.first().map_or(0, |byte| byte | 0x20)) {
        (4, b't') => is(b"temp"),
        (4, b'h') => is(b"hold"),
        (6, b's') => is(b"setval"),
        (7, b's') => is(b"setseed"),
        (7, b'e') => is(b"execute"),
        (7, b'n') => is(b"nextval"),
        (7, b'c') => is(b"currval"),
        (7, b'l') => is(b"lastval"),
        (9, b't') => is(b"temporary"),
        (10, b's') => is(b"set_config"),
        (7.., b'p') => {
            begins(b"pg_temp")
                || begins(b"pg_advisory")
                || begins(b"pg_try_advisory")
                || is(b"pg_backend_pid")
                || is(b"pg_settings")
        }
        _ => false,
    }
}
