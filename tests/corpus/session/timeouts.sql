create table t (a int);
set statement_timeout = '100ms';
select pg_sleep(5);
show statement_timeout;
begin;
insert into t values (1);
select pg_sleep(5);
select 1;
rollback;
begin;
set local statement_timeout = '50ms';
select pg_sleep(5);
rollback;
set local statement_timeout = '50ms';
select pg_sleep(0.06);
reset statement_timeout;
select pg_sleep(0.2);
set lock_timeout = '50ms';
begin;
lock table t;
\! $SECOND_SESSION -c "set lock_timeout = '50ms'" -c "select * from t" -c "select * from t for update nowait" -c "show lock_timeout"
\! $SECOND_SESSION -c "lock table t nowait"
commit;
insert into t select generate_series(1, 3);
begin;
select * from t where a = 2 for update;
\! $SECOND_SESSION -c "select * from t for update skip locked" -c "select * from t where a = 2 for update nowait"
commit;
show lock_timeout;
set deadlock_timeout = '20ms';
begin;
update t set a = 10 where a = 1;
\! $SECOND_SESSION -c "begin" -c "update t set a = 20 where a = 2" -c "update t set a = 11 where a = 1" > /dev/null 2>&1 &
select pg_sleep(0.01);
commit;
set idle_in_transaction_session_timeout = '1h';
set idle_session_timeout = '2h';
select name, setting from pg_settings where name like 'idle%timeout' order by 1;
