//! Configuration: the settings table, the two file formats, the environment.

mod pool_config;

pub use pool_config::{Host, PoolConfig, PoolMode, TcpConfig};
