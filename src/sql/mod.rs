//! SQL without a parser: lexer, splitting and first keywords.
//!
//! Everything here works on bytes: the text of a query is in whatever
//! encoding the client chose.

mod chars;
pub mod keyword;
pub mod lexer;
pub mod statements;

pub use keyword::{Command, classify};
pub use lexer::{Dialect, Encoding, Lexer, Token, TokenKind};
pub use statements::{Statement, Statements};
