//! What the configuration allows to be agreed on.

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use sha2::{Digest, Sha256};

use super::encryption::{group_name, suite_name};
use crate::config::{Settings, Spelled, Tls12Ciphers, Tls13Ciphers, TlsCurve, TlsVersions, Value};

/// Versions, cipher suites and groups of one side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    versions: &'a Spelled<TlsVersions>,
    tls12: &'a Spelled<Tls12Ciphers>,
    tls13: Option<&'a Spelled<Tls13Ciphers>>,
    curve: Option<&'a Spelled<TlsCurve>>,
}

impl<'a> Terms<'a> {
    pub fn of_clients(settings: &'a Settings) -> Terms<'a> {
        Terms {
            versions: &settings.client_tls_protocols,
            tls12: &settings.client_tls_ciphers,
            tls13: settings.client_tls13_ciphers.as_ref(),
            curve: Some(&settings.client_tls_ecdhcurve),
        }
    }

    pub fn of_servers(settings: &'a Settings) -> Terms<'a> {
        Terms {
            versions: &settings.server_tls_protocols,
            tls12: &settings.server_tls_ciphers,
            tls13: settings.server_tls13_ciphers.as_ref(),
            curve: None,
        }
    }

    pub fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let TlsVersions { tls12, tls13 } = *self.versions.meaning();
        let both = [(tls13, &TLS13), (tls12, &TLS12)];
        let allowed = both.into_iter().filter(|(allowed, _)| *allowed);
        allowed.map(|(_, version)| version).collect()
    }

    /// The library with no more than what is allowed, in the order of the
    /// settings.
    pub fn provider(&self) -> CryptoProvider {
        let mut provider = aws_lc_rs::default_provider();
        let versions = self.versions.meaning();
        let tls13 = self.tls13.map(|suites| suites.meaning().clone());
        let tls13 = tls13.unwrap_or_default().0.into_iter();
        let tls12 = self.tls12.meaning().0.iter().copied();
        let allowed = tls13
            .filter(|_| versions.tls13)
            .chain(tls12.filter(|_| versions.tls12));
        let there_are = std::mem::take(&mut provider.cipher_suites);
        provider.cipher_suites = allowed
            .filter_map(|name| {
                let mut suites = there_are.iter();
                suites
                    .find(|suite| suite_name(suite.suite()) == name)
                    .copied()
            })
            .collect();
        if let Some(curve) = self.curve.and_then(|curve| curve.meaning().0) {
            let groups = &mut provider.kx_groups;
            groups.retain(|group| group_name(group.name()) == Some(curve));
        }
        provider
    }

    pub fn digest(&self, digest: &mut Sha256) {
        for text in [
            self.versions.to_ini(),
            self.tls12.to_ini(),
            self.tls13.and_then(Value::to_ini),
            self.curve.and_then(Value::to_ini),
        ] {
            digest.update(text.unwrap_or_default());
            digest.update([0]);
        }
    }
}
