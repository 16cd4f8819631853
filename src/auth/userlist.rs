//! PgBouncer's `auth_file`: lines of `"user" "secret"`.

use std::collections::HashMap;

use thiserror::Error;

use super::{Secret, SecretKind};

/// Longest user name in bytes, as in PgBouncer.
pub const MAX_USER_LEN: usize = 127;

/// Longest secret in bytes: what fits into a password message.
pub const MAX_SECRET_LEN: usize = 65_530;

/// The users who may log in, and what is known of their passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserList {
    users: HashMap<String, Secret>,
}

/// A mistake in a user list. Never shows what stands there: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct UserListError {
    /// Counted from 1.
    pub line: usize,
    pub problem: UserListProblem,
}

/// What is wrong with a line of a user list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UserListProblem {
    #[error("expected a user name in double quotes, or ; before a comment")]
    NoUser,
    #[error("closing quote of the user name is missing")]
    OpenUser,
    #[error("user name is empty")]
    EmptyUser,
    #[error("user name is longer than {MAX_USER_LEN} bytes")]
    LongUser,
    #[error("expected a password in double quotes after the user name")]
    NoSecret,
    #[error("closing quote of the password is missing")]
    OpenSecret,
    #[error("password is longer than {MAX_SECRET_LEN} bytes")]
    LongSecret,
    #[error(
        "broken SCRAM verifier: expected \
         SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>"
    )]
    BrokenVerifier,
}

impl UserList {
    /// Reads a whole file; returns what is good and every mistake, in the order
    /// of lines. PgBouncer stops at the first mistake and keeps what came before.
    ///
    /// As in PgBouncer, `""` stands for a double quote, a line whose first
    /// character is `;` is a comment, what follows the second string is ignored,
    /// and of two lines for a user the later counts. Strings end on their line.
    pub fn parse(text: &str) -> (UserList, Vec<UserListError>) {
        let mut list = UserList::default();
        let mut errors = Vec::new();
        for (number, line) in text.lines().enumerate() {
            match parse_line(line.trim_start()) {
                Ok(Some((user, secret))) => list.insert(user, secret),
                Ok(None) => {}
                Err(problem) => errors.push(UserListError {
                    line: number + 1,
                    problem,
                }),
            }
        }
        (list, errors)
    }

    /// Adds a user or replaces its secret.
    pub fn insert(&mut self, user: impl Into<String>, secret: Secret) {
        self.users.insert(user.into(), secret);
    }

    /// What is known of a user's password; `None` for an unknown user.
    pub fn get(&self, user: &str) -> Option<&Secret> {
        self.users.get(user)
    }

    /// All users, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.users
            .iter()
            .map(|(user, secret)| (user.as_str(), secret))
    }

    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The form that most secrets have, for users who do not exist: they should
    /// look like the others. [`SecretKind::Scram`] for an empty list and in a tie.
    pub fn usual_kind(&self) -> SecretKind {
        let count = |kind| self.users.values().filter(|s| s.kind() == kind).count();
        let kinds = [SecretKind::Plain, SecretKind::Md5, SecretKind::Scram];
        // Of equals, max_by_key takes the last.
        kinds
            .into_iter()
            .max_by_key(|&kind| count(kind))
            .unwrap_or(SecretKind::Scram)
    }
}

fn parse_line(line: &str) -> Result<Option<(String, Secret)>, UserListProblem> {
    use UserListProblem::*;
    if line.is_empty() || line.starts_with(';') {
        return Ok(None);
    }
    let rest = line.strip_prefix('"').ok_or(NoUser)?;
    let (user, rest) = unquote(rest).ok_or(OpenUser)?;
    let (_, rest) = rest.split_once('"').ok_or(NoSecret)?;
    let (secret, _) = unquote(rest).ok_or(OpenSecret)?;
    let secret = zeroize::Zeroizing::new(secret);
    if user.is_empty() {
        return Err(EmptyUser);
    }
    if user.len() > MAX_USER_LEN {
        return Err(LongUser);
    }
    if secret.len() > MAX_SECRET_LEN {
        return Err(LongSecret);
    }
    match Secret::parse(&secret) {
        Secret::Plain(_) if secret.starts_with("SCRAM-SHA-256$") => Err(BrokenVerifier),
        secret => Ok(Some((user, secret))),
    }
}

/// Splits behind the closing quote; `text` begins behind the opening one.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let (head, tail) = rest.split_once('"')?;
        out.push_str(head);
        match tail.strip_prefix('"') {
            Some(tail) => {
                out.push('"');
                rest = tail;
            }
            None => return Some((out, tail)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Masked;
    use proptest::prelude::*;

    fn plain(password: &str) -> Secret {
        Secret::Plain(Masked::new(password))
    }

    #[test]
    fn reads_what_pgbouncer_reads() {
        let text = "; a comment\n\n\
             \"ann\" \"secret\"\n\
             \t \"bob\"\t\"md500000000000000000000000000000000\" \"ignored\"\r\n\
             \"o\"\"hara\" \"with \"\"quotes\"\" and ; and spaces\"\n\
             \"eve\" \"\"\n\
             \"ann\" \"later\"";
        let (list, errors) = UserList::parse(text);
        assert_eq!(errors, []);
        assert_eq!(list.len(), 4);
        assert_eq!(list.get("ann"), Some(&plain("later")));
        assert_eq!(list.get("bob").map(Secret::kind), Some(SecretKind::Md5));
        let hara = plain("with \"quotes\" and ; and spaces");
        assert_eq!(list.get("o\"hara"), Some(&hara));
        assert!(list.get("eve").is_some_and(Secret::is_empty));
        assert_eq!(list.get("nobody"), None);
    }

    #[test]
    fn names_every_mistake_by_line_and_keeps_the_rest() {
        use UserListProblem::*;
        let text = format!(
            "ann \"x\"\n\"bob\n\"bob\"\n\"bob\" \"x\n\"ok\" \"x\"\n\"\" \"x\"\n\
             \"{}\" \"x\"\n\"bob\" \"{}\"\n\"bob\" \"SCRAM-SHA-256$4096:AAAA$BBBB\"\n# no\n",
            "u".repeat(128),
            "p".repeat(65_531),
        );
        let (list, errors) = UserList::parse(&text);
        assert_eq!(
            list.iter().map(|(user, _)| user).collect::<Vec<_>>(),
            ["ok"]
        );
        let found: Vec<_> = errors.iter().map(|e| (e.line, e.problem)).collect();
        let expected = [
            (1, NoUser),
            (2, OpenUser),
            (3, NoSecret),
            (4, OpenSecret),
            (6, EmptyUser),
            (7, LongUser),
            (8, LongSecret),
            (9, BrokenVerifier),
            (10, NoUser),
        ];
        assert_eq!(found, expected);
        assert_eq!(
            errors[3].to_string(),
            "line 4: closing quote of the password is missing"
        );
    }

    #[test]
    fn the_usual_kind_is_the_commonest() {
        let mut list = UserList::default();
        assert_eq!(list.usual_kind(), SecretKind::Scram);
        list.insert("a", plain("x"));
        assert_eq!(list.usual_kind(), SecretKind::Plain);
        let md5 = "md500000000000000000000000000000000";
        list.insert("b", Secret::parse(md5));
        list.insert("c", Secret::parse(md5));
        assert_eq!(list.usual_kind(), SecretKind::Md5);
    }

    #[test]
    fn secrets_do_not_print() {
        let (list, _) = UserList::parse("\"ann\" \"hunter2\"");
        assert!(!format!("{list:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(
            user in "[^\r\n]{1,30}",
            password in "[^\r\n]{0,60}",
        ) {
            let quote = |s: &str| format!("\"{}\"", s.replace('"', "\"\""));
            let (list, errors) =
                UserList::parse(&format!("{} {}", quote(&user), quote(&password)));
            prop_assert_eq!(errors, []);
            prop_assert_eq!(list.get(&user), Some(&plain(&password)));
        }

        #[test]
        fn garbage_never_panics(text in "(?s)[\";a \n\\PC]{0,200}") {
            let lines = text.lines().count();
            let (list, errors) = UserList::parse(&text);
            prop_assert!(list.len() + errors.len() <= lines);
        }
    }
}
