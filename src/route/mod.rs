//! Which server gets a statement: what is known of a database's servers, what
//! a statement asks for, and what texts were found to be. No sockets and no
//! clock.

mod backoff;
pub mod balance;
#[doc(hidden)]
pub mod fuzzing;
pub mod hint;
mod policy;
mod remembered;
mod rules;
mod survey;
mod topology;

pub use backoff::Backoff;
pub use hint::{HintError, hint};
pub use policy::{Kept, Plan, Policy};
pub use rules::Rules;
pub use survey::{Asked, Finding, QUESTION, Survey};
pub use topology::{Member, Needs, Notice, Obstacle, Role, State, Topology};
