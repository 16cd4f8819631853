-- A session that ends itself, as far as it can.
select pg_cancel_backend(pg_backend_pid());
select 1;
begin;
select pg_cancel_backend(pg_backend_pid());
select 1;
rollback;
create temp table t (a int);
select pg_terminate_backend(pg_backend_pid());
select 'not reached';
