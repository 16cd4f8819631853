//! What a certificate says.

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::parse_x509_certificate;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

/// The first common name of the subject, as PostgreSQL takes it
/// (src/backend/libpq/be-secure-openssl.c); none if it is not text.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    let name = name.as_str().ok()?;
    (!name.contains('\0')).then(|| name.to_owned())
}

/// The data of the channel binding `tls-server-end-point` (RFC 5929, section
/// 4): the certificate's hash, by the function that its signature uses, SHA-256
/// in place of older ones. `None` if the signature uses none, as that of
/// Ed25519.
pub(super) fn end_point_hash(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let hash = hash_function(&parsed.signature_algorithm)?;
    Some(match hash {
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// By the object identifiers of RFC 8017, appendix A.2, and RFC 5758.
fn hash_function(algorithm: &AlgorithmIdentifier<'_>) -> Option<Hash> {
    match algorithm.algorithm.to_id_string().as_str() {
        // RSA with MD5, SHA-1 and SHA-256; ECDSA with SHA-1 and SHA-256.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => {
            Some(Hash::Sha256)
        }
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => Some(Hash::Sha256),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Hash::Sha384),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Hash::Sha512),
        // RSASSA-PSS names it in its parameters.
        "1.2.840.113549.1.1.10" => {
            let parameters = RsaSsaPssParams::try_from(algorithm.parameters()?).ok()?;
            match parameters.hash_algorithm_oid().to_id_string().as_str() {
                "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(Hash::Sha256),
                "2.16.840.1.101.3.4.2.2" => Some(Hash::Sha384),
                "2.16.840.1.101.3.4.2.3" => Some(Hash::Sha512),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
        PKCS_ED25519, SignatureAlgorithm,
    };

    use super::*;

    fn certificate(
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
    ) -> CertificateDer<'static> {
        let key = KeyPair::generate_for(algorithm).unwrap();
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
        let name = |names: &[&str]| common_name(&certificate(names, &PKCS_ECDSA_P256_SHA256));
        assert_eq!(name(&["Jöe Doe"]).as_deref(), Some("Jöe Doe"));
        assert_eq!(name(&[]), None);
        assert_eq!(name(&["ann\0bob"]), None);
        assert_eq!(common_name(&CertificateDer::from(vec![48, 3, 1])), None);
    }

    #[test]
    fn the_hash_is_the_signatures() {
        let certificate_of = |algorithm| certificate(&["a"], algorithm);
        let one = certificate_of(&PKCS_ECDSA_P256_SHA256);
        assert_eq!(end_point_hash(&one), Some(Sha256::digest(&one).to_vec()));
        let one = certificate_of(&PKCS_ECDSA_P384_SHA384);
        assert_eq!(end_point_hash(&one), Some(Sha384::digest(&one).to_vec()));
        assert_eq!(end_point_hash(&certificate_of(&PKCS_ED25519)), None);
        assert_eq!(end_point_hash(&CertificateDer::from(vec![48, 3, 1])), None);
    }
}
