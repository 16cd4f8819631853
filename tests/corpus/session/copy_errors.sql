-- COPY that fails, in every kind of transaction.
create table t (a int primary key, b text);
begin;
insert into t values (1, 'before');
copy t from stdin;
2	two
x	bad
3	three
\.
select 1;
commit;
table t;
begin;
insert into t values (1, 'before');
savepoint s;
copy t from stdin;
1	twice
\.
rollback to s;
copy t from stdin;
2	two
\.
commit;
table t;
\set ON_ERROR_ROLLBACK on
begin;
copy t from stdin;
3	three
x	bad
\.
copy t from stdin;
3	three
\.
copy t (missing) from stdin;
copy t to '/no/such/directory/file';
set work_mem = '3MB';
copy missing to stdout;
commit;
show work_mem;
table t;
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT off
copy t from stdin;
4	four
\.
copy t from stdin;
4	again
\.
table t;
rollback;
table t;
commit;
\set AUTOCOMMIT on
set work_mem = '4MB'\; copy t from stdin\; show work_mem;
5	five
\.
show work_mem;
set work_mem = '5MB'\; copy t from stdin\; show work_mem;
5	again
\.
show work_mem;
copy t from stdin\; copy t to stdout;
6	six
\.
copy (select 1 / (3 - a) from generate_series(1, 5) a) to stdout;
begin;
copy (select 1 / (3 - a) from generate_series(1, 5) a) to stdout;
copy t to stdout;
rollback;
create function loud() returns trigger language plpgsql as $$
begin
  if new.a > 100 then raise exception 'too much: %', new.a using detail = 'in a trigger'; end if;
  perform set_config('app.last', new.a::text, false);
  return new;
end $$;
create trigger loud before insert on t for each row execute function loud();
copy t from stdin;
7	seven
101	too much
\.
copy t from stdin;
8	eight
9	nine
\.
show app.last;
create temp table mine (like t);
copy mine from stdin;
1	mine
\.
copy mine from stdin;
bad
\.
table mine;
copy t from stdin (format csv, header match);
a,c
1,2
\.
copy t from stdin (freeze);
10	ten
\.
\copy t from program 'printf "11\televen\n"'
\copy t from program 'printf "x\n"'
\copy (select count(*) from t) to program 'cat > /dev/null'
\copy missing to stdout
\copy t (b) from stdin
no key
\.
prepare p as select count(*) from t;
copy t from stdin;
12	after prepare
\.
execute p;
explain (costs off) execute p;
-- In binary nothing but its end ends the data.
copy t from stdin (format binary);
not binary
