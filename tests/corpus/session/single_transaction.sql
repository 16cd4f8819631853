-- psql -1
create table t (a int);
\! printf 'insert into t values (1);\nset work_mem = $$3MB$$;\nshow work_mem;\n' | $SECOND_SESSION -1 -f -
table t;
\! printf 'insert into t values (2);\nselect 1/0;\ninsert into t values (3);\n' | $SECOND_SESSION -1 -f -
table t;
\! printf 'insert into t values (2);\nselect 1/0;\ninsert into t values (3);\n' | $SECOND_SESSION -1 -v ON_ERROR_STOP=1 -f - ; echo $?
table t;
\! $SECOND_SESSION -1 -c "insert into t values (4)" -c "table t" -c "create temp table x (a int)" -c "insert into x table t" -c "table x"
\! $SECOND_SESSION -1 -c "insert into t values (5)" -c "insert into t values ('x')"; echo $?
\! printf 'begin;\ninsert into t values (6);\ncommit;\ninsert into t values (7);\nrollback;\n' | $SECOND_SESSION -1 -f -
\! printf 'copy t from stdin;\n8\nx\n\\.\ntable t;\n' | $SECOND_SESSION -1 -f -
\! printf 'copy t from stdin;\n8\n\\.\n' | $SECOND_SESSION -1 -f -
\! printf 'vacuum t;\n' | $SECOND_SESSION -1 -f -
\! printf 'listen c;\nnotify c;\nprepare p as select 1;\nexecute p;\n' | $SECOND_SESSION -1 -f - | sed 's/PID [0-9]*/PID N/'
\! printf 'declare h cursor with hold for select 1;\nfetch h;\ncommit;\nfetch h;\n' | $SECOND_SESSION -1 -f -
select * from t order by 1;
