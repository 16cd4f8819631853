//! SQL without a parser: lexer and quoting.
