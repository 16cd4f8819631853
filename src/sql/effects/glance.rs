//! Whether a text is worth reading: most are not, and each simple query is
//! looked at.

use memchr::memmem;

use crate::sql::chars::{self, IDENT_CONT, IDENT_START};

/// False: the text leaves nothing behind that its words could tell. Strings and
/// comments are not told from the rest: a word there only costs a second look.
pub fn may_matter(text: &[u8]) -> bool {
    if begins_with_a_word(text) {
        return true;
    }
    // As a message has it, and as most people end it: nothing comes behind.
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let text = text.strip_suffix(b";").unwrap_or(text);
    let marked = memchr::memchr2_iter(b';', b'&', text).any(|at| match text.get(at..) {
        Some([b';', next @ ..]) => begins_with_a_word(next),
        // An identifier that is written in code points.
        Some([b'&', b'"', ..]) => true,
        _ => false,
    });
    marked || has_a_word(text)
}

/// False: no word of the text advances a sequence.
pub fn may_advance_a_sequence(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 7] = [
        b"insert", b"merge", b"copy", b"nextval", b"setval", b"do", b"call",
    ];
    let mut words = text.split(|&byte| !chars::is(byte, IDENT_CONT));
    words.any(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// Whether a statement begins with a word that matters there.
fn begins_with_a_word(mut text: &[u8]) -> bool {
    loop {
        match text {
            [b'-', b'-', rest @ ..] => {
                let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                text = rest.get(end..).unwrap_or_default();
            }
            [b'/', b'*', rest @ ..] => {
                let end = memmem::find(rest, b"*/").unwrap_or(rest.len());
                let (comment, after) = rest.split_at(end);
                if memmem::find(comment, b"/*").is_some() {
                    return true;
                }
                text = after.get(2..).unwrap_or_default();
            }
            [byte, ..] if chars::is(*byte, IDENT_START) => return in_front(text),
            [_, rest @ ..] => text = rest,
            [] => return false,
        }
    }
}

/// The word that a text begins with.
fn word_at(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|&byte| !chars::is(byte, IDENT_CONT));
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// Whether a text begins with a word that matters as the first of a statement.
#[inline]
fn in_front(text: &[u8]) -> bool {
    // Nearly always.
    if let Some([b's' | b'S', b'e' | b'E', b'l' | b'L']) = text.first_chunk() {
        return false;
    }
    let word = word_at(text);
    let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
    match word.len() {
        2 => is(b"do"),
        3 => is(b"set"),
        4 => is(b"call") || is(b"load") || is(b"drop"),
        5 => is(b"reset") || is(b"close") || is(b"alter"),
        6 => is(b"listen") || is(b"create"),
        7 => is(b"discard") || is(b"prepare") || is(b"declare"),
        8 => is(b"unlisten"),
        10 => is(b"deallocate"),
        _ => false,
    }
}

/// Words that matter wherever they stand; `*`: and all that begin like this.
const WORDS: [&[u8]; 15] = [
    b"setval",
    b"setseed",
    b"set_config",
    b"set_limit",
    b"dblink_connect*",
    b"execute",
    b"nextval",
    b"currval",
    b"lastval",
    b"pg_temp*",
    b"pg_backend_pid",
    b"pg_settings",
    b"pg_prepared_statement*",
    b"pg_advisory*",
    b"pg_try_advisory*",
];

/// Another one, as `temporary` too. It is short, but no statement begins with it: that
/// some byte comes before it makes it as long as the others.
const TEMP: &[u8] = b"temp";

/// Whether there is a word that matters wherever it stands. A search for all at
/// once, after Wu and Manber: the last two bytes of a window as long as the shortest
/// word tell how far it may be moved, mostly past both.
fn has_a_word(text: &[u8]) -> bool {
    let mut end = WINDOW;
    while let Some(&[a, b]) = text.get(end.wrapping_sub(2)..end) {
        let shift = SHIFTS[pair(a, b)];
        end += usize::from(shift);
        if shift == 0 {
            if is_anywhere(text, end - WINDOW) {
                return true;
            }
            end += 1;
        }
    }
    false
}

/// Whether one of them begins here, or that one behind the next byte.
#[cold]
fn is_anywhere(text: &[u8], at: usize) -> bool {
    let word = whole_word_at(text, at);
    let known = WORDS.iter().any(|known| match known.strip_suffix(b"*") {
        Some(front) => word
            .get(..front.len())
            .is_some_and(|word| word.eq_ignore_ascii_case(front)),
        None => word.eq_ignore_ascii_case(known),
    });
    let word = whole_word_at(text, at + 1);
    known || word.eq_ignore_ascii_case(TEMP) || word.eq_ignore_ascii_case(b"temporary")
}

/// The word that begins here; nothing if it has begun before.
fn whole_word_at(text: &[u8], at: usize) -> &[u8] {
    let (before, text) = text.split_at_checked(at).unwrap_or_default();
    match before.last() {
        Some(&byte) if chars::is(byte, IDENT_CONT) => &[],
        _ => word_at(text),
    }
}

/// The length of the shortest of them.
const WINDOW: usize = 5;

/// How far a window may be moved that ends with these two bytes; 0: one of them may
/// begin with it.
static SHIFTS: [u8; 1024] = shifts();

const fn shifts() -> [u8; 1024] {
    let mut table = [WINDOW as u8 - 1; 1024];
    let mut word = 0;
    while word < WORDS.len() {
        shorten_for(&mut table, WORDS[word], WINDOW);
        word += 1;
    }
    let mut before = 0;
    while before < 32 {
        shorten(&mut table, pair(before, TEMP[0]), WINDOW - 2);
        before += 1;
    }
    shorten_for(&mut table, TEMP, TEMP.len());
    table
}

/// For a window that ends with this many bytes of a word.
const fn shorten_for(table: &mut [u8; 1024], word: &[u8], length: usize) {
    let mut end = 2;
    while end <= length {
        shorten(table, pair(word[end - 2], word[end - 1]), length - end);
        end += 1;
    }
}

const fn shorten(table: &mut [u8; 1024], pair: usize, shift: usize) {
    if shift < table[pair] as usize {
        table[pair] = shift as u8;
    }
}

/// Letters of either case are the same; other bytes are taken for some letter.
const fn pair(a: u8, b: u8) -> usize {
    (a as usize & 31) << 5 | b as usize & 31
}
