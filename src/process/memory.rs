//! What the process takes from the system.

use nix::unistd::{SysconfVar, sysconf};

use crate::admin::snapshot::MemoryRow;

/// The pages that are in memory now (Linux, proc(5)); `None` where the system does
/// not say.
pub fn resident() -> Option<MemoryRow> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(MemoryRow::uniform("resident", page as usize, pages))
}
