//! Settings that take one word out of a few.

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::nearest::nearest;
use super::pool_config::PoolMode;
use super::value::{Value, toml_text};

/// A type with a fixed set of words. Words are read without regard to case, as
/// PgBouncer does.
pub trait Choice: Copy + PartialEq + 'static {
    /// Each word and what it means.
    const WORDS: &'static [(&'static str, Self)];

    /// Words that are known, but not built yet.
    const NOT_BUILT: &'static [Self] = &[];

    /// Whether the value does what it says.
    fn is_built(self) -> bool {
        !Self::NOT_BUILT.contains(&self)
    }

    /// The word for this value.
    fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find_map(|&(word, value)| (value == self).then_some(word))
            .unwrap_or_default()
    }
}

macro_rules! choice {
    (
        $(#[$meta:meta])*
        $name:ident {
            $($(#[$doc:meta])* $variant:ident = $word:literal,)*
            $(; not built: $($missing:ident),*)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $name::$variant),)*];
            $(const NOT_BUILT: &'static [Self] = &[$($name::$missing),*];)?
        }
        choice!(value $name);
    };
    (value $name:ident) => {
        impl Value for $name {
            const TYPE: &'static str = "word";

            fn from_ini(text: &str) -> Result<Self, String> {
                find(text)
            }

            fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
                find(&String::from_toml(value)?)
            }

            fn to_ini(&self) -> Option<String> {
                Some(self.word().to_owned())
            }

            fn to_toml(&self) -> Option<String> {
                Some(toml_text(self.word()))
            }

            fn schema() -> Json {
                let built = $name::WORDS.iter().filter(|(_, value)| value.is_built());
                json!({ "enum": built.map(|(word, _)| word).collect::<Vec<_>>() })
            }
        }
    };
}

impl Choice for PoolMode {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("session", PoolMode::Session),
        ("transaction", PoolMode::Transaction),
        ("statement", PoolMode::Statement),
    ];
}
choice!(value PoolMode);

choice! {
    /// How clients prove who they are.
    AuthType {
        /// Anybody, under the database's forced user.
        Any = "any",
        /// Known users, without a password.
        Trust = "trust",
        /// Password in clear text.
        Plain = "plain",
        /// md5, or SCRAM where the user list holds a SCRAM verifier.
        Md5 = "md5",
        ScramSha256 = "scram-sha-256",
        /// TLS client certificate.
        Cert = "cert",
        /// Rules of `auth_hba_file`.
        Hba = "hba",
        /// Password in clear text, which a directory server checks.
        Ldap = "ldap",
        /// Password in clear text, which this machine's modules check.
        Pam = "pam",
    }
}

impl AuthType {
    /// The cargo feature that this binary would need for it, and was built
    /// without.
    pub fn missing_feature(self) -> Option<&'static str> {
        match self {
            AuthType::Ldap if !cfg!(feature = "ldap") => Some("ldap"),
            AuthType::Pam if !cfg!(feature = "pam") => Some("pam"),
            _ => None,
        }
    }
}

choice! {
    /// Whether a connection uses TLS, libpq's words.
    SslMode {
        Disable = "disable",
        Allow = "allow",
        Prefer = "prefer",
        Require = "require",
        VerifyCa = "verify-ca",
        VerifyFull = "verify-full",
    }
}

choice! {
    /// How log lines look.
    LogFormat {
        /// One line for people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
        /// PgBouncer's own line.
        Pgbouncer = "pgbouncer",
    }
}

choice! {
    /// A facility of syslog (RFC 3164).
    SyslogFacility {
        Kern = "kern",
        User = "user",
        Mail = "mail",
        Daemon = "daemon",
        Auth = "auth",
        Syslog = "syslog",
        Lpr = "lpr",
        News = "news",
        Uucp = "uucp",
        Cron = "cron",
        Authpriv = "authpriv",
        Ftp = "ftp",
        Local0 = "local0",
        Local1 = "local1",
        Local2 = "local2",
        Local3 = "local3",
        Local4 = "local4",
        Local5 = "local5",
        Local6 = "local6",
        Local7 = "local7",
    }
}

impl SyslogFacility {
    /// Its number in a message's priority.
    pub fn code(self) -> u32 {
        match self {
            SyslogFacility::Local0 => 16,
            SyslogFacility::Local1 => 17,
            SyslogFacility::Local2 => 18,
            SyslogFacility::Local3 => 19,
            SyslogFacility::Local4 => 20,
            SyslogFacility::Local5 => 21,
            SyslogFacility::Local6 => 22,
            SyslogFacility::Local7 => 23,
            // In the order of their numbers from 0 on.
            first => first as u32,
        }
    }
}

choice! {
    /// The least important events that are logged.
    LogLevel {
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

choice! {
    /// How server connections spread over several hosts.
    LoadBalance {
        /// Each new connection goes to the next host.
        RoundRobin = "round-robin",
        /// Stay with one host until it fails.
        Disable = "disable",
    }
}

choice! {
    /// Where statements that only read may run.
    Reads {
        /// On a replica.
        Replica = "replica",
        /// On the primary, as everything else.
        Primary = "primary",
        /// On any server, the primary included.
        Any = "any",
    }
}

choice! {
    /// Which writes a read on a replica is certain to see.
    ReadConsistency {
        /// None in particular.
        Eventual = "eventual",
        /// Those that its own client made before.
        Session = "session",
        /// All that were acknowledged through this process before it began.
        Global = "global",
    }
}

choice! {
    /// What becomes of reads while no replica may have them.
    WithoutReplica {
        Primary = "primary",
        Fail = "fail",
    }
}

choice! {
    /// What a host may be.
    HostRole {
        /// What it says that it is.
        Auto = "auto",
        /// Never a replica that serves reads.
        Primary = "primary",
        /// Never the primary.
        Replica = "replica",
    }
}

choice! {
    /// What becomes of statements that leave something in their session.
    SessionFeatures {
        /// The client keeps its server connection as long as it is there.
        Pin = "pin",
        /// They are refused.
        Error = "error",
        /// They run, and what they leave is there for the next client.
        Ignore = "ignore",
    }
}

choice! {
    /// Whether io_uring(7) is used.
    IoUring {
        /// If the kernel allows it.
        Auto = "auto",
        /// Or else pgweir does not start.
        On = "on",
        Off = "off",
    }
}

choice! {
    /// Which of several replicas gets a read.
    BalanceReads {
        /// The one where the fewest are under way or wait, by weight.
        LeastOutstanding = "least-outstanding",
        /// One after the other, by weight.
        RoundRobin = "round-robin",
        /// The better one of two that chance picks.
        Random = "random",
    }
}

fn find<C: Choice>(text: &str) -> Result<C, String> {
    if let Some(&(_, value)) = C::WORDS
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text))
    {
        return Ok(value);
    }
    let words: Vec<&str> = C::WORDS.iter().map(|&(word, _)| word).collect();
    Err(match nearest(text, words.iter().copied()) {
        Some(word) => format!("unknown value `{text}`, did you mean `{word}`?"),
        None => format!("unknown value `{text}`: one of {}", words.join(", ")),
    })
}
