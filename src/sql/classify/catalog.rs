//! What is known of the objects in a database: which of them a read may use.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::builtin;
use super::name::{Buffer, Path, key};
use super::{Kind, classify};
use crate::sql::lexer::Dialect;

/// The query whose rows make a [`Catalog`]: object, schema, name, standing,
/// definition. To be run with `search_path = pg_catalog`, so that definitions
/// name other objects with their schemas. For PostgreSQL 14 and later. It may
/// fail while somebody drops objects, and is then to be repeated.
pub const QUERY: &str = include_str!("catalog.sql");

/// Functions, operators, types and relations by name.
///
/// A name without schema stands for whatever object of that name is worst,
/// because what `search_path` finds is not known. What is not in the catalog
/// is unknown. Temporary tables are the exception that the caller must know:
/// they hide a table of the same name from their own session only.
#[derive(Clone, Debug)]
pub struct Catalog {
    functions: Names,
    operators: Names,
    types: Names,
    relations: Names,
    /// Casts or comparisons of built-in types may write.
    pub(super) implicit: bool,
    /// The functions and types that a read may not use, see [`bit`].
    unsafe_attributes: [u64; 64],
    /// One of them has a name that texts spell in many ways.
    odd_attribute: bool,
    /// A type's input, or what else runs without being named, may write.
    pub(super) unsafe_type: bool,
    /// No operator with a built-in name may write.
    pub(super) plain_operators: bool,
    /// Relations, types and operators that are not known are taken for
    /// ordinary ones.
    assuming: bool,
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Object {
    Function,
    Operator,
    Type,
    Relation,
}

/// Whether a read may use an object; of two with one name the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Not an object, but a word of the grammar.
    Syntax,
    Safe,
    /// `current_setting`: safe for settings that are not the server's own.
    Setting,
    Local,
    Session,
    Volatile,
}

type Map<V> = HashMap<Box<[u8]>, V, RandomState>;

#[derive(Clone, Debug, Default)]
struct Names {
    /// By schema, NUL and name.
    exactly: Map<Standing>,
    /// By name; the worst of all schemas.
    anywhere: Map<Standing>,
}

impl Names {
    fn add(&mut self, schema: Option<&str>, name: &str, standing: Standing) {
        worsen(&mut self.anywhere, name.as_bytes(), standing);
        if let Some(schema) = schema {
            worsen(&mut self.exactly, &exact(schema, name), standing);
        }
    }
}

fn exact(schema: &str, name: &str) -> Box<[u8]> {
    [schema.as_bytes(), name.as_bytes()].join(&0).into()
}

fn worsen(map: &mut Map<Standing>, key: &[u8], standing: Standing) {
    match map.get_mut(key) {
        Some(known) => *known = standing.max(*known),
        None => {
            map.insert(key.into(), standing);
        }
    }
}

/// A row of [`QUERY`]'s answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// `f`unction, `o`perator, `t`ype, `r`elation, or `i` for a cast or
    /// comparison of built-in types.
    pub object: &'a str,
    /// Its schema.
    pub schema: &'a str,
    /// Its name.
    pub name: &'a str,
    /// As `provolatile`: `i`, `s` or `v`; `l` is another thing on each server.
    pub standing: &'a str,
    /// A query that must be a read if the object is to be used by one.
    pub definition: Option<&'a str>,
}

/// A row that [`QUERY`] does not give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalog's answer has a row of kind {object:?} and standing {standing:?}")]
pub struct UnknownRow {
    object: String,
    standing: String,
}

/// Makes a [`Catalog`] of rows.
#[derive(Clone, Debug)]
pub struct Builder {
    own: Catalog,
    objects: HashMap<(Object, Box<[u8]>), Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: Box<str>,
    standing: Standing,
    definitions: Vec<Box<str>>,
}

impl Default for Builder {
    fn default() -> Self {
        Builder {
            own: Catalog::of_postgresql(),
            objects: HashMap::new(),
        }
    }
}

impl Builder {
    /// Takes a row in. Of several for one object the worst counts, and every
    /// definition must be a read.
    pub fn add(&mut self, row: Row<'_>) -> Result<(), UnknownRow> {
        let unknown = || UnknownRow {
            object: row.object.to_owned(),
            standing: row.standing.to_owned(),
        };
        let standing = match row.standing {
            "i" | "s" => Standing::Safe,
            "l" => Standing::Local,
            "v" => Standing::Volatile,
            _ => return Err(unknown()),
        };
        let object = match row.object {
            "f" => Object::Function,
            "o" => Object::Operator,
            "t" => Object::Type,
            "r" => Object::Relation,
            "i" => {
                self.own.implicit |= standing != Standing::Safe;
                return Ok(());
            }
            _ => return Err(unknown()),
        };
        let key = exact(row.schema, row.name);
        // What PostgreSQL brings along has been judged by name, unless this
        // server calls volatile what no other does.
        let judged = self.own.names(object).exactly.get(&key);
        if row.schema == "pg_catalog"
            && let Some(&judged) = judged
            && (judged != Standing::Safe || standing == judged || builtin::is_volatile(row.name))
        {
            return Ok(());
        }
        let entry = self.objects.entry((object, key)).or_insert_with(|| Entry {
            name: row.name.into(),
            standing,
            definitions: Vec::new(),
        });
        entry.standing = entry.standing.max(standing);
        entry.definitions.extend(row.definition.map(Box::from));
        Ok(())
    }

    /// The catalog. An object with definitions is as good as they are.
    pub fn build(self) -> Catalog {
        let Builder { own, mut objects } = self;
        loop {
            let catalog = own.with(&objects);
            let mut progress = false;
            for entry in objects.values_mut() {
                let before = entry.definitions.len();
                entry.definitions.retain(|definition| {
                    let verdict = classify(definition.as_bytes(), Dialect::default(), &catalog);
                    verdict.kind != Kind::Read
                });
                progress |= entry.definitions.is_empty() && before > 0;
            }
            if !progress {
                return catalog;
            }
        }
    }
}

impl Catalog {
    /// PostgreSQL's own objects. Everything else is unknown.
    pub fn of_postgresql() -> Self {
        let mut catalog = Catalog {
            functions: Names::default(),
            operators: Names::default(),
            types: Names::default(),
            relations: Names::default(),
            implicit: false,
            unsafe_attributes: [0; 64],
            odd_attribute: false,
            unsafe_type: false,
            plain_operators: true,
            assuming: false,
        };
        builtin::objects(|object, schema, name, standing| {
            catalog.names_mut(object).add(schema, name, standing);
            catalog.note(object, name, standing);
        });
        catalog
    }

    /// PostgreSQL's own objects and ordinary tables, types and operators of any
    /// name. Nothing is proved by it: it is for explaining without a server.
    pub fn assuming_plain_tables() -> Self {
        Catalog {
            assuming: true,
            ..Catalog::of_postgresql()
        }
    }

    /// These objects too; what waits for a definition is volatile.
    fn with(&self, objects: &HashMap<(Object, Box<[u8]>), Entry>) -> Catalog {
        let mut catalog = self.clone();
        for ((object, key), entry) in objects {
            let waits = !entry.definitions.is_empty();
            let standing = if waits {
                Standing::Volatile
            } else {
                entry.standing
            };
            let names = catalog.names_mut(*object);
            worsen(&mut names.exactly, key, standing);
            worsen(&mut names.anywhere, entry.name.as_bytes(), standing);
            catalog.note(*object, &entry.name, standing);
        }
        catalog
    }

    /// Keeps at hand what need not be looked up each time.
    fn note(&mut self, object: Object, name: &str, standing: Standing) {
        if standing <= Standing::Safe {
            return;
        }
        match object {
            Object::Function | Object::Type => {
                let (row, bit) = bit(name.as_bytes());
                self.unsafe_attributes[row] |= bit;
                self.odd_attribute |= is_odd(name);
                self.unsafe_type |= object == Object::Type;
            }
            Object::Operator => self.plain_operators = false,
            Object::Relation => {}
        }
    }

    fn names(&self, object: Object) -> &Names {
        match object {
            Object::Function => &self.functions,
            Object::Operator => &self.operators,
            Object::Type => &self.types,
            Object::Relation => &self.relations,
        }
    }

    fn names_mut(&mut self, object: Object) -> &mut Names {
        match object {
            Object::Function => &mut self.functions,
            Object::Operator => &mut self.operators,
            Object::Type => &mut self.types,
            Object::Relation => &mut self.relations,
        }
    }

    /// The standing of what `path` names, `None` if that is unknown; an error
    /// if the name cannot be read.
    pub(super) fn standing(&self, object: Object, path: &Path<'_>) -> Result<Option<Standing>, ()> {
        let mut buffer: Buffer = [0; size_of::<Buffer>()];
        let key = key(path, &mut buffer).ok_or(())?;
        let names = self.names(object);
        let map = if path.schema.is_some() {
            &names.exactly
        } else {
            &names.anywhere
        };
        let standing = map.get(key).copied();
        Ok(match standing {
            Some(Standing::Syntax) if path.is_quoted() => None,
            None if self.assuming && object != Object::Function => Some(Standing::Safe),
            standing => standing,
        })
    }

    pub(super) fn operator(&self, name: &[u8]) -> Option<Standing> {
        let name = if name == b"!=" { b"<>" } else { name };
        let standing = self.operators.anywhere.get(name).copied();
        standing.or(self.assuming.then_some(Standing::Safe))
    }

    /// Whether `x.name` may call a function, or convert to a type, that a read
    /// may not use (`ParseFuncOrColumn` of parse_func.c): a column is looked for
    /// first, but what columns there are is not known.
    #[inline]
    pub(super) fn attribute_may_write(&self, name: &[u8]) -> bool {
        let inside = name
            .strip_prefix(b"\"")
            .and_then(|name| name.strip_suffix(b"\""));
        let (row, bit) = bit(inside.unwrap_or(name));
        let is_unsafe = |object| match self.standing(object, &Path::of(name)) {
            Ok(standing) => standing.is_some_and(|standing| standing > Standing::Safe),
            Err(()) => self.odd_attribute,
        };
        (self.unsafe_attributes[row] & bit != 0 || self.odd_attribute)
            && (is_unsafe(Object::Function) || is_unsafe(Object::Type))
    }
}

/// A place in a small table by length and ends of a name, the same in upper
/// and lower case.
#[inline]
fn bit(name: &[u8]) -> (usize, u64) {
    let end = |byte: Option<&u8>| usize::from(byte.map_or(0, |byte| byte & 0x1f));
    let row = name.len() * 2 + end(name.last());
    (row % 64, 1 << (end(name.first()) + 32 * (row / 64 % 2)))
}

/// Whether [`key`] gives none for the name, or for one that is cut off to it: within
/// a character, at 60 bytes and more.
fn is_odd(name: &str) -> bool {
    !name.is_ascii() || name.contains('"') || name.len() >= 60
}
