create function f(a int, out b int, out c text) returns setof record language plpgsql as $$ begin for i in 1..a loop b := i; c := 'r' || i; return next; end loop; end $$;
select * from f(2);
create function with_temp() returns bigint language plpgsql as $$
declare n bigint;
begin
  create temp table if not exists scratch (a int) on commit delete rows;
  insert into scratch select generate_series(1, 3);
  select count(*) into n from scratch;
  return n;
end $$;
select with_temp();
select with_temp();
table scratch;
create function secure() returns text language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin return current_setting('search_path'); end $$;
select secure();
show search_path;
create function session_cache(k text) returns text language plpgsql as $$ declare v text; begin v := current_setting('app.cache_' || k, true); perform set_config('app.cache_' || k, coalesce(v, '') || '+', false); return v; end $$;
select session_cache('x');
select session_cache('x');
select session_cache('x');
create aggregate total(int) (sfunc = int4pl, stype = int, initcond = '0');
select total(i) from generate_series(1, 4) i;
create function fresh() returns text language plpgsql as $$ begin execute 'prepare in_function as select 1'; return 'done'; end $$;
select fresh();
execute in_function;
select fresh();
drop function fresh();
create extension if not exists plpgsql;
