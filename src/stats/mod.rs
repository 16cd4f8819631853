//! Counters that a worker keeps without locks, merged when somebody looks.

mod average;
mod counters;

pub use average::{Average, Averages};
pub use counters::{Counters, Totals, add};
