//! `auth_ident_file`: which users somebody may be whom the system, or a
//! certificate, knows by another name. Lines of `map system-name database-user`,
//! as in PostgreSQL's pg_ident.conf without regular expressions.

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

use super::tokens::{OpenQuote, Token, tokens};

/// All maps by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentMaps {
    maps: HashMap<String, Arc<IdentMap>>,
}

/// One map: its lines in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentMap {
    lines: Vec<(String, User)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum User {
    /// `all`
    Any,
    Name(String),
}

/// A mistake in an ident file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct IdentError {
    /// Counted from 1.
    pub line: usize,
    pub problem: IdentProblem,
}

/// What is wrong with a line of an ident file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdentProblem {
    #[error("expected a map's name, a system user and a database user")]
    Fields,
    #[error("closing quote is missing")]
    OpenQuote,
    #[error("regular expressions are not supported")]
    Regex,
    #[error("`+group` is not supported")]
    Group,
}

impl From<OpenQuote> for IdentProblem {
    fn from(_: OpenQuote) -> IdentProblem {
        IdentProblem::OpenQuote
    }
}

impl IdentMaps {
    /// Reads a whole file; every mistake, in the order of lines.
    pub fn parse(text: &str) -> Result<IdentMaps, Vec<IdentError>> {
        let mut maps: HashMap<String, IdentMap> = HashMap::new();
        let mut errors = Vec::new();
        for (number, line) in text.lines().enumerate() {
            match parse_line(line) {
                Ok(None) => {}
                Ok(Some((map, system, user))) => {
                    maps.entry(map).or_default().lines.push((system, user));
                }
                Err(problem) => errors.push(IdentError {
                    line: number + 1,
                    problem,
                }),
            }
        }
        let maps = maps.into_iter().map(|(name, map)| (name, Arc::new(map)));
        match errors.is_empty() {
            true => Ok(IdentMaps {
                maps: maps.collect(),
            }),
            false => Err(errors),
        }
    }

    pub fn get(&self, name: &str) -> Option<&Arc<IdentMap>> {
        self.maps.get(name)
    }
}

impl IdentMap {
    /// Whether who is called `system` may log in as `user`.
    pub fn allows(&self, system: &str, user: &str) -> bool {
        self.lines.iter().any(|(name, users)| {
            let fits = match users {
                User::Any => true,
                User::Name(name) => name == user,
            };
            fits && name == system
        })
    }
}

fn parse_line(line: &str) -> Result<Option<(String, String, User)>, IdentProblem> {
    let tokens = tokens(line)?;
    let (map, system, user) = match <[Token; 3]>::try_from(tokens) {
        Ok([Token::Word(map) | Token::Quoted(map), system, user]) => (map, system, user),
        Err(tokens) if tokens.is_empty() => return Ok(None),
        _ => return Err(IdentProblem::Fields),
    };
    let system = match system {
        Token::Word(name) | Token::Quoted(name) if name.starts_with('/') => {
            return Err(IdentProblem::Regex);
        }
        Token::Word(name) | Token::Quoted(name) => name,
        Token::Comma => return Err(IdentProblem::Fields),
    };
    let user = match user {
        Token::Word(name) if name == "all" => User::Any,
        Token::Word(name) if name.starts_with('/') => return Err(IdentProblem::Regex),
        Token::Word(name) if name.starts_with('+') => return Err(IdentProblem::Group),
        Token::Word(name) | Token::Quoted(name) => User::Name(name),
        Token::Comma => return Err(IdentProblem::Fields),
    };
    Ok(Some((map, system, user)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_say_who_may_be_whom() {
        let maps = IdentMaps::parse(
            "# map  system  database\n\
             one  root  admin # the boss\n\
             one  \"joe \"\"x\"\" doe\"  \"all\"\n\
             \n\
             two\troot\tall\n",
        )
        .unwrap();
        let one = maps.get("one").unwrap();
        assert!(one.allows("root", "admin"));
        assert!(!one.allows("root", "root"));
        assert!(!one.allows("admin", "root"));
        assert!(
            one.allows("joe \"x\" doe", "all"),
            "a quoted word is a name"
        );
        assert!(!one.allows("joe \"x\" doe", "admin"));
        let two = maps.get("two").unwrap();
        assert!(two.allows("root", "anybody"));
        assert!(!two.allows("nobody", "anybody"));
        assert_eq!(maps.get("three"), None);
    }

    #[test]
    fn every_mistake_has_its_line() {
        use IdentProblem::*;
        let text = "one root\n\
                    one root admin x\n\
                    one \"root admin\n\
                    one , admin\n\
                    one /^(.*)@x$ admin\n\
                    one root /^a\n\
                    one root +staff\n\
                    one root ok\n\
                    , root admin\n";
        let errors = IdentMaps::parse(text).unwrap_err();
        let found: Vec<_> = errors.iter().map(|e| (e.line, e.problem)).collect();
        let expected = [
            (1, Fields),
            (2, Fields),
            (3, OpenQuote),
            (4, Fields),
            (5, Regex),
            (6, Regex),
            (7, Group),
            (9, Fields),
        ];
        assert_eq!(found, expected);
    }
}
