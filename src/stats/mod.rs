//! Counters that a worker keeps without locks, merged when somebody looks.

mod counters;

pub use counters::{Counters, Totals, add};
