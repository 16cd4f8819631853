begin;
select txid_current_if_assigned() is null;
select txid_current() as x \gset
select txid_current() = :x;
savepoint a;
select txid_current() = :x;
commit;
select txid_current() > :x;
select txid_status(:x);
select pg_current_xact_id_if_assigned() is null;
begin isolation level repeatable read;
select pg_export_snapshot() is not null;
commit;
select txid_snapshot_xmin(txid_current_snapshot()) > 0;
select case pg_my_temp_schema() when 0 then 'none' else 'one' end as temporary_schema;
select inet_client_addr(), inet_server_addr();
select current_query();
select pg_is_in_recovery();
select pg_conf_load_time() < now(), pg_postmaster_start_time() < now();
