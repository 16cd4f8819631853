-- A wrong option is refused at login, in the server's words.
\! PGOPTIONS='-c work_mem=lots' $SECOND_SESSION -c "select 'alive'"
\! PGOPTIONS='-c' $SECOND_SESSION -c "select 'alive'"
\! PGOPTIONS='-c role=nobody_there' $SECOND_SESSION -c "select 'alive'"
\! PGOPTIONS='-c search_path=a -c work_mem=3MB' $SECOND_SESSION -At -c 'show search_path' -c 'show work_mem'
\! PGCLIENTENCODING=klingon $SECOND_SESSION -c "select 'alive'"
\! PGTZ=Mars/Olympus $SECOND_SESSION -c "select 'alive'"
\! PGDATESTYLE=sometimes $SECOND_SESSION -c "select 'alive'"
\! PGAPPNAME='ä b' $SECOND_SESSION -At -c "show application_name"
select 'alive';
