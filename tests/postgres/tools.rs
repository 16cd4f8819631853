//! PostgreSQL's own tools through pgweir in transaction mode, while other clients
//! keep the server connections going round: they print what they print directly,
//! and leave the same database behind.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::{
    Address, Cluster, Output, Pooler, Program, RawClient, Setup, eventually, postgresql, temp_dir,
};

/// Clients that share the tools' pool, and what each of them has set.
const NOISE: [&str; 3] = [
    "select 1",
    "set search_path = nowhere; set datestyle = german; set extra_float_digits = 0",
    "set timezone = 'Asia/Kathmandu'; set bytea_output = escape; set role = app2",
];

const SCHEMA: &str = "
create schema shop;
create type shop.mood as enum ('sad', 'ok', 'happy');
create domain shop.price as numeric(10, 2) check (value >= 0);
create sequence shop.numbers start 100 increment 10;
create table shop.customers (
    id serial primary key, name text not null unique, mood shop.mood default 'ok',
    since timestamptz default '2024-02-29 12:00+01', weight float8 default 0.1 + 0.2, photo bytea);
create table shop.orders (
    id bigint generated always as identity primary key,
    customer int references shop.customers on delete cascade,
    price shop.price, length interval default '1 day 02:03:04', tags text[]);
create table public.log (at date, line text) partition by range (at);
create table public.log_2024 partition of public.log for values from ('2024-01-01') to ('2025-01-01');
create index on shop.orders (customer, price) where price > 10;
create index on shop.customers (lower(name));
create view shop.totals as
    select name, sum(price) from shop.customers c join shop.orders o on c.id = o.customer group by 1;
create materialized view shop.moods as select mood, count(*) from shop.customers group by 1;
create function shop.raise_all(numeric) returns void language plpgsql as
    $$ begin update shop.orders set price = price + $1; end $$;
create function shop.touch() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger touch before update on shop.orders for each row execute function shop.touch();
comment on table shop.orders is 'It''s \\ all here';
insert into shop.customers (name, photo)
    select 'Zoë ' || i, decode(md5(i::text), 'hex') from generate_series(1, 500) i;
insert into shop.orders (customer, price, tags)
    select i % 500 + 1, i / 7.0, array['a ' || i, null, '\"'] from generate_series(1, 2000) i;
insert into public.log select date '2024-01-01' + i, E'tab\\tand\\\\ back' from generate_series(0, 99) i;
refresh materialized view shop.moods;
cluster shop.customers using customers_name_key;
grant select on shop.totals to app2;
select lo_from_bytea(0, 'a large object');
";

/// A pooler on a cluster of its own, whose user `app` may do everything, and
/// clients that disturb.
struct Scene {
    _noise: Noise,
    pooler: Pooler,
    dir: TempDir,
}

struct Noise {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Noise {
    fn new(pooler: &Pooler) -> Noise {
        let over = Arc::new(AtomicBool::new(false));
        let start = |settings: &'static str| {
            let (mut client, over) = (pooler.login(), over.clone());
            std::thread::spawn(move || {
                client.query(settings);
                while !over.load(Ordering::Relaxed) {
                    client.query("begin; select count(*) from pg_class; commit");
                    std::thread::sleep(Duration::from_millis(10));
                }
            })
        };
        let threads = NOISE.into_iter().map(start).collect();
        Noise { over, threads }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let end = thread.join();
            assert!(end.is_ok() || std::thread::panicking(), "the noise failed");
        }
    }
}

impl Scene {
    fn new() -> Scene {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(|| {
            let cluster = Cluster::fresh();
            cluster.admin("postgres").query("alter role app superuser");
            cluster
        });
        let pooler = Setup::with(cluster)
            .pool_size(4)
            // A tool alone would get the same connection again and again.
            .set("server_round_robin", true)
            .database("*", "host", "127.0.0.1")
            .database("*", "port", i32::from(cluster.port))
            .start();
        Scene {
            _noise: Noise::new(&pooler),
            pooler,
            dir: temp_dir("tools"),
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn tool(&self, address: &Address, tool: &[&str]) -> Program {
        postgresql(tool[0])
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", &address.port().to_string())
            .env("PGUSER", "app")
            .env("PGDATABASE", &self.pooler.database)
            .args(&tool[1..])
    }

    fn direct(&self, tool: &[&str]) -> Program {
        self.tool(&self.pooler.server_address(), tool)
    }

    fn pooled(&self, tool: &[&str]) -> Program {
        self.tool(&self.pooler.address, tool)
    }

    /// What the tool prints, which must be the same by both ways. What it does
    /// to the database it does twice.
    #[track_caller]
    fn same(&self, tool: &[&str]) -> Output {
        let direct = self.direct(tool).run();
        let mut pooled = self.pooled(tool).run();
        let poolers = self.pooler.address.port().to_string();
        let servers = self.pooler.server_address().port().to_string();
        for text in [&mut pooled.stdout, &mut pooled.stderr] {
            *text = text.replace(&poolers, &servers);
        }
        let of = |o: &Output| (o.success, comparable(&o.stdout), comparable(&o.stderr));
        assert_eq!(of(&pooled), of(&direct), "{tool:?}");
        pooled
    }

    /// Makes a database with things in it, past the pooler.
    fn make(&self, database: &str) {
        self.admin("postgres")
            .query(&format!("create database {database}"));
        let schema = self.write("schema.sql", SCHEMA);
        let psql = [
            "psql",
            "-qX",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
            "-f",
            &schema,
        ];
        self.direct(&psql).succeed();
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    fn admin(&self, database: &str) -> RawClient {
        RawClient::login(&self.pooler.server_address(), "app", database)
    }

    /// All that is in a database.
    fn dump(&self, database: &str) -> String {
        comparable(&self.direct(&["pg_dump", "-d", database]).succeed())
    }

    /// What a tool makes of a new database `name` must be the same by both ways.
    #[track_caller]
    fn makes_the_same(&self, name: &str, tool: &[&str]) -> String {
        let mut dumps = Vec::new();
        for way in [Scene::direct, Scene::pooled] {
            self.admin("postgres")
                .query(&format!("create database {name}"));
            way(self, tool).succeed();
            dumps.push(self.dump(name));
            let drop = format!("drop database {name} with (force)");
            self.admin("postgres").query(&drop);
        }
        let mut lines = dumps[0].lines().zip(dumps[1].lines());
        let difference = lines.find(|(direct, pooled)| direct != pooled);
        assert!(dumps[0] == dumps[1], "{tool:?}: {difference:?}");
        dumps.remove(0)
    }
}

/// Without the secrets that a dump begins and ends with and the time that something
/// took, and with what several jobs echo in order.
fn comparable(text: &str) -> String {
    let differs = |line: &&str| {
        let begins = ["\\restrict", "\\unrestrict", "CPU: user:"];
        begins.iter().any(|begin| line.starts_with(begin))
    };
    let mut lines: Vec<_> = text.lines().filter(|line| !differs(line)).collect();
    if text.contains("VACUUM") || text.contains("REINDEX") {
        lines.sort_unstable();
    }
    lines.join("\n")
}

#[test]
fn pg_dump() {
    let scene = Scene::new();
    let database = scene.pooler.database.clone();
    scene
        .direct(&[
            "psql",
            "-qX",
            "-v",
            "ON_ERROR_STOP=1",
            "-f",
            &scene.write("s", SCHEMA),
        ])
        .succeed();

    let all = scene.same(&["pg_dump"]).stdout;
    assert!(all.contains("COPY shop.orders"), "{all}");
    scene.same(&[
        "pg_dump",
        "--inserts",
        "--rows-per-insert=10",
        "--create",
        "--clean",
    ]);
    scene.same(&[
        "pg_dump",
        "--schema-only",
        "--schema=shop",
        "--serializable-deferrable",
    ]);
    scene.same(&[
        "pg_dump",
        "--data-only",
        "--table=shop.c*",
        "--encoding=LATIN1",
        "--role=app",
    ]);
    scene.same(&["pg_dump", "--table=there.is.none"]);

    // An archive is compared by the SQL in it.
    let sql = |way: fn(&Scene, &[&str]) -> Program, format: &str, jobs: &[&str]| {
        let file = scene.path(&format!("archive of {format}"));
        let _ = std::fs::remove_dir_all(&file);
        way(&scene, &[&["pg_dump", format, "-f", &file], jobs].concat()).succeed();
        let archive = scene.direct(&["pg_restore", "-f", "-", &file]).succeed();
        // It says who made it, and when.
        comparable(&archive.replace(&database, ""))
    };
    for (format, jobs) in [("-Fc", &[][..]), ("-Fd", &["-j", "2"]), ("-Ft", &[])] {
        let direct = sql(Scene::direct, format, jobs);
        assert!(direct.contains("COPY shop.orders"), "{direct}");
        assert_eq!(sql(Scene::pooled, format, jobs), direct, "{format}");
    }
}

#[test]
fn pg_restore() {
    let scene = Scene::new();
    scene.make("restore_from");
    let (directory, plain) = (scene.path("directory"), scene.path("plain.sql"));
    let from = ["-d", "restore_from", "-f"];
    for (format, file) in [("-Fd", &directory), ("-Fp", &plain)] {
        scene
            .direct(&[&["pg_dump", format], &from[..], &[file]].concat())
            .succeed();
    }
    let made = scene.makes_the_same(
        "restored",
        &["pg_restore", "-j", "2", "-d", "restored", &directory],
    );
    assert_eq!(made, scene.dump("restore_from"));
    scene.makes_the_same(
        "restored",
        &["pg_restore", "-1", "-d", "restored", &directory],
    );
    let psql = [
        "psql",
        "-X",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        "restored",
        "-f",
        &plain,
    ];
    scene.makes_the_same("restored", &psql);
    scene.makes_the_same("restored", &[&psql[..], &["-1"]].concat());
}

#[test]
fn pgbench_initialises() {
    let scene = Scene::new();
    let made = scene.makes_the_same("bench", &["pgbench", "-i", "-q", "--foreign-keys", "bench"]);
    assert!(made.contains("pgbench_accounts"));
    scene.makes_the_same(
        "bench",
        &["pgbench", "-i", "-I", "dtGvp", "--partitions=3", "bench"],
    );
}

#[test]
fn maintenance() {
    let scene = Scene::new();
    scene.make("kept_up");
    let before = scene.dump("kept_up");
    for tool in [
        &["vacuumdb", "-e", "-z", "-j", "2"][..],
        &["vacuumdb", "-e", "--analyze-in-stages"],
        &["reindexdb", "-e", "-j", "2"],
        &["reindexdb", "-e", "--concurrently", "--schema=shop"],
        &["clusterdb", "-e", "-v"],
    ] {
        let printed = scene.same(&[tool, &["-d", "kept_up"]].concat());
        assert!(printed.success, "{tool:?}: {}", printed.stderr);
    }
    scene.same(&["vacuumdb", "-t", "shop.nothing", "-d", "kept_up"]);
    assert_eq!(scene.dump("kept_up"), before);
}

/// Its server connections are closed for a database that is to be dropped.
#[test]
fn databases_come_and_go() {
    let scene = Scene::new();
    for _ in 0..2 {
        scene
            .pooled(&["createdb", "-T", "template0", "-E", "LATIN1", "brief"])
            .succeed();
        let encoding = ["psql", "-qAtX", "-d", "brief", "-c", "show server_encoding"];
        assert_eq!(scene.pooled(&encoding).succeed(), "LATIN1");
        scene.pooled(&["dropdb", "brief"]).succeed();
    }
    let again = scene.same(&["dropdb", "brief"]);
    assert!(again.stderr.contains("does not exist"), "{}", again.stderr);
}

#[test]
fn psql_scripts() {
    let scene = Scene::new();
    let (database, other) = (scene.pooler.database.clone(), "postgres");
    let script = format!(
        "\\conninfo
        set my.setting = 'kept';
        create temporary table t (a int);
        insert into t select 1;
        select relpersistence from pg_class where oid = 't'::regclass;
        \\c - app2
        select current_user, current_setting('my.setting', true), to_regclass('t');
        \\c {other} app
        \\conninfo
        \\c {database}
        select 1 as one \\gset
        select :one + 1 \\gdesc
        select 'a', 1.50, null \\gx
        select i, i * 2, 'x' from generate_series(1, 3) i \\crosstabview
        select format('select %s', i) from generate_series(1, 2) i \\gexec
        \\set AUTOCOMMIT off
        create table in_transaction (a int);
        \\echo :AUTOCOMMIT
        rollback;
        \\set AUTOCOMMIT on
        \\set FETCH_COUNT 2
        select i from generate_series(1, 5) i;
        \\unset FETCH_COUNT
        \\copy (select 1, 'x') to stdout
        \\encoding LATIN1
        show client_encoding;
        \\errverbose
        select 1/0;
        \\errverbose
        select 'after the error', mistake;
        "
    );
    let script = scene.write("script.sql", &script);
    let printed = scene.same(&["psql", "-X", "-f", &script]).stdout;
    assert!(
        printed.contains("You are connected to database"),
        "{printed}"
    );
    scene.same(&["psql", "-X", "-1", "-f", &script]);
}

/// Ctrl-C ends what runs, the next query runs.
#[test]
fn psql_is_interrupted() {
    let scene = Scene::new();
    let script = scene.write("script.sql", "select 'tick', pg_sleep(2) \\watch 0.01\n");
    let interrupt = |program: Program, running: &dyn Fn() -> bool| {
        let program = program.start();
        eventually("it runs", true, running);
        program.signal(Signal::SIGINT);
        program.finish()
    };
    let seen = |sql: &'static str| {
        let database = scene.pooler.database.clone();
        let mut admin = scene.admin("postgres");
        move || {
            let sql = format!(
                "select count(*) > 0 from pg_stat_activity where datname = '{database}' and state = 'active' and query like '{sql}'"
            );
            admin.value(&sql) == "t"
        }
    };
    for tool in [
        &["psql", "-X", "-f", &script][..],
        &[
            "psql",
            "-X",
            "-c",
            "select pg_sleep(50), 'asleep'",
            "-c",
            "select 'awake'",
        ],
    ] {
        let outputs = [scene.direct(tool), scene.pooled(tool)].map(|program| {
            let query = if tool.contains(&"-f") {
                "%tick%"
            } else {
                "%asleep%"
            };
            let running = std::cell::RefCell::new(seen(query));
            let output = interrupt(program, &|| (running.borrow_mut())());
            (output.success, output.stderr)
        });
        assert_eq!(outputs[0], outputs[1], "{tool:?}");
    }
}
