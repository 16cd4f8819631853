//! What the configuration says of a session.

use super::Naming;
use crate::config::{PoolMode, SessionFeatures};

/// In one byte, because there is one for each client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms(u8);

const SEQUENCES: u8 = 1 << 6;

impl Terms {
    pub fn new(mode: PoolMode, naming: Naming, features: SessionFeatures) -> Terms {
        Terms(mode as u8 | (naming as u8) << 2 | (features as u8) << 4)
    }

    pub fn mode(self) -> PoolMode {
        const SESSION: u8 = PoolMode::Session as u8;
        const STATEMENT: u8 = PoolMode::Statement as u8;
        match self.0 & 3 {
            SESSION => PoolMode::Session,
            STATEMENT => PoolMode::Statement,
            _ => PoolMode::Transaction,
        }
    }

    pub fn naming(self) -> Naming {
        const THE_SERVERS: u8 = Naming::TheServers as u8;
        const STRICTLY: u8 = Naming::TheClientsStrictly as u8;
        match self.0 >> 2 & 3 {
            THE_SERVERS => Naming::TheServers,
            STRICTLY => Naming::TheClientsStrictly,
            _ => Naming::TheClients,
        }
    }

    pub fn features(self) -> SessionFeatures {
        const PIN: u8 = SessionFeatures::Pin as u8;
        const ERROR: u8 = SessionFeatures::Error as u8;
        match self.0 >> 4 & 3 {
            PIN => SessionFeatures::Pin,
            ERROR => SessionFeatures::Error,
            _ => SessionFeatures::Ignore,
        }
    }

    pub fn pinning_sequences(self, pins: bool) -> Terms {
        Terms(self.0 & !SEQUENCES | if pins { SEQUENCES } else { 0 })
    }

    /// Whether what advances a sequence leaves something.
    #[inline]
    pub fn pins_sequences(self) -> bool {
        self.0 & SEQUENCES != 0
    }

    /// Whether what statements leave in the session is followed.
    #[inline]
    pub fn carries(self) -> bool {
        self.features() != SessionFeatures::Ignore && self.mode() != PoolMode::Session
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Choice;

    #[test]
    fn nothing_is_lost() {
        let namings = [
            Naming::TheServers,
            Naming::TheClients,
            Naming::TheClientsStrictly,
        ];
        for (_, mode) in PoolMode::WORDS {
            for naming in namings {
                for (_, features) in SessionFeatures::WORDS {
                    let terms = Terms::new(*mode, naming, *features);
                    assert_eq!(terms.mode(), *mode);
                    assert_eq!(terms.naming(), naming);
                    assert_eq!(terms.features(), *features);
                    assert!(!terms.pins_sequences());
                    let follows = *features != SessionFeatures::Ignore;
                    assert_eq!(terms.carries(), follows && *mode != PoolMode::Session);
                    let terms = terms.pinning_sequences(true);
                    assert!(terms.pins_sequences());
                    assert_eq!(terms.features(), *features);
                    assert_eq!(terms.mode(), *mode);
                }
            }
        }
    }
}
