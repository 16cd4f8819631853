//! Versions, ciphers and curves of TLS, by the names that OpenSSL and PgBouncer
//! have for them. What the library behind does not have is refused by name.

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::value::{Value, toml_text};

/// A value as it was written, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelled<T> {
    text: String,
    meaning: T,
}

/// What such a text can mean.
pub trait Meaning: Sized + Clone + PartialEq {
    /// The type's name in the documentation.
    const TYPE: &'static str;

    /// Reads it; the error completes "`key`: ".
    fn of(text: &str) -> Result<Self, String>;
}

/// Versions that may be agreed on; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsVersions {
    pub tls12: bool,
    pub tls13: bool,
}

/// Cipher suites of TLS 1.2 by OpenSSL's names, the best first; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls12Ciphers(pub Vec<&'static str>);

/// Cipher suites of TLS 1.3, the best first; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls13Ciphers(pub Vec<&'static str>);

/// The group for the key exchange; `None`: any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsCurve(pub Option<&'static str>);

/// The suites that there are.
const TLS12: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305",
];
const TLS13: [&str; 3] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// Each group with the names that people have for it.
const CURVES: [(&str, &[&str]); 4] = [
    ("X25519", &["X25519"]),
    ("prime256v1", &["prime256v1", "P-256", "secp256r1"]),
    ("secp384r1", &["secp384r1", "P-384"]),
    ("X25519MLKEM768", &["X25519MLKEM768"]),
];

impl<T: Meaning> Spelled<T> {
    /// # Errors
    /// What is wrong with the text.
    pub fn new(text: &str) -> Result<Spelled<T>, String> {
        Ok(Spelled {
            meaning: T::of(text)?,
            text: text.to_owned(),
        })
    }

    pub fn meaning(&self) -> &T {
        &self.meaning
    }
}

impl Spelled<TlsVersions> {
    /// PgBouncer's default.
    pub fn secure() -> Self {
        Spelled {
            text: "secure".to_owned(),
            meaning: TlsVersions {
                tls12: true,
                tls13: true,
            },
        }
    }
}

impl Spelled<Tls12Ciphers> {
    /// PgBouncer's default.
    pub fn usual() -> Self {
        Spelled {
            text: "default".to_owned(),
            meaning: Tls12Ciphers(TLS12.to_vec()),
        }
    }
}

impl Spelled<TlsCurve> {
    /// PgBouncer's default.
    pub fn auto() -> Self {
        Spelled {
            text: "auto".to_owned(),
            meaning: TlsCurve(None),
        }
    }
}

impl Default for Tls13Ciphers {
    fn default() -> Self {
        Tls13Ciphers(TLS13.to_vec())
    }
}

impl Meaning for TlsVersions {
    const TYPE: &'static str = "TLS versions";

    fn of(text: &str) -> Result<Self, String> {
        let (mut tls12, mut tls13) = (false, false);
        for word in words(text) {
            match word.to_ascii_lowercase().as_str() {
                "tlsv1.2" => tls12 = true,
                "tlsv1.3" => tls13 = true,
                "secure" | "all" => (tls12, tls13) = (true, true),
                "tlsv1.0" | "tlsv1.1" => {
                    return Err(format!(
                        "`{word}` is not supported: the oldest version is tlsv1.2"
                    ));
                }
                _ => {
                    return Err(format!(
                        "unknown version `{word}`: tlsv1.2, tlsv1.3, secure or all (both)"
                    ));
                }
            }
        }
        match tls12 || tls13 {
            true => Ok(TlsVersions { tls12, tls13 }),
            false => Err("no version is named".to_owned()),
        }
    }
}

impl Meaning for Tls12Ciphers {
    const TYPE: &'static str = "ciphers";

    fn of(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "default" | "secure" | "normal" | "all" => return Ok(Tls12Ciphers(TLS12.to_vec())),
            "fast" => {
                let mut suites = TLS12.to_vec();
                suites.sort_by_key(|suite| !suite.contains("AES128"));
                return Ok(Tls12Ciphers(suites));
            }
            _ => {}
        }
        suites(text, &TLS12).map(Tls12Ciphers)
    }
}

impl Meaning for Tls13Ciphers {
    const TYPE: &'static str = "ciphers";

    fn of(text: &str) -> Result<Self, String> {
        let suites = suites(text, &TLS13);
        // PgBouncer's words, which its log has.
        suites
            .map(Tls13Ciphers)
            .map_err(|why| format!("failed to set the TLSv1.3 cipher suites: {why}"))
    }
}

impl Meaning for TlsCurve {
    const TYPE: &'static str = "curve";

    fn of(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(TlsCurve(None));
        }
        let is_it = |name: &&str| name.eq_ignore_ascii_case(text);
        let curve = CURVES.iter().find(|(_, names)| names.iter().any(is_it));
        match curve {
            Some((curve, _)) => Ok(TlsCurve(Some(curve))),
            None => Err(format!(
                "`{text}` is not supported: auto, X25519, prime256v1 (P-256), secp384r1 (P-384) \
                 or X25519MLKEM768"
            )),
        }
    }
}

/// The suites of a list, in its order.
fn suites(text: &str, all: &[&'static str]) -> Result<Vec<&'static str>, String> {
    let suite = |word: &str| {
        let found = all.iter().find(|suite| suite.eq_ignore_ascii_case(word));
        let unknown = || format!("`{word}` is not supported: {}", all.join(", "));
        found.copied().ok_or_else(unknown)
    };
    let suites: Vec<_> = words(text).map(suite).collect::<Result<_, _>>()?;
    match suites.is_empty() {
        true => Err("no cipher is named".to_owned()),
        false => Ok(suites),
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split([':', ',', ' ']);
    words.filter(|word| !word.is_empty())
}

impl<T: Meaning> Value for Spelled<T> {
    const TYPE: &'static str = T::TYPE;

    fn from_ini(text: &str) -> Result<Self, String> {
        Spelled::new(text)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        Spelled::new(&String::from_toml(value)?)
    }

    fn to_ini(&self) -> Option<String> {
        Some(self.text.clone())
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml_text(&self.text))
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning<T: Meaning>(text: &str) -> Result<T, String> {
        Spelled::<T>::new(text).map(|spelled| spelled.meaning().clone())
    }

    #[test]
    fn versions() {
        let versions = |text| meaning::<TlsVersions>(text).map(|v| (v.tls12, v.tls13));
        for (text, expected) in [
            ("secure", (true, true)),
            ("all", (true, true)),
            ("tlsv1.2", (true, false)),
            ("TLSv1.3", (false, true)),
            ("tlsv1.2,tlsv1.3", (true, true)),
            ("tlsv1.2 : tlsv1.3", (true, true)),
        ] {
            assert_eq!(versions(text), Ok(expected), "{text}");
        }
        for (text, expected) in [
            (
                "tlsv1.0",
                "`tlsv1.0` is not supported: the oldest version is tlsv1.2",
            ),
            (
                "tlsv1.3,tlsv1.1",
                "`tlsv1.1` is not supported: the oldest version is tlsv1.2",
            ),
            (
                "sslv3",
                "unknown version `sslv3`: tlsv1.2, tlsv1.3, secure or all (both)",
            ),
            ("", "no version is named"),
        ] {
            assert_eq!(
                versions(text).as_ref().map_err(String::as_str),
                Err(expected)
            );
        }
        assert_eq!(Spelled::secure(), Spelled::new("secure").unwrap());
    }

    #[test]
    fn ciphers() {
        let suites = |text| meaning::<Tls12Ciphers>(text).map(|suites| suites.0);
        for word in ["default", "secure", "normal", "all", "ALL"] {
            assert_eq!(suites(word).unwrap(), TLS12);
        }
        let fast = suites("fast").unwrap();
        assert!(fast[0].contains("AES128") && fast[1].contains("AES128"));
        assert_eq!(fast.len(), TLS12.len());
        assert_eq!(
            suites("ecdhe-rsa-chacha20-poly1305:ECDHE-ECDSA-AES128-GCM-SHA256").unwrap(),
            [
                "ECDHE-RSA-CHACHA20-POLY1305",
                "ECDHE-ECDSA-AES128-GCM-SHA256"
            ]
        );
        for (text, named) in [
            ("HIGH:!aNULL", "`HIGH`"),
            ("ECDHE-RSA-AES256-GCM-SHA384,AES256-SHA", "`AES256-SHA`"),
            ("TLS_AES_256_GCM_SHA384", "`TLS_AES_256_GCM_SHA384`"),
            ("", "no cipher"),
        ] {
            let error = suites(text).unwrap_err();
            assert!(error.starts_with(named), "{error}");
        }
        let suites = |text| meaning::<Tls13Ciphers>(text).map(|suites| suites.0);
        assert_eq!(
            suites("TLS_CHACHA20_POLY1305_SHA256").unwrap(),
            ["TLS_CHACHA20_POLY1305_SHA256"]
        );
        let error = suites("TLS_AES_128_CCM_SHA256").unwrap_err();
        let expected = "failed to set the TLSv1.3 cipher suites: `TLS_AES_128_CCM_SHA256`";
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(Spelled::usual(), Spelled::new("default").unwrap());
    }

    #[test]
    fn curves() {
        let curve = |text| meaning::<TlsCurve>(text).map(|curve| curve.0);
        for (text, expected) in [
            ("auto", None),
            ("P-256", Some("prime256v1")),
            ("secp384r1", Some("secp384r1")),
            ("x25519", Some("X25519")),
        ] {
            assert_eq!(curve(text), Ok(expected));
        }
        for text in ["secp521r1", "none", ""] {
            let error = curve(text).unwrap_err();
            assert!(error.starts_with(&format!("`{text}` is not")), "{error}");
        }
        assert_eq!(Spelled::auto(), Spelled::new("auto").unwrap());
    }
}
