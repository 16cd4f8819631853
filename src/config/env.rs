//! `PGWEIR_<SETTING>` variables; they override the file.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::draft::{Draft, Section, unknown};
use super::key::{Key, Status, Table};
use super::mistake::Place;
use super::settings::Settings;
use super::value::Raw;

const PREFIX: &str = "PGWEIR_";

/// Sets what `env` names. Values are TOML values that need no quotes; PgBouncer's
/// syntax is understood too. Other variables may be in `env`.
pub(super) fn apply(draft: &mut Draft, env: &BTreeMap<String, String>) {
    for (variable, text) in env {
        let Some(name) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        let place = Place::whole(format!("environment: {variable}"));
        let name = name.to_ascii_lowercase();
        match Settings::key(&name) {
            Some(key) => match set(&mut draft.general, key, text) {
                Ok(()) => draft.report.found(&Section::General, &name, &place),
                Err(error) => draft.report.mistake(&place, error),
            },
            None if is_service_link(&name) => {}
            None => {
                let names = Settings::KEYS.iter().map(|key| key.name);
                draft
                    .report
                    .mistake(&place, unknown("setting", &name, names));
            }
        }
    }
}

fn set(settings: &mut Settings, key: &Key<Settings>, text: &str) -> Result<(), String> {
    match key.status {
        Status::Built => {}
        Status::NotBuilt => return Err("known, but not built yet".to_owned()),
        Status::Obsolete => return Err("has no meaning in pgweir".to_owned()),
    }
    let as_text = DeValue::String(text.into());
    let as_ini = |settings: &mut Settings| (key.set)(settings, Raw::Ini(text));
    (key.set)(settings, Raw::Toml(&as_text)).or_else(|error| {
        let bare = match DeValue::parse(text) {
            Ok(value) => (key.set)(settings, Raw::Toml(value.get_ref())),
            Err(_) => Err(error),
        };
        bare.or_else(|error| as_ini(settings).map_err(|_| error))
    })
}

/// Whether an orchestrator made the variable for a service called pgweir:
/// PGWEIR_PORT, PGWEIR_SERVICE_HOST, PGWEIR_METRICS_PORT_9127_TCP_ADDR.
fn is_service_link(name: &str) -> bool {
    let name = format!("_{name}");
    name.ends_with("_port")
        || name.contains("_service_host")
        || name.contains("_service_port")
        || name
            .split("_port_")
            .skip(1)
            .any(|rest| rest.chars().next().is_some_and(|c| c.is_ascii_digit()))
}
