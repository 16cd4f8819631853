//! The table of fuzz targets. `fuzz/` has a binary for each, and
//! `tests/fuzz_smoke.rs` runs each over its corpus and mutations of it.

use crate::{auth, config, flow, route, sql, wire};

/// A target: its name, which is also that of its file and its corpus, and its
/// body, which takes any bytes and panics if it finds a mistake.
pub type Target = (&'static str, fn(&[u8]));

/// Every target there is.
pub const TARGETS: &[Target] = &[
    ("classify", sql::fuzzing::fuzz_classify),
    ("database", config::fuzzing::fuzz_database),
    ("hba", auth::fuzzing::fuzz_hba),
    ("hint", route::fuzzing::fuzz_hint),
    ("ini", config::fuzzing::fuzz_ini),
    ("lexer", sql::fuzzing::fuzz_lexer),
    ("link", flow::fuzzing::fuzz_link),
    ("messages", wire::fuzzing::fuzz_messages),
    ("proxy", wire::fuzzing::fuzz_proxy),
    ("quote", sql::fuzzing::fuzz_quote),
    ("scram", auth::fuzzing::fuzz_scram),
    ("startup", wire::fuzzing::fuzz_startup),
    ("statements", sql::fuzzing::fuzz_statements),
    ("toml", config::fuzzing::fuzz_toml),
    ("userlist", auth::fuzzing::fuzz_userlist),
];
