show client_encoding;
\encoding
set client_encoding = latin1;
\encoding
show client_encoding;
select length(convert_to('ü', 'utf8'));
select U&'\00fc' = 'x';
set client_encoding = 'utf8';
\encoding
\encoding latin2
show client_encoding;
begin;
set client_encoding = win1252;
\encoding
rollback;
\encoding
show client_encoding;
set names 'utf8';
\encoding
set client_encoding = sql_ascii;
select 'ascii only';
set client_encoding to default;
\encoding
set names;
show client_encoding;
reset client_encoding;
\encoding
select 'äöü€';
