-- needs psql 18
select $1 || $2 \parse named
\bind_named named 'a' 'b' \g
\bind_named named 'c' 'd' \g
\close_prepared named
\bind_named named 'a' 'b' \g
\startpipeline
select $1 \bind 1 \sendpipeline
set work_mem = '5MB' \bind \sendpipeline
show work_mem \bind \sendpipeline
\syncpipeline
select 1/0 \bind \sendpipeline
select 2 \bind \sendpipeline
\endpipeline
show work_mem;
