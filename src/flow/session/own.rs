//! Statements about what only pgweir knows, which are answered here: the setting
//! `pgweir.role`, and DEALLOCATE of a name that the client has given by Parse. The
//! server has neither.
//!
//! PostgreSQL would take it for the setting of some extension: whatever its
//! value, and it would stay on the server connection for the next client.
//!
//! What is said is what PostgreSQL says of a setting that has a few words for
//! values. In a transaction that has failed the server answers; and what fails
//! within a transaction fails on the server, too.

use std::rc::Rc;

use super::super::backend::Backend;
use super::super::replies::{NamedUndo, Reply, Undo};
use super::super::statements::Statement;
use super::super::{Output, Shared};
use super::role::{ROLE, role_of};
use super::{MISSING, Message, Session, Step};
use crate::config::{PoolMode, Reads};
use crate::sql::setting::{self, Change};
use crate::sql::{Command, Dialect, classify};
use crate::wire::build::{self, Refusal};
use crate::wire::names::{self, Target};
use crate::wire::{FrontendTag, HEADER_LEN, TxStatus};

const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
const NO_DATA: &[u8] = b"n\0\0\0\x04";
const NO_PARAMETERS: &[u8] = b"t\0\0\0\x06\0\0";
const PORTAL_SUSPENDED: &[u8] = b"s\0\0\0\x04";
/// RowDescription of one column of type text; its last byte is the format.
const COLUMN: &[u8] =
    b"T\0\0\0\x24\0\x01pgweir.role\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
const BINARY_COLUMN: &[u8] =
    b"T\0\0\0\x24\0\x01pgweir.role\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\x01";

/// What is asked of pgweir.
enum Matter {
    Role(Change),
    /// The client has a statement of this name.
    Deallocate(Vec<u8>),
}

/// A portal of a statement that is answered here; it lives until Sync.
#[derive(Debug)]
pub(super) struct Portal {
    name: Box<[u8]>,
    statement: Rc<Statement>,
    binary: bool,
}

/// Where answers go.
pub(super) struct Link<'a, 'o> {
    pub backend: Option<&'a mut Backend>,
    pub out: &'a mut Output<'o>,
    pub to_client: &'a mut Vec<u8>,
}

impl<'o> Link<'_, 'o> {
    pub fn reborrow(&mut self) -> Link<'_, 'o> {
        Link {
            backend: self.backend.as_deref_mut(),
            out: self.out,
            to_client: self.to_client,
        }
    }
}

impl Session {
    /// Whether [`Session::own`] has to look at a message.
    #[inline]
    pub(super) fn may_be_own(&self, message: &Message<'_>) -> bool {
        let may_be = match (message.tag, message.bytes.get(HEADER_LEN..)) {
            (FrontendTag::Query, Some(text)) => self.may_be_about_it(text),
            (FrontendTag::Parse, Some([0, text @ ..])) => self.may_be_about_it(text),
            (FrontendTag::Parse, Some(named)) => {
                let text = names::split_nul(named).map(|(_, text)| text);
                self.may_be_about_it(text.unwrap_or_default())
            }
            _ => self.names.as_ref().is_some_and(|names| names.own),
        };
        // In session mode a server connection is one client's, settings and all.
        may_be
            && self.mode() != PoolMode::Session
            && (self.follows() || message.tag == FrontendTag::Query)
    }

    #[inline]
    fn may_be_about_it(&self, text: &[u8]) -> bool {
        setting::may_begin(text)
            || self.role.is_changed()
            || (self.names.is_some() && may_deallocate(text))
    }

    /// Answers a message if that is for pgweir to do. `None`: it is like any other.
    pub(super) fn own(
        &mut self,
        message: Message<'_>,
        mut link: Link<'_, '_>,
        shared: &mut Shared<'_>,
    ) -> Option<Step> {
        if message.tag == FrontendTag::Sync {
            if let Some(names) = &mut self.names {
                names.portals.clear();
            }
            return None;
        }
        let ignored = match &link.backend {
            Some(backend) => backend.skipping || backend.copy_in,
            None => self.skipping,
        };
        if ignored {
            return None;
        }
        match message.tag {
            FrontendTag::Query => self.own_query(message.body()?, &mut link),
            FrontendTag::Parse => self.own_parse(message.body()?, &mut link, shared),
            FrontendTag::Bind => self.own_bind(message.body()?, &mut link),
            FrontendTag::Describe => self.own_describe(message.body()?, &mut link),
            FrontendTag::Execute => self.own_execute(message.body()?, &mut link),
            FrontendTag::Close => {
                if let Some(Target::Portal(name)) = names::target(message.body()?) {
                    self.drop_portal(name);
                }
                None
            }
            _ => None,
        }
    }

    fn own_query(&mut self, body: &[u8], link: &mut Link<'_, '_>) -> Option<Step> {
        let (text, _) = names::split_nul(body)?;
        self.follow_resets(text);
        let matter = self.matter_of(text)?;
        let status = match link.backend.as_deref() {
            None => TxStatus::Idle,
            // Nobody sends this in the middle of an extended request.
            Some(backend) if backend.unsynced => return None,
            Some(backend) if !backend.is_settled() => return Some(Step::Wait),
            Some(backend) => backend.status(),
        };
        if status == TxStatus::Failed {
            return None;
        }
        self.unnamed = None;
        self.close_there(&matter, link, true);
        let ready = build::ready_for_query(status);
        match (self.obey(&matter), link.backend.as_deref_mut()) {
            (Ok((row, tag, _)), _) => {
                if !row.is_empty() {
                    link.to_client.extend_from_slice(COLUMN);
                }
                for part in [row, tag, ready] {
                    link.to_client.extend_from_slice(part);
                }
            }
            (Err(error), None) => {
                error.encode(link.to_client);
                link.to_client.extend_from_slice(ready);
            }
            (Err(error), Some(backend)) => {
                fail(backend, &error, link.out);
                link.out.own().extend_from_slice(build::SYNC);
                backend.expect_sync();
            }
        }
        Some(Step::Done)
    }

    fn own_parse(
        &mut self,
        body: &[u8],
        link: &mut Link<'_, '_>,
        shared: &mut Shared<'_>,
    ) -> Option<Step> {
        let view = names::parse(body)?;
        let (text, types) = names::split_nul(view.definition)?;
        self.follow_resets(text);
        self.matter_of(text).filter(|_| types == [0, 0])?;
        if let Some(step) = link.turn()? {
            return Some(step);
        }
        let statement = shared.statements.intern(view.definition, &self.params, 0);
        let names = self.names.get_or_insert_default();
        let undo = if view.name.is_empty() {
            Undo::Unnamed(self.unnamed.replace(statement))
        } else if names.statements.contains_key(view.name) {
            let name = String::from_utf8_lossy(view.name);
            let message = format!("prepared statement \"{name}\" already exists");
            return self.refuse_own(link, &Refusal::error("42P05", message));
        } else {
            names.statements.insert(view.name.into(), statement);
            Undo::Named(Box::new(NamedUndo {
                name: view.name.into(),
                before: None,
            }))
        };
        names.own = true;
        self.say(link, build::PARSE_COMPLETE, undo)
    }

    fn own_bind(&mut self, body: &[u8], link: &mut Link<'_, '_>) -> Option<Step> {
        let view = names::bind(body)?;
        self.drop_portal(view.portal);
        let (statement, matter) = self.own_statement(view.statement)?;
        let binary = match (result_formats(body.get(view.rest..)?)?, matter) {
            ([] | [0, 0], _) => false,
            ([0, 1], Matter::Role(Change::Show)) => true,
            ([0, 1], _) => false,
            _ => return None,
        };
        if let Some(step) = link.turn()? {
            return Some(step);
        }
        let portal = Portal {
            name: view.portal.into(),
            statement: statement.clone(),
            binary,
        };
        self.names.get_or_insert_default().portals.push(portal);
        self.say(link, BIND_COMPLETE, Undo::Nothing)
    }

    fn own_describe(&mut self, body: &[u8], link: &mut Link<'_, '_>) -> Option<Step> {
        let target = names::target(body)?;
        let (matter, binary) = match target {
            Target::Statement(name) => (self.own_statement(name)?.1, false),
            Target::Portal(name) => self.own_portal(name)?,
        };
        if let Some(step) = link.turn()? {
            return Some(step);
        }
        if let Target::Statement(_) = target {
            self.say(link, NO_PARAMETERS, Undo::Nothing);
        }
        let columns = match (matter, binary) {
            (Matter::Role(Change::Show), true) => BINARY_COLUMN,
            (Matter::Role(Change::Show), false) => COLUMN,
            _ => NO_DATA,
        };
        self.say(link, columns, Undo::Nothing)
    }

    fn own_execute(&mut self, body: &[u8], link: &mut Link<'_, '_>) -> Option<Step> {
        let (name, limit) = names::split_nul(body)?;
        let (matter, _) = self.own_portal(name)?;
        if let Some(step) = link.turn()? {
            return Some(step);
        }
        self.close_there(&matter, link, false);
        match self.obey(&matter) {
            Ok((b"", tag, undo)) => self.say(link, tag, undo),
            Ok((row, tag, _)) => {
                self.say(link, row, Undo::Nothing);
                // With as many rows as were asked for, there may be more (pquery.c,
                // PortalRunSelect).
                let end = if limit == [0, 0, 0, 1] {
                    PORTAL_SUSPENDED
                } else {
                    tag
                };
                self.say(link, end, Undo::Nothing)
            }
            Err(error) => self.refuse_own(link, &error),
        }
    }

    /// Answers an extended message by an error: what follows is skipped up to Sync.
    fn refuse_own(&mut self, link: &mut Link<'_, '_>, error: &Refusal) -> Option<Step> {
        match link.backend.as_deref_mut() {
            Some(backend) => {
                fail(backend, error, link.out);
                backend.unsynced = true;
            }
            None => {
                error.encode(link.to_client);
                self.skipping = true;
            }
        }
        Some(Step::Done)
    }

    /// What a text asks of pgweir, if it does.
    fn matter_of(&self, text: &[u8]) -> Option<Matter> {
        if let Some(change) = setting::change_of(text, ROLE) {
            return Some(Matter::Role(change));
        }
        let Command::Deallocate(name) = classify(text, Dialect::default()) else {
            return None;
        };
        let mut own = Vec::new();
        let known = name.append_to(&mut own) && self.named(&own).is_some();
        known.then_some(Matter::Deallocate(own))
    }

    /// What pgweir deallocates goes from a server that knows it by the same name.
    fn close_there(&self, matter: &Matter, link: &mut Link<'_, '_>, alone: bool) {
        if let Matter::Deallocate(name) = matter
            && let Some(statement) = self.named(name)
            && let Some(backend) = link.backend.as_deref_mut()
        {
            backend.close_clients(statement, alone, link.out);
        }
    }

    /// Does it; a row and a tag are the answer.
    fn obey(&mut self, matter: &Matter) -> Result<(&'static [u8], &'static [u8], Undo), Refusal> {
        let change = match matter {
            Matter::Role(change) => change,
            Matter::Deallocate(name) => {
                let undo = self.remove(name);
                return Ok((b"", b"C\0\0\0\x0fDEALLOCATE\0", undo));
            }
        };
        let before = Undo::Role(self.role);
        match change {
            Change::Set(Some(value)) => self.role.set(role_of(value)?),
            Change::Set(None) => self.role.reset(),
            Change::Reset => {
                self.role.reset();
                return Ok((b"", b"C\0\0\0\x0aRESET\0", before));
            }
            Change::Show => {
                return Ok((row(self.role.get()), b"C\0\0\0\x09SHOW\0", before));
            }
            Change::SetLocal => {
                let message = format!("{ROLE} cannot be set for a transaction");
                return Err(Refusal::error("0A000", message).hint(
                    "A transaction stays where it began: set it before, or put /* pgweir: \
                     role=primary */ in front of BEGIN READ ONLY.",
                ));
            }
            Change::Several => {
                let message = format!("{ROLE} needs a statement of its own");
                let hint = "Send it without other statements in the same query.";
                return Err(Refusal::error("0A000", message).hint(hint));
            }
        }
        Ok((b"", b"C\0\0\0\x08SET\0", before))
    }

    /// RESET ALL and DISCARD ALL are the server's to run, but they mean this
    /// setting, too.
    fn follow_resets(&mut self, text: &[u8]) {
        if self.role.is_changed() && setting::resets_all(text) {
            self.role.reset();
        }
    }

    fn own_statement(&self, name: &[u8]) -> Option<(&Rc<Statement>, Matter)> {
        let statement = match name.is_empty() {
            true => self.unnamed.as_ref(),
            false => self.named(name),
        }?;
        Some((statement, self.matter_of_statement(statement)?))
    }

    fn own_portal(&self, name: &[u8]) -> Option<(Matter, bool)> {
        let mut portals = self.names.as_ref()?.portals.iter();
        let portal = portals.find(|portal| *portal.name == *name)?;
        Some((self.matter_of_statement(&portal.statement)?, portal.binary))
    }

    fn matter_of_statement(&self, statement: &Statement) -> Option<Matter> {
        let (text, types) = names::split_nul(&statement.definition)?;
        self.matter_of(text).filter(|_| types == [0, 0])
    }

    fn drop_portal(&mut self, name: &[u8]) {
        if let Some(names) = &mut self.names {
            names.portals.retain(|portal| *portal.name != *name);
        }
    }

    fn say(&self, link: &mut Link<'_, '_>, bytes: &'static [u8], undo: Undo) -> Option<Step> {
        match link.backend.as_deref_mut() {
            Some(backend) => {
                self.local(backend, bytes, undo, link.to_client);
                backend.unsynced = true;
            }
            None => link.to_client.extend_from_slice(bytes),
        }
        Some(Step::Done)
    }
}

impl Link<'_, '_> {
    /// Whether an extended message is to be answered here and now. `None`: the
    /// server answers.
    fn turn(&self) -> Option<Option<Step>> {
        match self.backend.as_deref() {
            Some(backend) if backend.replies.may_fail() => Some(Some(Step::Wait)),
            Some(backend) if backend.status() == TxStatus::Failed => None,
            _ => Some(None),
        }
    }
}

/// False: it does not, or a comment stands before it, which was looked at.
#[inline]
fn may_deallocate(text: &[u8]) -> bool {
    let front = text.first_chunk::<4>();
    front.is_some_and(|front| {
        u32::from_ne_bytes(*front) | 0x2020_2020 == u32::from_ne_bytes(*b"deal")
    })
}

/// Lets the server's transaction fail with this error.
pub(super) fn fail(backend: &mut Backend, error: &Refusal, out: &mut Output<'_>) {
    let mut message = Vec::new();
    error.encode(&mut message);
    // There is no such portal.
    build::execute(out.own(), MISSING);
    backend.expect(Reply::Refused { error: message });
}

/// The codes of the results' formats, from what follows the names in a Bind that
/// has no parameters.
fn result_formats(rest: &[u8]) -> Option<&[u8]> {
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let formats = 2 * usize::from(u16::from_be_bytes(*count));
    let rest = rest.get(formats..)?.strip_prefix(&[0, 0])?;
    let (count, formats) = rest.split_first_chunk::<2>()?;
    (formats.len() == 2 * usize::from(u16::from_be_bytes(*count))).then_some(formats)
}

/// A DataRow with the setting's value.
fn row(role: Option<Reads>) -> &'static [u8] {
    match role {
        None => b"D\0\0\0\x11\0\x01\0\0\0\x07default",
        Some(Reads::Replica) => b"D\0\0\0\x11\0\x01\0\0\0\x07replica",
        Some(Reads::Primary) => b"D\0\0\0\x11\0\x01\0\0\0\x07primary",
        Some(Reads::Any) => b"D\0\0\0\x0d\0\x01\0\0\0\x03any",
    }
}
