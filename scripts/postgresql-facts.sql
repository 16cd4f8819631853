-- What PostgreSQL brings along: functions and operators with their volatility,
-- types, relations (views with the functions that they reach), reserved words.
-- Printed by scripts/postgresql-facts.sh.
with recursive
fn as (
    -- An aggregate is always called immutable: its support functions count.
    select p.oid, p.proname as name,
        case p.prokind when 'a' then (
            select max(strpos('isv', s.provolatile::text)) from pg_proc s
            where s.oid in (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
                a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn))
        else strpos('isv', p.provolatile::text) end as level
    from pg_proc p left join pg_aggregate a on a.aggfnoid = p.oid
    where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind <> 'p'
    -- These cannot be called from SQL.
    and not 'internal'::regtype = any (p.proargtypes)
    and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
),
rel as (
    select c.oid, n.nspname || '.' || c.relname as name, c.relkind
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('pg_catalog', 'information_schema') and c.relkind in ('r', 'v')
),
rule as (
    select r.ev_class as oid, r.ev_action::text as tree
    from pg_rewrite r join rel on rel.oid = r.ev_class where r.rulename = '_RETURN'
),
reads as (
    select distinct rule.oid, m[1]::oid as target from rule, regexp_matches(tree, ':relid (\d+)', 'g') m
),
calls as (
    select rule.oid, m[1]::oid as target
    from rule, regexp_matches(tree, ':(?:funcid|aggfnoid|winfnoid) (\d+)', 'g') m
    union
    select rule.oid, o.oprcode::oid
    from rule, regexp_matches(tree, ':opno (\d+)', 'g') m join pg_operator o on o.oid = m[1]::oid
),
reach as (
    select oid as top, oid from rel
    union
    select reach.top, reads.target from reach join reads using (oid)
)
select 'f', name, substr('isv', max(level), 1) from fn group by name
union all
select 'o', o.oprname, substr('isv', max(level), 1) from pg_operator o join fn on fn.oid = o.oprcode group by o.oprname
union all
select 't', typname, '' from pg_type where typnamespace = 'pg_catalog'::regnamespace
union all
select 'r', rel.name, coalesce(string_agg(distinct fn.name, ','), '')
from rel join reach on reach.top = rel.oid
left join calls on calls.oid = reach.oid left join fn on fn.oid = calls.target group by rel.name
union all
select 'k', word, '' from pg_get_keywords() where catcode = 'R';
