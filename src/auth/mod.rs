//! Authentication without I/O: user lists, rules for clients, secrets, and the two sides of
//! PostgreSQL's password exchanges. Secrets print as `***` and are wiped when
//! dropped.

pub mod digest;
#[doc(hidden)]
pub mod fuzzing;
pub mod hba;
pub mod ident;
pub mod ldap;
mod masked;
pub mod md5;
mod method;
pub mod scram;
mod secret;
mod tokens;
pub mod userlist;

pub use hba::{Demand, Hba, Visitor};
pub use ident::{IdentMap, IdentMaps};
pub use ldap::Ldap;
pub use masked::Masked;
pub use md5::Md5Hash;
pub use method::{Authority, Method};
pub use scram::{ScramKeys, Verifier};
pub use secret::{Secret, SecretKind};
pub use userlist::{UserList, UserListError};
