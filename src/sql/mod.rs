//! SQL without a parser: lexer, splitting, first keywords, quoting, and whether
//! a text reads or writes.
//!
//! Everything here works on bytes: the text of a query is in whatever
//! encoding the client chose.

mod chars;
pub mod classify;
pub mod digest;
pub mod effects;
#[doc(hidden)]
pub mod fuzzing;
pub mod keyword;
pub mod lexer;
pub mod listen;
pub mod quote;
pub mod setting;
pub mod shape;
pub mod statements;
mod tokens;

pub use keyword::{Command, classify};
pub use lexer::{Dialect, Encoding, Lexer, Token, TokenKind};
pub use quote::{QuoteError, quote_ident, quote_literal};
pub use statements::{Statement, Statements};
