//! The table of fuzz targets. `fuzz/` has a binary for each, and
//! `tests/fuzz_smoke.rs` runs each over its corpus and mutations of it.

use crate::sql;

/// A target: its name, which is also that of its file and its corpus, and its
/// body, which takes any bytes and panics if it finds a mistake.
pub type Target = (&'static str, fn(&[u8]));

/// Every target there is.
pub const TARGETS: &[Target] = &[
    ("lexer", sql::fuzzing::fuzz_lexer),
    ("quote", sql::fuzzing::fuzz_quote),
    ("statements", sql::fuzzing::fuzz_statements),
];
