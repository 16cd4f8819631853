-- Settings that change where a text does not show it.
do $$ begin perform set_config('app.hidden', 'by do', false); end $$;
show app.hidden;
do $$ begin set work_mem = '3MB'; end $$;
show work_mem;
do $$ begin execute 'set time' || 'zone = ''Asia/Tokyo'''; end $$;
show timezone;
create function quiet(v text) returns void language plpgsql as $$ begin perform set_config('app.hidden', v, false); end $$;
select quiet('by function');
show app.hidden;
create function quiet_sql(v text) returns text language sql as $$ select set_config('app.hidden', v, false) $$;
select quiet_sql('by sql');
show app.hidden;
create function with_local() returns text language plpgsql set work_mem = '77MB' as $$ begin return current_setting('work_mem'); end $$;
select with_local();
show work_mem;
create function leaks() returns text language plpgsql set work_mem = '77MB' as $$ begin set work_mem = '78MB'; return current_setting('work_mem'); end $$;
select leaks();
show work_mem;
create table watched (a int);
create function on_insert() returns trigger language plpgsql as $$ begin perform set_config('app.hidden', 'by trigger ' || new.a, false); return new; end $$;
create trigger t before insert on watched for each row execute function on_insert();
insert into watched values (1), (2);
show app.hidden;
create view setter as select set_config('app.hidden', 'by view', false) as v;
select * from setter;
show app.hidden;
create table defaulted (a int, b text default set_config('app.hidden', 'by default', false));
insert into defaulted (a) values (1);
show app.hidden;
copy watched from stdin;
7
8
\.
show app.hidden;
create operator === (leftarg = text, rightarg = text, function = texteq);
create rule r as on update to watched do also select set_config('app.hidden', 'by rule', false);
update watched set a = 9 where a = 1;
show app.hidden;
begin;
select quiet('aborted');
rollback;
show app.hidden;
reset all;
show app.hidden;
