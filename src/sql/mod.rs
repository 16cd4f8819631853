//! SQL without a parser: the lexer.
//!
//! Everything here works on bytes: the text of a query is in whatever
//! encoding the client chose.

mod chars;
pub mod lexer;

pub use lexer::{Dialect, Encoding, Lexer, Token, TokenKind};
