-- What two sessions see of each other.
create table t (a int);
begin;
insert into t values (1);
\! $SECOND_SESSION -At -c "select count(*) from t"
commit;
\! $SECOND_SESSION -At -c "select count(*) from t"
create temp table mine (a int);
\! $SECOND_SESSION -At -c "select * from mine"
set work_mem = '3MB';
\! $SECOND_SESSION -At -c "show work_mem"
prepare p as select 1;
\! $SECOND_SESSION -At -c "execute p"
set app.mine = 'x';
\! $SECOND_SESSION -At -c "select coalesce(current_setting('app.mine', true), 'null')"
select pg_advisory_lock(5);
\! $SECOND_SESSION -At -c "select pg_try_advisory_lock(5)"
select pg_advisory_unlock(5);
\! $SECOND_SESSION -At -c "select pg_try_advisory_lock(5), pg_advisory_unlock(5)"
select pg_try_advisory_lock(5), pg_advisory_unlock(5);
set role app2;
\! $SECOND_SESSION -At -c "select current_user"
reset role;
\! $SECOND_SESSION -At -c "create temp table mine (b text)" -c "insert into mine values ('other')" -c "table mine"
table mine;
