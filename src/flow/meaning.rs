//! What a text means besides its bytes. PostgreSQL folds settings into a
//! statement when it analyses and plans it: `'1.2.2020'::timestamptz` is a
//! constant under `TimeZone` and `DateStyle`, names are looked up by
//! `search_path`, and so on. A statement is shared only among clients that have
//! the same of all those settings.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::params::is_fixed;
use crate::sql::{Dialect, Encoding, Lexer};

/// Settings that have no part in what a statement means: they say how long it
/// may take, how much memory it may use, what is logged, how its transaction
/// begins and commits. Every other one may have.
const IRRELEVANT: [&[u8]; 16] = [
    b"application_name",
    b"client_connection_check_interval",
    b"client_min_messages",
    b"commit_delay",
    b"commit_siblings",
    b"deadlock_timeout",
    b"default_transaction_deferrable",
    b"default_transaction_isolation",
    b"default_transaction_read_only",
    b"lock_timeout",
    b"maintenance_work_mem",
    b"scram_iterations",
    b"statement_timeout",
    b"synchronous_commit",
    b"transaction_timeout",
    b"work_mem",
];

/// So do all whose names begin like this.
const IRRELEVANT_FAMILIES: [&[u8]; 5] = [b"idle_", b"log_", b"tcp_", b"track_", b"vacuum_"];

fn is_relevant(key: &[u8]) -> bool {
    let mut families = IRRELEVANT_FAMILIES.iter();
    !is_fixed(key) && !IRRELEVANT.contains(&key) && !families.any(|f| key.starts_with(f))
}

/// First words of statements after which texts mean what they meant before. The
/// text of all others may change settings, the schema, or which prepared
/// statements there are.
const SETTLED: [&[u8]; 14] = [
    b"begin",
    b"close",
    b"delete",
    b"explain",
    b"fetch",
    b"insert",
    b"release",
    b"savepoint",
    b"select",
    b"show",
    b"start",
    b"update",
    b"values",
    b"with",
];

/// Whether what comes after `text` may mean something else than before, as far as
/// its words tell.
pub(super) fn unsettles(text: &[u8]) -> bool {
    let mut tokens = Lexer::new(text, Dialect::default());
    let first = tokens.find(|token| !token.kind.is_comment());
    let first = first.and_then(|token| text.get(token.start..token.end()));
    let settled = |word: &[u8]| SETTLED.iter().any(|known| word.eq_ignore_ascii_case(known));
    let set_config = |word: &[u8]| word.eq_ignore_ascii_case(b"set_config");
    !first.is_some_and(settled) || text.windows(b"set_config".len()).any(set_config)
}

/// The settings under which a statement is analysed. Two are the same if their
/// numbers are.
#[derive(Debug, Default)]
pub struct Meaning {
    id: u64,
    /// Names and values, each with a NUL behind it.
    settings: Box<[u8]>,
    /// Of a text that holds bytes above 127.
    encoding: Encoding,
    /// `standard_conforming_strings` is off.
    backslashes: bool,
    hash: u64,
}

impl Meaning {
    /// That of a text about whose settings nothing is sure: no other has it.
    pub(super) fn unknown() -> Arc<Meaning> {
        Arc::new(Meaning {
            id: next_id(),
            encoding: Encoding::AsciiTrail,
            backslashes: true,
            ..Meaning::default()
        })
    }

    /// Unique in this process.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How texts are read.
    pub fn dialect(&self) -> Dialect {
        Dialect {
            standard_conforming_strings: !self.backslashes,
            encoding: self.encoding,
        }
    }

    /// Whether the bytes of `text` below 128 are the ASCII that they look like, and
    /// its backslashes are nothing else.
    pub fn is_plain(&self, text: &[u8]) -> bool {
        let escapes = self.backslashes && memchr::memchr(b'\\', text).is_some();
        !escapes && (self.encoding == Encoding::AsciiSafe || text.is_ascii())
    }
}

/// All that some set of parameters has.
#[derive(Debug, Default)]
pub struct Meanings {
    table: Mutex<MeaningTable>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct MeaningTable {
    known: HashTable<Arc<Meaning>>,
    sweep_at: usize,
}

/// Those that were given so far. 0 is nobody's but [`Meaning::default`]'s.
static IDS: AtomicU64 = AtomicU64::new(0);

fn next_id() -> u64 {
    IDS.fetch_add(1, Ordering::Relaxed) + 1
}

impl Meanings {
    /// What these settings make of a text: names in lower case and in their order,
    /// and values.
    pub(super) fn of<'a>(&self, all: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Arc<Meaning> {
        let mut settings = Vec::new();
        let (mut encoding, mut backslashes) = (Encoding::default(), false);
        for (key, value) in all.filter(|(key, _)| is_relevant(key)) {
            settings.extend_from_slice(&[key, b"\0", value, b"\0"].concat());
            match key {
                b"client_encoding" => encoding = Encoding::of_client_encoding(value),
                b"standard_conforming_strings" => backslashes = value == b"off",
                _ => {}
            }
        }
        let hash = self.hasher.hash_one(&settings);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |m: &Arc<Meaning>| *m.settings == *settings;
        if let Some(known) = table.known.find(hash, same) {
            return known.clone();
        }
        if table.known.len() >= table.sweep_at {
            table.known.retain(|meaning| Arc::strong_count(meaning) > 1);
            table.sweep_at = 64.max(2 * table.known.len());
        }
        let meaning = Arc::new(Meaning {
            id: next_id(),
            settings: settings.into(),
            encoding,
            backslashes,
            hash,
        });
        let insert = meaning.clone();
        table.known.insert_unique(hash, insert, |m| m.hash);
        meaning
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(all: &Meanings, settings: &[(&str, &str)]) -> u64 {
        let settings = settings.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes()));
        all.of(settings).id()
    }

    #[test]
    fn every_setting_counts_but_for_a_few() {
        let all = Meanings::default();
        let plain = id(&all, &[]);
        let zone = id(&all, &[("timezone", "UTC")]);
        assert_ne!(zone, plain);
        assert_ne!(id(&all, &[("timezone", "Asia/Tokyo")]), zone);
        for relevant in ["search_path", "my.setting", "extra_float_digits", "role"] {
            assert_ne!(id(&all, &[(relevant, "x")]), plain, "{relevant}");
        }
        for irrelevant in [
            "application_name",
            "log_duration",
            "is_superuser",
            "work_mem",
        ] {
            let with = [(irrelevant, "x"), ("timezone", "UTC")];
            assert_eq!(id(&all, &with), zone, "{irrelevant}");
        }
        // Names and values cannot run into each other.
        assert_ne!(
            id(&all, &[("a", "b"), ("c", "")]),
            id(&all, &[("a", ""), ("b", "c")])
        );
        assert_ne!(Meaning::unknown().id(), Meaning::unknown().id());
    }

    #[test]
    fn what_texts_change() {
        for text in ["select 1", "/* a */ INSERT into t values ('x')", "begin"] {
            assert!(!unsettles(text.as_bytes()), "{text}");
        }
        let changing = [
            "set a = b",
            "select Set_Config('a', 'b', false)",
            "alter table t",
        ];
        for text in changing
            .into_iter()
            .chain(["deallocate all", "do ''", "", "'"])
        {
            assert!(unsettles(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_nobody_has_goes() {
        let all = Meanings::default();
        let kept = all.of([(&b"timezone"[..], &b"UTC"[..])].into_iter());
        for i in 0..1000 {
            id(&all, &[("timezone", &i.to_string())]);
        }
        let count = all.table.lock().unwrap().known.len();
        assert!(count <= 129, "{count}");
        assert_eq!(id(&all, &[("timezone", "UTC")]), kept.id());
    }

    #[test]
    fn plain_texts() {
        let all = Meanings::default();
        let plain = |settings: &[(&str, &str)], text: &[u8]| {
            let settings = settings.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes()));
            all.of(settings).is_plain(text)
        };
        assert!(plain(
            &[("client_encoding", "UTF8")],
            "select 'ä\\'".as_bytes()
        ));
        assert!(plain(&[("client_encoding", "SJIS")], b"select '\\'"));
        assert!(!plain(&[("client_encoding", "SJIS")], b"select '\x83\x5c'"));
        let old = [("standard_conforming_strings", "off")];
        assert!(plain(&old, b"select ''"));
        assert!(!plain(&old, b"select '\\'"));
    }
}
