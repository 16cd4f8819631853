\timing off
\echo :SERVER_VERSION_NUM
\conninfo
\echo :DBNAME :USER
\c
\conninfo
\echo :DBNAME :USER
select current_database() = :'DBNAME', current_user;
\c - app2
\conninfo
select current_user;
set work_mem = '3MB';
\c - app
show work_mem;
\encoding
\c -reuse-previous=on "application_name='other name'"
show application_name;
\c no_such_database_at_all
