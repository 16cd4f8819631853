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

/// Settings for which PgBouncer has no default: NULL unless set.
const NO_DEFAULT: [&str; 10] = [
    "auth_dbname",
    "auth_file",
    "auth_ident_file",
    "auth_ldap_options",
    "auth_user",
    "client_tls13_ciphers",
    "conffile",
    "server_tls13_ciphers",
    "user",
    "verbose",
];

/// Every setting with its value in force.
pub fn config(view: &ConsoleView) -> Table<'_> {
    let rows = view
        .config
        .iter()
        .map(|setting| {
            let no_default = NO_DEFAULT.contains(&setting.key);
            let value = setting.value.as_str();
            row![
                setting.key,
                Some(value).filter(|value| !no_default || !value.is_empty()),
                Some(setting.default.as_str()).filter(|_| !no_default),
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
