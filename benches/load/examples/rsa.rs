//! A thousand signatures of ring's, as TLS logins need them of a key of RSA: in
//! user time, milliseconds of this are microseconds of one. The argument is the
//! key, PKCS#8 in DER.

use anyhow::{Context, Result};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{SignatureScheme, crypto::ring::sign::any_supported_type};

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("which key?")?;
    let key = PrivatePkcs8KeyDer::from(std::fs::read(path)?);
    let key = any_supported_type(&key.into())?;
    let signer = key
        .choose_scheme(&[SignatureScheme::RSA_PSS_SHA256])
        .context("a key of RSA is needed")?;
    for _ in 0..1000 {
        signer.sign(b"what both sides have said so far")?;
    }
    Ok(())
}
