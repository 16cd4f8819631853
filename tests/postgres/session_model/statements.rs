//! What clients ask for: of names there are few, so that much of what happens has
//! to do with what has happened before.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::content::SETTINGS;

/// Makes texts at random.
pub struct Statements {
    pub random: StdRng,
    /// Different in each step.
    pub serial: u64,
    /// What advances a sequence is followed (`pin_sequences`).
    sequences: bool,
}

type Topic = fn(&mut Statements) -> String;

/// How often a statement is about what.
const TOPICS: [(u32, Topic); 17] = [
    (20, Statements::setting),
    (5, Statements::role),
    (13, Statements::read),
    (12, Statements::prepared),
    (8, Statements::channel),
    (4, Statements::discard),
    (5, Statements::broken),
    (4, Statements::definition),
    (6, Statements::write),
    (14, Statements::transaction),
    (2, Statements::two_phases),
    (5, Statements::temporary),
    (3, Statements::cursor),
    (3, Statements::lock),
    (4, Statements::sequence),
    (3, Statements::large_object),
    (4, Statements::hidden),
];

impl Statements {
    pub fn new(seed: u64, sequences: bool) -> Statements {
        Statements {
            random: StdRng::seed_from_u64(seed),
            serial: 0,
            sequences,
        }
    }

    pub fn one(&mut self, texts: &[&'static str]) -> &'static str {
        texts.choose(&mut self.random).unwrap()
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    /// A statement about anything.
    pub fn any(&mut self) -> String {
        let topic = TOPICS.choose_weighted(&mut self.random, |(weight, _)| *weight);
        let (_, make) = topic.unwrap();
        make(self)
    }

    fn setting(&mut self) -> String {
        let (name, values) = *SETTINGS.choose(&mut self.random).unwrap();
        let value = *values.choose(&mut self.random).unwrap();
        let text = value.trim_matches('\'');
        match self.random.random_range(0..14) {
            0..5 => format!("set {name} = {value}"),
            5 => format!("SET SESSION {name} TO {value}"),
            6 => format!("set local {name} = {value}"),
            7 | 8 => format!("reset {name}"),
            9 => format!("set {name} to default"),
            10 => format!("select set_config('{name}', '{text}', false)"),
            11 => format!("select set_config('{name}', '{text}', true)"),
            12 => self
                .one(&[
                    "reset all",
                    "reset all",
                    "set session characteristics as transaction isolation level repeatable read",
                    "set time zone interval '+02:00' hour to minute",
                    "set time zone local",
                    "set names 'latin1'",
                    "set schema 'other'",
                    "set transaction isolation level repeatable read",
                    "update pg_settings set setting = '6MB' where name = 'work_mem'",
                ])
                .to_owned(),
            _ => format!("show {name}"),
        }
    }

    fn role(&mut self) -> String {
        self.one(&[
            "set role app2",
            "set role none",
            "set role missing",
            "set local role app2",
            "reset role",
            "select set_config('role', 'app2', false)",
            "set session authorization app2",
            "set session authorization default",
            "set local session authorization app2",
            "reset session authorization",
            "show role",
            "show is_superuser",
            "select current_user, session_user, current_setting('session_authorization')",
        ])
        .to_owned()
    }

    fn read(&mut self) -> String {
        let (name, _) = *SETTINGS.choose(&mut self.random).unwrap();
        match self.random.random_range(0..10) {
            0..3 => format!("show {name}"),
            3 => format!("select current_setting('{name}', true), current_user, session_user"),
            4 if self.chance(20) => {
                "select name, setting from pg_settings where name !~ '^plpgsql' order by 1".to_owned()
            }
            _ => self
                .one(&[
                    "select count(*), max(b) from kept",
                    "select * from planned order by 1",
                    "select a from generate_series(1, 4) a",
                    "select timestamptz '2024-02-29 12:00:00+00', 'a\\b', 0.1::float8 + 0.2::float8",
                    "select '\\xdead'::bytea, interval '1 day'",
                    "",
                    "select current_schemas(false), current_database()",
                    "do $$ begin raise notice 'noticed'; end $$",
                    "select pg_backend_pid() > 0",
                ])
                .to_owned(),
        }
    }

    fn prepared(&mut self) -> String {
        // Some of them are given by Parse as well.
        let name = self.one(&["p1", "p2", "\"P 3\"", "n1"]);
        match self.random.random_range(0..14) {
            0..3 => {
                let body = self.one(&[
                    "select * from planned order by 1",
                    "select current_setting('work_mem')",
                    "select a from kept order by a limit 2",
                    "insert into kept values (0, 'prepared')",
                    "select nothing",
                ]);
                format!("prepare {name} as {body}")
            }
            3..6 => format!("execute {name}"),
            6 => format!("deallocate {name}"),
            7 => "deallocate all".to_owned(),
            8 => format!("explain (costs off) execute {name}"),
            9 => self
                .one(&[
                    "create table made_of as execute p1",
                    "prepare n2 (text) as select $1, current_setting('timezone')",
                    "deallocate n2",
                ])
                .to_owned(),
            10..12 => {
                let name = self.one(&["n1", "n2", "n3"]);
                format!("execute {name}('by name')")
            }
            _ => "select name, statement, parameter_types, from_sql \
                  from pg_prepared_statements order by 1"
                .to_owned(),
        }
    }

    fn channel(&mut self) -> String {
        let name = self.one(&["c1", "c2", "\"C 3\""]);
        let serial = self.serial;
        match self.random.random_range(0..8) {
            0..2 => format!("listen {name}"),
            2 => format!("unlisten {name}"),
            3 => "unlisten *".to_owned(),
            4 => format!("select pg_notify('c1', 'f{serial}')"),
            _ => format!("notify {name}, 'n{serial}'"),
        }
    }

    fn discard(&mut self) -> String {
        self.one(&[
            "discard all",
            "discard all",
            "discard plans",
            "discard temp",
            "discard sequences",
        ])
        .to_owned()
    }

    fn broken(&mut self) -> String {
        self.one(&[
            "select 1/0",
            "selekt",
            "select missing from planned",
            "execute missing",
            "set nothing = 1",
            "begin; set local statement_timeout = '100ms'; select pg_sleep(1)",
            "load 'missing'",
            "select 'cut off",
        ])
        .to_owned()
    }

    /// Changes what others may have prepared.
    fn definition(&mut self) -> String {
        self.one(&[
            "alter table planned add column c int default 3",
            "alter table planned drop column c",
            "alter table planned alter column a type bigint",
            "alter table planned alter column a type int",
            "create or replace view public.seen as select a from planned",
            "create table made_of as select 1 as one",
            "drop table if exists made_of",
            "create index on planned (a)",
            "analyze planned",
        ])
        .to_owned()
    }

    fn write(&mut self) -> String {
        let serial = self.serial;
        match self.random.random_range(0..4) {
            0 => "update kept set b = b || '.' where a = 1".to_owned(),
            1 => format!("delete from kept where a > 2{serial:05}"),
            _ => format!("insert into kept values (2{serial:05}, 's{serial}')"),
        }
    }

    fn transaction(&mut self) -> String {
        self.one(&[
            "begin",
            "begin",
            "begin",
            "start transaction read only",
            "begin isolation level repeatable read",
            "commit",
            "commit",
            "rollback",
            "abort",
            "end",
            "savepoint a",
            "savepoint b",
            "rollback to a",
            "rollback to b",
            "release a",
            "commit and chain",
            "rollback and chain",
        ])
        .to_owned()
    }

    /// Settings and channels in savepoints within savepoints.
    pub fn tree(&mut self) -> Vec<String> {
        let mut all = vec!["begin".to_owned()];
        for _ in 0..self.random.random_range(3..9) {
            all.push(match self.random.random_range(0..10) {
                0..3 => self.one(&["savepoint a", "savepoint b"]).to_owned(),
                3 => self.one(&["rollback to a", "rollback to b"]).to_owned(),
                4 => self.one(&["release a", "release b"]).to_owned(),
                5 => self.role(),
                6 => self.channel(),
                _ => self.setting(),
            });
        }
        all.push(self.one(&["commit", "commit", "rollback"]).to_owned());
        all
    }

    /// The names of prepared transactions are the whole server's: each database
    /// has its own.
    fn two_phases(&mut self) -> String {
        self.one(&[
            "begin; insert into kept values (3, 'in two phases'); set work_mem = '9MB'; \
             prepare transaction 'model_direct'",
            "prepare transaction 'model_direct'",
            "commit prepared 'model_direct'",
            "rollback prepared 'model_direct'",
            "rollback prepared 'model_direct'",
        ])
        .to_owned()
    }

    fn temporary(&mut self) -> String {
        let name = self.one(&["t0", "t1"]);
        match self.random.random_range(0..12) {
            0 => format!("create temp table {name} (a int)"),
            1 => format!("create temp table {name} (a int) on commit delete rows"),
            2 => format!("create temp table {name} on commit drop as select 1 as a"),
            3 => format!("select 5 as a into temp {name}"),
            4..6 => format!("drop table {name}"),
            6 => format!("insert into {name} values (7)"),
            7 => self
                .one(&[
                    "create or replace temp view seen as select 'temporary' as a",
                    "create function pg_temp.f() returns int language sql as 'select 6'; \
                     select pg_temp.f()",
                    "create type pg_temp.mood as enum ('sad')",
                    "create temp sequence numbers",
                ])
                .to_owned(),
            8 => self
                .one(&[
                    "table seen",
                    "drop view seen",
                    "select 'sad'::mood",
                    "drop type mood",
                ])
                .to_owned(),
            _ => format!("select * from {name} order by 1"),
        }
    }

    fn cursor(&mut self) -> String {
        self.one(&[
            "declare h cursor with hold for select generate_series(1, 5)",
            "declare c cursor for select generate_series(1, 5)",
            "declare s scroll cursor with hold for select b from kept order by a, b limit 4",
            "fetch 2 from h",
            "move 1 from h",
            "fetch c",
            "fetch prior from s",
            "fetch all from s",
            "close h",
            "close s",
            "close all",
            "select name, is_holdable from pg_cursors where name <> '' order by 1",
        ])
        .to_owned()
    }

    fn lock(&mut self) -> String {
        self.one(&[
            "select pg_try_advisory_lock(1)",
            "select pg_try_advisory_lock(2)",
            "select pg_try_advisory_lock_shared(1)",
            "select pg_advisory_unlock(1)",
            "select pg_advisory_unlock(2)",
            "select pg_advisory_unlock_shared(1)",
            "select pg_advisory_unlock_all()",
            "select pg_try_advisory_xact_lock(1)",
            "select pg_try_advisory_lock(k) from generate_series(1, 2) k",
            "lock table planned in share mode",
            "select objid, mode from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() order by 1, 2",
        ])
        .to_owned()
    }

    fn sequence(&mut self) -> String {
        if self.sequences && self.chance(60) {
            return self
                .one(&[
                    "select nextval('numbers')",
                    "select setval('numbers', 50)",
                    "select nextval('numbers'), 1/0",
                    "insert into counted (b) values ('counted')",
                    "insert into counted (b) values ('counted') returning n",
                    "do $$ begin perform nextval('numbers'); end $$",
                ])
                .to_owned();
        }
        self.one(&[
            "select nextval('numbers'), currval('numbers')",
            "select currval('numbers')",
            "select lastval()",
            "select setseed(0.5)",
            "select setseed(0.25); select random()",
        ])
        .to_owned()
    }

    fn large_object(&mut self) -> String {
        self.one(&[
            "select lo_create(5001)",
            "select lo_from_bytea(5002, '\\x0102')",
            "select lo_open(5001, 393216)",
            "begin; select lo_open(5001, 393216); select lowrite(0, 'written')",
            "select lowrite(0, 'more')",
            "select lo_lseek(0, 2, 0), loread(0, 3)",
            "select lo_close(0)",
            "select lo_get(5001)",
            "select lo_put(5001, 1, 'put')",
            "select lo_unlink(5001)",
            "select lo_unlink(5002)",
        ])
        .to_owned()
    }

    /// What a text does not show.
    fn hidden(&mut self) -> String {
        self.one(&[
            "select hidden_set('by function')",
            "select hidden_table()",
            "select hidden_lock(1)",
            "select * from hidden_view",
            "insert into kept values (13, 'by trigger')",
            "call hidden_commit('by procedure')",
            "call two_commits('by procedure')",
            "do $$ begin set work_mem = '8MB'; commit; set local work_mem = '9MB'; end $$",
            "do $$ begin perform set_config('app.a', 'kept', false); commit; raise 'no'; end $$",
            "do $$ begin begin set work_mem = '7MB'; raise 'no'; \
             exception when others then null; end; end $$",
            "do $$ begin perform hidden_set('by function'); end $$",
            "do $$ begin perform hidden_table(); end $$",
            "do $$ begin perform set_config('work_mem', '5MB', false); end $$",
            "do $$ begin set application_name = 'by do'; end $$",
            "do $$ begin execute 'prepare p1 as select 77'; end $$",
            "do $$ begin execute 'deallocate all'; end $$",
            "do $$ begin create temp table t1 (a int); end $$",
            "do $$ begin perform pg_try_advisory_lock(2); end $$",
            "do $$ begin execute 'listen c1'; end $$",
            "do $$ begin execute 'declare h cursor with hold for select 8'; end $$",
            "do $$ begin execute 'set role app2'; end $$",
            "create table made_of as select set_config('app.a', 'by create', false)",
        ])
        .to_owned()
    }
}
