select setseed(0.5);
select random() as a, random() as b \gset
select setseed(0.5);
select random() = :a as same_a;
select random() = :b as same_b;
set seed = 0.25;
select random() as c \gset
set seed = 0.25;
select random() = :c as same_c;
show seed;
set seed = 3;
select setseed(2);
select setseed(0.1);
create table r as select i, random() as x from generate_series(1, 3) i;
select setseed(0.1);
select bool_and(x = y) from (select x, random() as y from (select x from r order by i) r) s;
