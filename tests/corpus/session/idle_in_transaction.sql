-- The server ends a session in the middle of a transaction.
create table t (a int);
begin;
set idle_in_transaction_session_timeout = '100ms';
insert into t values (1);
\! sleep 0.5
insert into t values (2);
select 'not reached';
