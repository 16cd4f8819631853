//! What is known to differ in the log: whole lines of it, as `log::kinds` has them, each
//! under the row of docs/drop-in.md that gives the reason.

use super::differences::{Difference, Kind, all};

/// In the log of this script PgBouncer has these lines, and pgweir has those.
const fn log(
    name: &'static str,
    script: &'static str,
    theirs: &'static [&'static str],
    ours: &'static [&'static str],
) -> Difference {
    all(
        name,
        Kind::Log {
            script,
            theirs,
            ours,
        },
    )
}

pub const DIFFERENCES: &[Difference] = &[
    log(
        "extended protocol",
        "console",
        &[
            "ERROR extended query protocol not supported by admin console",
            "ERROR unsupported packet type for admin console: 83",
            "WARNING pooler error: extended query protocol not supported by admin console",
            "WARNING pooler error: unsupported packet type for admin console: 83",
        ],
        &[
            "ERROR portal \"\" does not exist",
            "WARNING pooler error: portal \"\" does not exist",
        ],
    ),
    log(
        "COPY on the console",
        "console",
        &[],
        &[
            "ERROR unsupported packet type for admin console: 100",
            "WARNING pooler error: unsupported packet type for admin console: 100",
        ],
    )
    .since(26),
    log(
        "ENABLE",
        "console",
        &[],
        &[
            "ERROR cannot enable admin db: pgbouncer",
            "WARNING pooler error: cannot enable admin db: pgbouncer",
        ],
    )
    .until(25),
    log(
        "startup parameters",
        "console",
        &[
            "WARNING unsupported startup parameter: search_path=a, LOG closing because: unsupported startup parameter: search_path, WARNING pooler error: unsupported startup parameter: search_path",
        ],
        &[],
    )
    .until(25),
    log(
        "SUSPEND",
        "console",
        &[
            "ERROR invalid command 'SHOW FDS', use SHOW HELP;",
            "ERROR pooler is not paused",
            "WARNING pooler error: invalid command 'SHOW FDS', use SHOW HELP;",
            "WARNING pooler error: pooler is not paused",
        ],
        &[
            "ERROR pooler is not paused/suspended",
            "WARNING pooler error: pooler is not paused/suspended",
        ],
    )
    .since(26),
    log(
        "SUSPEND",
        "control",
        &[
            "ERROR already paused",
            "ERROR pooler is not paused",
            "WARNING pooler error: already paused",
            "WARNING pooler error: pooler is not paused",
        ],
        &[
            "ERROR already suspended/paused",
            "ERROR pooler is not paused/suspended",
            "WARNING pooler error: already suspended/paused",
            "WARNING pooler error: pooler is not paused/suspended",
        ],
    )
    .since(26),
    log(
        "SUSPEND",
        "waiting for servers",
        &["ERROR already paused", "WARNING pooler error: already paused"],
        &[
            "ERROR already suspended/paused",
            "WARNING pooler error: already suspended/paused",
        ],
    )
    .since(26),
    log(
        "SUSPEND",
        "since 1.26",
        &[
            "ERROR invalid command 'SUSPEND', use SHOW HELP;",
            "ERROR pooler is not paused",
            "WARNING pooler error: invalid command 'SUSPEND', use SHOW HELP;",
            "WARNING pooler error: pooler is not paused",
        ],
        &["LOG SUSPEND command issued"],
    )
    .since(26),
    log(
        "cancelling a wait",
        "control",
        &[],
        &[
            "ERROR RESUME came before the PAUSE was complete",
            "WARNING pooler error: RESUME came before the PAUSE was complete",
        ],
    ),
    log(
        "cancelling a wait",
        "clients",
        &["LOG closing because: cancel request for idle client"],
        &["LOG closing because: cancelled the wait for a server connection"],
    ),
    log(
        "protocol versions",
        "clients",
        &[
            "LOG closing because: bad packet header: '0000001200040000', WARNING pooler error: bad packet header: '0000001200040000'",
        ],
        &[
            "LOG closing because: unsupported frontend protocol 4.0: server supports 3.0 to 3.2, WARNING pooler error: unsupported frontend protocol 4.0: server supports 3.0 to 3.2",
        ],
    ),
    log(
        "broken packets",
        "clients",
        &[
            "LOG closing because: bad packet header: '0001000000030000', WARNING pooler error: bad packet header: '0001000000030000'",
        ],
        &[
            "LOG closing because: invalid length of startup packet, WARNING pooler error: invalid length of startup packet",
        ],
    ),
    log(
        "broken packets",
        "prepared statements",
        &[
            "LOG login attempt, ERROR failed to parse prepared statement packet type 'B', LOG closing because: failed to parse packet, WARNING pooler error: failed to parse packet",
            "LOG login attempt, ERROR failed to parse prepared statement packet type 'C', LOG closing because: failed to parse packet, WARNING pooler error: failed to parse packet",
            "LOG login attempt, ERROR failed to parse prepared statement packet type 'D', LOG closing because: failed to parse packet, WARNING pooler error: failed to parse packet",
            "LOG login attempt, ERROR failed to parse prepared statement packet type 'P', LOG closing because: failed to parse packet, WARNING pooler error: failed to parse packet",
            // It passes `Xname` on.
            "LOG login attempt, LOG closing because: client close request",
        ],
        &[
            "LOG login attempt, LOG closing because: broken Bind packet, WARNING pooler error: broken Bind packet",
            "LOG login attempt, LOG closing because: broken Close packet, WARNING pooler error: broken Close packet",
            "LOG login attempt, LOG closing because: broken Describe packet, WARNING pooler error: broken Describe packet",
        ],
    )
    .since(24),
    log(
        "broken packets",
        "startup",
        &[],
        &[
            "LOG closing because: invalid startup packet layout: expected terminator as last byte, WARNING pooler error: invalid startup packet layout: expected terminator as last byte",
        ],
    )
    .since(24)
    .until(24),
    log(
        "broken packets",
        "startup",
        &[
            "LOG login attempt, ERROR unknown pkt from client: 196608/0x30000, LOG closing because: unknown pkt, WARNING pooler error: unknown pkt",
        ],
        &[
            "LOG login attempt, ERROR unknown pkt from client: 0/0x0, LOG closing because: unknown pkt, WARNING pooler error: unknown pkt",
        ],
    )
    .since(24),
    log(
        "long names",
        "startup",
        &[
            "LOG login attempt, LOG login failed: db=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx user=app, LOG closing because: no such database: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx, WARNING pooler error: no such database: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ],
        &[
            "LOG login attempt, LOG login failed: db=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx user=app, LOG closing because: no such database: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx, WARNING pooler error: no such database: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ],
    )
    .since(24),
    log(
        "startup parameters",
        "startup",
        &[],
        &[
            "LOG closing because: invalid value for parameter \"replication\": \"nonsense\", WARNING pooler error: invalid value for parameter \"replication\": \"nonsense\"",
        ],
    )
    .since(24),
    log(
        "startup parameters",
        "clients",
        &[
            "WARNING unsupported startup parameter: extra_float_digits=3, LOG closing because: unsupported startup parameter: extra_float_digits, WARNING pooler error: unsupported startup parameter: extra_float_digits",
            "WARNING unsupported startup parameter: nosuch=1, LOG closing because: unsupported startup parameter: nosuch, WARNING pooler error: unsupported startup parameter: nosuch",
        ],
        &[
            "LOG login attempt, LOG closing because: unrecognized configuration parameter \"nosuch\" (SQLSTATE 42704), WARNING pooler error: unrecognized configuration parameter \"nosuch\" (SQLSTATE 42704)",
        ],
    ),
    log(
        "startup parameters",
        "clients",
        &[
            "WARNING unsupported startup parameter: options=-c search_path=x, LOG closing because: unsupported startup parameter: options, WARNING pooler error: unsupported startup parameter: options",
        ],
        &[],
    )
    .until(19),
    log(
        "startup parameters",
        "clients",
        &[
            "WARNING unsupported startup parameter in options: search_path=x, LOG closing because: unsupported startup parameter in options: search_path, WARNING pooler error: unsupported startup parameter in options: search_path",
        ],
        &[],
    )
    .since(20)
    .until(25),
    log(
        "a lost server",
        "clients",
        &[
            "LOG login attempt, LOG closing because: server conn crashed?, WARNING pooler error: server conn crashed?",
        ],
        &["LOG login attempt, LOG closing because: server conn crashed?"],
    ),
    // A line of the attempt comes first, whatever becomes of it.
    log(
        "the log",
        "clients",
        &[
            "LOG no such user: nosuch, LOG login attempt, LOG closing because: \"trust\" authentication failed, WARNING pooler error: \"trust\" authentication failed",
        ],
        &[
            "LOG login attempt, LOG no such user: nosuch, LOG closing because: \"trust\" authentication failed, WARNING pooler error: \"trust\" authentication failed",
        ],
    ),
    log(
        "the log",
        "startup",
        &[
            "LOG closing because: unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed, WARNING pooler error: unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
            "LOG no such user: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx, LOG login attempt, LOG closing because: \"trust\" authentication failed, WARNING pooler error: \"trust\" authentication failed",
        ],
        &[
            "LOG login attempt, LOG closing because: unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed, WARNING pooler error: unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
            "LOG login attempt, LOG no such user: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx, LOG closing because: \"trust\" authentication failed, WARNING pooler error: \"trust\" authentication failed",
        ],
    )
    .since(24),
    log(
        "the log",
        "scram",
        &[
            "LOG no such user: nosuch, LOG login attempt, ERROR password authentication failed, LOG closing because: SASL authentication failed, WARNING pooler error: SASL authentication failed",
        ],
        &[
            "LOG login attempt, LOG no such user: nosuch, ERROR password authentication failed, LOG closing because: SASL authentication failed, WARNING pooler error: SASL authentication failed",
        ],
    ),
    // And one of why a password was refused.
    log(
        "the log",
        "md5",
        PASSWORD_REFUSED,
        PASSWORD_REFUSED_AND_WHY,
    ),
    log(
        "the log",
        "plain",
        PASSWORD_REFUSED,
        PASSWORD_REFUSED_AND_WHY,
    ),
    log(
        "the log",
        "plain",
        &[
            "LOG login attempt, LOG closing because: empty password returned by client, WARNING pooler error: empty password returned by client",
        ],
        &[
            "LOG login attempt, LOG authentication failed reason=\"empty password\", LOG closing because: empty password returned by client, WARNING pooler error: empty password returned by client",
        ],
    ),
    log(
        "the log",
        "auth_query",
        &[
            "LOG login attempt, LOG closing because: password authentication failed, WARNING pooler error: password authentication failed",
        ],
        &[
            "LOG login attempt, LOG authentication failed reason=\"user has no password\", LOG closing because: password authentication failed, WARNING pooler error: password authentication failed",
            "LOG login attempt, LOG authentication failed reason=\"wrong password\", LOG closing because: password authentication failed, WARNING pooler error: password authentication failed",
        ],
    )
    .since(24),
    log(
        "the log",
        "auth_query",
        &[
            "ERROR S: error in auth_query: ERROR: division by zero",
            "LOG closing because: bouncer config error, WARNING pooler error: bouncer config error",
            "LOG login failed: db=DATABASE, LOG closing because: no such user, WARNING pooler error: no such user",
        ],
        &[
            "ERROR auth_query failed db=DATABASE user=app3 name=fails reason=\"division by zero (SQLSTATE 22012)\"",
            "ERROR auth_query failed db=DATABASE user=app3 name=null reason=\"expected a user's name and a secret from auth_query\"",
            "LOG login attempt, LOG closing because: bouncer config error, WARNING pooler error: bouncer config error",
            "LOG login attempt, LOG closing because: no such user, WARNING pooler error: no such user",
        ],
    )
    .since(24),
    log(
        "server connections",
        "auth_query",
        &[
            "server of DATABASE/app3, LOG new connection to server, LOG closing because: auth_query response contained null user name",
        ],
        &[],
    )
    .since(24)
    .until(25),
    log(
        "server connections",
        "auth_query",
        &[
            "server of DATABASE/app3, LOG new connection to server, LOG closing because: client disconnect before everything was sent to the server",
            "server of DATABASE/app3, LOG new connection to server, LOG closing because: error response from auth_query",
        ],
        &[],
    )
    .since(24),
    log(
        "server connections",
        "hosts",
        &[
            "server of DATABASE/app, LOG new connection to server, LOG closing because: client disconnect while server was not ready",
            "server of other/app, LOG new connection to server, LOG closing because: client disconnect while server was not ready",
        ],
        &[
            "server of DATABASE/app, LOG new connection to server",
            "server of other/app, LOG new connection to server",
        ],
    )
    .since(24),
    // It just ends.
    log(
        "server connections",
        "shutdown",
        &["server of DATABASE/app, LOG new connection to server"],
        &[
            "server of DATABASE/app, LOG new connection to server, LOG closing because: server shutting down",
        ],
    ),
    log(
        "server connections",
        "prepared statements",
        &[
            "server of DATABASE/app, LOG new connection to server, LOG closing because: client disconnect while server was not ready",
        ],
        &[],
    )
    .since(24),
    log(
        "`client_idle_timeout` of a user",
        "limits of clients",
        &[],
        &["LOG login attempt, LOG closing because: client close request"],
    )
    .since(24),
];

const PASSWORD_REFUSED: &[&str] = &[
    "LOG login attempt, LOG closing because: password authentication failed, WARNING pooler error: password authentication failed",
    "LOG no such user: nosuch, LOG login attempt, LOG closing because: password authentication failed, WARNING pooler error: password authentication failed",
];

const PASSWORD_REFUSED_AND_WHY: &[&str] = &[
    "LOG login attempt, LOG authentication failed reason=\"wrong password\", LOG closing because: password authentication failed, WARNING pooler error: password authentication failed",
    "LOG login attempt, LOG no such user: nosuch, LOG closing because: password authentication failed, WARNING pooler error: password authentication failed",
];
