-- needs psql 16
select $1 as a, $2 as b \bind 1 'two' \g
select $1::int + 1 \bind 41 \g
select $1::int \bind x \g
set work_mem = '3MB' \bind \g
show work_mem \bind \g
begin \bind \g
set local work_mem = '4MB' \bind \g
show work_mem \bind \g
commit \bind \g
show work_mem;
create temp table t (a int) \bind \g
insert into t values ($1) \bind 5 \g
table t;
listen c \bind \g
notify c, 'x' \bind \g
prepare p as select 7 \bind \g
execute p \bind \g
deallocate p \bind \g
discard all \bind \g
