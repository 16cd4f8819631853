-- Ctrl-C while a query is repeated ends the repetition.
create sequence s;
\t on
select 1;
\! (sleep 0.5; kill -INT $PPID) > /dev/null 2>&1 &
select 'again' where nextval('s') < 0 \watch 60
show application_name;
