//! What two ends have agreed on, as the console and the log show it.

use std::fmt;
use std::num::NonZeroU16;

use rustls::{CipherSuite, CommonState, NamedGroup, ProtocolVersion};

/// Version, cipher suite and key exchange of a TLS connection: the numbers of
/// the standards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encryption {
    version: NonZeroU16,
    suite: u16,
    /// 0: taken over from an earlier session.
    group: u16,
}

impl Encryption {
    /// `None`: the handshake is not complete.
    pub(super) fn of(state: &CommonState) -> Option<Encryption> {
        let group = state.negotiated_key_exchange_group();
        Some(Encryption {
            version: NonZeroU16::new(state.protocol_version()?.into())?,
            suite: state.negotiated_cipher_suite()?.suite().into(),
            group: group.map_or(0, |group| group.name().into()),
        })
    }
}

/// As PgBouncer has it: `TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=X25519`.
impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ProtocolVersion::from(self.version.get()) {
            ProtocolVersion::TLSv1_2 => f.write_str("TLSv1.2/")?,
            _ => f.write_str("TLSv1.3/")?,
        }
        f.write_str(suite_name(CipherSuite::from(self.suite)))?;
        match group_name(NamedGroup::from(self.group)) {
            Some(name) => write!(f, "/ECDH={name}"),
            None => Ok(()),
        }
    }
}

/// OpenSSL's name of a group for key exchanges.
pub(super) fn group_name(group: NamedGroup) -> Option<&'static str> {
    match group {
        NamedGroup::X25519 => Some("X25519"),
        NamedGroup::secp256r1 => Some("prime256v1"),
        NamedGroup::secp384r1 => Some("secp384r1"),
        NamedGroup::X25519MLKEM768 => Some("X25519MLKEM768"),
        _ => None,
    }
}

/// OpenSSL's names, which PgBouncer shows. These are all that the library has.
pub(super) fn suite_name(suite: CipherSuite) -> &'static str {
    use CipherSuite as C;
    match suite {
        C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        C::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        C::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        C::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        C::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        _ => "unknown",
    }
}
