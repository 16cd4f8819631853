//! The session's `pgweir.role`: where its reads may run.

use serde::{Deserialize, Serialize};

use crate::config::{Choice, Reads};
use crate::wire::build::Refusal;

/// The name of the setting.
pub const ROLE: &str = "pgweir.role";

/// The value that leaves it to the configuration.
pub(super) const DEFAULT: &str = "default";

/// What the session has set, and what its startup packet says, which RESET goes
/// back to; in one byte, because there is one for each client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::flow) struct Role(u8);

impl Role {
    pub fn starting_with(role: Option<Reads>) -> Role {
        Role(code(role) << 4 | code(role))
    }

    pub fn get(self) -> Option<Reads> {
        decode(self.0 & 15)
    }

    pub fn set(&mut self, role: Option<Reads>) {
        self.0 = self.0 & !15 | code(role);
    }

    /// Whether RESET would make a difference.
    #[inline]
    pub fn is_changed(self) -> bool {
        self.0 >> 4 != self.0 & 15
    }

    pub fn reset(&mut self) {
        self.set(decode(self.0 >> 4));
    }
}

fn code(role: Option<Reads>) -> u8 {
    role.map_or(0, |role| 1 + role as u8)
}

fn decode(code: u8) -> Option<Reads> {
    let mut roles = Reads::WORDS.iter().map(|(_, role)| *role);
    roles.find(|role| 1 + *role as u8 == code)
}

/// What a value means, `None` being `default`.
///
/// # Errors
/// PostgreSQL's for a value that is none of a setting's (guc.c,
/// `parse_and_validate_value`).
pub fn role_of(value: &str) -> Result<Option<Reads>, Refusal> {
    if value.eq_ignore_ascii_case(DEFAULT) {
        return Ok(None);
    }
    let mut roles = Reads::WORDS.iter();
    let role = roles.find(|(word, _)| word.eq_ignore_ascii_case(value));
    role.map(|(_, role)| Some(*role)).ok_or_else(|| {
        let words: Vec<&str> = Reads::WORDS.iter().map(|(word, _)| *word).collect();
        let message = format!("invalid value for parameter \"{ROLE}\": \"{value}\"");
        let words = words.join(", ");
        Refusal::error("22023", message).hint(format!("Available values: {words}, {DEFAULT}."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_goes_back_to_the_start() {
        let all = Reads::WORDS.iter().map(|(_, role)| Some(*role));
        let all: Vec<_> = all.chain([None]).collect();
        for start in &all {
            let mut role = Role::starting_with(*start);
            assert_eq!(role.get(), *start);
            for other in &all {
                role.set(*other);
                assert_eq!(role.get(), *other);
            }
            role.set(*start);
            assert!(!role.is_changed());
            role.set(all[0]);
            assert_eq!(role.is_changed(), all[0] != *start);
            role.reset();
            assert_eq!(role.get(), *start);
        }
        assert_eq!(Role::default(), Role::starting_with(None));
        assert_eq!(size_of::<Role>(), 1);
    }

    #[test]
    fn values_have_no_case() {
        assert_eq!(role_of("Primary").unwrap(), Some(Reads::Primary));
        assert_eq!(role_of("DEFAULT").unwrap(), None);
        let error = role_of("master").unwrap_err();
        assert_eq!(
            error.message,
            "invalid value for parameter \"pgweir.role\": \"master\""
        );
        let hint = "Available values: replica, primary, any, default.";
        assert_eq!(error.hint.as_deref(), Some(hint));
    }
}
