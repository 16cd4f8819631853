//! SHOW CONFIG and SHOW STATE.

use crate::admin::table::Type::Text;
use crate::admin::table::{Column, Table, row};
use crate::admin::view::{ConsoleView, PoolerState};

const CONFIG: [Column; 4] = [
    ("key", Text),
    ("value", Text),
    ("default", Text),
    ("changeable", Text),
];

const STATE: [Column; 2] = [("key", Text), ("value", Text)];

/// Every setting with its value in force.
pub fn config(view: &ConsoleView) -> Table<'_> {
    let rows = view
        .config
        .iter()
        .map(|setting| {
            row![
                setting.key,
                setting.value.as_str(),
                setting.default.as_str(),
                yes(setting.changeable),
            ]
        })
        .collect();
    Table {
        columns: &CONFIG,
        rows,
    }
}

/// Three states, of which one is `yes`.
pub fn state(view: &ConsoleView) -> Table<'_> {
    let states = [
        ("active", PoolerState::Active),
        ("paused", PoolerState::Paused),
        ("suspended", PoolerState::Suspended),
    ];
    let rows = states
        .into_iter()
        .map(|(key, state)| row![key, yes(view.state == state)])
        .collect();
    Table {
        columns: &STATE,
        rows,
    }
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
