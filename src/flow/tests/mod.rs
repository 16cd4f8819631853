//! Both halves of a link together, driven by bytes. Every conversation is run
//! at every way of cutting what is sent, and must give the same bytes.

mod by_name;
mod channels;
mod copy;
mod extended;
mod look_up;
mod messages;
mod own;
mod parameters;
mod phrases;
mod plans;
mod release;
mod request;
mod resets;
mod script;
mod simple;
mod statements;
mod unnamed;
