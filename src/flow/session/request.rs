//! What the client asks for next, before it is decided who is asked.

use super::Session;
use super::prepared::takes_any_columns;
use crate::wire::names::{self, Target};
use crate::wire::{FrontendTag, HEADER_LEN, Header};

/// Types with a number below this are PostgreSQL's own (access/transam.h,
/// `FirstNormalObjectId`); those of others may run anything as they are read.
const FIRST_TYPE_OF_OTHERS: u32 = 16_384;

/// A request of up to this size in bytes is kept until it is answered.
const REPEATABLE: usize = 4096;

/// What a text is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It only reads what every server has.
    Read,
    /// It begins a transaction that only reads.
    BeginReadOnly,
    /// It may be anything.
    Other,
}

impl Purpose {
    /// What both are there for, in one transaction.
    fn and(self, other: Purpose) -> Purpose {
        match (self, other) {
            (Purpose::Other, _) | (_, Purpose::Other) => Purpose::Other,
            (Purpose::Read, purpose) | (purpose, Purpose::Read) => purpose,
            (Purpose::BeginReadOnly, Purpose::BeginReadOnly) => Purpose::BeginReadOnly,
        }
    }
}

impl Session {
    /// The request that `input` begins with, a simple query or everything up to
    /// Sync: how long it is and what it is there for. `None`: its end has not
    /// arrived. `judge` is asked about each text in it.
    pub fn request(
        &self,
        input: &[u8],
        judge: &dyn Fn(&[u8]) -> Purpose,
    ) -> Option<(usize, Purpose)> {
        match self.messages_of_request(input, judge) {
            (length, purpose, true) => Some((length, purpose)),
            _ => None,
        }
    }

    /// Whether `input` consists of whole messages that only read, as far as `judge`
    /// says so of their texts; a request may not be over yet.
    pub fn only_reads(&self, mut input: &[u8], judge: &dyn Fn(&[u8]) -> Purpose) -> bool {
        while !input.is_empty() {
            let (length, purpose, _) = self.messages_of_request(input, judge);
            if length == 0 || purpose != Purpose::Read {
                return false;
            }
            input = input.get(length..).unwrap_or_default();
        }
        !self.is_inside_message()
    }

    /// The messages of the first request: how long they are, as far as they have
    /// arrived whole, what they are there for, and whether the request is over.
    fn messages_of_request(
        &self,
        input: &[u8],
        judge: &dyn Fn(&[u8]) -> Purpose,
    ) -> (usize, Purpose, bool) {
        let mut whole = Purpose::Read;
        let mut unnamed = false;
        let (mut bound, mut closed) = (false, false);
        let mut at = 0;
        loop {
            let (before, bytes) = input.split_at_checked(at).unwrap_or_default();
            let Some((tag, body)) = messages(bytes).next() else {
                return (at, whole, false);
            };
            at += HEADER_LEN + body.len();
            let purpose = match tag {
                Some(FrontendTag::Query) => {
                    let purpose =
                        names::split_nul(body).map_or(Purpose::Other, |(text, _)| judge(text));
                    let alone = before.is_empty();
                    return (at, if alone { purpose } else { Purpose::Other }, true);
                }
                Some(FrontendTag::Sync) => return (at, whole, true),
                Some(FrontendTag::Parse) => {
                    let parse = names::parse(body).filter(|parse| !self.has(parse.name));
                    unnamed |= parse.as_ref().is_some_and(|parse| parse.name.is_empty());
                    parse.map_or(Purpose::Other, |parse| definition(parse.definition, judge))
                }
                // What was bound and closed could not be bound again.
                Some(FrontendTag::Bind | FrontendTag::Execute) if closed => Purpose::Other,
                Some(FrontendTag::Bind) => match names::bind(body) {
                    Some(bind) => self.statement(bind.statement, unnamed, before, judge),
                    None => Purpose::Other,
                },
                Some(FrontendTag::Describe | FrontendTag::Close) => match names::target(body) {
                    Some(Target::Statement(name)) => self.statement(name, unnamed, before, judge),
                    Some(Target::Portal(_)) => Purpose::Read,
                    None => Purpose::Other,
                },
                Some(FrontendTag::Execute | FrontendTag::Flush) => Purpose::Read,
                _ => Purpose::Other,
            };
            bound |= tag == Some(FrontendTag::Bind);
            closed |= bound && tag == Some(FrontendTag::Close);
            whole = whole.and(purpose);
        }
    }

    /// Where in `input`, which goes on from what was taken before, the present
    /// request or COPY ends; if the end has not arrived, where that ends of which
    /// the header has.
    pub fn request_end(&self, input: &[u8]) -> usize {
        let mut at = self.rest.unsigned_abs() as usize;
        while let Some(Ok(Some(header))) = input.get(at..).map(Header::peek) {
            at += header.total;
            if let Some(
                FrontendTag::Query
                | FrontendTag::FunctionCall
                | FrontendTag::Sync
                | FrontendTag::CopyDone
                | FrontendTag::CopyFail,
            ) = FrontendTag::from_byte(header.tag)
            {
                break;
            }
        }
        at.min(input.len())
    }

    /// Undoes what `request` has changed in the client's names, so that it can be
    /// asked again. It is one that only reads ([`Session::request`]) and has not
    /// got to its first Execute, so what it parsed had no such name before.
    pub fn take_back_request(&mut self, request: &[u8]) {
        let Some(names) = &mut self.names else {
            return;
        };
        for (tag, body) in messages(request) {
            if tag == Some(FrontendTag::Parse)
                && let Some(parse) = names::parse(body)
            {
                names.statements.remove(parse.name);
            }
        }
    }

    /// The length of the request that `input` begins with, if it is one of the
    /// extended protocol that uses a named statement and asks for the columns of what
    /// it binds: should they have changed, the client need not know. (One that goes
    /// by the columns that it knows, or names a format for each, must be told by the
    /// error.)
    pub fn repeatable(&self, input: &[u8]) -> Option<usize> {
        if !self.hides_stale_plans() {
            return None;
        }
        let mut asks = false;
        let mut at = 0;
        loop {
            let header = Header::peek(input.get(at..)?).ok()??;
            let begin = at;
            at += header.total;
            if at > REPEATABLE.min(input.len()) {
                return None;
            }
            match FrontendTag::from_byte(header.tag) {
                Some(FrontendTag::Sync) => return asks.then_some(at),
                Some(FrontendTag::Flush) => return (asks && at == input.len()).then_some(at),
                Some(FrontendTag::Parse) if begin == 0 && input.get(HEADER_LEN) == Some(&0) => {
                    return None;
                }
                Some(FrontendTag::Bind)
                    if input.get(at) == Some(&b'D')
                        && takes_any_columns(input.get(begin + HEADER_LEN..at)?) => {}
                Some(FrontendTag::Describe) => asks = true,
                Some(FrontendTag::Parse | FrontendTag::Execute | FrontendTag::Close) => {}
                _ => return None,
            }
        }
    }

    /// Whether the beginning of a message was taken and its rest is to come.
    pub fn is_inside_message(&self) -> bool {
        self.rest != 0
    }

    /// Bytes that are still to come of the message whose beginning was taken.
    pub fn rest(&self) -> u32 {
        self.rest.unsigned_abs()
    }

    /// Whether the client has a statement of this name, not counting the unnamed.
    fn has(&self, name: &[u8]) -> bool {
        self.named(name).is_some()
    }

    /// A statement by the client's name for it; `before`: what the request has
    /// parsed already, `unnamed`: that was the unnamed one too.
    fn statement(
        &self,
        name: &[u8],
        unnamed: bool,
        before: &[u8],
        judge: &dyn Fn(&[u8]) -> Purpose,
    ) -> Purpose {
        let known = match name.is_empty() {
            true if unnamed => return Purpose::Read,
            true => self.unnamed.as_deref(),
            false => self.named(name).map(|s| &**s),
        };
        match known {
            Some(statement) if statement.is_plain() => definition(&statement.definition, judge),
            // Whatever was parsed has been looked at.
            None if is_parsed(name, before) => Purpose::Read,
            _ => Purpose::Other,
        }
    }
}

/// Body of a Parse message after the name.
fn definition(definition: &[u8], judge: &dyn Fn(&[u8]) -> Purpose) -> Purpose {
    let Some((text, types)) = names::split_nul(definition) else {
        return Purpose::Other;
    };
    let mut types = types.get(2..).unwrap_or_default().chunks(4);
    let own = types.all(|oid| {
        oid.try_into()
            .is_ok_and(|oid| u32::from_be_bytes(oid) < FIRST_TYPE_OF_OTHERS)
    });
    match own {
        true => judge(text),
        false => Purpose::Other,
    }
}

/// Whether one of these messages parses a statement of this name.
fn is_parsed(name: &[u8], before: &[u8]) -> bool {
    messages(before).any(|(tag, body)| {
        tag == Some(FrontendTag::Parse) && names::parse(body).is_some_and(|p| p.name == name)
    })
}

/// Whole messages: what they are, and their bodies.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Option<FrontendTag>, &[u8])> {
    std::iter::from_fn(move || {
        let header = Header::peek(bytes).ok()??;
        let (message, rest) = bytes.split_at_checked(header.total)?;
        bytes = rest;
        let body = message.get(HEADER_LEN..)?;
        Some((FrontendTag::from_byte(header.tag), body))
    })
}
