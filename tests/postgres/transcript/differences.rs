//! What is known to differ, each with a row in docs/drop-in.md.

use super::record::Step;

pub struct Difference {
    /// First column of the table in docs/drop-in.md.
    pub name: &'static str,
    pub kind: Kind,
}

pub enum Kind {
    /// Makes PgBouncer's step and ours the same in one respect, and changes nothing
    /// else.
    Level(fn(&mut Step, &mut Step)),
    /// What is answered to one step is another thing.
    Answer {
        /// The end of the step's name.
        what: &'static str,
        /// Within a line of PgBouncer's answer, and of ours.
        theirs: &'static str,
        ours: &'static str,
    },
}

const fn level(name: &'static str, level: fn(&mut Step, &mut Step)) -> Difference {
    let kind = Kind::Level(level);
    Difference { name, kind }
}

const fn answer(
    name: &'static str,
    what: &'static str,
    theirs: &'static str,
    ours: &'static str,
) -> Difference {
    let kind = Kind::Answer { what, theirs, ours };
    Difference { name, kind }
}

pub const DIFFERENCES: &[Difference] = &[
    level("version", version),
    level("error fields", error_fields),
    level("order of rows", order_of_rows),
    level("order of parameters", order_of_parameters),
    level("columns since 1.18", columns),
    level("rows since 1.18", rows),
    level("defaults since 1.18", defaults),
    level("`idle` since 1.18", idle),
    level("SHOW MEM", memory),
    level("free clients and servers", free),
    level("statistics of the console", console_statistics),
    level("bytes of own statements", own_bytes),
    answer(
        "startup parameters",
        r#"("search_path", "a")]"#,
        "unsupported",
        "Z I",
    ),
    answer(
        "texts since 1.18",
        "admin: ENABLE pgbouncer",
        "cannot disable admin db",
        "cannot enable admin db",
    ),
    answer(
        "booleans",
        "SET log_connections = 2",
        "SET log_connections=2",
        "SET failed",
    ),
    answer(
        "extended protocol",
        "other: Parse",
        "not supported by",
        "silence",
    ),
    answer(
        "extended protocol",
        "other: Execute",
        "not supported by",
        "does not exist",
    ),
    answer(
        "extended protocol",
        "other: Sync",
        "unsupported packet",
        "Z I",
    ),
    answer(
        "startup parameters",
        r#"[("nosuch", "1")]"#,
        "unsupported",
        "unrecognized",
    ),
    answer(
        "startup parameters",
        r#"[("extra_float_digits", "3")]"#,
        "unsupported startup parameter: extra_float_digits",
        "Z I",
    ),
    answer(
        "startup parameters",
        r#"[("options", "-c search_path=x")]"#,
        "unsupported startup parameter: options",
        "Z I",
    ),
    answer(
        "canonical values",
        r#"("timezone", "UTC")]"#,
        "German",
        "German, DMY",
    ),
    answer(
        "protocol versions",
        "protocol 4",
        "bad packet header",
        "unsupported frontend protocol",
    ),
    answer(
        "broken packets",
        "a packet of 3 bytes",
        "silence",
        "invalid length of startup packet",
    ),
    answer(
        "broken packets",
        "a packet too long",
        "bad packet header",
        "invalid length of startup packet",
    ),
    answer(
        "cancelling a wait",
        "b hears the answer",
        "silence",
        "canceling statement",
    ),
    answer(
        "a lost server",
        "end of the server",
        "server conn crashed?",
        "terminating connection",
    ),
    answer(
        "BEGIN in statement mode",
        "a: begin",
        "transaction blocks not",
        "C BEGIN",
    ),
];

/// Changes every line of both.
fn each(theirs: &mut Step, ours: &mut Step, change: impl Fn(&str) -> String) {
    for line in theirs.lines.iter_mut().chain(&mut ours.lines) {
        *line = change(line);
    }
}

fn version(theirs: &mut Step, ours: &mut Step) {
    each(theirs, ours, |line| {
        let line = line
            .replace("1.18.0", "VERSION")
            .replace("1.25.2", "VERSION");
        match line.split_once(" (pgweir ") {
            Some((known, rest)) if known.ends_with("PgBouncer VERSION") => {
                let end = rest.find(')').map_or(rest, |at| &rest[at + 1..]);
                format!("{known}{end}")
            }
            _ => line,
        }
    });
}

/// Of our own errors; DETAIL and HINT are left out of the record already.
fn error_fields(_: &mut Step, ours: &mut Step) {
    for line in &mut ours.lines {
        for severity in ["ERROR", "FATAL", "NOTICE"] {
            let more = format!("\"{severity}\", 'V': \"{severity}\"}}");
            *line = line.replace(&more, &format!("\"{severity}\"}}"));
        }
    }
}

/// Sorts what begins with this letter, and keeps it together.
fn sort(step: &mut Step, letter: char) {
    let mut lines = take(step, letter);
    lines.sort();
    put(step, lines);
}

fn take(step: &mut Step, letter: char) -> Vec<String> {
    let all = std::mem::take(&mut step.lines);
    let (taken, left) = all.into_iter().partition(|line| line.starts_with(letter));
    step.lines = left;
    taken
}

/// Behind the first line, which begins a table or a welcome.
fn put(step: &mut Step, lines: Vec<String>) {
    let at = step.lines.len().min(1);
    step.lines.splice(at..at, lines);
}

/// PgBouncer has them in the order of its lists.
fn order_of_rows(theirs: &mut Step, ours: &mut Step) {
    for step in [theirs, ours].into_iter().filter(|step| step.is_show()) {
        sort(step, 'D');
    }
}

fn order_of_parameters(theirs: &mut Step, ours: &mut Step) {
    for step in [theirs, ours]
        .into_iter()
        .filter(|step| step.what.contains("log in"))
    {
        sort(step, 'S');
    }
}

/// The columns of a T or D line, with what follows their names.
fn cells(line: &str) -> Vec<&str> {
    line.get(2..).unwrap_or_default().split('|').collect()
}

fn name(cell: &str) -> &str {
    cell.split(['=', ':']).next().unwrap_or_default()
}

fn columns(theirs: &mut Step, ours: &mut Step) {
    let head = |step: &Step| {
        step.lines
            .first()
            .filter(|line| line.starts_with("T "))
            .cloned()
    };
    let (true, Some(_), Some(own)) = (theirs.is_show(), head(theirs), head(ours)) else {
        return;
    };
    for line in &mut theirs.lines {
        // Renamed in 1.24.
        *line = line
            .replace("|reserve_pool:", "|reserve_pool_size:")
            .replace("|reserve_pool=", "|reserve_pool_size=");
    }
    // None of theirs may be missing.
    let known = head(theirs).unwrap_or_default();
    let known: Vec<_> = cells(&known).into_iter().map(name).collect();
    assert!(
        known
            .iter()
            .all(|column| cells(&own).iter().any(|cell| name(cell) == *column))
    );
    for line in ours
        .lines
        .iter_mut()
        .filter(|line| line.starts_with(['T', 'D']))
    {
        let cells = cells(line);
        let left: Vec<_> = cells
            .into_iter()
            .filter(|cell| known.contains(&name(cell)))
            .collect();
        *line = format!("{} {}", &line[..1], left.join("|"));
    }
}

/// Tables with a row for each thing that is counted or can be set.
fn rows(theirs: &mut Step, ours: &mut Step) {
    if ["lists", "config", "totals"]
        .iter()
        .any(|table| theirs.shows(table))
    {
        let keys: Vec<_> = theirs
            .lines
            .iter()
            .map(|line| cells(line)[0].to_owned())
            .collect();
        ours.lines
            .retain(|line| !line.starts_with('D') || keys.contains(&cells(line)[0].to_owned()));
    }
}

/// 1.18 also shows file modes in decimal.
fn defaults(theirs: &mut Step, ours: &mut Step) {
    let changed = [
        "client_tls_ciphers",
        "server_tls_ciphers",
        "server_check_query",
        "server_tls_sslmode",
        "unix_socket_mode",
    ];
    if theirs.shows("config") {
        let is = |line: &String| {
            changed
                .iter()
                .any(|key| cells(line)[0] == format!("key={key}"))
        };
        theirs.lines.retain(|line| !is(line));
        ours.lines.retain(|line| !is(line));
    }
}

/// A client without a link.
fn idle(theirs: &mut Step, _: &mut Step) {
    for line in theirs
        .lines
        .iter_mut()
        .filter(|line| line.starts_with("D type=C"))
    {
        if line.contains("|link=|") {
            *line = line.replace("|state=active|", "|state=idle|");
        }
    }
}

fn memory(theirs: &mut Step, ours: &mut Step) {
    for step in [theirs, ours].into_iter().filter(|step| step.shows("mem")) {
        take(step, 'D');
    }
}

fn free(theirs: &mut Step, ours: &mut Step) {
    each(theirs, ours, |line| match line.split_once("|items=") {
        Some((list, _)) if list.starts_with("D list=free_") => list.to_owned(),
        _ => line.to_owned(),
    });
}

fn console_statistics(theirs: &mut Step, ours: &mut Step) {
    for step in [theirs, ours] {
        let totals = step.shows("totals");
        let is_own = |line: &String| {
            line.starts_with("D database=pgbouncer|total_")
                || line.starts_with("D database=pgbouncer|xact_")
                || totals && line.contains("_count|value=")
        };
        if step.is_show() {
            step.lines.retain(|line| !is_own(line));
        }
    }
}

/// Whose answers come between those that a client asked for.
fn own_bytes(theirs: &mut Step, ours: &mut Step) {
    each(theirs, ours, |line| match line.split_once("|bytes_sent=") {
        Some((before, after)) => {
            let (_, after) = after.split_once('|').unwrap_or_default();
            format!("{before}|{after}")
        }
        None if line.starts_with("D name=total_server_bytes|") => "D".to_owned(),
        None => line.to_owned(),
    });
}
