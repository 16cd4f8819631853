//! Where the texts of one user in one database may run: by what they are, what
//! is asked for in them, and what the configuration says.

use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;

use super::hint::{HintError, hint};
use super::remembered::Remembered;
use super::rules::Rules;
use crate::config::{Reads, RuleEntry};
use crate::flow::{Params, Purpose};
use crate::sql::classify::{Catalog, Isolation, Kind, Transaction, classify};
use crate::sql::{Dialect, Encoding};

/// Texts whose meaning is remembered, of at most so many bytes each.
const TEXTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
const LONGEST_TEXT: usize = 4096;
/// Mistakes in hints that are told one by one.
const MISTAKES: usize = 64;

/// What is to be done with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// [`Purpose::Other`] has to go to the primary.
    pub purpose: Purpose,
    /// Where anything else may run.
    pub role: Reads,
    /// Its hint was not understood, and does not count.
    pub mistaken: bool,
    /// Why it has to go to the primary, though it may only read.
    pub kept: Option<Kept>,
    /// It writes nothing: it reads, begins a transaction that only reads, or shapes or
    /// ends one.
    pub harmless: bool,
    pub begins_read_only: bool,
}

/// Why a text goes to the primary that only reads, or may do so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It could not be proved that it only reads.
    Unproved,
    /// Its hint says so.
    Hint,
    /// The session, a rule or the setting `reads` says so.
    Policy,
}

/// Judges texts, and remembers what it found: a text that was judged before costs
/// one look-up.
///
/// Nobody can ask for more than is proved: a role says where reads go, and what
/// is not known to be one goes to the primary.
#[derive(Debug)]
pub struct Policy {
    reads: Reads,
    rules: Rules,
    catalog: Arc<Catalog>,
    edition: u32,
    known: Remembered<Known>,
    /// Of these parameters.
    manner: (Rc<Params>, Manner),
    mistakes: Mistakes,
}

/// What is known of a text, as long as catalog and rules stay.
#[derive(Clone, Copy, Debug)]
struct Known {
    kind: Kind,
    hint: Option<Reads>,
    rule: Option<Reads>,
    mistaken: bool,
}

/// What of a session's parameters counts here.
#[derive(Clone, Copy, Debug, Default)]
struct Manner {
    dialect: Dialect,
    /// Its transactions are serializable unless they say otherwise, and a server in
    /// recovery refuses that.
    serializable: bool,
}

/// Mistakes in hints, each to be told once.
#[derive(Debug, Default)]
struct Mistakes {
    seen: Vec<HintError>,
    told: usize,
}

impl Policy {
    /// `edition` tells one catalog from the next.
    pub fn new(
        reads: Reads,
        rules: &[RuleEntry],
        (edition, catalog): (u32, Arc<Catalog>),
    ) -> Policy {
        Policy {
            reads,
            rules: Rules::new(rules),
            catalog,
            edition,
            known: Remembered::new(TEXTS, LONGEST_TEXT),
            manner: Default::default(),
            mistakes: Mistakes::default(),
        }
    }

    /// Another configuration.
    pub fn reconfigure(&mut self, reads: Reads, rules: &[RuleEntry]) {
        self.reads = reads;
        self.rules = Rules::new(rules);
        self.known.clear();
    }

    /// Asks for the catalog if `edition` is another than the last one's.
    pub fn follow(&mut self, edition: u32, catalog: impl FnOnce() -> Arc<Catalog>) {
        if self.edition != edition {
            self.edition = edition;
            self.catalog = catalog();
            self.known.clear();
        }
    }

    /// What to do with a text of a session with these parameters, which has set
    /// `pgweir.role` to `asked`.
    ///
    /// A hint goes before what the session asks for, and that before the rules.
    pub fn plan(&mut self, text: &[u8], params: &Rc<Params>, asked: Option<Reads>) -> Plan {
        if !Rc::ptr_eq(&self.manner.0, params) {
            self.manner = (params.clone(), Manner::of(params));
        }
        let manner = self.manner.1;
        let known = self.known.of(text, manner.dialect, || {
            let dialect = manner.dialect;
            let found = hint(text, dialect);
            Known {
                kind: classify(text, dialect, &self.catalog).kind,
                rule: self.rules.role(text, dialect),
                mistaken: found.is_err(),
                hint: found.unwrap_or_else(|mistake| {
                    self.mistakes.note(mistake);
                    None
                }),
            }
        });
        let role = known.hint.or(asked).or(known.rule).unwrap_or(self.reads);
        let able = manner.purpose(known.kind);
        let kept = match (able, known.hint) {
            (Purpose::Other, _) if known.kind == Kind::Unknown => Some(Kept::Unproved),
            (Purpose::Other, _) => None,
            _ if role != Reads::Primary => None,
            (_, Some(_)) => Some(Kept::Hint),
            (_, None) => Some(Kept::Policy),
        };
        let purpose = match role {
            Reads::Primary => Purpose::Other,
            Reads::Replica | Reads::Any => able,
        };
        let begins_read_only = match known.kind {
            Kind::Transaction(Transaction::Begin(modes)) => modes.read_only == Some(true),
            _ => false,
        };
        Plan {
            purpose,
            role,
            mistaken: known.mistaken,
            kept,
            harmless: match known.kind {
                Kind::Empty | Kind::Read | Kind::Show => true,
                Kind::Transaction(Transaction::Begin(_)) => begins_read_only,
                Kind::Transaction(control) => control != Transaction::TwoPhase,
                Kind::Session | Kind::Write | Kind::Unknown => false,
            },
            begins_read_only,
        }
    }

    /// A replica has refused this text: it is not for replicas any more.
    pub fn refused(&mut self, text: &[u8]) {
        let known = Known {
            kind: Kind::Unknown,
            hint: None,
            rule: None,
            mistaken: false,
        };
        self.known.insert(text, known);
    }

    /// A mistake in a hint that has not been told yet.
    pub fn mistake(&mut self) -> Option<&HintError> {
        let mistake = self.mistakes.seen.get(self.mistakes.told)?;
        self.mistakes.told += 1;
        Some(mistake)
    }
}

impl Mistakes {
    fn note(&mut self, mistake: HintError) {
        if self.seen.len() < MISTAKES && !self.seen.contains(&mistake) {
            self.seen.push(mistake);
        }
    }
}

impl Manner {
    fn of(params: &Params) -> Manner {
        let get = |name: &[u8]| params.get(name).unwrap_or_default();
        let dialect = Dialect {
            standard_conforming_strings: get(b"standard_conforming_strings") == b"on",
            encoding: Encoding::of_client_encoding(get(b"client_encoding")),
        };
        let isolation = get(b"default_transaction_isolation");
        Manner {
            dialect,
            serializable: isolation.eq_ignore_ascii_case(b"serializable"),
        }
    }

    fn purpose(self, kind: Kind) -> Purpose {
        match kind {
            Kind::Read | Kind::Empty if !self.serializable => Purpose::Read,
            Kind::Transaction(Transaction::Begin(modes)) => {
                let serializable = match modes.isolation {
                    Some(level) => level == Isolation::Serializable,
                    None => self.serializable,
                };
                match modes.read_only == Some(true) && !serializable {
                    true => Purpose::BeginReadOnly,
                    false => Purpose::Other,
                }
            }
            _ => Purpose::Other,
        }
    }
}

#[cfg(test)]
mod tests;
