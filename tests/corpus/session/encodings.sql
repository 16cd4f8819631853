-- In what bytes a client speaks: this file has lines in UTF-8 and in LATIN1.
create table t (a text);
insert into t values ('Ã¤Ã¶Ã¼ â‚¬');
table t;
\encoding latin1
select 'äöü' = U&'\00e4\00f6\00fc', length('äöü'), octet_length(convert_to('äöü', 'utf8'));
table t;
delete from t;
insert into t values ('ÄÖÜ');
table t;
select 'ä' as "spaltenname ü";
select missing_ü;
do $$ begin raise notice 'ß'; raise exception 'größer' using hint = 'kürzer'; end $$;
prepare p as select 'é', a from t where a = $1;
execute p('ÄÖÜ');
set client_encoding = 'utf8';
execute p('Ã„Ã–Ãœ');
select statement from pg_prepared_statements;
deallocate p;
select 'Ã¤' as "spaltenname Ã¼";
select missing_Ã¼;
table t;
begin;
set client_encoding = latin1;
insert into t values ('ñ');
savepoint s;
set client_encoding = 'utf8';
insert into t values ('Ã¸');
rollback to s;
insert into t values ('å');
select 'ß' as "ß";
rollback;
select 'ÃŸ' as "ÃŸ";
begin;
set local client_encoding = latin1;
insert into t values ('å');
select 'å' as å;
commit;
select 'Ã¥' as Ã¥;
table t;
set client_encoding = latin1;
set app.name = 'Jürgen';
show app.name;
set application_name = 'Jürgen';
show application_name;
create temp table tabelle_ä (spalte_ö text);
insert into tabelle_ä values ('ü');
table tabelle_ä;
listen kanal_ü;
notify kanal_ü, 'größe';
unlisten kanal_ü;
copy t from stdin;
kopiert ß
\.
copy t to stdout;
declare zeiger_ä cursor with hold for select 'ä';
fetch zeiger_ä;
select name, statement from pg_cursors;
close zeiger_ä;
reset client_encoding;
show app.name;
show application_name;
select 'Ã¤';
set client_encoding = win1252;
select chr(8364);
set client_encoding = latin1;
select chr(8364);
select chr(1046), 'after';
set client_encoding = 'sjis';
select length(chr(12354));
set client_encoding = 'utf8';
select 'ü';
create table ü (a int);
select 1;
set client_encoding = 'no such encoding';
select 'Ã¤';
\encoding latin1
\c
\encoding
select 'ä';
set client_encoding = 'utf8';
discard all;
\encoding
select 'Ã¤';
