//! What the tests against a real PostgreSQL share: a throw-away cluster, a
//! pooler in front of it, a client that speaks the wire by hand, and runners
//! for real programs.
//!
//! Environment:
//! - `PG_BIN`: directory with `initdb`, `postgres`, `psql` and `pgbench`.
//! - `PGWEIR_TEST_POOLER`: what stands in front of PostgreSQL instead of the
//!   pgweir just built: another pgweir, a `pgbouncer`, or the word `none` for
//!   nothing at all. The last two prove that a test's expectation is
//!   PgBouncer's, or PostgreSQL's own.
//! - `PGWEIR_TEST_WORKERS=1`: as many workers, instead of two;
//! - `PGWEIR_TEST_CONFIG=ini`: start pgweir from a pgbouncer.ini, but where a test
//!   chooses ([`Setup::in_toml`]). Tests need a pgweir.toml where databases have
//!   several servers with ports of their own (all that is routed), where it is
//!   PostgreSQL's behaviour that counts (misused names of prepared statements,
//!   unknown users and `auth_query`, messages that are too long), and where
//!   SIGTERM ends clients instead of waiting for them.
//! - `PGWEIR_TEST_LIMIT`: after how many seconds a test is taken to hang, if not 240.
//! - `PGWEIR_TEST_TLS=1`: TLS between all programs that connect by TCP.

// No single test program uses all of it.
#![allow(dead_code, unused_imports)]

mod address;
mod cluster;
mod fake_server;
mod frontend;
mod guard;
pub mod leftovers;
mod pooler;
mod programs;
mod raw;
mod relay;
pub mod tls;
mod wait;

pub use address::{Address, free_port};
pub use cluster::{Cluster, TLS, run_as_server, server_user, temp_dir};
pub use fake_server::{answering, answering_scram};
pub use frontend::Frontend;
pub use pooler::{Pooler, Setup, Target, Value, secs, target};
pub use programs::{
    Output, Program, Running, node, pgbench, pgweir, postgresql, psql, psql_program, python,
};
pub use raw::{Answer, Failure, Message, RawClient, tags};
pub use relay::Relay;
pub use tls::Certificates;
pub use wait::{PATIENCE, eventually, patiently};
