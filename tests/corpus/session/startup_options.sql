-- RESET goes back to what the client came with.
\setenv PGTZ 'America/Lima'
\setenv PGDATESTYLE 'German'
\c -reuse-previous=on "options='-c work_mem=6MB -c app.tenant=blue' application_name=corpus"
show work_mem;
show app.tenant;
show application_name;
show timezone;
select date '2024-02-29';
set work_mem = '7MB';
set app.tenant = 'red';
set timezone = 'Asia/Tokyo';
show work_mem;
show app.tenant;
reset work_mem;
reset app.tenant;
show work_mem;
show app.tenant;
reset all;
show timezone;
select date '2024-02-29';
set work_mem = '8MB';
discard all;
show work_mem;
show app.tenant;
show application_name;
set work_mem to default;
show work_mem;
select name, setting from pg_settings where name in ('work_mem', 'TimeZone', 'DateStyle', 'application_name') order by 1;
\c -reuse-previous=on "options='--enable-hashjoin=off -c search_path=one,\\ two'"
show enable_hashjoin;
show search_path;
set search_path = three;
reset search_path;
show search_path;
\c -reuse-previous=on "options=''"
show work_mem;
show app.tenant;
