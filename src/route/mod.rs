//! Which server gets a statement: what is known of a database's servers, what
//! a statement asks for, and what texts were found to be. No sockets and no
//! clock.

pub mod balance;
#[doc(hidden)]
pub mod fuzzing;
pub mod hint;
mod policy;
mod remembered;
mod rules;
mod survey;
mod topology;

pub use hint::{HintError, hint};
pub use policy::{Plan, Policy};
pub use rules::Rules;
pub use survey::{Finding, QUESTION, Survey};
pub use topology::{Member, Role, Topology};
