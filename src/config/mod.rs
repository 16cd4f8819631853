//! Configuration: the settings table, the two file formats, the environment.
//!
//! Every setting stands once, in the tables of `settings` and `objects`.
//! [`Config::load`] reads a file into them, [`Config::pool`] says what holds for
//! one pool.

mod capacity;
mod check;
mod choice;
mod convert;
mod descriptors;
mod diff;
mod draft;
mod env;
#[doc(hidden)]
pub mod fuzzing;
mod hba;
mod ini;
mod key;
mod ldap;
mod load;
mod mistake;
mod nearest;
mod networks;
mod number;
mod objects;
mod pool_config;
mod reference;
mod resolve;
mod rules;
mod set;
mod settings;
mod show;
mod tls;
mod toml;
mod url;
mod userlist;
mod value;

pub use capacity::{Capacity, Demand, TooMuch};
pub use check::CONSOLE;
pub use choice::{
    AuthType, BalanceReads, Choice, HostRole, IoUring, LoadBalance, LogFormat, LogLevel,
    ReadConsistency, Reads, SessionFeatures, SslMode, SyslogFacility, WithoutReplica,
};
pub use descriptors::{Descriptors, TooFew};
pub use diff::{Change, Changes, ObjectChanges};
pub use key::{Key, Status, Table};
pub use ldap::LdapOptions;
pub use load::{Config, Inputs, Source};
pub use mistake::{LoadError, Mistake, Place};
pub use networks::Networks;
pub use objects::{DatabaseConfig, HostEntry, PeerConfig, UserConfig};
pub use pool_config::{
    AuthQuery, AutoDatabase, EjectTime, Host, HostTerms, LocalSockets, PoolConfig, PoolMode,
    Routing, ServerTls, TcpConfig,
};
pub use reference::{json_schema, sample_ini, sample_toml, settings_markdown};
pub use rules::RuleEntry;
pub use settings::Settings;
pub use show::SettingRow;
pub use tls::{Spelled, Tls12Ciphers, Tls13Ciphers, TlsCurve, TlsVersions};
pub use value::{FileMode, Millis, Raw, Timeout, Value};

#[cfg(test)]
mod tests;
