//! What both have logged of clients and commands while they were played a script: which
//! lines, with which level, and for each client in which order. Not how often, and of
//! server connections nothing: that depends on the moment.

use std::collections::{BTreeMap, BTreeSet};

/// A line for each kind of connection, with all that was logged of one, and one for each
/// command and each error of the console. Names of databases and users in front are left
/// out: PgBouncer has them when it has looked them up.
pub fn kinds(log: &str) -> Vec<String> {
    let mut clients: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut kinds = BTreeSet::new();
    for line in log.lines() {
        let Some((level, text)) = line
            .split_once("] ")
            .and_then(|(_, line)| line.split_once(' '))
        else {
            continue;
        };
        // `C-0x1f: database/user@address text`
        let of_client = text.strip_prefix("C-").and_then(|text| {
            let (_, text) = text.split_once(' ')?;
            let (who, text) = text.split_once(' ')?;
            Some((who.rsplit_once('@')?.1, text))
        });
        match of_client {
            Some((address, text)) => {
                let lines = clients.entry(address).or_default();
                lines.push(format!("{level} {}", masked(text)));
            }
            None if level == "ERROR" || text.ends_with(" command issued") => {
                kinds.insert(format!("{level} {}", masked(text)));
            }
            None => {}
        }
    }
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

/// Without what depends on the moment, or is compared elsewhere.
fn masked(text: &str) -> String {
    if text.starts_with("login attempt: ") {
        return "login attempt".to_owned();
    }
    match text.split_once(" (age=") {
        Some((text, _)) => text.to_owned(),
        None => text.to_owned(),
    }
}

/// Parts of lines of what differs in what clients are told already, or in the log alone:
/// PgBouncer's and ours.
const KNOWN: &[&str] = &[
    // "startup parameters"
    "unsupported startup parameter",
    "unsupported options startup parameter",
    "unrecognized configuration parameter",
    "invalid value for parameter",
    // "protocol versions", "broken packets"
    "unsupported frontend protocol",
    "invalid length of startup packet",
    "invalid startup packet layout",
    "bad packet header: '000",
    "unknown pkt from client: 0/0x0",
    "unknown pkt from client: 196608/0x30000",
    "failed to parse packet",
    "broken Parse packet",
    "broken Bind packet",
    "broken Describe packet",
    "broken Close packet",
    // "long names"
    "xxxxxxxxxxxxxxxx",
    // "cancelling a wait"
    "cancel request for idle client",
    "cancelled the wait for a server connection",
    "RESUME came before the PAUSE was complete",
    // "a lost server"
    "server conn crashed?",
    // "extended protocol", "COPY on the console"
    "extended query protocol not supported",
    "portal \"\" does not exist",
    "unsupported packet type for admin console: 83",
    "unsupported packet type for admin console: 100",
    // "SUSPEND"
    "SUSPEND",
    "SHOW FDS",
    "not paused",
    // PgBouncer's idle clients of others end by the limit of a user.
    "client_idle_timeout",
    // Of auth_query each says more in its own words.
    "bouncer config error",
    "closing because: no such user",
    "auth_query",
    // SET of what is not there.
    "unknown parameter: pgbouncer/nosuch",
];

/// Takes what is known to differ out.
pub fn level(kinds: &mut Vec<String>) {
    kinds.retain(|kind| !KNOWN.iter().any(|known| kind.contains(known)));
    for kind in kinds.iter_mut() {
        // Why PgBouncer does not say at all if it was not SCRAM.
        let lines = kind.split(", ");
        let mut lines: Vec<_> = lines
            .filter(|line| !line.starts_with("LOG authentication failed "))
            .collect();
        // PgBouncer has looked before it logs the attempt.
        if let Some(at) = lines
            .iter()
            .position(|line| line.starts_with("LOG no such user"))
        {
            let line = lines.remove(at);
            lines.insert(0, line);
        }
        *kind = lines
            .join(", ")
            // Who leaves may have said so, or may not have got to it.
            .replace("client unexpected eof", "client close request")
            .replace("already suspended/paused", "already paused")
            // "ENABLE"
            .replace("cannot enable admin db", "cannot disable admin db");
    }
    kinds.sort();
    kinds.dedup();
}
