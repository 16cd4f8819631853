-- Texts and rows that are longer than any buffer.
\set long `head -c 120000 /dev/zero | tr '\\0' x`
select length(:'long'), md5(:'long');
select length(:'long') + missing;
create table t (a int, b text);
insert into t values (1, :'long');
insert into t select i, repeat(i::text, 1000000) from generate_series(2, 5) i;
select a, length(b), md5(b) from t order by a;
\copy t to program 'md5sum'
\copy (select b from t order by a) to program 'wc -c'
select b from t where a = 1 \g |wc -c
select repeat(b, 100) from t where a = 1 \g |md5sum
select i from generate_series(1, 200000) i \g |md5sum
\copy t from program 'for i in 6 7 8; do printf "$i\t"; head -c 3000000 /dev/zero | tr "\\0" y; echo; done'
select a, length(b), md5(b) from t order by a;
begin;
\copy t from program 'seq 1 100000 | sed "s/$/\tz/"; echo x'
select 1;
rollback;
\copy t from program 'seq 1 100000 | sed "s/$/\tz/"'
select count(*), sum(a) from t;
prepare p as select length(:'long' || $1);
execute p('x');
execute p(:'long');
set app.long = :'long';
select length(current_setting('app.long'));
begin;
set local app.long = 'short';
commit;
select length(current_setting('app.long'));
do $$ begin for i in 1..2000 loop raise notice 'notice % %', i, repeat('n', 100); end loop; end $$ \g |wc -l
select repeat('x', 1000000)::int;
select string_agg('select ' || i, ';') as many from generate_series(1, 500) i \gset
\o |tail -3
:many;
\o
listen c;
notify c, :'long';
select length(string_agg('n', '')) from generate_series(1, 7000) \g |tail -2
