//! Rules that say for single statements where they may run.

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::choice::Reads;
use super::key::{Table, table};
use super::objects::entry;
use super::reference::object_schema;
use super::value::{Value, unlike};
use crate::sql::{Dialect, digest};

table! {
    /// One rule in `rules`; all that it names must fit.
    pub struct RuleEntry {
        "Rule": {
            user: Option<String> = None, reload, built,
                "Statements of this user: the one that logs in to the server.";
            table: Option<String> = None, reload, built,
                "Statements that read this table by its own name; with its schema, only those that give the schema.";
            text: Option<String> = None, reload, built,
                "Statements of this text, but for constants, parameters, case, blanks and comments; a star at the end stands for anything.";
            role: Option<Reads> = None, reload, built,
                "Where they may run.";
        }
    }
}

const HELP: &str = "write [[databases.NAME.rules]]";

impl Value for Vec<RuleEntry> {
    const TYPE: &'static str = "list of rules";

    fn from_ini(_: &str) -> Result<Self, String> {
        Err("an ini cannot hold rules, a pgweir.toml can".to_owned())
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| unlike(value, HELP))?;
        items.iter().map(|item| rule(item.get_ref())).collect()
    }

    fn to_ini(&self) -> Option<String> {
        Some(
            self.iter()
                .map(RuleEntry::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        )
    }

    fn to_toml(&self) -> Option<String> {
        let texts: Vec<String> = self
            .iter()
            .map(|rule| {
                let keys = RuleEntry::KEYS.iter();
                let set =
                    keys.filter_map(|key| Some(format!("{} = {}", key.name, (key.toml)(rule)?)));
                format!("{{ {} }}", set.collect::<Vec<_>>().join(", "))
            })
            .collect();
        Some(format!("[{}]", texts.join(", ")))
    }

    fn schema() -> Json {
        let mut rule = object_schema::<RuleEntry>();
        rule["required"] = json!(["role"]);
        json!({ "type": "array", "items": rule })
    }
}

/// `user=app table=orders role=primary`
impl std::fmt::Display for RuleEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = |key: &super::Key<Self>| Some(format!("{}={}", key.name, (key.get)(self)?));
        let keys: Vec<String> = Self::KEYS.iter().filter_map(set).collect();
        f.write_str(&keys.join(" "))
    }
}

fn rule(value: &DeValue<'_>) -> Result<RuleEntry, String> {
    let rule: RuleEntry = entry(value, "rule", HELP)?;
    if rule.role.is_none() {
        return Err("a rule without `role`".to_owned());
    }
    if let Some(text) = &rule.text
        && digest::normalised(text.as_bytes(), Dialect::default()).is_none()
    {
        return Err(format!("`text`: `{text}` cannot be read to its end"));
    }
    Ok(rule)
}
