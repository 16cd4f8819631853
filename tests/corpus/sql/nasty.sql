select 1
-- ~
SELECT a.b, "C""d" FROM s."T" AS x WHERE x.y <> 'it''s' AND z >= 1.5e-3 OR q != .5
-- ~
select 'a'
 'b'   
 -- comment between
	'c' 'd'
-- ~
select 'a' /* no continuation over this */
'b'
-- ~
select 'a' -- no newline before the quote, but one after the comment
'b', e'a\''
'b\'', 'a' - 'b', 'a'
- 'b', 'a'
-- c
-'b'
-- ~
select e'\\', E'\'', e'\'''', e'a\
b', e'\n\x41\101\u0041\U00000041', 'back\slash', '\'
-- ~
select e'\
-- ~
select e'\'
-- ~
select B'10''11', b'', X'1F''2', x'zz', N'nchar', n'a''b', B'1'
 '0', X'A'
'B'
-- ~
select U&'d\0061t\+000061', u&'d!0061' UESCAPE '!', U&"d\0061t" uescape '!', U&"a""b", u&x, U &'x', U& 'x', u&'a'
'b'
-- ~
select U&"unterminated
-- ~
select u&'unterminated
-- ~
select $$dollar$$, $a$ $$ $b$ $a$, $a$ $aa$a$, $é_1$ ' " $é_1$, $A$ $a$ $A$, $a$$b$$a$, $$ $ $a $$, $_$;$_$
-- ~
select $a$ not ended $b$ $A$
-- ~
select a$b$c$d, $1$$x$$, $x y, $ , $-, $$
-- ~
select "unterminated
-- ~
select 'unterminated
-- ~
select 'a'
'unterminated
-- ~
/* a /* nested */ b */ select /**/ 1 /***/ /* * / */ /*/ */ - /* -- */ 1 -- /*
+ 1 */ 2
-- ~
/* /* never closed */
-- ~
/*/*/ */ */ x
-- ~
select 1/*x*/+2, 3+/*x*/4, 5*/*x*/6, 7-- eight
+9, 10+-- eleven
12, 13@-/*x*/14, 15@/*-*/-16, a<--b
-1, a/-/*/**/*/b
-- ~
select a=-1, a=+1, a@-1, a<>-1, a>=-1, a=>-1, a!=-1, a!-1, a%-1, a^-1, a*-+-+-1, +-+-+-1, --
<=>, =>=, ~~*, !~~*, ->>, #>>, @>, <@, ?|, ?&, ||/, |/, !!, <->, <=-, >=+, -|-, *=, `a`, a**b, +*+, -*-*, %-+
-- ~
select a::int, b::"char"[], c:=1, d=>2, e:::f, g::=h, i:=>j, arr[1:2], arr[1::2], x..y, z...w
-- ~
select 0, 00, 1_000, 1_0_0, 0x1F, 0X_1f, 0o17, 0O_1_7, 0b101, 0B_1, 1., 1.5, .5, .5_0, 1_0.0_1, 1e5, 1E+5, 1e-5_0, 1.e5, .5e5, 1..2, 1_0..2, 1...2, 1.5..2, .5.5, 1.2.3, 0x1F.5, 0x1e+5, 1e5.5, 1e5..2, 99999999999999999999, 2147483648, 1$, 1e+5$
-- ~
select 1a
-- ~
select 1_
-- ~
select 1__0
-- ~
select 0x
-- ~
select 0x_
-- ~
select 0xg
-- ~
select 0x1g
-- ~
select 0x1$
-- ~
select 0x1_
-- ~
select 0b12
-- ~
select 0o8
-- ~
select 0b
-- ~
select 1e
-- ~
select 1e+
-- ~
select 1e_5
-- ~
select 1e5x
-- ~
select 1e5$
-- ~
select 1.5e5$
-- ~
select 1_0$
-- ~
select 1.5_0$
-- ~
select 1e+5_0$
-- ~
select 1_0.5$, 1_0.$, 1_0$$ $$
-- ~
select 1e+5x
-- ~
select 1.a
-- ~
select 1._5
-- ~
select .5é
-- ~
select 1e'x'
-- ~
select 1u&'x'
-- ~
select $1, $23, $1+$2, $1.x, $1::int, $1'a', $1$2
-- ~
select $1a
-- ~
select $1_0
-- ~
select é, Éa, ñ$1, "é""ñ", 'é', 日本語 AS "日本", $日本$'$日本$, e'日\'本', /* 日 */ 1 -- 本
-- ~
select \ { } 
-- ~
create function f(a int default case when true then 1 else 2 end) returns int language sql begin atomic select 1; select 2; end; select 3
-- ~
insert into t (a, b) values ($1, $2), (DEFAULT, e'x') on conflict (a) do update set b = excluded.b returning *;
-- ~
