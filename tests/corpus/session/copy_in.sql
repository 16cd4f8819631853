create table t (a int, b text);
copy t from stdin;
1	one
2	\N
\.
select * from t order by a;
copy t (a) from stdin;
3
\.
copy t from stdin with (format csv, header);
a,b
4,"quoted, text"
\.
copy t from stdin (delimiter '|', null 'nil');
5|nil
6|six
\.
copy t from stdin;
seven	x
\.
copy t from stdin;
8	x	too many
\.
copy t from stdin;
\.
copy missing from stdin;
copy t (c) from stdin;
copy t from stdin where a > 10;
10	no
11	yes
\.
select * from t order by a;
begin;
copy t from stdin;
12	in transaction
\.
rollback;
\copy t from stdin
13	by psql
\.
copy t from stdin csv;
14,"multi
line"
\.
select count(*) from t;
begin;
copy t from stdin;
bad
\.
select 1;
rollback;
copy t from '/no/such/file';
\copy t from '/no/such/file'
copy t from program 'echo 15';
copy t from program 'printf "16\tby program\n"';
select * from t where a > 10 order by a;
