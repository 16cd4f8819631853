//! Connections to PostgreSQL: dial, login, lease, cleaning, and the pool that
//! keeps them.

pub mod cancel;
pub mod cleanup;
pub mod dial;
pub mod ear;
mod family;
mod lease;
pub mod login;
pub mod login_error;
mod peers;
pub mod pool;
pub mod watch;
pub mod written;

pub use family::{Again, Course, Family, Topologies, Way};
pub use lease::{Attempt, Lease, Server, ServerInfo};
pub use peers::{Peer, Peers};
pub use pool::{Dedicated, Farewell, Greetings, Mail, Opening, Past, Pool};
