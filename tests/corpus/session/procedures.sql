create table t (a int);
create procedure fill(n int) language plpgsql as $$
begin
  for i in 1..n loop
    insert into t values (i);
    if i % 2 = 0 then commit; else rollback; end if;
  end loop;
end $$;
call fill(6);
select * from t order by 1;
begin;
call fill(2);
rollback;
create procedure out_of(inout a int, b int) language plpgsql as $$ begin a := a + b; commit; end $$;
call out_of(1, 2);
create procedure sets() language plpgsql as $$ begin
  perform set_config('work_mem', '2MB', false); commit;
  perform set_config('work_mem', '3MB', false); rollback;
end $$;
call sets();
show work_mem;
create procedure local_sets() language plpgsql as $$ begin
  set local work_mem = '5MB'; commit;
  raise notice '%', current_setting('work_mem');
  set work_mem = '6MB';
end $$;
call local_sets();
show work_mem;
do $$ begin insert into t values (100); commit; insert into t values (200); rollback; end $$;
select * from t order by 1;
do $$ begin commit; perform 1/0; end $$;
select 1;
create procedure fails() language plpgsql as $$ begin insert into t values (300); commit; raise exception 'after commit'; end $$;
call fails();
select * from t order by 1;
call missing(1);
