//! Where a statement goes.

#[doc(hidden)]
pub mod fuzzing;
pub mod hint;
pub mod verdicts;

pub use hint::{HintError, Role, hint};
pub use verdicts::Verdicts;
