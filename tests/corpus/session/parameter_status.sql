-- What psql learns from ParameterStatus.
\echo :ENCODING
set client_encoding = latin1;
\encoding
set standard_conforming_strings = off;
select 'a\\b';
set escape_string_warning = off;
select 'a\\b';
begin;
set standard_conforming_strings = on;
select 'a\\b';
rollback;
select 'a\\b';
reset standard_conforming_strings;
select 'a\\b';
select E'a\\b', 'a\b';
set backslash_quote = off;
select E'it\'s';
reset backslash_quote;
select E'it\'s';
