-- Errors with position, and all other fields.
selekt 1;
select * from missing;
select missing from pg_class;
select 1 +;
select 1/0;
select 'x'::int;
select
  1,
  2,
  missing_column
from pg_class;
select 'ä', missing;
select "unclosed;
";
insert into missing values (1);
create table t (a int primary key check (a > 0), b text not null);
insert into t values (1, 'x');
insert into t values (1, 'x');
insert into t values (-1, 'x');
insert into t values (2, null);
insert into t values (2);
select foo(1);
select now() + 'x';
drop table missing;
create table t (a int);
alter table t add column a int;
select (select a from t union all select 2);
select 1 from t group by b having a;
update t set a = 'x';
delete from t where;
select $1;
select '\xzz'::bytea;
do $$ begin raise 'in a block'; end $$;
create function f() returns int language plpgsql as $$ begin return 'x'; end $$;
select f();
create function g() returns int language sql as $$ select f() $$;
select g();
\set VERBOSITY terse
select f();
\set VERBOSITY sqlstate
select f();
\set VERBOSITY default
select f();
\errverbose
