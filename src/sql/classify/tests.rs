use super::catalog::{Builder, Row};
use super::*;
use proptest::prelude::*;

/// A database with something of each kind.
fn catalog() -> Catalog {
    let mut builder = Builder::default();
    let mut add = |object, name, standing, definition| {
        let row = Row {
            object,
            schema: "public",
            name,
            standing,
            definition,
        };
        builder.add(row).unwrap();
    };
    for table in ["t", "users", "Orders", "a", "b", "pg_dist"] {
        add("r", table, "i", None);
    }
    add("r", "unlogged", "l", None);
    add("r", "seen", "i", Some("SELECT t.x, now() FROM public.t"));
    add("r", "over_seen", "i", Some("SELECT * FROM public.seen"));
    add(
        "r",
        "writing",
        "i",
        Some("SELECT public.writes(t.x) FROM public.t"),
    );
    add(
        "r",
        "over_writing",
        "i",
        Some("SELECT * FROM public.writing"),
    );
    add("r", "guarded", "i", None);
    add("r", "guarded", "i", Some("select public.writes(tenant)"));
    add(
        "r",
        "tenants",
        "i",
        Some("select (tenant = current_setting('app.tenant'::text))"),
    );
    add("r", "parted", "i", Some("table public.part"));
    add("r", "part", "v", None);
    add("f", "writes", "v", None);
    add("f", "two", "s", None);
    add("f", "two", "v", None);
    add("f", "stable_one", "s", None);
    add("f", "second", "v", None);
    add("f", "of_evil", "i", Some("select null::public.evil"));
    add("f", "of_mood", "i", Some("select null::public.mood"));
    add("t", "mood", "i", None);
    add("t", "evil", "v", None);
    add("t", "evils", "i", Some("select null::public.evil"));
    add("t", "positive", "i", Some("select (VALUE > 0)"));
    add("o", "=", "i", Some("select null::public.mood"));
    add("o", "@@@", "i", None);
    add("o", "!!!", "v", None);
    builder.build()
}

fn of(sql: &str) -> Verdict<'_> {
    of_bytes(sql.as_bytes())
}

fn of_bytes(sql: &[u8]) -> Verdict<'_> {
    thread_local!(static CATALOG: Catalog = catalog());
    CATALOG.with(|catalog| classify(sql, Dialect::default(), catalog))
}

#[track_caller]
fn all(kind: Kind, texts: &[&str]) {
    for text in texts {
        let verdict = of(text);
        assert_eq!(verdict.kind, kind, "{text}: {verdict}");
    }
}

#[test]
fn reads() {
    all(
        Kind::Read,
        &[
            "select 1",
            "SELECT x FROM t WHERE aid = 1",
            "select",
            "select * from t, users u join \"Orders\" o on u.id = o.u left join a using (x, y) as j, b where f = 1",
            "select * from public.t as x(a, b), only (users), t *",
            "values (1), (2)",
            "table t",
            "table only t order by 1",
            "(select 1) union all (select x from t) order by 1",
            "((select 1))",
            "with x as (select 1), y(a) as materialized (table x) select * from x, y",
            "with recursive r(n) as (values (1) union all select n + 1 from r where n < 9) select * from r",
            "select count(*) filter (where x > 1) over (partition by y order by z) from t",
            "select extract(year from created_at), substring(a from 2 for 3), trim(both 'x' from y) from t",
            "select a is distinct from b, c is not distinct from d from t",
            "select 1 from t join users on collation for (a) = 'y', b where collation for (b) = 'x'",
            "select cast(x as numeric(10, 2)), y::double precision, z::timestamp with time zone from t",
            "select date '2020-01-01', interval '1' day, timestamp with time zone '2020-01-01' at time zone 'utc'",
            "select array(select 1), array[1, 2][1], '{1}'::int[], $1::text[]",
            "select case when x in (1, 2) then 'a' else 'b' end from t where exists (select from users)",
            "select * from generate_series(1, 3) with ordinality as g(i, n)",
            "select * from (values (1, 'x')) v(a, b) where v.a = any($1)",
            "select * from json_to_recordset('[]') as x(a int, b text)",
            "select distinct on (a) a, b from t order by a using <",
            "select 1 as into, 2 as for, 3 as \"from\" from t",
            "select x like 'a%' escape '!', y not similar to 'b', z operator(pg_catalog.+) 1 from t",
            "select * from t for read only",
            "select coalesce(a, b), greatest(1, 2), nullif(x, 'y'), row(1, 2), current_timestamp(3) from t",
            "select clock_timestamp(), random(), pg_sleep(0), now()",
            "select current_setting('app.tenant', true)",
            "select percentile_cont(0.5) within group (order by x) from t group by grouping sets ((a), ())",
            "select stable_one(1), of_mood('sad'), 'sad'::mood, positive '1'",
            "select a @@@ b from t where c = d",
            "select relname from pg_class join pg_catalog.pg_namespace n on n.oid = relnamespace",
            "select * from information_schema.tables",
            "select * from seen, over_seen, tenants",
            "select u.* from users u where u.state is null",
            "select 1; select 2;;",
            "explain select * from t",
            "explain analyze verbose select * from t",
            "explain (costs off, analyze) select 1",
            "explain (costs off) select 1",
            "copy t to stdout",
            "copy t (a, b) to stdout with (format csv)",
            "copy (select * from t) to stdout",
            "select left('abc', 2) from t left join users on right(x, 1) = 'c'",
            "select x from t group by rollup (x), cube (x) limit 10 offset 5 rows",
            "select x from t fetch first (1) rows only",
        ],
    );
}

#[test]
fn writes_that_the_text_shows() {
    all(
        Kind::Write,
        &[
            "insert into t values (1)",
            "update t set x = 1",
            "delete from t",
            "merge into t using users on true when matched then delete",
            "create table x (a int)",
            "select * into x from t",
            "select * from t for update",
            "select * from t for no key update",
            "select * from t where x in (select 1 from users for share) ",
            "select * from (select * from t for key share skip locked) x",
            "with x as (delete from t returning *) select * from x",
            "with x as materialized (update t set a = 1 returning a) select 1",
            "with x as (select 1) insert into t select * from x",
            "select (with x as (select 1), y as (merge into t using x on true when matched then delete returning 1) select 1)",
            "copy t from stdin",
            "copy t to '/tmp/x'",
            "copy t to program 'cat'",
            "copy (select 1) to '/tmp/x'",
            "copy (delete from t returning *) to stdout",
            "explain analyze insert into t values (1)",
            "explain (\"analyze\") delete from t",
            "explain (verbose, analyse off) update t set x = 1",
            "explain analyze select * from t for update",
            "call p()",
            "do $$begin end$$",
            "vacuum",
            "lock t",
            "notify x",
            "select 1; delete from t",
            "refresh materialized view x",
        ],
    );
}

#[test]
fn what_is_not_proved() {
    all(
        Kind::Unknown,
        &[
            "select writes(1)",
            "select public.writes(1)",
            "select WRITES (1)",
            "select \"writes\"(1)",
            "select u&\"writ\\0065s\"(1)",
            "select two(1)",
            "select nobody_knows(1)",
            "select other.stable_one(1)",
            "select nextval('s')",
            "select pg_catalog.nextval('s')",
            "select distinct on (a) nextval('s') from t",
            "select * from writes(1)",
            "select 1 from t order by writes(x)",
            "select 1 from t fetch first writes(1) rows only",
            "select count(*) over (order by writes(1)) from t",
            "select t.writes from t",
            "select (t).writes from t",
            "select (array[t])[1].writes from t",
            "select public.t.writes from t",
            "select 1 from t join users on writes(1)",
            "select 1 from t join users on collation for ('x') = 'y', nobody",
            "select (1).evil",
            "select (t).evil from t",
            "select join(1) from t",
            "select * from nobody",
            "select * from t, nobody",
            "select * from t a(x), (users join nobody on true)",
            "select (select 1 from nobody)",
            "select 1 distinct from nobody",
            "select t.is distinct from nobody",
            "select 1 table from nobody",
            "table nobody",
            "select * from other.t",
            "select * from (with x as (select 1) select * from x) y, x",
            "with x as (select * from x) select 1",
            "select 1 from t a join b on percentile_cont(0.5) within group (order by x) > 0, nobody",
            "select * from unlogged",
            "select * from writing",
            "select * from over_writing",
            "select * from guarded",
            "select * from parted",
            "select * from pg_stat_activity",
            "select * from pg_settings",
            "select 'x'::evil",
            "select cast('x' as evil)",
            "select cast((1) as public.evil[])",
            "select evil 'x'",
            "select evil(3) 'x'",
            "select of_evil('x')",
            "select '{}'::evils",
            "select * from json_to_record('{}') as x(a evil)",
            "select 1 !!! 2",
            "select 1 operator(public.!!!) 2",
            "select 1 ?!? 2",
            "select second(1)",
            "select pg_is_in_recovery()",
            "select txid_current()",
            "select current_setting('transaction_read_only')",
            "select current_setting(x) from t",
            "select query_to_xml('delete from t', true, true, '')",
            "select table_to_xml('writing', true, true, '')",
            "select treat(x as evil)",
            "select \u{e9}(1)",
            "select 'x",
            "select (1",
            "select 1)",
            "explain execute x",
            "explain create table x as select 1",
            "explain analyze select writes(1)",
            "nonsense",
            "select 1; select writes(1)",
            "select 1; begin",
            "begin; select 1; commit",
            "begin; delete from t",
            "set transaction snapshot 'x'",
            "begin foo",
        ],
    );
}

#[test]
fn session_and_show() {
    all(
        Kind::Session,
        &[
            "set x = 1",
            "set local x = 1",
            "set session characteristics as transaction read only",
            "set default_transaction_read_only = on",
            "reset all",
            "listen x",
            "declare c cursor for select 1",
            "fetch 1 from c",
            "prepare p as select 1",
            "prepare transaction as select 1",
            "execute p (1)",
            "deallocate all",
            "discard all",
            "select set_config('x.y', '1', false)",
            "select pg_advisory_lock(1)",
            "select pg_try_advisory_xact_lock(1) from t",
            "select currval('s')",
        ],
    );
    all(Kind::Show, &["show all", "SHOW transaction_read_only;"]);
    all(Kind::Empty, &["", " ; -- x", "/* a */"]);
}

#[test]
fn transaction_control() {
    use Transaction::*;
    let is = |text, transaction| {
        assert_eq!(of(text).kind, Kind::Transaction(transaction), "{text}");
    };
    is("begin", Begin(Modes::default()));
    is("BEGIN WORK;", Begin(Modes::default()));
    let read_only = Modes {
        read_only: Some(true),
        ..Modes::default()
    };
    is("begin read only", Begin(read_only));
    is("begin read write, read only", Begin(read_only));
    is("set transaction read only", Set(read_only));
    is(
        "start transaction read only, isolation level serializable not deferrable",
        Begin(Modes {
            read_only: Some(true),
            isolation: Some(Isolation::Serializable),
            deferrable: Some(false),
        }),
    );
    is(
        "begin isolation level read uncommitted",
        Begin(Modes {
            isolation: Some(Isolation::ReadUncommitted),
            ..Modes::default()
        }),
    );
    is("commit", Commit { chain: false });
    is("end transaction and chain", Commit { chain: true });
    is("abort and no chain", Rollback { chain: false });
    is("rollback to s", RollbackTo);
    is("rollback work to savepoint s", RollbackTo);
    is("savepoint s", Savepoint);
    is("release savepoint s", Release);
    is("prepare transaction 'x'", TwoPhase);
    is("commit prepared 'x'", TwoPhase);
    is("rollback prepared 'x'", TwoPhase);
}

#[test]
fn reasons() {
    for (text, reason) in [
        ("select 1", "read: a query in which nothing writes"),
        ("select writes(1)", "unknown: function writes may write"),
        ("select Nope(1)", "unknown: function Nope is not known"),
        ("select 1 from t for share", "write: locking clause"),
        (
            "select pg_advisory_lock(1)",
            "session: function pg_advisory_lock belongs to the session",
        ),
        (
            "select * from unlogged",
            "unknown: relation unlogged is not the same on every server",
        ),
        ("drop table t", "write: DROP"),
        (
            "with x as (insert into t select 1) select 1",
            "write: data-changing WITH: INSERT",
        ),
        ("select 1 ?!? 2", "unknown: operator ?!? is not known"),
        ("copy t from stdin", "write: COPY that is not TO STDOUT"),
    ] {
        assert_eq!(of(text).to_string(), reason, "{text}");
    }
}

#[test]
fn without_a_server_tables_are_taken_for_plain_ones() {
    let catalog = Catalog::assuming_plain_tables();
    let kind = |text: &str| classify(text.as_bytes(), Dialect::default(), &catalog).kind;
    assert_eq!(kind("select x === 1, 'a'::thing from whatever"), Kind::Read);
    assert_eq!(kind("select whatever(1)"), Kind::Unknown);
    // No type there has an input function that planning could call.
    assert_eq!(kind("explain delete from t"), Kind::Read);
    assert_eq!(
        kind("explain (costs off) insert into t values (1)"),
        Kind::Read
    );
    assert_eq!(
        kind("explain (analyze) insert into t values (1)"),
        Kind::Write
    );
    assert_eq!(kind("explain execute x"), Kind::Unknown);
    assert_eq!(kind("select * from pg_stat_activity"), Kind::Unknown);
    let none = Catalog::of_postgresql();
    let verdict = classify(b"select * from whatever", Dialect::default(), &none);
    assert_eq!(verdict.kind, Kind::Unknown);
}

#[test]
fn casts_of_builtin_types_that_write_are_in_every_query() {
    let mut builder = Builder::default();
    let row = Row {
        object: "i",
        schema: "",
        name: "f(integer)",
        standing: "v",
        definition: None,
    };
    builder.add(row).unwrap();
    let catalog = builder.build();
    let verdict = classify(b"select 1", Dialect::default(), &catalog);
    assert_eq!(verdict.reason, Reason::Implicit);
    let mut builder = Builder::default();
    assert!(builder.add(Row { object: "x", ..row }).is_err());
    assert!(
        builder
            .add(Row {
                standing: "x",
                ..row
            })
            .is_err()
    );
}

#[test]
fn depth_has_a_bound() {
    let nested = |depth: usize| format!("select {}1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(of(&nested(20)).kind, Kind::Read);
    assert_eq!(of(&nested(1000)).reason, Reason::TooComplex);
    let many = |count| {
        let with: Vec<_> = (0..count).map(|n| format!("x{n} as (select 1)")).collect();
        format!("with {} select 1", with.join(", "))
    };
    assert_eq!(of(&many(16)).kind, Kind::Read);
    assert_eq!(of(&many(17)).reason, Reason::TooComplex);
}

const PIECES: &[&str] = &[
    "select",
    "from",
    "t",
    "users",
    "nobody",
    "writes",
    "(",
    ")",
    ",",
    "(select",
    "1",
    "'x'",
    "as",
    "x",
    ".",
    "with",
    "values",
    "table",
    "join",
    "on",
    "for",
    "update",
    "delete",
    "union",
    "::",
    "int",
    "evil",
    "+",
    "!!!",
    "is",
    "not",
    "distinct",
    "now",
    "now()",
    "*",
    "[",
    "]",
    "where",
    "group",
    "by",
    "case",
    "end",
    ";",
    "left",
    "copy",
    "to",
    "stdout",
    "explain",
    "analyze",
    "begin",
    "read",
    "only",
    "lateral",
    "recursive",
    "$1",
    "=",
    "and",
    "in",
];

fn sql() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(PIECES), 0..40)
}

proptest! {
    #[test]
    fn any_bytes_have_a_verdict(sql in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = of_bytes(&sql).to_string();
    }

    #[test]
    fn space_comments_and_case_change_nothing(sql in sql()) {
        let plain = sql.join(" ");
        let spaced = sql.join(" /* ; 'x */\n-- delete ( \n");
        prop_assert_eq!(of(&plain).kind, of(&spaced).kind);
        prop_assert_eq!(of(&plain).kind, of(&plain.to_uppercase().replace("'X'", "'x'")).kind);
    }
}
