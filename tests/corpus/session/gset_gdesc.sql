select 1 as a, 'two' as b, null as c \gset
\echo :a :b :c
select :a + 1 as next \gset p_
\echo :p_next
select 1 as x, 'y'::text as y, now() as z \gdesc
select missing \gdesc
insert into missing values (1) \gdesc
create table t (a int)
\gdesc
\g
select * from t \gdesc
select 1 as one, 2 as two \gx
select 'select ' || i from generate_series(1, 3) i \gexec
select 1 as a union select 2 order by 1 \gset
select 1 where false \gset
select 'x' as col, 1 as n union all select 'y', 2 order by 1 \crosstabview
values (1, 2)\; select 3 \g
select 1 \; select 2 \; select 3;
\set i 5
select :i, :'i', :"i";
select 1 as "i";
begin \; select 1 \gset
rollback;
select current_setting('work_mem') as before \gset
set work_mem = '3MB' \g
select current_setting('work_mem') as after \gset
\echo :before :after
