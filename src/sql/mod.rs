//! SQL without a parser: lexer, splitting, first keywords and quoting.
//!
//! Everything here works on bytes: the text of a query is in whatever
//! encoding the client chose.

mod chars;
#[doc(hidden)]
pub mod fuzzing;
pub mod keyword;
pub mod lexer;
pub mod quote;
pub mod statements;

pub use keyword::{Command, classify};
pub use lexer::{Dialect, Encoding, Lexer, Token, TokenKind};
pub use quote::{QuoteError, quote_ident, quote_literal};
pub use statements::{Statement, Statements};
