create table t (a int);
begin;
insert into t values (1);
savepoint a;
insert into t values (2);
savepoint b;
insert into t values (3);
rollback to a;
insert into t values (4);
savepoint b;
insert into t values (5);
release b;
release a;
commit;
select * from t order by 1;
begin;
savepoint a;
insert into t values ('x');
insert into t values (6);
rollback to savepoint a;
insert into t values (7);
rollback to missing;
rollback work to savepoint a;
release missing;
rollback;
select * from t order by 1;
savepoint outside;
release outside;
rollback to outside;
\set ON_ERROR_ROLLBACK on
begin;
insert into t values (8);
insert into t values ('bad');
insert into t values (9);
commit;
select * from t order by 1;
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT off
insert into t values (10);
rollback;
insert into t values (11);
commit;
\set AUTOCOMMIT on
select * from t order by 1;
