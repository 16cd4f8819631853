//! What both have logged while they were played a script: which lines, with which level,
//! and for each connection in which order. Not how often: that depends on the moment.

use std::collections::{BTreeMap, BTreeSet};

/// A line for each kind of connection, with all that was logged of one, and one for each
/// command, error and refused login to a server. Names of databases and users in front of
/// what is said of a client are left out: PgBouncer has them when it has looked them up.
pub fn kinds(log: &str) -> Vec<String> {
    let mut clients: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut servers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut kinds = BTreeSet::new();
    for line in log.lines() {
        let Some((level, text)) = line
            .split_once("] ")
            .and_then(|(_, line)| line.split_once(' '))
        else {
            continue;
        };
        // `C-0x1f: database/user@address text`
        let of_one = text.split_once(": ").and_then(|(conn, text)| {
            let (who, text) = text.split_once(' ')?;
            let (names, address) = who.rsplit_once('@')?;
            Some((conn, names, address, format!("{level} {}", masked(text))))
        });
        match of_one {
            Some((conn, _, address, line)) if conn.starts_with("C-") => {
                clients.entry(address).or_default().push(line);
            }
            Some((conn, names, _, line)) if conn.starts_with("S-") => {
                // PgBouncer uses the memory of one that has gone for the next one.
                let new = line.contains(NEW);
                if let Some(before) = new.then(|| servers.remove(conn)).flatten() {
                    kinds.insert(before.join(", "));
                }
                let lines = servers.entry(conn).or_default();
                if lines.is_empty() {
                    lines.push(format!("server of {names}"));
                }
                lines.push(line);
            }
            _ if level == "ERROR"
                || text.ends_with(" command issued")
                || text.starts_with("server login failed: ") =>
            {
                kinds.insert(format!("{level} {}", masked(text)));
            }
            _ => {}
        }
    }
    kinds.extend(servers.into_values().map(|lines| lines.join(", ")));
    for mut lines in clients.into_values() {
        // Errors that a client of the console lives on with.
        let mut last = String::new();
        lines.retain(|line| {
            let alone = line.starts_with("WARNING pooler error: ")
                && !last.starts_with("LOG closing because: ");
            last.clone_from(line);
            if alone {
                kinds.insert(line.clone());
            }
            !alone
        });
        // Some are still there.
        if lines.iter().any(|line| line.contains("closing because: ")) {
            kinds.insert(lines.join(", "));
        }
    }
    kinds.into_iter().collect()
}

const NEW: &str = "new connection to server";

/// Without what depends on the moment, or is compared elsewhere.
fn masked(text: &str) -> String {
    if text.starts_with("login attempt: ") {
        return "login attempt".to_owned();
    }
    match text.split_once(" (age=") {
        Some((text, _)) => text.to_owned(),
        None if text.starts_with(NEW) => NEW.to_owned(),
        None => text.to_owned(),
    }
}
