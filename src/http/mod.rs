//! The stats port: `/metrics` for Prometheus, `/healthz` for load balancers.

mod metrics;
mod server;

pub use metrics::{FAMILIES, Family, Kind, render};
pub use server::{Health, serve};
