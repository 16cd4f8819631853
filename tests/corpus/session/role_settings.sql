-- ALTER ROLE and ALTER DATABASE ... SET hold from the next login on.
create role corpus_settings login superuser;
alter role corpus_settings set work_mem = '21MB';
alter role corpus_settings set search_path = 'of_role', public;
\c - app2
\c - app
select rolname, rolconfig from pg_roles where rolname = 'corpus_settings';
alter database :"DBNAME" set enable_mergejoin = off;
alter database :"DBNAME" set app.of_database = 'yes';
\c
show enable_mergejoin;
show app.of_database;
set enable_mergejoin = on;
show enable_mergejoin;
reset enable_mergejoin;
show enable_mergejoin;
alter role app in database :"DBNAME" set app.of_both = 'both';
alter role app in database :"DBNAME" set work_mem = '22MB';
show app.of_both;
\c
show app.of_both;
show work_mem;
select source from pg_settings where name = 'work_mem';
alter role app in database :"DBNAME" reset all;
alter database :"DBNAME" reset all;
\c
show work_mem;
show enable_mergejoin;
show app.of_both;
drop role corpus_settings;
