//! What prints something else through pgweir, and why: docs/transaction-mode.md
//! tells it by the same names.

/// A difference of one script.
#[derive(Debug)]
pub struct Known {
    pub name: &'static str,
    pub script: &'static str,
    /// The lines that only a direct connection prints (`-`), and those that are
    /// printed only through pgweir (`+`): some of them, depending on what the server
    /// connection was used for before, or on the moment.
    pub lines: &'static [&'static str],
}

const SEQUENCES: &str = "`currval` after what hides `nextval`";
const NAMES: &str = "names of own settings";
const USED: &str = "what a connection was used for";

/// Of the scripts in tests/corpus/session.
pub const OWN: &[Known] = &[
    Known {
        name: "the end of a session",
        script: "reconnect",
        lines: &[
            "+ psql:reconnect.sql:23: WARNING:  01000: you don't own a lock of type ExclusiveLock",
            "+ LOCATION:  LockRelease, lock.c:2025",
            "-  t                    | t",
            "+  f                    | f",
        ],
    },
    Known {
        name: SEQUENCES,
        script: "do_blocks",
        lines: &[
            "-  currval | lastval ",
            "- ---------+---------",
            "-        1 |       1",
            "- (1 row)",
            "- ",
            "+ psql:do_blocks.sql:25: ERROR:  55000: currval of sequence \"made\" is not yet defined in this session",
            "+ LOCATION:  currval_oid, sequence.c:897",
        ],
    },
    Known {
        name: USED,
        script: "shared_libraries",
        lines: &[
            "- psql:shared_libraries.sql:10: ERROR:  22023: 2 is outside the valid range for parameter \"pg_trgm.similarity_threshold\" (0 .. 1)",
            "- LOCATION:  parse_and_validate_value, guc.c:7470",
            "+ SET",
        ],
    },
    Known {
        name: NAMES,
        script: "startup_options",
        lines: &[
            "- psql:startup_options.sql:38: ERROR:  42704: unrecognized configuration parameter \"app.tenant\"",
            "- LOCATION:  find_option, guc.c:5734",
            "+  app.tenant ",
            "+ ------------",
            "+  ",
            "+ (1 row)",
            "+ ",
        ],
    },
    Known {
        name: "defaults that change",
        script: "role_settings",
        lines: &["-  ", "+  both"],
    },
    Known {
        name: "`idle_session_timeout`",
        script: "idle_session_free",
        lines: &[
            "- psql:idle_session_free.sql:4: FATAL:  57P05: terminating connection due to idle-session timeout",
            "- LOCATION:  ProcessInterrupts, postgres.c:3374",
            "- psql:idle_session_free.sql:4: server closed the connection unexpectedly",
            "- \tThis probably means the server terminated abnormally",
            "- \tbefore or while processing the request.",
            "- psql:idle_session_free.sql:4: error: connection to server was lost",
            "- psql failed",
            "+   ?column?   ",
            "+ -------------",
            "+  not reached",
            "+ (1 row)",
            "+ ",
        ],
    },
    Known {
        name: "where a setting comes from",
        script: "settings_source",
        lines: &[
            "-      0",
            "+      3",
            // With client_encoding, where somebody else had another.
            "+      4",
            "-        name       |       setting       | source |      reset_val      ",
            "- ------------------+---------------------+--------+---------------------",
            "-  DateStyle        | Postgres, MDY       | client | Postgres, MDY",
            "-  TimeZone         | America/Los_Angeles | client | America/Los_Angeles",
            "-  application_name | corpus              | client | corpus",
            "-  work_mem         | 6144                | client | 6144",
            "+        name       |       setting       | source  | reset_val ",
            "+ ------------------+---------------------+---------+-----------",
            "+  DateStyle        | Postgres, MDY       | session | ISO, MDY",
            "+  TimeZone         | America/Los_Angeles | session | Etc/UTC",
            "+  application_name | corpus              | session | ",
            "+  work_mem         | 6144                | session | 4096",
        ],
    },
    Known {
        name: USED,
        script: "transaction_ids",
        lines: &["-  none", "+  one"],
    },
    Known {
        name: "plans whose type is gone",
        script: "types",
        lines: &[
            "- psql:types.sql:11: ERROR:  XX000: cache lookup failed for type N",
            "- LOCATION:  TupleDescInitEntry, tupdesc.c:637",
            "+ psql:types.sql:11: ERROR:  42704: type \"mood\" does not exist",
            "+ LOCATION:  typenameType, parse_type.c:270",
            "- psql:types.sql:13: ERROR:  XX000: cache lookup failed for type N",
            "- LOCATION:  TupleDescInitEntry, tupdesc.c:637",
            "+ psql:types.sql:13: ERROR:  22P02: invalid input value for enum mood: \"ok\"",
            "+ LOCATION:  enum_in, enum.c:128",
        ],
    },
];

/// Of PostgreSQL's regression tests.
pub const REGRESSION: &[Known] = &[
    Known {
        name: "statistics of sessions",
        script: "stats",
        lines: &[
            // sessions > :db_stat_sessions, after \c.
            "-  t",
            "+  f",
            // Whether a backend's number is that of its temporary schema, which in
            // PostgreSQL 15 is chance.
            "-  f",
            "+  t",
            "-  t",
            "+  f",
            // What a connection was used for.
            "- SET",
            "+ psql:stats.sql:733: ERROR:  22023: invalid value for parameter \"temp_buffers\": 100",
            "+ DETAIL:  \"temp_buffers\" cannot be changed after any temporary tables have been accessed in the session.",
            "+ LOCATION:  call_int_check_hook, guc.c:11976",
        ],
    },
    Known {
        name: USED,
        script: "guc",
        lines: &[
            "- SET",
            "+ psql:guc.sql:171: ERROR:  42602: invalid configuration parameter name \"plpgsql.extra_foo_warnings\"",
            "+ DETAIL:  \"plpgsql\" is a reserved prefix.",
            "+ LOCATION:  find_option, guc.c:5718",
            "- psql:guc.sql:172: WARNING:  42602: invalid configuration parameter name \"plpgsql.extra_foo_warnings\", removing it",
            "- DETAIL:  \"plpgsql\" is now a reserved prefix.",
            "- LOCATION:  MarkGUCPrefixReserved, guc.c:9795",
        ],
    },
    Known {
        name: USED,
        script: "temp",
        lines: &[
            "- psql:temp.sql:313: ERROR:  0A000: cannot PREPARE a transaction that has operated on temporary objects",
            "- LOCATION:  PrepareTransaction, xact.c:2509",
            "+ PREPARE TRANSACTION",
            "- SET",
            "+ psql:temp.sql:321: ERROR:  22023: invalid value for parameter \"temp_buffers\": 100",
            "+ DETAIL:  \"temp_buffers\" cannot be changed after any temporary tables have been accessed in the session.",
            "+ LOCATION:  call_int_check_hook, guc.c:11976",
            // With the server's temp_buffers nothing is exhausted.
            "- psql:temp.sql:357: ERROR:  no empty local buffer available",
            "+  test_temp_pin ",
            "+ ---------------",
            "+  ",
            "+ (1 row)",
            "+ ",
            "- psql:temp.sql:366: ERROR:  no empty local buffer available",
            "+  test_temp_pin ",
            "+ ---------------",
            "+  ",
            "+ (1 row)",
            "+ ",
        ],
    },
    Known {
        name: "when a notice comes",
        script: "triggers",
        lines: &[
            "- psql:triggers.sql:152: NOTICE:  00000: trigger_func(before_ins_stmt) called: action = INSERT, when = BEFORE, level = STATEMENT",
            "+ psql:triggers.sql:149: NOTICE:  00000: trigger_func(before_ins_stmt) called: action = INSERT, when = BEFORE, level = STATEMENT",
            "- psql:triggers.sql:187: NOTICE:  00000: trigger_func(before_ins_stmt) called: action = INSERT, when = BEFORE, level = STATEMENT",
            "+ psql:triggers.sql:184: NOTICE:  00000: trigger_func(before_ins_stmt) called: action = INSERT, when = BEFORE, level = STATEMENT",
            "- CONTEXT:  PL/pgSQL function trigger_func() line 3 at RAISE",
            "- LOCATION:  exec_stmt_raise, pl_exec.c:3891",
            "+ CONTEXT:  PL/pgSQL function trigger_func() line 3 at RAISE",
            "+ LOCATION:  exec_stmt_raise, pl_exec.c:3891",
            "- psql:triggers.sql:187: NOTICE:  00000: trigger_func(insert_when) called: action = INSERT, when = BEFORE, level = STATEMENT",
            "+ psql:triggers.sql:184: NOTICE:  00000: trigger_func(insert_when) called: action = INSERT, when = BEFORE, level = STATEMENT",
            "- psql:triggers.sql:1373: NOTICE:  00000: trigger trig_ins_before on parted_stmt_trig BEFORE INSERT for STATEMENT",
            "+ psql:triggers.sql:1370: NOTICE:  00000: trigger trig_ins_before on parted_stmt_trig BEFORE INSERT for STATEMENT",
        ],
    },
];
