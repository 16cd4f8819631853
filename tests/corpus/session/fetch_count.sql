-- psql reads by a cursor of its own.
\set FETCH_COUNT 2
create table t as select i as a, 'row ' || i as b from generate_series(1, 5) i;
table t;
select * from t where false;
select missing from t;
select 1 / (4 - a) from t;
begin;
table t;
select 1 / (4 - a) from t;
table t;
rollback;
\set ON_ERROR_ROLLBACK on
begin;
select 1 / (4 - a) from t;
select a from t;
commit;
\set ON_ERROR_ROLLBACK off
set work_mem = '3MB';
select current_setting('work_mem'), a from t;
select set_config('work_mem', a || 'MB', false) from t;
show work_mem;
select set_config('work_mem', '9MB', true);
show work_mem;
select nextval('missing');
create sequence s;
select nextval('s'), currval('s') from t;
select currval('s');
create temp table mine as select * from t where a < 4;
table mine;
select pg_advisory_lock(a) from t;
select pg_advisory_unlock(a) from t;
prepare p as select * from t;
execute p;
with deleted as (delete from t where a > 3 returning a) select * from deleted;
with x as (select 1) insert into t select 6, 'six' returning *;
select * from t \; select 2;
\set AUTOCOMMIT off
select a from t;
select 1/0 from t;
rollback;
declare h cursor with hold for table t;
commit;
\set AUTOCOMMIT on
fetch all from h;
select count(*) from pg_cursors;
select a, b from t order by a \gx
select a as last from t order by a limit 1 \gset
\echo :last
select 'select ' || a from t \gexec
