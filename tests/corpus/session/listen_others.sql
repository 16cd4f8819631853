-- Notifications of another session.
listen news;
\! $SECOND_SESSION -c "notify news, 'from outside'"
select pg_sleep(0.2);
\! $SECOND_SESSION -c "notify news, 'a'" -c "notify news, 'b'"
\! $SECOND_SESSION -c "begin; notify news, 'never'; rollback"
select pg_sleep(0.2);
begin;
\! $SECOND_SESSION -c "notify news, 'while in a transaction'"
select pg_sleep(0.2);
select 'not yet';
commit;
unlisten news;
\! $SECOND_SESSION -c "notify news, 'nobody hears'"
select pg_sleep(0.2);
select 1;
