select lo_create(12345);
select lo_put(12345, 0, 'hello world');
select convert_from(lo_get(12345), 'utf8');
begin;
select lo_open(12345, 393216) as fd \gset
select lowrite(:fd, 'HELLO');
select lo_lseek(:fd, 0, 0);
select convert_from(loread(:fd, 11), 'utf8');
select lo_tell(:fd);
savepoint s;
select lo_truncate(:fd, 5);
rollback to s;
select lo_close(:fd);
commit;
select lo_close(0);
select convert_from(lo_get(12345), 'utf8');
select lo_from_bytea(12346, '\xdead');
select lo_get(12346);
\lo_list
select lo_unlink(12345), lo_unlink(12346);
select lo_get(12345);
begin;
select lo_creat(-1) > 0;
rollback;
