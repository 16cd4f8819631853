//! What is known to differ, each with a row in docs/drop-in.md.

use super::record::Step;

pub struct Difference {
    /// First column of the table in docs/drop-in.md.
    pub name: &'static str,
    pub kind: Kind,
    /// From which PgBouncer to which, 1.x.
    versions: (u32, u32),
}

impl Difference {
    pub fn concerns(&self, version: u32) -> bool {
        let (first, last) = self.versions;
        (first..=last).contains(&version)
    }

    /// Not of those before.
    pub const fn since(mut self, version: u32) -> Difference {
        self.versions.0 = version;
        self
    }

    /// Not of those behind.
    pub const fn until(mut self, version: u32) -> Difference {
        self.versions.1 = version;
        self
    }
}

pub const fn all(name: &'static str, kind: Kind) -> Difference {
    Difference {
        name,
        kind,
        versions: (0, u32::MAX),
    }
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
    /// Of the log of one script, whole lines that only PgBouncer has, and those that
    /// only we have.
    Log {
        script: &'static str,
        theirs: &'static [&'static str],
        ours: &'static [&'static str],
    },
}

const fn level(name: &'static str, level: fn(&mut Step, &mut Step)) -> Difference {
    all(name, Kind::Level(level))
}

const fn answer(
    name: &'static str,
    what: &'static str,
    theirs: &'static str,
    ours: &'static str,
) -> Difference {
    all(name, Kind::Answer { what, theirs, ours })
}

pub const DIFFERENCES: &[Difference] = &[
    level("version", version),
    level("error fields", error_fields),
    level("order of rows", order_of_rows),
    level("order of parameters", order_of_parameters),
    level("added columns", columns),
    level("added rows", rows),
    level("changed defaults", defaults),
    level("`idle`", idle).until(24),
    level("`peer_id`", peer_id).since(20),
    level("sizes in SHOW USERS", sizes).since(24).until(25),
    level("statements that failed", failed_statements).since(24),
    level("requests sent at once", at_once).since(24),
    level("`pgbouncer.` parameters", parameters).since(26),
    level("`track_extra_parameters`", tracked).since(26),
    level("SUSPEND", suspend).since(26),
    answer("SUSPEND", "admin: SUSPEND", "invalid command", "C SUSPEND").since(26),
    answer("SUSPEND", "admin: RESUME", "not paused", "C RESUME").since(26),
    answer(
        "SUSPEND",
        "stats: SHOW FDS",
        "invalid command",
        "admin access needed",
    )
    .since(26),
    answer(
        "COPY on the console",
        "other: CopyData",
        "silence",
        "unsupported packet",
    )
    .since(26),
    level("SHOW MEM", memory),
    level("free clients and servers", free),
    level("statistics of the console", console_statistics),
    level("bytes of own statements", own_bytes),
    answer(
        "startup parameters",
        r#"("search_path", "a")]"#,
        "unsupported",
        "Z I",
    )
    .until(25),
    answer(
        "ENABLE",
        "admin: ENABLE pgbouncer",
        "cannot disable admin db",
        "cannot enable admin db",
    )
    .until(25),
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
        "unsupported startup parameter",
        "Z I",
    )
    .until(25),
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
        "broken packets",
        "no end",
        "Z I",
        "expected terminator as last byte",
    )
    .since(24)
    .until(24),
    level("broken packets", broken).since(24),
    answer(
        "broken packets",
        "broken D Xname\\x00",
        "invalid DESCRIBE message subtype",
        "broken Describe packet",
    )
    .since(24),
    answer(
        "protocol versions",
        "protocol 3.1",
        "v \\x00\\x03\\x00\\x00",
        "Z I",
    )
    .since(24),
    answer(
        "protocol versions",
        "protocol 3.2",
        "v \\x00\\x03\\x00\\x00",
        "K 36",
    )
    .since(24),
    answer(
        "protocol versions",
        "protocol 3.9999",
        "v \\x00\\x03\\x00\\x00",
        "v \\x00\\x03\\x00\\x02",
    )
    .since(24),
    answer(
        "startup parameters",
        r#"[("replication", "nonsense")]"#,
        "Z I",
        "invalid value for parameter",
    )
    .since(24),
    level("canonical values", date_style).since(24),
    answer("long names", "a long database", "no such", "no such").since(24),
    answer(
        "`auth_query` without a name",
        "log in as null with \"secret\"",
        "no such user",
        "bouncer config error",
    )
    .since(26),
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
        let line = ["1.18.0", "1.24.1", "1.25.2", "1.26.1"]
            .into_iter()
            .fold(line.to_owned(), |line, version| {
                line.replace(version, "VERSION")
            });
        match line.split_once(" (pgweir ") {
            Some((known, rest)) if known.ends_with("PgBouncer VERSION") => {
                let end = rest.find(')').map_or(rest, |at| &rest[at + 1..]);
                format!("{known}{end}")
            }
            _ => line,
        }
    });
}

/// Of our own errors; DETAIL and HINT are left out of the record already. And of the
/// server's that a login ends with.
fn error_fields(theirs: &mut Step, ours: &mut Step) {
    if ours.what.starts_with("log in as") && !theirs.lines[0].contains("'R': ") {
        for line in &mut ours.lines {
            let parts = line.split(", ");
            let kept = parts.filter(|part| {
                !["'F': ", "'L': ", "'R': "]
                    .iter()
                    .any(|f| part.starts_with(f))
            });
            *line = kept.collect::<Vec<_>>().join(", ");
        }
    }
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
        .filter(|step| step.what.contains("log in") || step.what.starts_with("visitor"))
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
    if ["lists", "config", "totals", "state", "peer_pools"]
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

/// Whether a reload changes it.
fn peer_id(theirs: &mut Step, ours: &mut Step) {
    if theirs.shows("config") {
        each(theirs, ours, |line| match cells(line)[0] {
            "key=peer_id" => line.replace("|changeable=yes", "|changeable=no"),
            _ => line.to_owned(),
        });
    }
}

/// That a client is told of the pooler; and of `search_path`, which PostgreSQL itself
/// reports from 18 on.
fn parameters(theirs: &mut Step, ours: &mut Step) {
    let search_path = "S search_path\\x00";
    let known = ours.lines.iter().any(|line| line.starts_with(search_path));
    theirs.lines.retain(|line| {
        !line.starts_with("S pgbouncer.") && (known || !line.starts_with(search_path))
    });
    if theirs.what.starts_with("log in as") {
        for line in &mut theirs.lines {
            let parts = line
                .split(", ")
                .filter(|part| !part.starts_with("\"pgbouncer."));
            *line = parts.collect::<Vec<_>>().join(", ");
        }
    }
}

/// What 1.24 leaves in a buffer from the row before.
fn sizes(theirs: &mut Step, ours: &mut Step) {
    if theirs.shows("users") {
        each(theirs, ours, |line| {
            let cells = cells(line).into_iter();
            let kept = cells.filter(|cell| !cell.contains("pool_size="));
            format!("{} {}", &line[..1], kept.collect::<Vec<_>>().join("|"))
        });
    }
}

/// Those that a client has, as far as the server knows them.
fn failed_statements(theirs: &mut Step, ours: &mut Step) {
    if theirs.what == "admin: SHOW CLIENTS" {
        each(theirs, ours, |line| {
            line.replace("prepared_statements=5", "prepared_statements=4")
        });
    }
}

/// Two requests in one write are one transaction to PgBouncer.
fn at_once(theirs: &mut Step, ours: &mut Step) {
    if theirs.what == "admin: select STATS_TOTALS;" {
        take(theirs, 'D');
        take(ours, 'D');
    }
}

fn broken(theirs: &mut Step, _: &mut Step) {
    for (letter, kind) in [
        ('P', "Parse"),
        ('B', "Bind"),
        ('D', "Describe"),
        ('C', "Close"),
    ] {
        if theirs.what.contains(&format!("broken {letter}")) {
            let says = format!("broken {kind} packet");
            let line = &mut theirs.lines[0];
            *line = line.replace("failed to parse packet", &says);
        }
    }
}

/// As PostgreSQL spells it.
fn date_style(theirs: &mut Step, ours: &mut Step) {
    if theirs.what.contains("datestyle=German") {
        each(theirs, ours, |line| line.replace("German, DMY", "German"));
    }
}

fn tracked(theirs: &mut Step, ours: &mut Step) {
    if theirs.shows("config") {
        each(theirs, ours, |line| match cells(line)[0] {
            "key=track_extra_parameters" => "D".to_owned(),
            _ => line.to_owned(),
        });
    }
}

/// There is none any more.
fn suspend(_: &mut Step, ours: &mut Step) {
    for line in &mut ours.lines {
        if line.starts_with("E ") {
            *line = line
                .replace("already suspended/paused", "already paused")
                .replace("not paused/suspended", "not paused");
        }
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
            ["total_", "xact_", "server_assignment_count"]
                .iter()
                .any(|column| line.starts_with(&format!("D database=pgbouncer|{column}")))
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
