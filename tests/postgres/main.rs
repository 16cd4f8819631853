//! Tests against a real PostgreSQL: what a program sees through pgweir must be
//! what it would see without it. `cargo test --test postgres wire::` runs one
//! topic; `tests/support/mod.rs` tells what can be chosen.

// Helpers outside of test functions fail tests by panicking, too.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../oracle/mod.rs"]
mod oracle;
#[path = "../support/mod.rs"]
mod support;

mod auth;
mod auth_query;
mod by_name;
mod cancel;
mod channel_binding;
mod classify;
mod command_line;
mod consistency;
mod console;
mod console_commands;
mod console_extended;
mod crosstalk;
mod descriptors;
mod dns;
mod drivers;
mod error_texts;
mod failover;
mod forgotten;
mod hba;
mod host_lists;
mod hostile;
mod io_uring;
mod libpq;
mod listen;
mod listen_lost;
mod log_lines;
mod memory;
mod modes;
mod ownership;
mod parameters;
mod peers;
mod pgbouncer_command_line;
mod plans;
mod pool;
mod prepared;
mod proxy_protocol;
mod reboot;
mod refusals;
mod replicas;
mod replicas_health;
mod replicas_policy;
mod replicas_repeat;
mod replication;
mod resets;
mod restart;
mod restrictions;
mod routed_programs;
mod session_model;
mod session_scripts;
mod session_state;
mod set_costs;
mod signals;
mod sockets;
mod split;
mod stats_port;
mod suspects;
mod suspend;
mod systemd;
mod threads;
mod timeouts;
mod tls;
mod tls_settings;
mod tokio_postgres_client;
mod tools;
mod transcript;
mod unix_sockets;
mod waiting;
mod wire;
mod workers;
