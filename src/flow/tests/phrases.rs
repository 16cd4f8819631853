//! What clients do most often, each with its answer as one step of a script.

use super::messages::*;
use super::script::Script;

/// The server's error for a statement that it does not have.
pub fn missing(name: &str) -> Bytes {
    let text = format!("prepared statement \"{name}\" does not exist");
    error("26000", &text)
}

impl Script {
    /// A simple query, and no transaction is open after it.
    pub fn runs(self, sql: &str, tag: &str) -> Self {
        self.passes(&[query(sql)])
            .answers(&[complete(tag), ready('I')])
            .free()
    }

    /// A SET that the server reports.
    pub fn sets(self, name: &str, value: &str) -> Self {
        self.passes(&[query(&format!("set {name} = x"))])
            .answers(&[complete("SET"), status(name, value), ready('I')])
            .free()
    }

    /// The client prepares `name`, on a server that lacks the statement.
    pub fn prepares(self, name: &str, on_server: &str, sql: &str) -> Self {
        let sent = [parse(on_server, sql), sync()];
        self.sends(&[parse(name, sql), sync()], &sent, &[])
            .answers(&[parsed(), ready('I')])
            .free()
    }

    /// The same on a server that has it.
    pub fn prepares_known(self, name: &str, sql: &str) -> Self {
        self.sends(&[parse(name, sql), sync()], &[sync()], &[parsed()])
            .answers(&[ready('I')])
            .free()
    }

    /// The client executes `name`, on a server that has the statement.
    pub fn uses(self, name: &str, on_server: &str) -> Self {
        self.executes(name, &[bind("", on_server), execute(), sync()])
            .answers(&[bound(), complete("SELECT 1"), ready('I')])
            .free()
    }

    /// The same on a server that lacks it.
    pub fn uses_anew(self, name: &str, on_server: &str, sql: &str) -> Self {
        let answer = [bound(), complete("SELECT 1"), ready('I')];
        let parse = parse(on_server, sql);
        self.executes(name, &[parse, bind("", on_server), execute(), sync()])
            .gives(&[parsed(), answer.concat()], &answer)
            .free()
    }

    /// The client executes `name`, and the server gets `to_server`.
    pub fn executes(self, name: &str, to_server: &[Bytes]) -> Self {
        self.sends(&[bind("", name), execute(), sync()], to_server, &[])
    }

    /// The client asks for the columns of `name`, and the server gets `to_server`.
    pub fn describes(self, name: &str, to_server: &[Bytes]) -> Self {
        self.sends(&[describe(name), sync()], to_server, &[])
    }

    /// The client binds `name`, and the server gets `to_server`.
    pub fn binds(self, name: &str, to_server: &[Bytes]) -> Self {
        self.sends(&[bind("", name), sync()], to_server, &[])
    }

    /// The server has no statement for the client's `name`.
    pub fn misses(self, name: &str) -> Self {
        let theirs = [missing("pgweir_missing"), ready('I')];
        self.gives(&theirs, &[missing(name), ready('I')])
    }
}
