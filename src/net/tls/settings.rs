//! From settings and files to what handshakes need.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::certificate::end_point_hash;
use super::terms::Terms;
use super::verify::{Anybody, Signed};
use crate::config::{Config, ServerTls, Settings, SslMode};

/// PostgreSQL's name in ALPN.
const PROTOCOL: &[u8] = b"postgresql";

/// TLS as the configuration wants it, on both sides.
#[derive(Clone, Debug)]
pub struct Tls {
    /// `None`: clients get no TLS.
    pub clients: Option<Arc<Acceptor>>,
    pub servers: Arc<Connector>,
    /// For databases that want it otherwise.
    others: Arc<BTreeMap<ServerTls, Arc<Connector>>>,
}

/// TLS towards clients.
#[derive(Debug)]
pub struct Acceptor {
    mode: SslMode,
    config: Arc<ServerConfig>,
    end_point: Option<Arc<[u8]>>,
    origin: Origin,
}

/// TLS towards servers.
#[derive(Debug)]
pub struct Connector {
    mode: SslMode,
    config: Arc<ClientConfig>,
    origin: Origin,
    without_tls: Mutex<HashSet<String>>,
}

/// A digest of settings and files, to see whether a reload changes anything.
type Origin = [u8; 32];

impl Tls {
    /// Reads the files that the settings name. What has not changed since `old`
    /// is taken over, with the sessions that may be resumed. The error says
    /// which setting is wrong, and why.
    pub fn load(
        settings: &Settings,
        old: Option<&Tls>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Tls, String> {
        let clients = Files::read(
            "client_tls",
            settings.client_tls_sslmode,
            [
                &settings.client_tls_cert_file,
                &settings.client_tls_key_file,
                &settings.client_tls_ca_file,
            ],
            Terms::of_clients(settings),
            read,
        )?;
        let old_clients = old.and_then(|old| old.clients.clone());
        Ok(Tls {
            clients: match old_clients.filter(|old| old.origin == clients.origin()) {
                _ if clients.mode == SslMode::Disable => None,
                Some(old) => Some(old),
                None => Some(Arc::new(clients.acceptor()?)),
            },
            servers: connector(
                &ServerTls::usual(settings),
                settings,
                old.map(|old| &old.servers),
                read,
            )?,
            others: Arc::default(),
        })
    }

    /// The same with what each database wants.
    pub fn of(
        config: &Config,
        old: Option<&Tls>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Tls, String> {
        let general = &config.general;
        let mut tls = Tls::load(general, old, read)?;
        let mut others = BTreeMap::new();
        for wanted in config.all_server_tls() {
            if wanted != ServerTls::usual(general) {
                let old = old.and_then(|old| old.others.get(&wanted));
                let connector = connector(&wanted, general, old, read)?;
                others.insert(wanted, connector);
            }
        }
        tls.others = Arc::new(others);
        Ok(tls)
    }

    /// How connections of this kind are encrypted; [`Tls::of`] has read all
    /// that the configuration has.
    pub fn connector(&self, wanted: &ServerTls) -> &Arc<Connector> {
        self.others.get(wanted).unwrap_or(&self.servers)
    }
}

/// Takes the old one if nothing has changed.
fn connector(
    wanted: &ServerTls,
    settings: &Settings,
    old: Option<&Arc<Connector>>,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Arc<Connector>, String> {
    let files = Files::read(
        "server_tls",
        wanted.sslmode,
        [&wanted.cert_file, &wanted.key_file, &wanted.ca_file],
        Terms::of_servers(settings),
        read,
    )?;
    match old.filter(|old| old.origin == files.origin()) {
        Some(old) => Ok(old.clone()),
        None => Ok(Arc::new(files.connector()?)),
    }
}

impl Acceptor {
    /// Whether a client over TCP must have TLS.
    pub fn requires(&self) -> bool {
        self.mode >= SslMode::Require
    }

    /// The hash of our certificate, which a login can be bound to
    /// (`tls-server-end-point`).
    pub fn end_point(&self) -> Option<Arc<[u8]>> {
        self.end_point.clone()
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

impl Connector {
    /// Whether a server is asked for TLS.
    pub fn asks(&self) -> bool {
        self.mode != SslMode::Disable
    }

    /// Whether a server without TLS is refused.
    pub fn requires(&self) -> bool {
        self.mode >= SslMode::Require
    }

    /// Whether it has not been asked before for this host; to say something
    /// once.
    pub fn is_first_without_tls(&self, host: &str) -> bool {
        let hosts = self.without_tls.lock();
        let mut hosts = hosts.unwrap_or_else(PoisonError::into_inner);
        hosts.insert(host.to_owned())
    }

    pub(super) fn verifies_name(&self) -> bool {
        self.mode == SslMode::VerifyFull
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }
}

/// The files of one side.
struct Files<'a> {
    terms: Terms<'a>,
    /// What its settings' names begin with.
    prefix: &'static str,
    mode: SslMode,
    certificate: Option<File>,
    key: Option<File>,
    authorities: Option<File>,
}

struct File {
    /// `client_tls_key_file = /etc/key`, for errors.
    name: String,
    bytes: Zeroizing<Vec<u8>>,
}

impl<'a> Files<'a> {
    fn read(
        prefix: &'static str,
        mode: SslMode,
        [certificate, key, authorities]: [&Option<PathBuf>; 3],
        terms: Terms<'a>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Files<'a>, String> {
        let file = |what: &str, path: &Option<PathBuf>| -> Result<Option<File>, String> {
            // Without TLS they may be missing.
            let Some(path) = path.as_ref().filter(|_| mode != SslMode::Disable) else {
                return Ok(None);
            };
            let name = format!("{prefix}_{what}_file = {}", path.display());
            match read(path) {
                Ok(bytes) => Ok(Some(File {
                    name,
                    bytes: Zeroizing::new(bytes),
                })),
                Err(error) => Err(format!("{name}: {error}")),
            }
        };
        Ok(Files {
            terms,
            prefix,
            mode,
            certificate: file("cert", certificate)?,
            key: file("key", key)?,
            authorities: file("ca", authorities)?,
        })
    }

    fn origin(&self) -> Origin {
        let mut digest = Sha256::new();
        digest.update([self.mode as u8]);
        self.terms.digest(&mut digest);
        for file in [&self.certificate, &self.key, &self.authorities] {
            let bytes = file.as_ref().map(|file| file.bytes.as_slice());
            digest.update([u8::from(bytes.is_some())]);
            let bytes = bytes.unwrap_or_default();
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        }
        digest.finalize().into()
    }

    fn acceptor(&self) -> Result<Acceptor, String> {
        let provider = &Arc::new(self.terms.provider());
        let own = self.own_certificate(provider)?.ok_or_else(|| {
            let prefix = self.prefix;
            format!("{prefix}_sslmode needs {prefix}_key_file and {prefix}_cert_file")
        })?;
        let shown = own.cert.first();
        Ok(Acceptor {
            mode: self.mode,
            end_point: shown.and_then(end_point_hash).map(Arc::from),
            config: Arc::new(self.server_config(own, provider)?),
            origin: self.origin(),
        })
    }

    fn server_config(
        &self,
        own: CertifiedKey,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ServerConfig, String> {
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.terms.versions())
            .map_err(|error| error.to_string())?;
        let builder = match self.verifies() {
            false => builder.with_no_client_auth(),
            true => {
                let (_, roots) = self.authorities()?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
                let verifier = verifier.build().map_err(|error| error.to_string())?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // A session is kept by the client, in a ticket, and costs nothing here.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(config)
    }

    fn connector(&self) -> Result<Connector, String> {
        let provider = &Arc::new(self.terms.provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.terms.versions())
            .map_err(|error| error.to_string())?
            .dangerous();
        let builder = match self.verifies() {
            false => builder.with_custom_certificate_verifier(Arc::new(Anybody(provider.clone()))),
            true => {
                let (authorities, roots) = self.authorities()?;
                builder.with_custom_certificate_verifier(Arc::new(Signed {
                    authorities,
                    roots,
                    verifies_name: self.mode == SslMode::VerifyFull,
                    provider: provider.clone(),
                }))
            }
        };
        let config = match self.own_certificate(provider)? {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        };
        Ok(Connector {
            mode: self.mode,
            config: Arc::new(config),
            origin: self.origin(),
            without_tls: Mutex::default(),
        })
    }

    fn verifies(&self) -> bool {
        self.mode >= SslMode::VerifyCa
    }

    /// The chain that we show, and its key.
    fn own_certificate(&self, provider: &CryptoProvider) -> Result<Option<CertifiedKey>, String> {
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return Ok(None);
        };
        let chain = certificate.certificates()?;
        let parsed = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|error| key.pem(&error))?;
        let signer = provider.key_provider.load_private_key(parsed);
        let signer = signer.map_err(|error| format!("{}: {error}", key.name))?;
        let own = CertifiedKey::new(chain, signer);
        // Whatever else is odd about a certificate is for its readers to judge.
        match own.keys_match() {
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(format!(
                "{}: it is not the key of the certificate in {}",
                key.name, certificate.name
            )),
            _ => Ok(Some(own)),
        }
    }

    fn authorities(&self) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), String> {
        let prefix = self.prefix;
        let file = self.authorities.as_ref();
        let file = file.ok_or_else(|| format!("{prefix}_sslmode needs {prefix}_ca_file"))?;
        let authorities = file.certificates()?;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            let added = roots.add(authority.clone());
            added.map_err(|error| format!("{}: {error}", file.name))?;
        }
        Ok((authorities, roots))
    }
}

impl File {
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let found = found.map_err(|error| self.pem(&error))?;
        match found.is_empty() {
            true => Err(format!("{}: there is no certificate in it", self.name)),
            false => Ok(found),
        }
    }

    fn pem(&self, error: &pem::Error) -> String {
        let what = match error {
            pem::Error::NoItemsFound if contains(&self.bytes, b"ENCRYPTED") => {
                "the key is encrypted: store it without a passphrase".to_owned()
            }
            pem::Error::NoItemsFound => "there is no private key in it".to_owned(),
            // Its text could show a part of the file.
            _ => "it is not a PEM file".to_owned(),
        };
        format!("{}: {what}", self.name)
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}
