//! Authentication without I/O: user lists, secrets, and the two sides of
//! PostgreSQL's password exchanges. Secrets print as `***` and are wiped when
//! dropped.

pub mod digest;
#[doc(hidden)]
pub mod fuzzing;
mod masked;
pub mod md5;
mod method;
pub mod scram;
mod secret;
pub mod userlist;

pub use masked::Masked;
pub use md5::Md5Hash;
pub use method::Method;
pub use scram::{ScramKeys, Verifier};
pub use secret::{Secret, SecretKind};
pub use userlist::{UserList, UserListError};
