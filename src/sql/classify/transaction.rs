//! Transaction control, read to its end.

use super::query::{Proof, unexpected};
use super::verdict::{Isolation, Modes, Transaction};
use crate::sql::lexer::TokenKind;
use crate::sql::tokens::{Token, Tokens};

/// The command that begins with `first`, which has been taken; `None` if that
/// is no transaction control. Words that do not fit are an error.
pub(super) fn read<'a>(
    first: Token<'a>,
    tokens: &mut Tokens<'a>,
) -> Proof<'a, Option<Transaction>> {
    let is = |word| first.is_word(word);
    let transaction = if is("begin") {
        work(tokens);
        Transaction::Begin(modes(tokens)?)
    } else if is("start") && tokens.accept("transaction") {
        Transaction::Begin(modes(tokens)?)
    } else if is("set") && next_is(tokens, "transaction") {
        tokens.advance();
        Transaction::Set(modes(tokens)?)
    } else if is("commit") && tokens.accept("prepared") {
        name(tokens)?;
        Transaction::TwoPhase
    } else if is("commit") || is("end") {
        work(tokens);
        Transaction::Commit {
            chain: chain(tokens)?,
        }
    } else if is("rollback") && tokens.accept("prepared") {
        name(tokens)?;
        Transaction::TwoPhase
    } else if is("rollback") || is("abort") {
        work(tokens);
        if is("rollback") && tokens.accept("to") {
            tokens.accept("savepoint");
            name(tokens)?;
            Transaction::RollbackTo
        } else {
            Transaction::Rollback {
                chain: chain(tokens)?,
            }
        }
    } else if is("savepoint") {
        name(tokens)?;
        Transaction::Savepoint
    } else if is("release") {
        tokens.accept("savepoint");
        name(tokens)?;
        Transaction::Release
    } else if is("prepare") && is_prepare_transaction(tokens) {
        tokens.advance();
        name(tokens)?;
        Transaction::TwoPhase
    } else {
        return Ok(None);
    };
    if !tokens.at_end() {
        return unexpected(tokens.advance());
    }
    Ok(Some(transaction))
}

fn next_is(tokens: &Tokens<'_>, word: &str) -> bool {
    tokens.peek().is_some_and(|token| token.is_word(word))
}

/// `PREPARE transaction AS ...` prepares a statement of that name.
fn is_prepare_transaction(tokens: &Tokens<'_>) -> bool {
    let mut behind = tokens.clone();
    behind.accept("transaction")
        && behind.peek().is_some_and(|t| t.kind != TokenKind::Word)
        && !behind.next_is(b'(')
}

fn work(tokens: &mut Tokens<'_>) {
    let _ = tokens.accept("work") || tokens.accept("transaction");
}

/// The name of a savepoint or of a prepared transaction.
fn name<'a>(tokens: &mut Tokens<'a>) -> Proof<'a> {
    if tokens.at_end() {
        return unexpected(None);
    }
    tokens.advance();
    Ok(())
}

/// `opt_transaction_chain`
fn chain<'a>(tokens: &mut Tokens<'a>) -> Proof<'a, bool> {
    if !tokens.accept("and") {
        return Ok(false);
    }
    let chain = !tokens.accept("no");
    must(tokens, "chain")?;
    Ok(chain)
}

/// `transaction_mode_list_or_empty`
fn modes<'a>(tokens: &mut Tokens<'a>) -> Proof<'a, Modes> {
    let mut modes = Modes::default();
    let mut comma = false;
    while comma || !tokens.at_end() {
        if tokens.accept("isolation") {
            must(tokens, "level")?;
            modes.isolation = Some(isolation(tokens)?);
        } else if tokens.accept("read") {
            let only = tokens.accept("only");
            if !only {
                must(tokens, "write")?;
            }
            modes.read_only = Some(only);
        } else {
            let deferrable = !tokens.accept("not");
            must(tokens, "deferrable")?;
            modes.deferrable = Some(deferrable);
        }
        comma = tokens.accept_symbol(b',');
    }
    Ok(modes)
}

fn isolation<'a>(tokens: &mut Tokens<'a>) -> Proof<'a, Isolation> {
    if tokens.accept("serializable") {
        Ok(Isolation::Serializable)
    } else if tokens.accept("repeatable") {
        must(tokens, "read")?;
        Ok(Isolation::RepeatableRead)
    } else {
        must(tokens, "read")?;
        if tokens.accept("uncommitted") {
            return Ok(Isolation::ReadUncommitted);
        }
        must(tokens, "committed")?;
        Ok(Isolation::ReadCommitted)
    }
}

fn must<'a>(tokens: &mut Tokens<'a>, word: &str) -> Proof<'a> {
    if tokens.accept(word) {
        Ok(())
    } else {
        unexpected(tokens.advance())
    }
}
