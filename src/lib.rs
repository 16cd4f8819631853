//! pgweir: a PostgreSQL connection pooler.
//!
//! The house has three floors; each room uses only rooms below it.
//! `docs/architecture.md` tells what each is for.
//!
//! - top: [`cli`], [`process`], [`admin`], [`http`]
//! - I/O: [`client`], [`server`], [`worker`], [`net`], [`reactor`]
//! - pure (no sockets, no clock): [`pool`], [`flow`], [`route`], [`sql`],
//!   [`auth`], [`wire`], [`config`], [`stats`]

pub mod admin;
pub mod auth;
pub mod cli;
pub mod client;
pub mod config;
pub mod flow;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod net;
pub mod pool;
pub mod process;
pub mod reactor;
pub mod route;
pub mod server;
pub mod sql;
pub mod stats;
pub mod wire;
pub mod worker;
