//! What prints something else through pgweir, and why: docs/transaction-mode.md
//! tells it by the same names.

/// A difference of one script.
#[derive(Debug)]
pub struct Known {
    pub name: &'static str,
    pub script: &'static str,
    pub extent: Extent,
}

/// The lines that only a direct connection prints (`-`), and those that are
/// printed only through pgweir (`+`).
#[derive(Debug)]
pub enum Extent {
    /// These, each time.
    Always(&'static [&'static str]),
    /// Some of these, depending on what the server connection was used for before.
    Sometimes(&'static [&'static str]),
    /// Any; and what is left may be met by others.
    Open,
}

use Extent::{Always, Open, Sometimes};

const SEQUENCES: &str = "`currval` after what hides `nextval`";
const NAMES: &str = "names of own settings";
const LIBRARIES: &str = "what a connection was used for";

/// Of the scripts in tests/corpus/session.
pub const OWN: &[Known] = &[
    Known {
        name: "the end of a session",
        script: "reconnect",
        extent: Sometimes(&[
            "+ psql:tests/corpus/session/reconnect.sql:23: WARNING:  01000: you don't own a lock of type ExclusiveLock",
            "+ LOCATION:  LockRelease, lock.c:2025",
            "-  t                    | t",
            "+  f                    | f",
        ]),
    },
    Known {
        name: SEQUENCES,
        script: "do_blocks",
        extent: Sometimes(&[
            "-  currval | lastval ",
            "- ---------+---------",
            "-        1 |       1",
            "- (1 row)",
            "- ",
            "+ psql:tests/corpus/session/do_blocks.sql:25: ERROR:  55000: currval of sequence \"made\" is not yet defined in this session",
            "+ LOCATION:  currval_oid, sequence.c:897",
        ]),
    },
    Known {
        name: NAMES,
        script: "startup_options",
        extent: Sometimes(&[
            "- psql:tests/corpus/session/startup_options.sql:38: ERROR:  42704: unrecognized configuration parameter \"app.tenant\"",
            "- LOCATION:  find_option, guc.c:5734",
            "+  app.tenant ",
            "+ ------------",
            "+  ",
            "+ (1 row)",
            "+ ",
        ]),
    },
    Known {
        name: "defaults that change",
        script: "role_settings",
        extent: Sometimes(&["-  ", "+  both"]),
    },
    Known {
        name: "where a setting comes from",
        script: "settings_source",
        extent: Always(&[
            "-      0",
            "+      3",
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
        ]),
    },
    Known {
        name: "plans whose type is gone",
        script: "types",
        extent: Sometimes(&[
            "- psql:tests/corpus/session/types.sql:11: ERROR:  XX000: cache lookup failed for type N",
            "+ psql:tests/corpus/session/types.sql:11: ERROR:  42704: type \"mood\" does not exist",
            "+ LOCATION:  typenameType, parse_type.c:270",
            "- psql:tests/corpus/session/types.sql:13: ERROR:  XX000: cache lookup failed for type N",
            "- LOCATION:  TupleDescInitEntry, tupdesc.c:637",
            "+ psql:tests/corpus/session/types.sql:13: ERROR:  22P02: invalid input value for enum mood: \"ok\"",
            "+ LOCATION:  enum_in, enum.c:128",
        ]),
    },
];

/// Of PostgreSQL's regression tests.
pub const REGRESSION: &[Known] = &[
    Known {
        name: LIBRARIES,
        script: "guc",
        extent: Open,
    },
    Known {
        name: LIBRARIES,
        script: "stats",
        extent: Open,
    },
    Known {
        name: LIBRARIES,
        script: "temp",
        extent: Open,
    },
    Known {
        name: "when a notice comes",
        script: "triggers",
        extent: Open,
    },
];
