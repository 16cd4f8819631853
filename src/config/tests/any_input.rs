//! Whatever stands in a file: a configuration or mistakes, never a panic.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use proptest::prelude::*;

use crate::config::{Config, Inputs, Settings, Table};

fn load(file: &str, text: &str) {
    let read = |path: &Path| match path == Path::new(file) {
        true => Ok(text.to_owned()),
        false => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let loaded = Config::load(&Inputs {
        file: Some(Path::new(file)),
        databases: &[],
        env: &BTreeMap::new(),
        read: &read,
    });
    match loaded {
        Ok(config) => drop((config.to_toml(), config.pool("a", "b"), config.rows())),
        Err(error) => assert!(!error.0.is_empty()),
    }
}

/// Lines that are nearly right.
fn line() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = Settings::KEYS.iter().map(|key| key.name).collect();
    let word = prop_oneof![
        "[-+0-9xX.e]{0,12}",
        "['\"=a-z ,:@/%\\[\\]{}]{0,20}",
        Just("postgres://u:p@h/d?sslmode=x".to_owned()),
        "\\PC{0,10}",
    ];
    prop_oneof![
        Just("[pgbouncer]".to_owned()),
        Just("[databases]".to_owned()),
        Just("[pgweir]".to_owned()),
        Just("[databases.a]".to_owned()),
        Just("[users]".to_owned()),
        (prop::sample::select(keys), word.clone()).prop_map(|(k, v)| format!("{k} = {v}")),
        (word.clone(), word).prop_map(|(k, v)| format!("a = {k}={v}")),
        Just("%include p.ini".to_owned()),
    ]
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "\\PC*|(?s:.{0,200})") {
        load("p.ini", &text);
        load("p.toml", &text);
    }

    #[test]
    fn any_database_url_is_survived(url in "(postgres://)?[a-z@:/%,?=&0-9\\[\\]]{0,30}|\\PC*") {
        let _ = super::load_files(&[], &[format!("a={url}"), url], &[]);
    }

    #[test]
    fn any_environment_is_survived(
        key in prop::sample::select(Settings::KEYS.iter().map(|k| k.name).collect::<Vec<_>>()),
        value in "\\PC{0,20}",
    ) {
        let name = format!("PGWEIR_{}", key.to_ascii_uppercase());
        let _ = super::load_files(&[("p.ini", "")], &[], &[(&name, &value)]);
    }

    #[test]
    fn nearly_right_lines_are_survived(lines in prop::collection::vec(line(), 0..12)) {
        let text = lines.join("\n");
        load("p.ini", &text);
        load("p.toml", &text);
    }
}
