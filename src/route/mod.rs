//! Which server gets a statement: what is known of a database's servers, what
//! a statement asks for, and what texts were found to be. No sockets and no
//! clock.

pub mod balance;
#[doc(hidden)]
pub mod fuzzing;
pub mod hint;
mod survey;
mod topology;
mod verdicts;

pub use hint::{HintError, hint};
pub use survey::{Finding, QUESTION, Survey};
pub use topology::{Member, Role, Topology};
pub use verdicts::Verdicts;
