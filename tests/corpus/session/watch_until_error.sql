-- A query that is repeated until it fails.
create sequence s;
\t on
select 10 / (4 - nextval('s')) \watch 0.02
select currval('s');
set work_mem = '3MB';
create function once_more() returns text language plpgsql as $$
begin
  if nextval('s') > 8 then raise exception 'enough' using hint = current_setting('work_mem'); end if;
  raise notice 'once more';
  return current_setting('work_mem');
end $$;
select once_more() \watch 0.02
show work_mem;
begin;
set local work_mem = '4MB';
select once_more() \watch 0.02
rollback;
show work_mem;
create temp table t (a int unique);
insert into t select coalesce(max(a), 0) + 1 from t returning 2 / (3 - a) \watch 0.02
table t;
listen c;
select pg_notify('c', nextval('s')::text), 3 / (12 - currval('s')) \watch 0.02
select 1/0 \watch 0.02
select missing \watch 0.02
