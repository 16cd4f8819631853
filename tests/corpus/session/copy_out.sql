create table t (a int, b text);
insert into t values (1, 'one'), (2, null), (3, E'tab\there');
copy t to stdout;
copy t (b) to stdout;
copy t to stdout with (format csv, header, force_quote *);
copy (select a * 2 from t order by a) to stdout;
copy (select 1/0) to stdout;
copy (select 1/(a - 3) from t order by a) to stdout;
copy t to stdout with delimiter ';' null 'NULL';
copy (values (1, 'x'), (2, 'y')) to stdout csv;
copy (insert into t values (4, 'four') returning *) to stdout;
copy (delete from t where a = 4 returning a) to stdout;
\copy t to stdout
\copy (select a from t order by a) to stdout csv
copy missing to stdout;
copy t to stdout (format nothing);
begin;
copy t to stdout;
copy (select current_setting('work_mem')) to stdout;
commit;
set datestyle = 'German';
copy (select date '2024-02-29') to stdout;
set client_encoding = latin1;
copy (select 'x') to stdout;
copy (select set_config('app.by_copy', 'yes', false)) to stdout;
show app.by_copy;
copy (select nextval('missing')) to stdout;
copy (select 1) to stdout\; copy (select 2) to stdout;
