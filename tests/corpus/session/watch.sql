-- needs psql 17
create sequence s;
select nextval('s') \watch i=0.01 c=2 m=0
select nextval('s') > 0;
