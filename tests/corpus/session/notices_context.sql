create function deepest(n int) returns int language plpgsql as $$
begin
  raise notice 'deepest %', n using detail = 'a detail', hint = 'a hint', column = 'c', table = 't', schema = 's', datatype = 'd', constraint = 'k';
  return 10 / n;
end $$;
create function in_sql(n int) returns int language sql as 'select deepest($1 - 1)';
create function outermost(n int) returns int language plpgsql as $$
begin
  raise warning 'outermost';
  return in_sql(n);
end $$;
select outermost(3);
select outermost(1);
\errverbose
\set SHOW_CONTEXT never
select outermost(1);
\set SHOW_CONTEXT errors
select outermost(2);
select outermost(1);
\set SHOW_CONTEXT always
\set VERBOSITY terse
select outermost(1);
\set VERBOSITY sqlstate
select outermost(1);
\set VERBOSITY verbose
create function quiet() returns int language plpgsql set client_min_messages = error as $$
begin
  raise notice 'not seen';
  return outermost(3);
end $$;
select quiet();
show client_min_messages;
create function loud() returns int language plpgsql set client_min_messages = debug1 as $$
begin
  raise debug 'seen';
  return 1;
end $$;
select loud();
begin;
set local client_min_messages = warning;
select outermost(3);
savepoint s;
set local client_min_messages = notice;
select outermost(3);
rollback to s;
select outermost(3);
commit;
select outermost(3);
set client_min_messages = warning;
begin; end; begin;
select outermost(3);
rollback;
select outermost(3);
set client_min_messages = 'no such level';
set client_min_messages = debug1;
do $$ begin raise debug 'a debug'; raise debug5 'x'; exception when others then raise notice '%', sqlerrm; end $$;
do $$ begin raise debug 'a debug'; end $$;
create temp table t (a int primary key);
drop table t;
reset client_min_messages;
do $$ begin raise debug 'not seen'; execute 'do $x$ begin raise notice ''inner''; end $x$'; end $$;
do $$ begin assert 1 = 2, 'an assertion'; end $$;
do $$ declare x text; begin
  begin perform deepest(0); exception when others then
    get stacked diagnostics x = pg_exception_context; raise notice '%', x;
  end;
end $$;
set plpgsql.extra_warnings = 'all';
create function shadows(n int) returns int language plpgsql as $$ declare n int; begin return n; end $$;
reset plpgsql.extra_warnings;
set check_function_bodies = off;
create function broken() returns int language sql as 'select missing from nowhere';
reset check_function_bodies;
select broken();
select 'äöü' as "Ä", missing;
select 1
  + 2
  + missing
  + 4;
select 1 \; select 2 + missing \; select 3;
