select pg_backend_pid() as pid \gset
select pg_backend_pid() = :pid;
select pg_backend_pid() = :pid;
begin;
select pg_backend_pid() = :pid;
commit;
select count(*) from pg_stat_activity where pid = pg_backend_pid();
set application_name = 'who am I';
select application_name from pg_stat_activity where pid = pg_backend_pid();
select application_name, state from pg_stat_activity where pid = :pid;
select count(*) from pg_locks where pid = :pid and locktype = 'advisory';
do $$ begin perform pg_backend_pid(); end $$;
select pg_backend_pid() = :pid;
select pg_cancel_backend(:pid);
select pg_backend_pid() = :pid;
