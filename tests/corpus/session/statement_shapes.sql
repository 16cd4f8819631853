/* Comments -- and /* nested */ ones */ set work_mem = '3MB' -- at the end
;
show work_mem;
SeT/**/WORK_MEM/**/=/**/'4MB';
show/**/work_mem;
;
;;
set work_mem = $$5MB$$;
set "work_mem" = '6MB';
show work_mem;
set work_mem = E'7\x4dB';
set work_mem = U&'7\004DB';
show work_mem;
   
set
work_mem
to
'9MB'
;
show "work_mem";
show all \g /dev/null
select 'set work_mem = ''10MB''';
show work_mem;
/* set work_mem = '11MB'; */ select 1;
show work_mem;
set session work_mem = '12MB';
set session "work_mem" to '13MB';
show work_mem;
begin; set local "work_mem" = '14MB'; show work_mem; end;
show work_mem;
set SESSION time zone 'Asia/Tokyo';
show time zone;
set TimeZone to 'UTC';
show TIMEZONE;
set transaction_isolation = 'serializable';
show transaction_isolation;
values (current_setting('work_mem'));
table pg_settings \g /dev/null
(select 1);
with w as (select 1) select * from w;
