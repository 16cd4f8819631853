//! What a certificate says.

use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

/// The first common name of the subject, as PostgreSQL takes it
/// (src/backend/libpq/be-secure-openssl.c); none if it is not text.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    let name = name.as_str().ok()?;
    (!name.contains('\0')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["else.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "org");
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn the_common_name_is_the_subjects() {
        let name = |names: &[&str]| common_name(&certificate(names));
        assert_eq!(name(&["Jöe Doe"]).as_deref(), Some("Jöe Doe"));
        assert_eq!(name(&[]), None);
        assert_eq!(name(&["ann\0bob"]), None);
        assert_eq!(common_name(&CertificateDer::from(vec![48, 3, 1])), None);
    }
}
