//! What PostgreSQL brings along, and which of it a read may use.
//!
//! `postgresql.txt` holds the facts, written by `scripts/postgresql-facts.sh`:
//! functions and operators with their volatility, types, relations with the
//! functions they reach, reserved words. What the facts mean is said here.

use std::collections::HashSet;

use super::catalog::{Object, Standing};

const FACTS: &str = include_str!("postgresql.txt");

/// Volatile functions that write nothing and do the same on any server.
const HARMLESS: &[&str] = &[
    "array_sample",
    "array_shuffle",
    "clock_timestamp",
    "current_query",
    "gen_random_uuid",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "random",
    "random_normal",
    "timeofday",
    "uuidv4",
    "uuidv7",
];

/// Called stable or immutable, but no read for a replica.
const WRITES: &[&str] = &[
    // They assign a transaction id.
    "pg_current_xact_id",
    "txid_current",
    // They run a query over relations that the text does not show.
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    // They call the input function of a type that the text does not show.
    "array_in",
    "domain_in",
    "multirange_in",
    "pg_input_error_info",
    "pg_input_is_valid",
    "range_in",
    "record_in",
];

/// What they tell or do is the session's.
const SESSION: &[&str] = &[
    "currval",
    "lastval",
    "pg_backend_pid",
    "pg_cursor",
    "pg_export_snapshot",
    "pg_listening_channels",
    "pg_prepared_statement",
    "set_config",
    "setseed",
];

/// What they tell is the server's. A driver that asks `pg_is_in_recovery()`
/// wants to know whether it may write, which through pgweir it may.
const LOCAL: &[&str] = &[
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "pg_conf_load_time",
    "pg_config",
    "pg_get_replication_slots",
    "pg_is_in_recovery",
    "pg_postmaster_start_time",
    "pg_show_all_settings",
    "pg_tablespace_location",
];

/// Words that stand before a parenthesis without being the name of a function,
/// besides the reserved ones. Where such a word can be such a name too, the
/// catalog's functions of that name count.
const CALLS: &str = "bernoulli between bit by char character coalesce content cube dec decimal document exists \
    extract filter first float greatest grouping groups ilike interval join json json_array json_arrayagg \
    json_exists json_object json_objectagg json_query json_scalar json_serialize json_value least like nchar next \
    normalize nullif numeric operator over overlaps overlay position precision range repeatable rollup row rows \
    second sets similar substring system time timestamp trim values varchar varying xmlattributes xmlconcat \
    xmlelement xmlexists xmlforest xmlparse xmlpi xmlroot xmlserialize zone";

/// The same before a string; and the first words of types that `pg_type` has
/// under another name.
const TYPES: &str = "between bigint boolean by character content dec decimal document double escape float ilike \
    int integer like national nchar precision real ref similar smallint uescape value varying zone";

/// Each object of PostgreSQL's own: schema (none for words), name, standing.
pub(super) fn objects(mut found: impl FnMut(Object, Option<&str>, &str, Standing)) {
    let system = Some("pg_catalog");
    // Functions come before the relations that reach them.
    let mut volatile = HashSet::new();
    for line in FACTS.lines() {
        let mut fields = line.split(' ');
        let (kind, name) = (fields.next(), fields.next().unwrap_or_default());
        match kind {
            Some("f") => {
                if fields.next() == Some("v") {
                    volatile.insert(name);
                }
                let standing = function(name, volatile.contains(name));
                found(Object::Function, system, name, standing);
            }
            Some("o") => {
                let volatile = fields.next() == Some("v");
                let standing = if volatile {
                    Standing::Volatile
                } else {
                    Standing::Safe
                };
                found(Object::Operator, system, name, standing);
            }
            Some("t") => found(Object::Type, system, name, Standing::Safe),
            Some("r") => {
                let (schema, name) = name.split_once('.').unwrap_or_default();
                let reached = fields.map(|name| match function(name, volatile.contains(name)) {
                    Standing::Setting => Standing::Local,
                    standing => standing,
                });
                let standing = reached.max().unwrap_or(Standing::Safe);
                found(Object::Relation, Some(schema), name, standing);
            }
            _ => {
                found(Object::Function, None, name, Standing::Syntax);
                found(Object::Type, None, name, Standing::Syntax);
            }
        }
    }
    for (object, words) in [(Object::Function, CALLS), (Object::Type, TYPES)] {
        for word in words.split_whitespace() {
            found(object, None, word, Standing::Syntax);
        }
    }
}

fn function(name: &str, volatile: bool) -> Standing {
    let advisory = name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_");
    if advisory || SESSION.contains(&name) {
        Standing::Session
    } else if WRITES.contains(&name) {
        Standing::Volatile
    } else if LOCAL.contains(&name) || name.starts_with("pg_stat_get_") {
        Standing::Local
    } else if name == "current_setting" {
        Standing::Setting
    } else if volatile && !HARMLESS.contains(&name) {
        Standing::Volatile
    } else {
        Standing::Safe
    }
}

/// Whether any PostgreSQL calls its function volatile.
pub(super) fn is_volatile(name: &str) -> bool {
    let facts = FACTS.lines();
    let mut functions = facts.filter_map(|line| line.strip_prefix("f ")?.strip_suffix(" v"));
    functions.any(|volatile| volatile == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_name_what_there_is() {
        let known = |name: &str| FACTS.lines().any(|l| l.starts_with(&format!("f {name} ")));
        for name in [HARMLESS, WRITES, SESSION, LOCAL].concat() {
            assert!(known(name), "{name}");
        }
        assert!(HARMLESS.iter().all(|name| is_volatile(name)));
    }
}
