//! What is called a read, on a server: its catalog, and its own refusal to
//! write in a READ ONLY transaction.

use std::collections::BTreeMap;

use pgweir::sql::Dialect;
use pgweir::sql::classify::catalog::{Builder, QUERY, Row};
use pgweir::sql::classify::{Catalog, Kind, classify};

use crate::oracle;
use crate::support::{Cluster, RawClient, patiently};

/// The catalog of the database that `client` is in.
fn catalog(client: &mut RawClient) -> Catalog {
    // It fails while somebody else drops objects.
    let answer = patiently("the catalog", || {
        client.query("begin read only; set local search_path = pg_catalog");
        let answer = client.try_query(QUERY);
        client.query("commit");
        answer.errors().is_empty().then_some(answer)
    });
    let mut builder = Builder::default();
    for row in answer.rows() {
        let column = |at: usize| row[at].as_deref().unwrap_or_default();
        let row = Row {
            object: column(0),
            schema: column(1),
            name: column(2),
            standing: column(3),
            definition: row[4].as_deref(),
        };
        builder.add(row).unwrap();
    }
    builder.build()
}

fn kind(sql: &str, catalog: &Catalog) -> Kind {
    classify(sql.as_bytes(), Dialect::default(), catalog).kind
}

const OBJECTS: &str = "
create table t (id int primary key, owner text, mood text);
create schema other; create table other.elsewhere (x int);
create unlogged table fast (x int);
create sequence seq;
create function stable_one(int) returns int stable language sql as 'select $1';
create function writes(int) returns int language sql as 'select $1';
create function overloaded(int) returns int stable language sql as 'select 1';
create function overloaded(text) returns int volatile language sql as 'select 1';
create aggregate good_sum(int) (sfunc = int4pl, stype = int);
create function noting(int, int) returns int volatile language sql as 'select $1 + $2';
create aggregate bad_sum(int) (sfunc = noting, stype = int);
create view plain as select id, upper(owner) as owner, owner = any (array['a', 'b']) as known from t where id > 1;
create view over_plain as select p.*, count(*) over () from plain p join other.elsewhere e on e.x = p.id;
create view numbered as select nextval('seq'), id from t;
create view over_numbered as select id from numbered;
create view of_fast as select * from fast;
create materialized view kept as select * from t;
create table parted (x int) partition by range (x);
create table part1 partition of parted for values from (1) to (2);
create unlogged table part2 partition of parted for values from (2) to (3);
create table fine (x int) partition by range (x);
create table fine1 partition of fine for values from (1) to (2);
create table secured (tenant text); alter table secured enable row level security;
create policy p on secured using (tenant = current_setting('app.tenant') and exists (select from t));
create table spied (tenant text); alter table spied enable row level security;
create policy p on spied for select using (writes(1) = 1);
create table barred (tenant text); alter table barred enable row level security;
create policy p on barred for insert with check (writes(1) = 1);
create type mood as enum ('sad', 'ok');
create table moods (m mood, ms mood[]);
create domain positive as int check (value > 0);
create domain noted as int check (writes(value) > 0);
create domain noted_too as noted;
create table notes (n noted);
create view of_notes as select n from notes;
create function of_noted(noted) returns int stable language sql as 'select 1';
create type pair as (a int, b noted);
create function same_mood(mood, text) returns bool immutable language sql as 'select true';
create operator === (leftarg = mood, rightarg = text, function = same_mood);
create operator !!! (leftarg = int, rightarg = int, function = noting);
create type loud as (x int);
create function hear(loud) returns int volatile language sql as 'select 1';
create cast (loud as int) with function hear(loud);
create table sounds (s loud);
create function given(bigint default nextval('seq')) returns bigint stable language sql as 'select $1';
create function same(int, int) returns bool immutable language sql as 'select $1 = $2';
create function differ(int, int) returns bool volatile language sql as 'select $1 <> $2';
create operator ==== (leftarg = int, rightarg = int, function = same, negator = !===);
create operator !=== (leftarg = int, rightarg = int, function = differ, negator = ====)";

/// Each makes something volatile that runs without being named.
const IMPLICIT: &[&str] = &[
    "create function f(bigint) returns bool volatile language sql as 'select true'; \
     create cast (bigint as bool) with function f(bigint)",
    // SIMILAR TO
    "create function f(varchar, varchar) returns bool volatile language sql as 'select true'; \
     create operator ~ (leftarg = varchar, rightarg = varchar, function = f)",
    // There is no `json = json`, so IN takes this one.
    "create function f(mood, mood) returns bool volatile language sql as 'select true'; \
     create operator = (leftarg = mood, rightarg = mood, function = f); \
     create cast (json as mood) with inout as implicit",
];

#[test]
fn a_catalog_is_read_from_the_server() {
    let cluster = Cluster::shared();
    let mut client = cluster.admin(&cluster.create_database());
    for object in OBJECTS.split(";\n") {
        for sql in object.split("; ") {
            client.query(sql);
        }
    }
    let catalog = catalog(&mut client);

    for sql in [
        "select t.id from t join public.t u on t.id = u.id",
        "select * from other.elsewhere",
        "select stable_one(1), good_sum(id) from t",
        "select * from plain, over_plain, kept, fine",
        "select * from secured, barred",
        "select 'ok'::mood, 'ok'::public.mood[], m === 'x' from moods",
        "select '1'::positive",
        "select relname from pg_class where relname ~ 'x' and 1 = 1",
        "select table_name from information_schema.tables",
    ] {
        let verdict = classify(sql.as_bytes(), Dialect::default(), &catalog);
        assert_eq!(verdict.kind, Kind::Read, "{sql}: {verdict}");
    }
    for sql in [
        "select * from fast",
        "select * from of_fast",
        "select * from seq",
        "select writes(1)",
        "select t.writes from t",
        "select overloaded(1)",
        "select bad_sum(id) from t",
        "select id from numbered",
        "select id from over_numbered",
        "select * from parted",
        "select * from spied",
        "select '1'::noted",
        "select '1'::noted_too",
        "select * from notes",
        "select * from of_notes",
        "select of_noted(1)",
        "select '(1,2)'::pair",
        "select 1 !!! 2",
        "select s from sounds",
        "select given()",
        "select not (1 ==== 2)",
        "select (id).noted from t",
        "select * from not_there",
    ] {
        assert_eq!(kind(sql, &catalog), Kind::Unknown, "{sql}");
    }

    assert_ne!(kind("explain delete from t", &catalog), Kind::Read);
    assert_eq!(kind("select 1", &catalog), Kind::Read);
    for objects in IMPLICIT {
        client.query(objects);
        let catalog = self::catalog(&mut client);
        assert_eq!(kind("select 1", &catalog), Kind::Unknown, "{objects}");
        client.query("drop function f cascade; drop cast if exists (json as mood)");
    }
    let catalog = self::catalog(&mut client);
    assert_eq!(kind("select 1", &catalog), Kind::Read);
}

/// A function is called a read only where this server does not call it
/// volatile, but for a few that are harmless.
#[test]
fn the_functions_of_this_server_are_as_expected() {
    let mut client = Cluster::shared().admin("postgres");
    let catalog = catalog(&mut client);
    let answer = client.query(
        "select proname, bool_or(provolatile = 'v') from pg_proc \
         where pronamespace = 'pg_catalog'::regnamespace and prokind <> 'p' \
         and not 'internal'::regtype = any (proargtypes) \
         and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype) group by 1",
    );
    let mut harmless = Vec::new();
    let (mut stable, mut reads) = (0, 0);
    for row in answer.rows() {
        let name = row[0].clone().unwrap();
        let read = kind(&format!("select pg_catalog.\"{name}\"(1)"), &catalog) == Kind::Read;
        if row[1].as_deref() == Some("f") {
            stable += 1;
            reads += u32::from(read);
        } else if read {
            harmless.push(name);
        }
    }
    println!("{reads} of {stable} functions that are not volatile are reads, and {harmless:?}");
    assert!(stable > 1500 && reads * 100 > stable * 90);
    for name in &harmless {
        let known = [
            "array_",
            "clock_",
            "current_query",
            "gen_random",
            "pg_part",
            "pg_sleep",
            "random",
            "timeofday",
            "uuid",
        ];
        assert!(known.iter().any(|start| name.starts_with(start)), "{name}");
    }
}

const FILES: &[&str] = &[
    "test_setup.sql",
    "create_aggregate.sql",
    "create_cast.sql",
    "create_operator.sql",
    "create_type.sql",
    "create_view.sql",
    "domain.sql",
    "select.sql",
    "select_distinct.sql",
    "select_having.sql",
    "subselect.sql",
    "union.sql",
    "with.sql",
    "aggregates.sql",
    "window.sql",
    "rangefuncs.sql",
    "rowtypes.sql",
    "sequence.sql",
    "portals.sql",
    "random.sql",
    "txid.sql",
    "largeobject.sql",
    "privileges.sql",
    "rowsecurity.sql",
    "updatable_views.sql",
    "explain.sql",
    "copyselect.sql",
    "misc_functions.sql",
    "advisory_lock.sql",
    "xmlmap.sql",
    "join.sql",
    "strings.sql",
    "json.sql",
    "jsonb.sql",
    "tablesample.sql",
    "limit.sql",
    "tsearch.sql",
];

/// Statements of PostgreSQL's regression tests, over the objects that these
/// leave behind: whatever is called a read runs in a READ ONLY transaction and
/// takes no transaction id.
#[test]
fn reads_are_not_refused_in_a_read_only_transaction() {
    let cluster = Cluster::fresh();
    cluster
        .admin("postgres")
        .query("create database regression");
    let mut client = cluster.admin("regression");
    client.query("set statement_timeout = '300ms'");
    let statements = oracle::corpus(FILES);
    assert!(statements.len() > 5_000, "the corpus is gone");
    let plain = Catalog::assuming_plain_tables();
    for sql in &statements {
        // Reads leave nothing behind, and COPY waits for data.
        let copies = sql.to_ascii_lowercase().contains("copy");
        if !copies && kind(sql, &plain) != Kind::Read {
            client.try_query(sql);
        }
    }
    client.query("rollback");
    drop(client);

    let mut client = cluster.admin("regression");
    client.query("set statement_timeout = '300ms'");
    let catalog = catalog(&mut client);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut reads = 0;
    for sql in &statements {
        if kind(sql, &catalog) != Kind::Read {
            continue;
        }
        reads += 1;
        let answer = client.try_query(&format!(
            "begin read only; {sql}\n; select pg_current_xact_id_if_assigned(); rollback"
        ));
        let outcome = match answer.errors().first() {
            Some(error) => error.sqlstate().to_owned(),
            None => {
                let assigned = answer.rows().pop().unwrap();
                assert_eq!(assigned, [None], "{sql} takes a transaction id");
                "done".to_owned()
            }
        };
        assert_ne!(outcome, "25006", "{sql}");
        *outcomes.entry(outcome).or_default() += 1;
        if answer.status() != 'I' {
            client.query("rollback");
        }
    }
    let locks = client.query("select count(*) from pg_locks where locktype = 'advisory'");
    assert_eq!(locks.value(), "0");
    println!(
        "{} statements, {reads} called reads: {outcomes:?}",
        statements.len()
    );
    assert!(
        outcomes["done"] > 2_000 && outcomes["done"] * 10 > reads * 6,
        "{outcomes:?}"
    );
}
