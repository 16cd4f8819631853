\set AUTOCOMMIT off
create table t (a int);
insert into t values (1);
\! $SECOND_SESSION -At -c "table t"
commit;
\! $SECOND_SESSION -At -c "select count(*) from t"
set work_mem = '3MB';
show work_mem;
rollback;
show work_mem;
insert into t values (1/0);
select 1;
rollback;
create temp table mine (a int);
insert into mine values (1);
commit;
insert into mine values (2);
rollback;
table mine;
commit;
vacuum t;
rollback;
vacuum t;
prepare p as select a from t order by a;
execute p;
rollback;
execute p;
deallocate p;
commit;
begin;
commit;
listen c;
commit;
notify c;
rollback;
notify c, 'committed';
commit;
declare h cursor with hold for select generate_series(1, 3);
fetch h;
commit;
fetch h;
commit;
select pg_advisory_lock(1);
rollback;
select pg_advisory_unlock(1), pg_advisory_unlock(1);
\set ON_ERROR_ROLLBACK interactive
select 1/0;
select 2;
rollback;
\set ON_ERROR_ROLLBACK on
insert into t values (2);
insert into t values ('x');
savepoint s;
insert into t values (3);
select 1/0;
rollback to s;
insert into t values (4);
release s;
commit;
table t;
discard all;
commit;
set transaction isolation level serializable;
show transaction_isolation;
commit;
show transaction_isolation;
start transaction read only;
rollback;
start transaction read only;
show transaction_read_only;
\c
table t;
rollback;
\set AUTOCOMMIT on
discard all;
