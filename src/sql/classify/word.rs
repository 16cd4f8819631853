//! The keywords that tell where in a statement we are.

/// A keyword that changes how the words after it are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    As,
    Cast,
    /// Ends the FROM clause: WHERE, HAVING, WINDOW, ORDER, LIMIT, OFFSET,
    /// FETCH, UNION, INTERSECT, EXCEPT.
    Clause,
    /// INSERT, UPDATE, DELETE, MERGE.
    Dml,
    For,
    From,
    Group,
    Into,
    Is,
    Join,
    /// NATURAL, CROSS, INNER, LEFT, RIGHT, FULL, TABLESAMPLE: no alias.
    Joining,
    /// ON, USING.
    On,
    /// ONLY, LATERAL: a relation follows all the same.
    Only,
    Returning,
    Select,
    Table,
    Values,
    With,
}

use Keyword::*;

const KEYWORDS: [(&str, Keyword); 39] = [
    ("as", As),
    ("cast", Cast),
    ("cross", Joining),
    ("delete", Dml),
    ("except", Clause),
    ("fetch", Clause),
    ("for", For),
    ("from", From),
    ("full", Joining),
    ("group", Group),
    ("having", Clause),
    ("inner", Joining),
    ("insert", Dml),
    ("intersect", Clause),
    ("into", Into),
    ("is", Is),
    ("join", Join),
    ("lateral", Only),
    ("left", Joining),
    ("limit", Clause),
    ("merge", Dml),
    ("natural", Joining),
    ("offset", Clause),
    ("on", On),
    ("only", Only),
    ("order", Clause),
    ("returning", Returning),
    ("right", Joining),
    ("select", Select),
    ("table", Table),
    ("tablesample", Joining),
    ("union", Clause),
    ("update", Dml),
    ("using", On),
    ("values", Values),
    ("where", Clause),
    ("window", Clause),
    ("with", With),
    ("xmlserialize", Cast),
];

impl Keyword {
    /// The keyword that an unquoted word is.
    #[inline]
    pub(super) fn of(word: &[u8]) -> Option<Keyword> {
        let mut slot = slot(word)?;
        loop {
            let (text, keyword) = (*SLOTS.get(slot)?)?;
            if word.eq_ignore_ascii_case(text.as_bytes()) {
                return Some(keyword);
            }
            slot += 1;
        }
    }
}

const SIZE: usize = 256;

/// Words of one to twelve letters have a slot.
#[inline]
const fn slot(word: &[u8]) -> Option<usize> {
    if word.len() < 2 || word.len() > 12 {
        return None;
    }
    // The bit that tells upper from lower case is not looked at.
    let first = (word[0] & 0x1f) as usize;
    let last = (word[word.len() - 1] & 0x1f) as usize;
    Some((first * 5 + last * 3 + word.len() * 31) % SIZE)
}

/// A hash table with room behind its end.
static SLOTS: [Option<(&str, Keyword)>; SIZE + 8] = slots();

const fn slots() -> [Option<(&'static str, Keyword)>; SIZE + 8] {
    let mut table = [None; SIZE + 8];
    let mut i = 0;
    while i < KEYWORDS.len() {
        let entry = KEYWORDS[i];
        let Some(mut at) = slot(entry.0.as_bytes()) else {
            panic!()
        };
        while table[at].is_some() {
            at += 1;
        }
        table[at] = Some(entry);
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_found_in_any_case_and_nothing_else() {
        for (text, keyword) in &KEYWORDS {
            assert_eq!(Keyword::of(text.as_bytes()), Some(*keyword));
            assert_eq!(Keyword::of(text.to_uppercase().as_bytes()), Some(*keyword));
            assert_eq!(Keyword::of(format!("{text}_").as_bytes()), None);
        }
        for text in [
            "",
            "a",
            "s",
            "selec",
            "selectx",
            "abalance",
            "pgbench_accounts",
            "\u{e9}s",
        ] {
            assert_eq!(Keyword::of(text.as_bytes()), None, "{text}");
        }
    }
}
