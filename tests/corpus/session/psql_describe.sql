create table t (a int primary key, b text default 'x', c numeric(5, 2) check (c > 0));
create index on t (b);
create view v as select a from t;
create function f(int) returns int language sql as 'select $1';
\d
\d t
\d+ v
\df f
\dn
\di
\sf f
\sv v
\dt missing
\l no_such_database
\dC int8
\du app2
\dp t
\dconfig work_mem
set work_mem = '3MB';
\dconfig work_mem
\z t
\dd missing
