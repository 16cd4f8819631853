//! PostgreSQL's md5 authentication (manual, "Password Authentication" and
//! "Message Flow", AuthenticationMD5Password).

use std::fmt;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const HEX_LEN: usize = 32;
const PREFIX: &str = "md5";

/// The stored form, `md5(password + user)` as 32 lowercase hex digits. Whoever
/// has it can log in to a server that asks for md5: a secret, printed as `***`.
#[derive(Clone)]
pub struct Md5Hash(Zeroizing<[u8; HEX_LEN]>);

impl Md5Hash {
    /// Hashes a password for a user.
    pub fn of(user: &str, password: &[u8]) -> Md5Hash {
        Md5Hash(hex_md5(&[password, user.as_bytes()]))
    }

    /// Reads `md5` and 32 lowercase hex digits.
    pub fn parse(text: &str) -> Option<Md5Hash> {
        let hex = text.strip_prefix(PREFIX)?.as_bytes();
        let is_hex = |c: &u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        let hex: [u8; HEX_LEN] = hex.try_into().ok()?;
        hex.iter().all(is_hex).then(|| Md5Hash(Zeroizing::new(hex)))
    }

    /// The stored form; name the reason where this is called.
    pub fn reveal(&self) -> String {
        let hex = self.0.iter().map(|&c| char::from(c));
        PREFIX.chars().chain(hex).collect()
    }

    /// The PasswordMessage's text that answers a server's salt.
    pub fn answer(&self, salt: [u8; 4]) -> Zeroizing<String> {
        let digest = hex_md5(&[&*self.0, &salt]);
        let mut answer = Zeroizing::new(String::with_capacity(PREFIX.len() + HEX_LEN));
        answer.push_str(PREFIX);
        answer.extend(digest.iter().map(|&c| char::from(c)));
        answer
    }
}

/// Whether `answer` is what a client that knows the password sends for `salt`.
pub fn verify(hash: &Md5Hash, salt: [u8; 4], answer: &[u8]) -> bool {
    hash.answer(salt).as_bytes().ct_eq(answer).into()
}

fn hex_md5(parts: &[&[u8]]) -> Zeroizing<[u8; HEX_LEN]> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part);
    }
    let mut hex = Zeroizing::new([0; HEX_LEN]);
    for (pair, byte) in hex.chunks_exact_mut(2).zip(md5.finalize()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    hex
}

impl PartialEq for Md5Hash {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for Md5Hash {}

impl fmt::Debug for Md5Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_another_implementation() {
        let salt = [0x2a, 0x3d, 0x8f, 0xe0];
        let hash = Md5Hash::of("md5_user", b"password");
        assert_eq!(*hash.answer(salt), "md562af4dd09bbb41884907a838a3233294");
        let theirs = postgres_protocol::password::md5(b"password", "md5_user");
        assert_eq!(Md5Hash::parse(&theirs), Some(hash));
    }

    #[test]
    fn verifies_only_the_right_answer() {
        let hash = Md5Hash::of("u", b"p");
        let answer = hash.answer([1, 2, 3, 4]);
        assert!(verify(&hash, [1, 2, 3, 4], answer.as_bytes()));
        assert!(!verify(&hash, [1, 2, 3, 5], answer.as_bytes()));
        assert!(!verify(&hash, [1, 2, 3, 4], &answer.as_bytes()[..34]));
        assert!(!verify(&hash, [1, 2, 3, 4], b""));
    }

    #[test]
    fn only_md5_and_32_lowercase_hex_digits_parse() {
        for text in [
            "md5",
            "md562AF4dd09bbb41884907a838a3233294",
            "62af4dd09bbb41884907a838a3233294",
            "",
        ] {
            assert_eq!(Md5Hash::parse(text), None, "{text}");
        }
        assert_eq!(Md5Hash::parse(&format!("md5{}0", "a".repeat(32))), None);
        assert_eq!(format!("{:?}", Md5Hash::of("u", b"p")), "***");
    }
}
