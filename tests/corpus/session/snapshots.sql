create table t (a int);
insert into t values (1);
begin isolation level repeatable read;
select pg_export_snapshot() as snapshot \gset
\setenv SNAPSHOT :snapshot
\! $SECOND_SESSION -c "insert into t values (2)"
table t;
\! $SECOND_SESSION -At -c "begin isolation level repeatable read" -c "set transaction snapshot '$SNAPSHOT'" -c "table t" -c "commit" -c "table t"
commit;
table t;
\! $SECOND_SESSION -At -c "begin isolation level repeatable read" -c "set transaction snapshot '$SNAPSHOT'" 2>&1 | sed 's/"[^"]*"/"..."/'
set default_transaction_isolation = 'repeatable read';
begin;
select count(*) from t;
\! $SECOND_SESSION -c "update t set a = 5 where a = 1"
update t set a = 6 where a = 1;
rollback;
set default_transaction_isolation = serializable;
begin;
select sum(a) from t;
\! $SECOND_SESSION -c "begin isolation level serializable" -c "select sum(a) from t" -c "insert into t values (7)" -c "commit"
insert into t values (8);
commit;
select txid_current_if_assigned() is null;
begin read only deferrable;
show transaction_deferrable;
show transaction_isolation;
commit;
reset default_transaction_isolation;
show transaction_isolation;
