//! Authentication without I/O: SCRAM, md5, plain, user lists. Secrets print as
//! `***`.

mod masked;

pub use masked::Masked;
