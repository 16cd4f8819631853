-- A new session has nothing of the old one.
set work_mem = '3MB';
create temp table t (a int);
prepare p as select 1;
select pg_advisory_lock(77);
listen c;
declare h cursor with hold for select 1;
create sequence s;
select nextval('s');
set app.mine = 'x';
begin;
\c
show work_mem;
select * from t;
execute p;
select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid();
select * from pg_listening_channels();
fetch h;
select currval('s');
select count(*) from pg_cursors;
select name from pg_prepared_statements;
select count(*) from pg_class where relnamespace = pg_my_temp_schema();
select pg_try_advisory_lock(77), pg_advisory_unlock(77);
select lastval();
notify c;
commit;
