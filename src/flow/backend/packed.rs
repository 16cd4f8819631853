//! What is known of an idle connection, on its way to another worker.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Backend, Prepared, Release};
use crate::flow::{ParamTable, Params, Schema, Statements, Text, WrittenParams};

/// A [`Backend`] that is ready for the next client, without anything that
/// belongs to one worker.
#[derive(Debug)]
pub struct PackedBackend {
    params: Params,
    defaults: Params,
    /// The one used longest ago first.
    prepared: Vec<Prepared<Arc<Text>>>,
    schema: Arc<Schema>,
    max_prepared: usize,
    unnamed: Option<Arc<Text>>,
    queries: u64,
}

impl Backend {
    /// Only of one that is [`Release::Ready`] and has nothing of a client's: nothing
    /// else is kept.
    pub fn pack(&self) -> PackedBackend {
        debug_assert_eq!(self.release(), Release::Ready);
        debug_assert!(!self.has_clients_names());
        let prepared = self.prepared.iter().rev();
        PackedBackend {
            params: Params::clone(&self.params),
            defaults: Params::clone(&self.defaults),
            prepared: prepared
                .map(|(_, known)| known.map(|statement| statement.text().clone()))
                .collect(),
            schema: self.schema.clone(),
            max_prepared: self.max_prepared,
            unnamed: self.unnamed.as_ref().map(|s| s.text().clone()),
            queries: self.queries,
        }
    }
}

impl PackedBackend {
    /// The same, on the worker of these tables.
    pub fn unpack(self, statements: &mut Statements, params: &mut ParamTable) -> Backend {
        let defaults = params.intern(self.defaults);
        let mut backend = Backend::new(defaults, self.max_prepared).of(self.schema);
        backend.params = params.intern(self.params);
        for known in self.prepared {
            let known = known.map(|text| statements.adopt(text.clone()));
            backend.prepared.put(known.statement.id, known);
        }
        backend.unnamed = self.unnamed.map(|text| statements.adopt(text));
        backend.queries = self.queries;
        backend
    }
}

/// The same as another process reads it, where statements have other names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenBackend {
    params: WrittenParams,
    /// The server keeps statements for clients, which nobody there knows of.
    pub prepared: bool,
    queries: u64,
}

impl PackedBackend {
    pub fn write(&self) -> WrittenBackend {
        // Whoever adds a field decides here what becomes of it.
        let PackedBackend {
            params,
            // They are asked for again where they are wanted.
            defaults: _,
            prepared,
            schema: _,
            max_prepared: _,
            unnamed: _,
            queries,
        } = self;
        WrittenBackend {
            params: WrittenParams::of(params),
            prepared: !prepared.is_empty(),
            queries: *queries,
        }
    }

    /// `schema` and `max_prepared`: as they are here.
    pub fn read(
        written: &WrittenBackend,
        schema: Arc<Schema>,
        max_prepared: usize,
    ) -> PackedBackend {
        PackedBackend {
            params: written.params.read(),
            defaults: Params::default(),
            prepared: Vec::new(),
            schema,
            max_prepared,
            unnamed: None,
            queries: written.queries,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::flow::Texts;

    #[test]
    fn another_process_is_told_that_something_is_prepared() {
        let mut here = Statements::default();
        let mut params = Params::default();
        params.set(b"TimeZone", b"UTC", true);
        let mut backend = Backend::new(ParamTable::default().intern(params), 5);
        backend.queries = 7;
        assert!(!backend.pack().write().prepared);
        backend.keep(here.intern(b"select 1\0\0\0", &Params::default(), 1));
        let text = serde_json::to_string(&backend.pack().write()).unwrap();

        let written: WrittenBackend = serde_json::from_str(&text).unwrap();
        assert!(written.prepared);
        let schema = Arc::new(Schema::default());
        let packed = PackedBackend::read(&written, schema.clone(), 9);
        let moved = packed.unpack(&mut Statements::default(), &mut ParamTable::default());
        assert_eq!(moved.params.get(b"timezone"), Some(&b"UTC"[..]));
        assert_eq!((moved.max_prepared, moved.queries()), (9, 7));
        assert_eq!(moved.prepared_statements(), 0);
        assert!(Arc::ptr_eq(&moved.schema, &schema));
    }

    #[test]
    fn another_worker_knows_what_is_prepared_and_in_which_order() {
        let texts = Arc::new(Texts::default());
        let (mut here, mut there) = (Statements::new(texts.clone()), Statements::new(texts));
        let (mut table, mut table_there) = (ParamTable::default(), ParamTable::default());
        let mut params = Params::default();
        params.set(b"TimeZone", b"UTC", true);
        let mut backend = Backend::new(table.intern(params), 2);
        let statements = [&b"select 1\0\0\0"[..], b"select 2\0\0\0", b"select 3\0\0\0"]
            .map(|definition| here.intern(definition, &Params::default(), 1));
        for statement in &statements[..2] {
            backend.keep(statement.clone());
        }
        backend.has(statements[0].id);
        backend.unnamed = Some(statements[2].clone());
        backend.queries = 7;
        // Another one with the same text is there already.
        let known = there.intern(b"select 1\0\0\0", &Params::default(), 1);

        let packed = std::thread::spawn({
            let packed = backend.pack();
            move || packed
        });
        let packed = packed.join().unwrap();
        let mut moved = packed.unpack(&mut there, &mut table_there);

        let there = &moved.prepared.peek(&known.id).unwrap().statement;
        assert!(Rc::ptr_eq(there, &known));
        assert_eq!(moved.prepared.pop_lru().unwrap().0, statements[1].id);
        assert_eq!(moved.prepared.pop_lru().unwrap().0, statements[0].id);
        assert_eq!(moved.unnamed.as_ref().unwrap().id, statements[2].id);
        assert_eq!(moved.params.get(b"timezone"), Some(&b"UTC"[..]));
        assert_eq!((moved.max_prepared, moved.queries()), (2, 7));
        assert_eq!(moved.release(), Release::Ready);
    }
}
