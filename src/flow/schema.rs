//! How the workers of a process tell each other that a schema was changed.

use std::sync::atomic::{AtomicU64, Ordering};

/// The schema of a database, as far as changes to it are seen.
#[derive(Debug)]
pub struct Schema(AtomicU64);

impl Default for Schema {
    fn default() -> Self {
        Schema(AtomicU64::new(1))
    }
}

impl Schema {
    /// What is analysed from now on is of this edition or a later one; never 0.
    ///
    /// No order of memory is asked for: who must not see an older one has heard
    /// of the change by way of the kernel.
    #[inline]
    pub fn edition(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A transaction that may have changed it has ended.
    pub fn change(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a command with this tag (with its NUL) may change what other texts
/// mean. `DO` may do anything, and in migrations it does.
pub(super) fn is_changed_by(tag: &[u8]) -> bool {
    const COMMANDS: [&[u8]; 6] = [
        b"ALTER ",
        b"COMMIT PREPARED\0",
        b"CREATE ",
        b"DO\0",
        b"DROP ",
        b"IMPORT FOREIGN SCHEMA\0",
    ];
    // No command that reads or writes rows begins so.
    let may_be = matches!(tag, [b'A' | b'C' | b'D' | b'I', ..]);
    may_be && COMMANDS.iter().any(|command| tag.starts_with(command))
}
