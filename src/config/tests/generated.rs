//! Files that come from the table. `UPDATE=1 cargo test config::` writes them.

use std::fs;
use std::path::Path;

use super::{ini, toml};
use crate::config::{Settings, Status, Table, json_schema, sample_ini, sample_toml};

fn is_current(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{file} is out of date: UPDATE=1 cargo test --lib config::"
    );
}

#[test]
fn generated_files_are_current() {
    let schema = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    is_current("docs/settings.md", &crate::config::settings_markdown());
    is_current("config/pgweir.toml", &sample_toml());
    is_current("config/pgbouncer.ini", &sample_ini());
    is_current("config/pgweir.schema.json", &schema);
}

/// The sample with all settings of the section `[name]` uncommented, and how
/// many these are.
fn uncommented(sample: &str, comment: char, name: &str) -> (String, usize) {
    let (before, settings) = sample.split_once(&format!("[{name}]\n")).unwrap();
    let mut text = format!("{before}[{name}]\n");
    let mut count = 0;
    for line in settings.lines() {
        let Some(setting) = line.strip_prefix(comment) else {
            continue;
        };
        if setting.starts_with(|c: char| c.is_ascii_lowercase()) {
            text += setting;
            text += "\n";
            count += 1;
        }
    }
    (text, count)
}

#[test]
fn samples_work_as_they_are_and_uncommented() {
    for (text, comment, name) in [
        (sample_toml(), '#', "pgweir"),
        (sample_ini(), ';', "pgbouncer"),
    ] {
        let read = if comment == '#' { toml } else { ini };
        let config = read(&text);
        assert_eq!(config.notices, [""; 0]);
        assert_eq!(config.general.listen_addr, ["127.0.0.1"]);
        assert!(config.pool("app", "app").is_some());

        let (all, count) = uncommented(&text, comment, name);
        let built = Settings::KEYS.iter().filter(|k| k.status == Status::Built);
        assert_eq!(count, built.count());
        // An ini without auth_file is one where nobody can log in.
        let text = all.replace("auth_file =\n", "auth_file = u\n");
        let mut general = read(&text).general;
        general.auth_file = None;
        assert_eq!(general, Settings::default());
    }
}

#[test]
fn the_schema_knows_every_built_key() {
    let schema = json_schema();
    let known = &schema["properties"]["pgweir"]["properties"];
    for key in Settings::KEYS {
        let built = key.status == Status::Built;
        assert_eq!(known[key.name].is_object(), built, "{}", key.name);
    }
    assert_eq!(known["listen_port"]["default"], 6432);
    assert_eq!(known["server_lifetime"]["default"], "1h");
    let database = &schema["properties"]["databases"]["additionalProperties"];
    assert_eq!(database["properties"]["pool_size"]["type"], "integer");
}
