-- Ctrl-C in a transaction.
create table t (a int);
set work_mem = '3MB';
begin;
insert into t values (1);
\! (sleep 0.3; kill -INT $PPID) > /dev/null 2>&1 &
select pg_sleep(60);
select 'not reached';
