create function talk() returns void language plpgsql as $$
begin
  raise debug 'a debug';
  raise log 'a log';
  raise info 'an info';
  raise notice 'a notice';
  raise warning 'a warning';
end $$;
select talk();
set client_min_messages = debug1;
select talk();
set client_min_messages = error;
select talk();
set client_min_messages = warning;
select talk();
drop table if exists missing;
reset client_min_messages;
drop table if exists missing;
begin;
set local client_min_messages = error;
select talk();
rollback;
begin;
begin;
commit;
commit;
rollback;
