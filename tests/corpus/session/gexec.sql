create table t (a int, b text);
select format('insert into t values (%s, %L)', i, 'row ' || i) from generate_series(1, 3) i \gexec
table t;
select 'set work_mem = ''3MB''' union all select 'show work_mem' order by 1 desc \gexec
select v from (values (1, 'begin'), (2, 'insert into t values (4)'), (3, 'savepoint s'),
  (4, 'insert into t values (''x'')'), (5, 'rollback to s'), (6, 'commit')) c(n, v) order by n \gexec
table t;
select 'create temp table g' || i || ' as select ' || i || ' as a' from generate_series(1, 3) i \gexec
select 'table g' || i, null, 'drop table g' || i from generate_series(1, 3) i \gexec
select 'prepare p' || i || ' as select ' || i, 'execute p' || i from generate_series(1, 3) i \gexec
select name from pg_prepared_statements order by 1;
select 'deallocate ' || name from pg_prepared_statements order by 1 \gexec
select name from pg_prepared_statements;
select 'listen c' || i, 'notify c' || i || ', ''payload''' from generate_series(1, 2) i \gexec
unlisten *;
select 'declare h' || i || ' cursor with hold for select ' || i, 'fetch h' || i from generate_series(1, 2) i \gexec
select 'close ' || quote_ident(name) from pg_cursors order by name \gexec
select 'select pg_advisory_lock(' || i || ')' from generate_series(1, 2) i \gexec
select 'select pg_advisory_unlock(' || i || ')' from generate_series(1, 3) i \gexec
select 'select 1/0', 'select 2' \gexec
select 'reset all; show work_mem' \gexec
select 'set role app2', 'select current_user', 'reset role', 'select current_user' \gexec
select missing \gexec
