-- What may leave something in the session of whoever uses it, without saying so:
-- '!name' a function or a relation, '!*' any command that changes the schema (an
-- event trigger), '%name' a setting of an application. First those that say it
-- themselves: the bodies of functions are searched for words, the expressions of
-- defaults, rules and views for the numbers of functions (pg_proc.dat). Then those
-- who use them, as far as it goes: callers by the words of their bodies, relations
-- by their triggers and expressions, and by the views, inheritance parents and
-- foreign keys that lead to them.
WITH RECURSIVE bodies AS MATERIALIZED (
    SELECT p.oid, p.proname::pg_catalog.text AS name,
        pg_catalog.lower(coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc)) AS body
    FROM pg_catalog.pg_proc p
    WHERE p.oid >= 16384
        AND p.prolang IN (SELECT oid FROM pg_catalog.pg_language WHERE lanname IN ('sql', 'plpgsql'))
), trees AS (
    SELECT adrelid AS relation, adbin::pg_catalog.text AS tree FROM pg_catalog.pg_attrdef
    UNION ALL
    SELECT ev_class, ev_action::pg_catalog.text FROM pg_catalog.pg_rewrite WHERE oid >= 16384
), direct AS (
    SELECT oid FROM bodies
    WHERE body ~ 'set|temp|advisory|execute|hold|listen|prepare|load|discard|deallocate' AND (
        body ~ E'\\m(set_config|set_limit|setseed|temp|temporary|pg_temp\\w*|hold|pg_(try_)?advisory_(un)?lock\\w*|execute)\\M'
        OR body ~ E'(^|;|\\m(begin|then|else|loop)\\M)\\s*(set|reset|discard|listen|unlisten|prepare|load|deallocate)\\M')
    UNION ALL
    SELECT relation FROM trees WHERE tree ~ E':funcid (2078|1599|288\\d|3089|309[012])\\M'
), names AS (
    -- Of a name with other characters the first word.
    SELECT pg_catalog.split_part(pg_catalog.ltrim(pg_catalog.regexp_replace(pg_catalog.lower(name), E'[^\\w$]', ' ', 'g')), ' ', 1) AS word,
        pg_catalog.array_agg(oid) AS oids
    FROM (
        SELECT oid, name FROM bodies
        UNION ALL
        SELECT oid, relname FROM pg_catalog.pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'f')
    ) named
    GROUP BY 1
), uses (used, by) AS MATERIALIZED (
    SELECT pg_catalog.unnest(n.oids), b.oid FROM bodies b
    CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.string_to_array(
        pg_catalog.translate(b.body, E'"''(),;:.=<>+-*/|%![]\t\r\n', '                       '), ' ')) word
    JOIN names n USING (word)
    UNION ALL
    SELECT d.refobjid, coalesce(t.tgrelid, a.adrelid, r.ev_class)
    FROM pg_catalog.pg_depend d
    LEFT JOIN pg_catalog.pg_trigger t ON d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND t.oid = d.objid
    LEFT JOIN pg_catalog.pg_attrdef a ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND a.oid = d.objid
    LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid
    WHERE d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass)
        AND d.classid IN ('pg_catalog.pg_trigger'::pg_catalog.regclass, 'pg_catalog.pg_attrdef'::pg_catalog.regclass,
            'pg_catalog.pg_rewrite'::pg_catalog.regclass)
    UNION ALL
    SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits
    UNION ALL
    SELECT conrelid, confrelid FROM pg_catalog.pg_constraint WHERE contype = 'f'
), suspects AS (
    SELECT oid FROM direct
    UNION
    SELECT u.by FROM suspects s JOIN uses u ON u.used = s.oid
), few AS MATERIALIZED (
    SELECT oid FROM suspects LIMIT 10001
), functions AS MATERIALIZED (
    SELECT oid, name, body FROM few JOIN bodies USING (oid)
)
SELECT '!' || name, NULL FROM functions
UNION ALL SELECT '!' || c.relname, NULL FROM few JOIN pg_catalog.pg_class c USING (oid)
UNION ALL SELECT '%' || m[1], NULL FROM functions, pg_catalog.regexp_matches(body, E'set_config\\s*\\(\\s*''([^'']+)''', 'g') m
UNION ALL SELECT '!*', NULL FROM functions f JOIN pg_catalog.pg_event_trigger e ON e.evtfoid = f.oid
