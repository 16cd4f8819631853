-- psql's own commands for large objects, which use the fast path functions.
\! printf 'one\ntwo\n' > "${TMPDIR:-/tmp}/corpus_lo_$PPID"
\set QUIET on
select pg_backend_pid() is not null as ok \gset
\set file `echo "${TMPDIR:-/tmp}/corpus_lo_$PPID"`
\lo_import :file 'a comment'
select convert_from(lo_get(:LASTOID), 'utf8');
select obj_description(:LASTOID, 'pg_largeobject');
\set first :LASTOID
\lo_export :first :file
\! cat "${TMPDIR:-/tmp}/corpus_lo_$PPID"
begin;
\lo_import :file
select :LASTOID <> :first;
\lo_export :LASTOID :file
rollback;
select lo_get(:LASTOID) is null;
begin;
select lo_open(:first, 262144) as fd \gset
select convert_from(loread(:fd, 4), 'utf8');
\lo_unlink :first
rollback;
select convert_from(lo_get(:first), 'utf8');
begin;
select 1/0;
\lo_import :file
rollback;
\lo_export 1 :file
\lo_unlink 1
\lo_import /no/such/file
\lo_export :first /no/such/directory/file
\lo_unlink :first
select count(*) from pg_largeobject_metadata;
set role app2;
\lo_import :file
select lomowner::regrole from pg_largeobject_metadata where oid = :LASTOID;
reset role;
set session authorization app2;
\lo_unlink :LASTOID
reset session authorization;
\set AUTOCOMMIT off
\lo_import :file
select count(*) from pg_largeobject_metadata;
rollback;
\lo_import :file
commit;
\set AUTOCOMMIT on
select count(*) from pg_largeobject_metadata;
set work_mem = '3MB';
\lo_import :file
show work_mem;
create temp table t as select 1 as a;
\lo_import :file
table t;
\! rm "${TMPDIR:-/tmp}/corpus_lo_$PPID"
