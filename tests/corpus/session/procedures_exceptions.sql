create table t (a int);
create procedure in_block() language plpgsql as $$ begin
  begin
    insert into t values (1);
    commit;
  exception when others then
    raise notice 'caught % %', sqlstate, sqlerrm;
  end;
  insert into t values (2);
  commit;
end $$;
call in_block();
table t;
create procedure settings() language plpgsql as $$ begin
  begin
    set work_mem = '2MB';
    perform 1/0;
  exception when division_by_zero then
    raise notice 'work_mem is %', current_setting('work_mem');
  end;
  set work_mem = '3MB';
  commit;
  begin
    set timezone = 'Asia/Tokyo';
    raise exception 'own' using errcode = 'P1234';
  exception when sqlstate 'P1234' then
    set datestyle = 'German';
  end;
  rollback;
  set application_name = 'from a procedure';
end $$;
call settings();
show work_mem;
show timezone;
show datestyle;
show application_name;
create procedure temps() language plpgsql as $$ begin
  create temp table made (a int) on commit preserve rows;
  insert into made values (1);
  commit;
  insert into made values (2);
  rollback;
  create temp table gone (a int);
  rollback;
end $$;
call temps();
table made;
table gone;
drop table made;
create procedure loops() language plpgsql as $$
declare r record;
begin
  for r in select i from generate_series(1, 4) i loop
    insert into t values (10 + r.i);
    if r.i % 2 = 0 then commit; else rollback; end if;
  end loop;
end $$;
call loops();
select * from t order by 1;
create procedure outer_one(inout n int) language plpgsql as $$ begin
  call loops();
  n := n + 1;
  commit;
  raise notice 'in %', n;
  raise exception 'after all' using detail = 'committed before';
end $$;
call outer_one(1);
select count(*) from t;
begin;
call outer_one(1);
rollback;
create procedure defined() language plpgsql set work_mem = '9MB' as $$ begin commit; end $$;
call defined();
create procedure secured() security definer language plpgsql as $$ begin commit; end $$;
call secured();
create procedure roles() language plpgsql as $$ begin
  set role app2;
  commit;
  raise notice '%', current_user;
  reset role;
  set local role app2;
  commit;
  raise notice '%', current_user;
end $$;
call roles();
select current_user;
create procedure held() language plpgsql as $$
declare c cursor for select generate_series(1, 3); n int;
begin
  open c;
  fetch c into n;
  commit;
  fetch c into n;
  raise notice 'fetched %', n;
end $$;
call held();
create procedure locks() language plpgsql as $$ begin
  perform pg_advisory_lock(5); commit; perform pg_advisory_lock(6); rollback;
end $$;
call locks();
select pg_advisory_unlock(5), pg_advisory_unlock(6), pg_advisory_unlock(7);
create procedure tells() language plpgsql as $$ begin
  listen c; notify c, 'one'; commit; notify c, 'two'; rollback; notify c, 'three'; commit;
end $$;
call tells();
unlisten c;
create procedure chains() language plpgsql as $$ begin
  set transaction isolation level serializable;
  commit and chain;
  raise notice '%', current_setting('transaction_isolation');
  rollback;
  raise notice '%', current_setting('transaction_isolation');
end $$;
call chains();
prepare c as call in_block();
do $$ declare n int := 1; begin call in_block(); commit; call outer_one(n); end $$;
select count(*) from t;
call in_block() \; select 1;
select 1 \; call in_block();
