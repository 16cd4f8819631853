//! What the table says, for people and tools: docs/settings.md, the JSON schema
//! and the samples.

use serde_json::{Map, Value as Json, json};

use super::key::{Key, Status, Table};
use super::objects::{DatabaseConfig, HostEntry, PeerConfig, UserConfig};
use super::settings::Settings;

const INTRODUCTION: &str = "\
# Settings

This page is made from the table of settings (`pgweir config docs`).

pgweir reads its own `pgweir.toml`, or a `pgbouncer.ini` as it is. Names are the same in both.

| | `pgweir.toml` | `pgbouncer.ini` |
|---|---|---|
| global settings | `[pgweir]` | `[pgbouncer]` |
| a database | `[databases.NAME]` | a line in `[databases]` |
| a user | `[users.NAME]` | a line in `[users]` |
| times | `\"30s\"`, `\"5m\"`, `\"1h 30m\"`, or seconds | seconds |
| booleans | `true`, `false` | `1`, `0` |
| lists | `[\"a\", \"b\"]` or `\"a, b\"` | `a, b` |
| comments | `#`, anywhere | `;` or `#`, at the start of a line only |

- What a user's section says goes before what the database's says, and that before the global setting. The user is the one that logs in to the server: the database's `user` where it has one.
- The database `*` is for every name that is not listed.
- `PGWEIR_<SETTING>` in the environment overrides a global setting of the file: `PGWEIR_LISTEN_PORT=6000`, `PGWEIR_SERVER_LIFETIME=30m`.
- `pgweir run --database NAME=postgres://user:password@host/dbname` adds a database, or replaces the file's. Without any file it listens on 127.0.0.1 and the Unix socket, and clients log in with the URL's user and password (`auth_type=scram-sha-256`). If a URL has no password nobody is asked for one (`auth_type=any`): whoever can reach it works as the URL's user, and it refuses to listen anywhere else then.
- The `user` and `password` of a database are for the server. Clients log in as the users of `[users.NAME]` and `auth_file`.
- All mistakes in a file are reported at once, each with its line; nothing starts, and a reload changes nothing, until there are none. `pgweir check FILE` does only that.
- *Reload* says whether RELOAD or SIGHUP applies a new value; where it does not, the old one is kept, and a warning says so.
- A setting of PgBouncer that is not built yet is refused in TOML. In an ini it has no effect, and one line at start says so if it is set to something else than PgBouncer's default. It is refused there too where ignoring it would open a door: `auth_type` `ldap` and `pam` in a pgweir built without these features.
";

/// The text of docs/settings.md.
pub fn settings_markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    text += "\n## Global settings\n";
    text += &tables::<Settings>();
    text += "\n## Settings of a database\n";
    text += &tables::<DatabaseConfig>();
    text += "\n## Settings of one of the `hosts`\n";
    text += &tables::<HostEntry>();
    text += "\n## Settings of a user\n";
    text += &tables::<UserConfig>();
    text += "\n## Settings of a peer\n";
    text += &tables::<PeerConfig>();
    text += "\n## Known, but not built yet\n\n| setting | of | default | |\n|---|---|---|---|\n";
    text += &rest::<Settings>("global", Status::NotBuilt);
    text += &rest::<DatabaseConfig>("database", Status::NotBuilt);
    text += &rest::<UserConfig>("user", Status::NotBuilt);
    text += "\n## Without meaning in pgweir\n\nRead over in an ini, refused in TOML.\n\n";
    text += "| setting | of | default | |\n|---|---|---|---|\n";
    text += &rest::<Settings>("global", Status::Obsolete);
    text
}

/// JSON schema of pgweir.toml, for editors.
pub fn json_schema() -> Json {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "pgweir.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "pgweir": object_schema::<Settings>(),
            "databases": {
                "type": "object",
                "additionalProperties": object_schema::<DatabaseConfig>(),
            },
            "users": {
                "type": "object",
                "additionalProperties": object_schema::<UserConfig>(),
            },
            "peers": {
                "type": "object",
                "additionalProperties": object_schema::<PeerConfig>(),
            },
        },
    })
}

/// A commented pgweir.toml that works as it is.
pub fn sample_toml() -> String {
    let mut text = "\
# pgweir.toml: every setting with its default. `pgweir check` tests a file.

[databases.app]
host = \"127.0.0.1\"
# The server's port, and its name for the database if it is another one:
# port = 5432
# dbname = \"app\"
# Several servers:
# hosts = [{ host = \"db1\" }, { host = \"db2\", port = 5433 }]
# Or all in one, instead of host, port, dbname, user and password:
# url = \"postgres://app:secret@127.0.0.1/app\"

# The fallback for names that are not listed:
# [databases.\"*\"]
# host = \"127.0.0.1\"

[users.app]
# A password, an md5 hash, or a SCRAM verifier as in pg_authid:
password = \"change me\"
"
    .to_owned();
    text += &object_keys::<DatabaseConfig>("# Settings of a database:", "#");
    text += &object_keys::<UserConfig>("# Settings of a user:", "#");
    text += "\n# Processes that share a port: the same in all, each with its own peer_id.\n";
    text += "# [peers.1]\n# host = \"/run/pgweir1\"\n";
    text += &object_keys::<PeerConfig>("# Settings of a peer:", "#");
    text += "\n[pgweir]\nlisten_addr = \"127.0.0.1\"\npool_mode = \"transaction\"\n";
    text += &sample_keys("#", |key| (key.toml)(&Settings::default()), "\"\"");
    text
}

/// A commented pgbouncer.ini that works as it is.
pub fn sample_ini() -> String {
    let mut text = "\
; pgbouncer.ini: every setting that pgweir has built, with its default.
; `pgweir check` tests a file.

[databases]
app = host=127.0.0.1
; Another name and user on the server, several servers, a password:
;reports = host=db1,db2 port=5432 dbname=app user=reader password='it''s secret' pool_size=5
; The fallback for names that are not listed:
;* = host=127.0.0.1

[users]
;reader = pool_mode=session max_user_connections=10
"
    .to_owned();
    text += &object_keys::<DatabaseConfig>("; Settings of a database:", ";");
    text += &object_keys::<UserConfig>("; Settings of a user:", ";");
    text +=
        "\n[peers]\n; Processes that share a port: the same in all, each with its own peer_id.\n";
    text += ";1 = host=/run/pgweir1\n";
    text += &object_keys::<PeerConfig>("; Settings of a peer:", ";");
    text += "\n[pgbouncer]\nlisten_addr = 127.0.0.1\nauth_file = userlist.txt\n";
    text += &sample_keys(";", |key| (key.get)(&Settings::default()), "");
    text
}

fn built<T: Table>() -> impl Iterator<Item = &'static Key<T>> {
    T::KEYS.iter().filter(|key| key.status == Status::Built)
}

/// A table for each heading.
fn tables<T: Table>() -> String {
    let mut text = String::new();
    let mut heading = "";
    for key in built::<T>() {
        if key.heading != heading {
            heading = key.heading;
            text += &format!("\n### {heading}\n\n| setting | type | default | reload | |\n");
            text += "|---|---|---|---|---|\n";
        }
        let reload = if key.reloadable { "yes" } else { "no" };
        let (name, kind, doc) = (key.name, kind(key), key.doc);
        let default = default_text(key);
        text += &format!("| `{name}` | {kind} | {default} | {reload} | {doc} |\n");
    }
    text
}

/// The type, or the words that a setting can be.
fn kind<T: Table>(key: &Key<T>) -> String {
    let schema = (key.schema)();
    match schema.get("enum").and_then(Json::as_array) {
        Some(words) => {
            let words = words.iter().filter_map(Json::as_str);
            words
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(" ")
        }
        None => key.kind.to_owned(),
    }
}

fn rest<T: Table>(of: &str, status: Status) -> String {
    let keys = T::KEYS.iter().filter(|key| key.status == status);
    keys.map(|key| {
        let (name, doc, default) = (key.name, key.doc, default_text(key));
        format!("| `{name}` | {of} | {default} | {doc} |\n")
    })
    .collect()
}

fn default_text<T: Table>(key: &Key<T>) -> String {
    match (key.toml)(&T::default()) {
        Some(text) => format!("`{text}`"),
        None => "unset".to_owned(),
    }
}

/// JSON schema of a table in the file.
pub(super) fn object_schema<T: Table>() -> Json {
    let mut properties = Map::new();
    for key in built::<T>() {
        let mut schema = (key.schema)();
        schema["description"] = json!(key.doc);
        if let Some(text) = (key.toml)(&T::default())
            && let Ok(value) = toml::from_str::<toml::Table>(&format!("default = {text}"))
        {
            schema["default"] = json!(value.get("default"));
        }
        properties.insert(key.name.to_owned(), schema);
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

/// A comment that names the keys of a section.
fn object_keys<T: Table>(title: &str, comment: &str) -> String {
    let mut text = format!("\n{title}\n");
    for key in built::<T>() {
        text += &format!("{comment}   {}: {}\n", key.name, key.doc);
    }
    text
}

/// Every built global setting as a comment, under its heading.
fn sample_keys(
    comment: &str,
    value: impl Fn(&Key<Settings>) -> Option<String>,
    unset: &str,
) -> String {
    let mut text = String::new();
    let mut heading = "";
    for key in built::<Settings>() {
        if key.heading != heading {
            heading = key.heading;
            text += &format!("\n{comment}{comment} {heading}\n");
        }
        let value = value(key).unwrap_or_else(|| unset.to_owned());
        let line = format!("{} = {value}", key.name);
        text += &format!("\n{comment} {}\n{comment}{}\n", key.doc, line.trim_end());
    }
    text
}
