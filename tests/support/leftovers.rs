//! What a session may leave on its server connection.

use std::collections::BTreeSet;

use super::{Address, Pooler, RawClient, patiently};

/// A function, so that nobody between client and server sees what is asked and
/// answers from what it knows. It names what can be seen from inside only. What a
/// library that was loaded has added, at its default, is nobody's.
const SESSION_STATE: &str = "\
create or replace function public.session_state(custom text[]) returns setof text
language plpgsql as $$
begin
  return query select 'setting ' || s.name || ' = ' || s.setting from pg_settings s
    where s.source <> 'default' or s.name not like '%.%';
  return query select 'setting ' || c || ' = ' || current_setting(c, true) from unnest(custom) c
    where current_setting(c, true) <> '';
  return query select 'statement ' || p.name from pg_prepared_statements p
    where p.name not like 'pgweir\\_%';
  return query select 'cursor ' || c.name from pg_cursors c where c.is_holdable;
  return query select 'channel ' || l from pg_listening_channels() l;
  return query select 'lock ' || l.classid || ' ' || l.objid || ' ' || l.mode from pg_locks l
    where l.locktype = 'advisory' and l.pid = pg_backend_pid();
  return query select 'temporary ' || c.relname from pg_class c
    where c.relnamespace = pg_my_temp_schema();
  return query select 'temporary function ' || f.proname from pg_proc f
    where f.pronamespace = pg_my_temp_schema();
  return query select 'temporary type ' || t.typname from pg_type t
    where t.typnamespace = pg_my_temp_schema();
  return query select 'user ' || current_user || ', session of ' || session_user;
  return next 'last value ' || lastval();
exception when object_not_in_prerequisite_state then
  return;
end $$";

/// Makes what [`session_state`] asks known to a database.
pub fn install(admin: &mut RawClient) {
    admin.query(SESSION_STATE);
    admin.query("grant execute on function public.session_state(text[]) to public");
}

/// All that the connection has which lives as long as it does. PostgreSQL does
/// not list settings of applications' own (`app.tenant`): name them. It does not
/// forget them either; what is left of one is empty.
#[track_caller]
pub fn session_state(client: &mut RawClient, custom: &[&str]) -> BTreeSet<String> {
    let sql = format!("select public.session_state('{{{}}}')", custom.join(","));
    let answer = client.try_query(&sql);
    let errors = answer.errors().into_iter();
    let errors = errors.map(|error| format!("error {}", error.message()));
    answer.column().into_iter().chain(errors).collect()
}

impl Pooler {
    /// What clients find on the server connections of the pool of `app` that a
    /// fresh connection has not (`+`), and what they miss (`-`). Nobody else may
    /// use the pool; all of its `size` connections are looked at.
    #[track_caller]
    pub fn leftovers(&self, database: &str, size: usize, custom: &[&str]) -> Vec<String> {
        let login = |address: &Address| RawClient::login(address, "app", database);
        let fresh = session_state(&mut login(&self.server_address()), custom);
        let mut clients: Vec<_> = (0..size).map(|_| login(&self.address)).collect();
        // Each keeps its connection until all have one.
        for client in &mut clients {
            client.try_query("begin");
        }
        let mut found = BTreeSet::new();
        for client in &mut clients {
            let seen = session_state(client, custom);
            found.extend(seen.difference(&fresh).map(|line| format!("+ {line}")));
            found.extend(fresh.difference(&seen).map(|line| format!("- {line}")));
        }
        for client in &mut clients {
            client.try_query("commit");
        }
        drop(clients);
        found.into_iter().collect()
    }

    /// What sessions of this database have left where it can be seen from
    /// outside, once those that have ended are gone.
    #[track_caller]
    pub fn left_in_database(&self, admin: &mut RawClient) -> Vec<String> {
        let sql = "select 'temporary ' || relname from pg_class c \
                   join pg_namespace n on n.oid = relnamespace where nspname like 'pg\\_temp\\_%' \
                   union all select 'lock ' || objid from pg_locks where locktype = 'advisory' \
                   and database = (select oid from pg_database where datname = current_database()) \
                   and pid is not null";
        let start = std::time::Instant::now();
        patiently("an end of what sessions leave", || {
            let left = admin.query(sql).column();
            // What is pinned to a client goes a moment after the client.
            let waited = start.elapsed() > std::time::Duration::from_secs(2);
            (left.is_empty() || waited).then_some(left)
        })
    }
}
