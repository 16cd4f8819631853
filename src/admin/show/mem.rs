//! SHOW MEM.

use crate::admin::snapshot::{MemoryRow, Snapshot};
use crate::admin::table::Type::{Int4, Text};
use crate::admin::table::{Column, Table, row};
use crate::admin::view::ConsoleView;

const COLUMNS: [Column; 5] = [
    ("name", Text),
    ("size", Int4),
    ("used", Int4),
    ("free", Int4),
    ("memtotal", Int4),
];

/// What is held in memory, by kind; docs/console.md has the kinds. `memtotal` is
/// in bytes, and `size` what one of them takes (where they differ, on average).
pub fn mem<'a>(snapshot: &'a Snapshot, view: &'a ConsoleView) -> Table<'a> {
    let rows = view.memory.iter().chain(&snapshot.memory);
    Table {
        columns: &COLUMNS,
        rows: rows.map(cells).collect(),
    }
}

fn cells(row: &MemoryRow) -> Vec<crate::admin::table::Value<'_>> {
    let count = row.used + row.free;
    // The columns are int4: more than 2 GB read as 2 GB.
    let fits = |number: u64| number.min(i32::MAX as u64);
    row![
        row.name,
        fits(row.bytes.checked_div(count).unwrap_or(row.size)),
        fits(row.used),
        fits(row.free),
        fits(row.bytes),
    ]
}
