//! The extended query protocol of the console: prepared statements and portals.
//! Manual, "Extended Query"; texts of errors are PostgreSQL's (postgres.c,
//! pquery.c). The console takes no parameters and knows no transactions, so a
//! portal lives until the next Sync.

use std::collections::HashMap;

use bytes::{Buf, BytesMut};

use super::command::{self, Command};
use super::reply::{Failure, Formats, PROTOCOL_VIOLATION};
use crate::wire::names::{self, Target};

/// More named statements or portals than these, nobody at a console needs.
const MAX_NAMED: usize = 1000;

/// What a console has prepared.
#[derive(Debug, Default)]
pub struct Extended {
    statements: HashMap<Box<[u8]>, Prepared>,
    portals: HashMap<Box<[u8]>, Portal>,
}

/// A command, or nothing at all.
type Prepared = Option<Command>;

/// A statement that is ready to run, or has run in part.
#[derive(Debug)]
pub struct Portal {
    pub command: Prepared,
    pub formats: Formats,
    /// Messages that are left after an Execute with a limit.
    rest: Option<BytesMut>,
}

/// What Describe is about.
#[derive(Debug)]
pub struct Described<'a> {
    pub command: Option<&'a Command>,
    /// `None`: a statement, whose parameters are told, too.
    pub formats: Option<&'a Formats>,
}

impl Extended {
    /// Parse.
    pub fn parse(&mut self, body: &[u8]) -> Result<(), Failure> {
        let view = names::parse(body).ok_or_else(|| broken("Parse"))?;
        let (text, _) = names::split_nul(view.definition).ok_or_else(|| broken("Parse"))?;
        let text = String::from_utf8_lossy(text);
        let prepared = match text.trim_matches([' ', '\t', '\n', '\r', ';']).is_empty() {
            true => None,
            false => Some(command::parse(&text).map_err(Failure::from)?),
        };
        if !view.name.is_empty() && self.statements.contains_key(view.name) {
            let name = String::from_utf8_lossy(view.name);
            let text = format!("prepared statement \"{name}\" already exists");
            return Err(Failure::error("42P05", text));
        }
        has_room(self.statements.len())?;
        self.statements.insert(view.name.into(), prepared);
        Ok(())
    }

    /// Bind.
    pub fn bind(&mut self, body: &[u8]) -> Result<(), Failure> {
        let view = names::bind(body).ok_or_else(|| broken("Bind"))?;
        let command = self.statement(view.statement)?.clone();
        let mut rest = body.get(view.rest..).unwrap_or_default();
        formats(&mut rest)?;
        let parameters = rest.try_get_u16().map_err(|_| broken("Bind"))?;
        if parameters > 0 {
            let text = format!(
                "bind message supplies {parameters} parameters, but prepared statement \"{}\" \
                 requires 0",
                String::from_utf8_lossy(view.statement)
            );
            return Err(Failure::error(PROTOCOL_VIOLATION, text));
        }
        let formats = formats(&mut rest)?;
        if !rest.is_empty() {
            return Err(broken("Bind"));
        }
        if !view.portal.is_empty() && self.portals.contains_key(view.portal) {
            let name = String::from_utf8_lossy(view.portal);
            let text = format!("portal \"{name}\" already exists");
            return Err(Failure::error("42P03", text));
        }
        has_room(self.portals.len())?;
        let portal = Portal {
            command,
            formats,
            rest: None,
        };
        self.portals.insert(view.portal.into(), portal);
        Ok(())
    }

    /// Describe.
    pub fn describe(&self, body: &[u8]) -> Result<Described<'_>, Failure> {
        match names::target(body).ok_or_else(|| broken("Describe"))? {
            Target::Statement(name) => Ok(Described {
                command: self.statement(name)?.as_ref(),
                formats: None,
            }),
            Target::Portal(name) => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                Ok(Described {
                    command: portal.command.as_ref(),
                    formats: Some(&portal.formats),
                })
            }
        }
    }

    /// Close; it is no error if there is nothing of this name.
    pub fn close(&mut self, body: &[u8]) -> Result<(), Failure> {
        match names::target(body).ok_or_else(|| broken("Close"))? {
            Target::Statement(name) => drop(self.statements.remove(name)),
            Target::Portal(name) => drop(self.portals.remove(name)),
        }
        Ok(())
    }

    /// Execute: the portal, and how many rows are wanted (0: all).
    pub fn execute(&mut self, body: &[u8]) -> Result<(&mut Portal, u32), Failure> {
        let (name, mut limit) = names::split_nul(body).ok_or_else(|| broken("Execute"))?;
        let limit = limit.try_get_u32().map_err(|_| broken("Execute"))?;
        let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
        Ok((portal, limit))
    }

    /// Sync: there is no transaction that would keep portals.
    pub fn sync(&mut self) {
        self.portals.clear();
    }

    /// Query: replaces what has no name.
    pub fn simple_query(&mut self) {
        self.statements.remove(&b""[..]);
        self.portals.clear();
    }

    fn statement(&self, name: &[u8]) -> Result<&Prepared, Failure> {
        self.statements.get(name).ok_or_else(|| {
            let text = match name {
                b"" => "unnamed prepared statement does not exist".to_owned(),
                name => format!(
                    "prepared statement \"{}\" does not exist",
                    String::from_utf8_lossy(name)
                ),
            };
            Failure::error("26000", text)
        })
    }
}

impl Portal {
    /// What an Execute with a limit left to send.
    pub fn take_rest(&mut self) -> Option<BytesMut> {
        self.rest.take()
    }

    /// The part of `reply` with so many rows; the others are kept for the next
    /// Execute. `true`: there may be more (PortalSuspended).
    pub fn split(&mut self, mut reply: BytesMut, limit: u32) -> (BytesMut, bool) {
        let (mut at, mut rows) = (0, 0);
        while rows < limit {
            let row = reply.get(at..).and_then(row_length);
            let Some(length) = row else {
                return (reply, false);
            };
            at += length;
            rows += 1;
        }
        self.rest = Some(reply.split_off(at));
        (reply, true)
    }
}

/// The length of a DataRow that these messages begin with.
fn row_length(messages: &[u8]) -> Option<usize> {
    let (kind, rest) = messages.split_first()?;
    let length = u32::from_be_bytes(*rest.first_chunk()?);
    (*kind == b'D').then_some(length as usize + 1)
}

fn formats(rest: &mut &[u8]) -> Result<Formats, Failure> {
    let count = rest.try_get_u16().map_err(|_| broken("Bind"))?;
    let mut binary = Vec::new();
    for _ in 0..count {
        binary.push(match rest.try_get_u16().map_err(|_| broken("Bind"))? {
            0 => false,
            1 => true,
            other => {
                let text = format!("unsupported format code: {other}");
                return Err(Failure::error("22023", text));
            }
        });
    }
    Ok(Formats(binary))
}

fn has_room(named: usize) -> Result<(), Failure> {
    match named < MAX_NAMED {
        true => Ok(()),
        false => Err(Failure::error(
            "54000",
            "too many prepared statements or portals",
        )),
    }
}

fn broken(what: &str) -> Failure {
    Failure::error(PROTOCOL_VIOLATION, format!("broken {what} packet"))
}

fn no_portal(name: &[u8]) -> Failure {
    let name = String::from_utf8_lossy(name);
    Failure::error("34000", format!("portal \"{name}\" does not exist"))
}
