//! What a user list knows about a user's password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::md5::{self, Md5Hash};
use super::scram::Verifier;
use super::{Masked, digest};

/// A password in one of the three forms that `pg_authid.rolpassword` and
/// PgBouncer's `auth_file` know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// The password itself.
    Plain(Masked),
    /// `md5` and 32 hex digits.
    Md5(Md5Hash),
    /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    Scram(Verifier),
}

/// The form of a [`Secret`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    Plain,
    Md5,
    Scram,
}

impl Secret {
    /// Recognises the form by PostgreSQL's rules (`get_password_type` in
    /// src/backend/libpq/crypt.c): what is neither an md5 hash nor a SCRAM
    /// verifier is a plain password.
    pub fn parse(text: &str) -> Secret {
        if let Some(hash) = Md5Hash::parse(text) {
            return Secret::Md5(hash);
        }
        match Verifier::parse(text) {
            Some(verifier) => Secret::Scram(verifier),
            None => Secret::Plain(Masked::new(text)),
        }
    }

    pub fn kind(&self) -> SecretKind {
        match self {
            Secret::Plain(_) => SecretKind::Plain,
            Secret::Md5(_) => SecretKind::Md5,
            Secret::Scram(_) => SecretKind::Scram,
        }
    }

    /// A secret of this form that no password fulfils, always the same for a
    /// seed and a user: with it a user who does not exist takes the same way, and
    /// the same time, as a wrong password.
    pub fn mock(kind: SecretKind, seed: &[u8; 32], user: &str, iterations: u32) -> Secret {
        let unknown = digest::hmac_sha256(seed, &[b"password:", user.as_bytes()]);
        match kind {
            SecretKind::Plain => Secret::Plain(Masked::new(STANDARD.encode(unknown))),
            SecretKind::Md5 => Secret::Md5(Md5Hash::of(user, &unknown)),
            SecretKind::Scram => Secret::Scram(Verifier::mock(seed, user, iterations)),
        }
    }

    /// Whether nobody can log in with this secret: an empty password never
    /// matches, as in PostgreSQL.
    pub fn is_empty(&self) -> bool {
        matches!(self, Secret::Plain(password) if password.reveal().is_empty())
    }

    /// Whether a password that arrived in clear text is the right one. Takes
    /// milliseconds for a SCRAM secret: not for an I/O thread. The time does not
    /// depend on where the password differs.
    pub fn verify_plain(&self, user: &str, password: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        match self {
            // Digests, so that not even the length shows in the time.
            Secret::Plain(secret) => digest::sha256(secret.reveal().as_bytes())
                .ct_eq(&digest::sha256(password))
                .into(),
            Secret::Md5(hash) => *hash == Md5Hash::of(user, password),
            Secret::Scram(verifier) => verifier.verify_plain(password),
        }
    }

    /// Whether `answer` is the right answer to an AuthenticationMD5Password
    /// with this salt. A SCRAM secret cannot tell: always `false`.
    pub fn verify_md5(&self, user: &str, salt: [u8; 4], answer: &[u8]) -> bool {
        match self {
            Secret::Plain(_) if self.is_empty() => false,
            Secret::Plain(password) => md5::verify(
                &Md5Hash::of(user, password.reveal().as_bytes()),
                salt,
                answer,
            ),
            Secret::Md5(hash) => md5::verify(hash, salt, answer),
            Secret::Scram(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> [Secret; 3] {
        let keys = crate::auth::ScramKeys::derive(b"pencil", b"salt", 16);
        [
            Secret::parse("pencil"),
            Secret::Md5(Md5Hash::of("ann", b"pencil")),
            Secret::Scram(keys.verifier()),
        ]
    }

    #[test]
    fn a_clear_text_password_is_checked_against_every_form() {
        for secret in secrets() {
            assert!(secret.verify_plain("ann", b"pencil"), "{:?}", secret.kind());
            for wrong in ["Pencil", "pencil ", "penci", ""] {
                assert!(!secret.verify_plain("ann", wrong.as_bytes()), "{wrong}");
            }
        }
    }

    #[test]
    fn an_md5_answer_is_checked_where_that_is_possible() {
        let salt = [1, 2, 3, 4];
        let right = Md5Hash::of("ann", b"pencil").answer(salt);
        let wrong = Md5Hash::of("bob", b"pencil").answer(salt);
        for secret in secrets() {
            let possible = secret.kind() != SecretKind::Scram;
            assert_eq!(secret.verify_md5("ann", salt, right.as_bytes()), possible);
            assert!(!secret.verify_md5("ann", salt, wrong.as_bytes()));
        }
    }

    #[test]
    fn an_empty_password_never_matches() {
        let secret = Secret::parse("");
        assert!(secret.is_empty());
        assert!(!secret.verify_plain("ann", b""));
        let answer = Md5Hash::of("ann", b"").answer([0; 4]);
        assert!(!secret.verify_md5("ann", [0; 4], answer.as_bytes()));
    }

    #[test]
    fn mocks_have_the_wanted_form_and_match_nothing_known() {
        for kind in [SecretKind::Plain, SecretKind::Md5, SecretKind::Scram] {
            let mock = |seed, user| Secret::mock(kind, &[seed; 32], user, 16);
            assert_eq!(mock(1, "ann").kind(), kind);
            assert_eq!(mock(1, "ann"), mock(1, "ann"));
            assert_ne!(mock(1, "ann"), mock(1, "bob"));
            assert_ne!(mock(1, "ann"), mock(2, "ann"));
            assert!(!mock(1, "ann").verify_plain("ann", b"ann"));
        }
    }
}
