-- Longer than any buffer that somebody could have thought enough.
select string_agg('schema_with_a_rather_long_name_' || lpad(i::text, 20, '0'), ', ' order by i) as path from generate_series(1, 400) i \gset
create schema schema_with_a_rather_long_name_00000000000000000400;
create table schema_with_a_rather_long_name_00000000000000000400.t as select 'found' as a;
set search_path = :path;
select length(current_setting('search_path')), md5(current_setting('search_path'));
select * from t;
begin;
set local search_path = public;
select * from t;
rollback;
select * from t;
select length(current_setting('search_path')), md5(current_setting('search_path'));
reset search_path;
show search_path;
