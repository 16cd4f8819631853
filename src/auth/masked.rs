use std::fmt;

use zeroize::Zeroizing;

/// A secret that prints as `***` and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Masked(Zeroizing<String>);

impl Masked {
    /// Takes the secret over.
    pub fn new(secret: impl Into<String>) -> Self {
        Masked(Zeroizing::new(secret.into()))
    }

    /// The secret itself; name the reason where this is called.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
