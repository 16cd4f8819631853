-- The server ends a session that does nothing.
create temp table t (a int);
set idle_session_timeout = '100ms';
\! sleep 0.5
select 'not reached';
