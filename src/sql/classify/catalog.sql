-- Everything of the database that a query may use by name, or behind its back.
-- Objects at or above 16384 are not PostgreSQL's own. A definition is a query
-- that is a read only if whatever the object reaches is harmless.
with
support as (
    -- The functions that run when a function is called.
    select oid, oid as runs from pg_proc where prokind <> 'a'
    union all
    select aggfnoid, unnest(array[aggtransfn, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn,
        aggmtransfn, aggminvtransfn, aggmfinalfn]) from pg_aggregate
),
volatile as (
    select distinct s.oid from support s join pg_proc p on p.oid = s.runs
    where p.provolatile = 'v' and (p.oid >= 16384 or p.pronamespace <> 'pg_catalog'::regnamespace)
),
implied as (
    -- Functions that run without being named, and the types that make them run.
    select array[t.oid] as types, f.f from pg_type t,
        unnest(array[typinput, typoutput, typreceive, typsend, typmodin, typmodout]) f(f)
    union all
    select array[castsource, casttarget], castfunc from pg_cast
    union all
    select array[amproclefttype, amprocrighttype], amproc from pg_amproc
    union all
    select array[rngtypid], unnest(array[rngcanonical, rngsubdiff]) from pg_range
    union all
    -- What LIKE, SIMILAR TO, IN, DISTINCT, GROUP BY, ORDER BY and CASE stand for.
    select array[oprleft, oprright], oprcode from pg_operator
    where oprname in ('=', '<>', '<', '>', '<=', '>=', '~~', '!~~', '~~*', '!~~*', '~', '!~')
    or exists (select from pg_amop where amopopr = pg_operator.oid)
),
hazard as (
    select types, f from implied join volatile v on v.oid = implied.f
),
own_type as (
    select oid, format_type(oid, null) as text from pg_type
    where oid >= 16384 or typnamespace <> 'pg_catalog'::regnamespace
),
parts as (
    -- The types that a type is made of.
    select t.oid, u.part from pg_type t,
        unnest(array[nullif(t.typelem, 0), nullif(t.typbasetype, 0)]) u(part)
    union all
    select rngtypid, rngsubtype from pg_range
    union all
    select rngmultitypid, rngtypid from pg_range
    union all
    select c.reltype, a.atttypid from pg_class c join pg_attribute a on a.attrelid = c.oid
    where a.attnum > 0 and not a.attisdropped
),
part as (
    select parts.oid, string_agg(distinct 'null::' || own_type.text, ', ') as text
    from parts join own_type on own_type.oid = parts.part group by parts.oid
),
signature as (
    select p.oid, string_agg(distinct 'null::' || own_type.text, ', ') as text
    from pg_proc p, unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]) || p.prorettype) a(type)
    join own_type on own_type.oid = a.type group by p.oid
)
select 'f' as object, n.nspname as schema, p.proname as name,
    case when v.oid is null then p.provolatile::text else 'v' end as standing,
    'select ' || s.text as definition
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
left join volatile v on v.oid = p.oid left join signature s on s.oid = p.oid
where p.prokind <> 'p' and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
and (p.oid >= 16384 or n.nspname <> 'pg_catalog' or p.provolatile = 'v')
union all
-- Arguments that are left out.
select 'f', n.nspname, p.proname, 'i', 'select ' || pg_get_expr(p.proargdefaults, 0)
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where p.proargdefaults is not null and p.prokind <> 'p' and p.oid >= 16384
union all
-- The planner may put the commutator or the negator in an operator's place.
select 'o', n.nspname, o.oprname, case when exists (
    select from pg_operator i join volatile v on v.oid = i.oprcode where i.oid in (o.oid, o.oprcom, o.oprnegate)
) then 'v' else 'i' end, 'select ' || s.text
from pg_operator o join pg_namespace n on n.oid = o.oprnamespace left join signature s on s.oid = o.oprcode
where o.oid >= 16384 or n.nspname <> 'pg_catalog'
union all
select 't', n.nspname, t.typname, 'i', 'select ' || part.text
from pg_type t join own_type on own_type.oid = t.oid join pg_namespace n on n.oid = t.typnamespace
left join part on part.oid = t.oid
union all
select 't', n.nspname, t.typname, 'v', null
from hazard join own_type on own_type.oid = any (types) join pg_type t on t.oid = own_type.oid
join pg_namespace n on n.oid = t.typnamespace
union all
-- Values of a type of one's own come only from where it is named, unless it has implicit casts and operators.
select 'i', '', f::regprocedure::text, 'v', null
from hazard where not exists (select from own_type where own_type.oid = any (types)) or exists (
    select from pg_cast join own_type on own_type.oid = casttarget
    join pg_operator on casttarget in (oprleft, oprright)
    where casttarget = any (types) and castcontext = 'i'
)
union all
select 't', n.nspname, t.typname, 'i', 'select ' || pg_get_expr(c.conbin, 0)
from pg_constraint c join pg_type t on t.oid = c.contypid join pg_namespace n on n.oid = t.typnamespace
where c.conbin is not null
union all
select 'r', n.nspname, c.relname,
    case when c.relkind = 'f' then 'v' when c.relkind = 'S' or c.relpersistence <> 'p' then 'l' else 'i' end,
    'select ' || part.text
from pg_class c join pg_namespace n on n.oid = c.relnamespace left join part on part.oid = c.reltype
where c.relkind in ('r', 'p', 'm', 'v', 'f', 'S') and (c.oid >= 16384 or n.nspname <> 'pg_catalog')
union all
select 'r', n.nspname, c.relname, 'i', pg_get_viewdef(c.oid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
-- Those of other sessions may vanish meanwhile.
where c.relkind = 'v' and c.oid >= 16384 and c.relpersistence <> 't'
union all
select 'r', n.nspname, c.relname, 'i', 'table ' || i.inhrelid::regclass::text
from pg_inherits i join pg_class c on c.oid = i.inhparent join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'f') and c.relpersistence <> 't'
union all
select 'r', n.nspname, c.relname, 'i', 'select ' || pg_get_expr(p.polqual, p.polrelid)
from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
where c.relrowsecurity and c.relpersistence <> 't' and p.polcmd in ('r', '*') and p.polqual is not null
