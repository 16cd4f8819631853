-- As before, with nothing that would keep a server connection.
set idle_session_timeout = '100ms';
\! sleep 0.5
select 'not reached';
