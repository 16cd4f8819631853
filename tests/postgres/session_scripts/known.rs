//! What prints something else through pgweir, and why. docs/transaction-mode.md
//! tells it to those who use it.

/// A difference: the lines that only a direct connection prints (`-`), and those
/// that are printed only through pgweir (`+`).
#[derive(Debug)]
pub struct Known {
    pub script: &'static str,
    pub lines: &'static [&'static str],
}

pub const KNOWN: &[Known] = &[];
