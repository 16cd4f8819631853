-- What pg_settings tells beside the values.
set work_mem = '3MB';
select name, setting, source, boot_val, reset_val from pg_settings where name = 'work_mem';
reset all;
select count(*) from pg_settings where source = 'session';
\c -reuse-previous=on "options='-c work_mem=6MB' application_name=corpus"
select name, setting, source, reset_val from pg_settings where name in ('work_mem', 'TimeZone', 'DateStyle', 'application_name') order by 1;
