do $$ begin perform pg_advisory_lock(21); end $$;
select pg_advisory_unlock(21);
create function lock_it(k bigint) returns void language plpgsql as $$ begin perform pg_advisory_lock(k); end $$;
select lock_it(22);
\! $SECOND_SESSION -At -c "select pg_try_advisory_lock(22)"
select pg_advisory_unlock(22);
\! $SECOND_SESSION -At -c "select pg_try_advisory_lock(22), pg_advisory_unlock(22)"
select lock_it(k) from generate_series(23, 25) k;
select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid();
select pg_advisory_unlock_all();
prepare l(bigint) as select pg_advisory_lock($1);
execute l(26);
select pg_advisory_unlock(26);
with x as materialized (select pg_try_advisory_lock(27) as got) select got from x;
select pg_advisory_unlock(27);
select pg_catalog.pg_try_advisory_lock_shared(28);
select PG_Advisory_Unlock_Shared(28);
select case when true then pg_try_advisory_lock(29) end;
select objid from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() order by 1;
discard all;
select pg_advisory_unlock(29);
