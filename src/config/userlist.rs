//! Who may log in, by the file of users and the users' own sections.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::choice::AuthType;
use super::load::{Config, Source};
use super::mistake::{Mistake, Place};
use super::settings::Settings;
use crate::auth::{Authority, Masked, Method, Secret, UserList};

impl Config {
    /// The users of `auth_file`, overridden by those that have a password in
    /// their section, and what is wrong with the file. PgBouncer goes on with
    /// what it could read: mistakes are fatal only where there is no ini.
    ///
    /// In TOML a section alone makes a user known: enough for `trust`, while an
    /// empty password never proves anything.
    pub fn userlist(&self, read: &dyn Fn(&Path) -> io::Result<String>) -> (UserList, Vec<Mistake>) {
        let (mut list, mistakes) = match &self.general.auth_file {
            Some(path) => auth_file(path, read),
            None => (UserList::default(), Vec::new()),
        };
        for (name, user) in &self.users {
            if let Some(password) = &user.password {
                list.insert(name, Secret::parse(password.reveal()));
            } else if self.source == Source::Toml && list.get(name).is_none() {
                list.insert(name, Secret::Plain(Masked::new("")));
            }
        }
        (list, mistakes)
    }
}

fn auth_file(path: &Path, read: &dyn Fn(&Path) -> io::Result<String>) -> (UserList, Vec<Mistake>) {
    let file: Arc<str> = path.to_string_lossy().into();
    let text = match read(path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(error) => {
            let mistake = Mistake {
                place: Place::whole(file),
                message: format!("auth_file: {error}"),
            };
            return (UserList::default(), vec![mistake]);
        }
    };
    let (list, errors) = UserList::parse(&text);
    let mistakes = errors.iter().map(|error| Mistake {
        place: Place::line(&file, error.line),
        message: error.problem.to_string(),
    });
    (list, mistakes.collect())
}

impl AuthType {
    /// How to ask every client; `None`: it depends, or somebody else checks it
    /// ([`Settings::authority`]).
    pub fn method(self) -> Option<Method> {
        Method::parse(super::Choice::word(self))
    }
}

impl Settings {
    /// Who checks passwords in our place.
    pub fn authority(&self) -> Option<Authority> {
        match self.auth_type {
            AuthType::Pam => Some(Authority::Pam),
            AuthType::Ldap => {
                let options = self.auth_ldap_options.as_ref()?;
                Some(Authority::Ldap(options.ldap.clone()))
            }
            _ => None,
        }
    }
}
