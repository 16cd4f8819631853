create function a() returns text language plpgsql as $$
begin
  perform set_config('work_mem', '2MB', false);
  begin
    perform set_config('work_mem', '3MB', false);
    raise exception 'undone';
  exception when others then null;
  end;
  return current_setting('work_mem');
end $$;
select a();
show work_mem;
create function b() returns text language plpgsql set work_mem from current as $$ begin return current_setting('work_mem'); end $$;
set work_mem = '4MB';
select b();
show work_mem;
create function c() returns text language plpgsql set search_path = pg_catalog as $$ begin perform set_config('timezone', 'Asia/Tokyo', false); return current_setting('search_path'); end $$;
select c();
show search_path;
show timezone;
create function d() returns text language plpgsql as $$ begin perform set_config('timezone', 'Europe/Rome', true); return current_setting('timezone'); end $$;
select d();
show timezone;
alter function d() set timezone = 'UTC';
select d();
show timezone;
