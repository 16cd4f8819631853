//! What is known of an idle connection, on its way to another worker.

use std::sync::Arc;

use super::{Backend, Release};
use crate::flow::{ParamTable, Params, Statements, Text};

/// A [`Backend`] that is ready for the next client, without anything that
/// belongs to one worker.
#[derive(Debug)]
pub struct PackedBackend {
    params: Params,
    /// The one used longest ago first.
    prepared: Vec<Arc<Text>>,
    max_prepared: usize,
    unnamed: Option<Arc<Text>>,
    queries: u64,
}

impl Backend {
    /// Only of one that is [`Release::Ready`]: nothing else is kept.
    pub fn pack(&self) -> PackedBackend {
        debug_assert_eq!(self.release(), Release::Ready);
        let prepared = self.prepared.iter().rev();
        PackedBackend {
            params: Params::clone(&self.params),
            prepared: prepared.map(|(_, s)| s.text().clone()).collect(),
            max_prepared: self.max_prepared,
            unnamed: self.unnamed.as_ref().map(|s| s.text().clone()),
            queries: self.queries,
        }
    }
}

impl PackedBackend {
    /// The same, on the worker of these tables.
    pub fn unpack(self, statements: &mut Statements, params: &mut ParamTable) -> Backend {
        let mut backend = Backend::new(params.intern(self.params), self.max_prepared);
        for text in self.prepared {
            backend.prepared.put(text.id, statements.adopt(text));
        }
        backend.unnamed = self.unnamed.map(|text| statements.adopt(text));
        backend.queries = self.queries;
        backend
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::flow::Texts;

    #[test]
    fn another_worker_knows_what_is_prepared_and_in_which_order() {
        let texts = Arc::new(Texts::default());
        let (mut here, mut there) = (Statements::new(texts.clone()), Statements::new(texts));
        let (mut table, mut table_there) = (ParamTable::default(), ParamTable::default());
        let mut params = Params::default();
        params.set(b"TimeZone", b"UTC", true);
        let mut backend = Backend::new(table.intern(params), 2);
        let statements = [&b"select 1\0\0\0"[..], b"select 2\0\0\0", b"select 3\0\0\0"]
            .map(|definition| here.intern(definition, b""));
        for statement in &statements[..2] {
            backend.prepared.put(statement.id, statement.clone());
        }
        backend.prepared.get(&statements[0].id);
        backend.unnamed = Some(statements[2].clone());
        backend.queries = 7;
        // Another one with the same text is there already.
        let known = there.intern(b"select 1\0\0\0", b"");

        let packed = std::thread::spawn({
            let packed = backend.pack();
            move || packed
        });
        let packed = packed.join().unwrap();
        let mut moved = packed.unpack(&mut there, &mut table_there);

        assert!(Rc::ptr_eq(moved.prepared.peek(&known.id).unwrap(), &known));
        assert_eq!(moved.prepared.pop_lru().unwrap().0, statements[1].id);
        assert_eq!(moved.prepared.pop_lru().unwrap().0, statements[0].id);
        assert_eq!(moved.unnamed.as_ref().unwrap().id, statements[2].id);
        assert_eq!(moved.params.get(b"timezone"), Some(&b"UTC"[..]));
        assert_eq!((moved.max_prepared, moved.queries()), (2, 7));
        assert_eq!(moved.release(), Release::Ready);
    }
}
