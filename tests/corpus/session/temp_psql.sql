-- What psql shows of them.
create temp table shown (a int primary key, b text not null default 'x');
select relname, relpersistence, relkind from pg_class where relnamespace = pg_my_temp_schema() order by 1;
\d shown
\dt shown
create temp view sv as select a from shown;
\dv sv
\gdesc
select * from shown \gdesc
insert into shown values (1);
select a, b from shown \gset got_
\echo :got_a :got_b
\copy shown from stdin
2	two
\.
\copy shown to stdout
select 'drop table shown cascade' \gexec
\d shown
