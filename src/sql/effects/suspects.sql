-- What may leave something in the session of whoever uses it, without saying so:
-- '!name' a function or a relation, '!*' any command that changes the schema (an
-- event trigger), '%name' a setting of an application. Bodies are searched by
-- their words; the numbers are those of pg_proc.dat.
WITH RECURSIVE bodies AS MATERIALIZED (
    SELECT p.oid, p.proname,
        pg_catalog.lower(coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc)) AS body
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE l.lanname IN ('sql', 'plpgsql')
        AND p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace
        AND p.pronamespace <> 'information_schema'::pg_catalog.regnamespace
), direct AS (
    SELECT oid, proname, body FROM bodies
    WHERE body ~ '\m(set_config|setseed|temp|temporary|pg_temp\w*|hold|pg_(try_)?advisory_(un)?lock\w*|execute)\M'
        OR body ~ '(^|;|\m(begin|then|else|loop)\M)\s*(set|reset|discard|listen|unlisten|prepare|load|deallocate)\M'
), suspects AS (
    SELECT oid, proname, body FROM direct
    UNION
    SELECT b.oid, b.proname, b.body FROM bodies b
    JOIN suspects s ON b.oid <> s.oid AND pg_catalog.strpos(b.body, pg_catalog.lower(s.proname)) > 0
), relations AS (
    SELECT t.tgrelid AS oid FROM pg_catalog.pg_trigger t JOIN suspects s ON s.oid = t.tgfoid
    UNION
    SELECT a.adrelid FROM pg_catalog.pg_attrdef a
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = a.oid
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    JOIN suspects s ON s.oid = d.refobjid
    UNION
    SELECT a.adrelid FROM pg_catalog.pg_attrdef a
    WHERE a.adbin::pg_catalog.text ~ ':funcid (2078|1599|2880|2881|2882|2883|2884|2885|2886|2887|2888|2889|3089|3090|3091|3092)\M'
    UNION
    SELECT r.ev_class FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
    JOIN suspects s ON d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND s.oid = d.refobjid
    UNION
    SELECT r.ev_class FROM pg_catalog.pg_rewrite r
    WHERE r.oid >= 16384 AND r.ev_action::pg_catalog.text ~ ':funcid (2078|1599|2880|2881|2882|2883|2884|2885|2886|2887|2888|2889|3089|3090|3091|3092)\M'
    UNION
    SELECT r.ev_class FROM relations v
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = v.oid
    JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
)
SELECT '!' || pg_catalog.lower(proname), NULL FROM suspects
UNION SELECT '!' || pg_catalog.lower(c.relname), NULL FROM relations r JOIN pg_catalog.pg_class c ON c.oid = r.oid
UNION SELECT '%' || m[1], NULL FROM suspects, pg_catalog.regexp_matches(body, 'set_config\s*\(\s*''([^'']+)''', 'g') m
UNION SELECT '!*', NULL FROM pg_catalog.pg_event_trigger e JOIN suspects s ON s.oid = e.evtfoid
