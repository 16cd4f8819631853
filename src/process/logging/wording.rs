//! Messages whose whole line log parsers know from PgBouncer.

/// A message and its line; `{name}` stands for the field of that name. An
/// event that lacks one of the fields is written as any other message.
pub const WORDING: &[(&str, &str)] = &[
    (
        "login attempt",
        "login attempt: db={db} user={user} tls={tls} replication={replication}",
    ),
    ("login failed", "login failed: db={db} user={user}"),
    ("no such user", "no such user: {user}"),
    (
        "password authentication failed",
        "password authentication failed",
    ),
    ("unknown pkt from client", "unknown pkt from client: {kind}"),
    (
        "prepared statement not found",
        "prepared statement '{name}' not found",
    ),
    (
        "prepared statement was already prepared",
        "prepared statement '{name}' was already prepared",
    ),
    ("console error", "{reason}"),
    ("unknown parameter", "unknown parameter: pgbouncer/{name}"),
    ("closing because", "closing because: {reason} (age={age}s)"),
    ("pooler error", "pooler error: {reason}"),
    (
        "new connection to server",
        "new connection to server (from {local_addr})",
    ),
    ("varcache_apply", "varcache_apply: {sets}"),
    (
        "varcache_set_canonical",
        "varcache_set_canonical: setting {name} to its canonical version {value} -> {canonical}",
    ),
    ("server login failed", "server login failed: FATAL {reason}"),
    (
        "registered new auto-database",
        "registered new auto-database: db={db}",
    ),
    ("listening on", "listening on {listen}"),
    ("process up", "process up: {version}"),
    (
        "got signal, re-reading config",
        "got {signal}, re-reading config",
    ),
    (
        "got signal, pausing all activity",
        "got {signal}, pausing all activity",
    ),
    (
        "got signal, but already paused/suspended",
        "got {signal}, but already paused/suspended",
    ),
    (
        "got signal, continuing from PAUSE",
        "got {signal}, continuing from PAUSE",
    ),
    (
        "got signal, but not paused/suspended",
        "got {signal}, but not paused/suspended",
    ),
    (
        "got signal while shutting down, ignoring",
        "got {signal} while shutting down, ignoring",
    ),
    (
        "got signal, shutting down, waiting for all clients disconnect",
        "got {signal}, shutting down, waiting for all clients disconnect",
    ),
    (
        "got signal, shutting down, waiting for all servers connections to be released",
        "got {signal}, shutting down, waiting for all servers connections to be released",
    ),
    (
        "got signal while shutting down, fast exit",
        "got {signal} while shutting down, fast exit",
    ),
    ("got signal, fast exit", "got {signal}, fast exit"),
    ("TLS handshake error", "TLS handshake error: {reason}"),
    ("TLS setup failed", "TLS setup failed: {reason}"),
    (
        "stats",
        "stats: {xacts} xacts/s, {queries} queries/s, {client_parses} client parses/s, \
         {server_parses} server parses/s, {binds} binds/s, in {bytes_in} B/s, \
         out {bytes_out} B/s, xact {xact_us} us, query {query_us} us, wait {wait_us} us",
    ),
];

/// The line of a message, without prefix: `None` if it has none or a field is
/// missing.
pub fn worded<'a>(message: &str, field: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let (_, wording) = WORDING.iter().find(|(known, _)| *known == message)?;
    let mut line = String::new();
    let mut rest = *wording;
    while let Some((text, more)) = rest.split_once('{') {
        let (name, more) = more.split_once('}')?;
        line.push_str(text);
        line.push_str(field(name)?);
        rest = more;
    }
    line.push_str(rest);
    Some(line)
}
