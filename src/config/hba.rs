//! The rules of `auth_hba_file`, with the maps of `auth_ident_file`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::choice::AuthType;
use super::load::Config;
use super::mistake::{Mistake, Place};
use crate::auth::{Hba, IdentMaps};

impl Config {
    /// The rules; none unless `auth_type` is `hba`. Mistakes are fatal whatever
    /// the configuration's format: PgBouncer leaves out a line that it does not
    /// understand, and who was to be rejected by it comes in by the next one.
    pub fn hba(&self, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Hba, Vec<Mistake>> {
        let general = &self.general;
        let path = match (general.auth_type, &general.auth_hba_file) {
            (AuthType::Hba, Some(path)) => path,
            _ => return Ok(Hba::default()),
        };
        let maps = match &general.auth_ident_file {
            Some(path) => ident_maps(path, read)?,
            None => IdentMaps::default(),
        };
        let text = read(path).map_err(|error| vec![unreadable("auth_hba_file", path, &error)])?;
        Hba::parse(&text, path, &maps, read).map_err(|errors| {
            let mistakes = errors.iter().map(|error| Mistake {
                place: Place::line(&name(&error.file), error.line),
                message: error.problem.to_string(),
            });
            mistakes.collect()
        })
    }
}

fn ident_maps(
    path: &Path,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<IdentMaps, Vec<Mistake>> {
    let text = read(path).map_err(|error| vec![unreadable("auth_ident_file", path, &error)])?;
    IdentMaps::parse(&text).map_err(|errors| {
        let mistakes = errors.iter().map(|error| Mistake {
            place: Place::line(&name(path), error.line),
            message: error.problem.to_string(),
        });
        mistakes.collect()
    })
}

fn unreadable(setting: &str, path: &Path, error: &io::Error) -> Mistake {
    Mistake {
        place: Place::whole(name(path)),
        message: format!("{setting}: {error}"),
    }
}

fn name(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}
