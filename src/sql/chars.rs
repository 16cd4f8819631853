//! The character classes of PostgreSQL's scan.l.

/// `{space}`.
pub const SPACE: u8 = 1;
/// `{ident_start}`: letters, underscore and every byte above 127.
pub const IDENT_START: u8 = 1 << 1;
/// `{ident_cont}`: `{ident_start}`, digits and `$`.
pub const IDENT_CONT: u8 = 1 << 2;
/// `{decdigit}`.
pub const DIGIT: u8 = 1 << 3;
/// `{op_chars}`.
pub const OPERATOR: u8 = 1 << 4;
/// `{self}`: tokens of their own when they stand alone.
pub const SELF: u8 = 1 << 5;
/// Operator characters that let an operator end in `+` or `-`.
pub const QUALIFYING: u8 = 1 << 6;

/// Whether `byte` is in any of `classes`.
#[inline]
pub fn is(byte: u8, classes: u8) -> bool {
    CLASSES[byte as usize] & classes != 0
}

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 128 {
            table[i] |= IDENT_START | IDENT_CONT;
        }
        if byte.is_ascii_digit() {
            table[i] |= DIGIT | IDENT_CONT;
        }
        i += 1;
    }
    table[b'$' as usize] |= IDENT_CONT;
    // Vertical tab is space since PostgreSQL 16; before, it is a syntax error.
    mark(&mut table, b" \t\n\r\x0b\x0c", SPACE);
    mark(&mut table, b"~!@#^&|`?+-*/%<>=", OPERATOR);
    mark(&mut table, b",()[].;:+-*/%^<>=", SELF);
    mark(&mut table, b"~!@#^&|`?%", QUALIFYING);
    table
}

const fn mark(table: &mut [u8; 256], bytes: &[u8], class: u8) {
    let mut i = 0;
    while i < bytes.len() {
        table[bytes[i] as usize] |= class;
        i += 1;
    }
}
