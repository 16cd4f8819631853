//! A session on its way to another process.

use serde::{Deserialize, Serialize};

use super::{Names, Naming, Role, Session};
use crate::config::{Choice, PoolMode, SessionFeatures};
use crate::flow::written::{Bytes, WrittenParams};
use crate::flow::{ParamTable, Statements, Text};

/// What a client has, but for what is on its server connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenSession {
    mode: PoolMode,
    naming: Naming,
    /// A word of the setting.
    features: String,
    /// What advances a sequence leaves something, too.
    sequences: bool,
    role: Role,
    /// Name and definition. What that means depends on `params`.
    statements: Vec<(Bytes, Bytes)>,
    /// Some of them are answered here.
    own: bool,
    /// What its parameters were before it changed any.
    start: Option<WrittenParams>,
    /// Its definition.
    unnamed: Option<Bytes>,
    params: WrittenParams,
}

impl Session {
    /// The one place that decides whether a session may go to another process.
    /// `None`: it is in the middle of something, or has what cannot be written.
    pub fn write(&self) -> Option<WrittenSession> {
        // Whoever adds a field decides here what becomes of it.
        let Session {
            terms,
            skipping,
            plain: _,
            role,
            rest,
            names,
            unnamed,
            params,
        } = self;
        if *skipping || *rest != 0 {
            return None;
        }
        let mut statements = Vec::new();
        let mut answered_here = false;
        let mut began_with = None;
        if let Some(names) = names {
            let Names {
                statements: named,
                portals,
                own,
                start,
                channels,
                // Whoever has misused a name is leaving.
                misused: _,
            } = &**names;
            // Who listens does so on a connection of this process.
            if !portals.is_empty() || channels.is_some() {
                return None;
            }
            let written = |name: &[u8], text: &Text| (name.into(), (&*text.definition).into());
            statements.extend(named.iter().map(|(name, text)| written(name, text)));
            answered_here = *own;
            began_with = start.as_deref().map(WrittenParams::of);
        }
        Some(WrittenSession {
            mode: terms.mode(),
            naming: terms.naming(),
            features: word_of(terms.features()).to_owned(),
            sequences: terms.pins_sequences(),
            role: *role,
            statements,
            own: answered_here,
            start: began_with,
            unnamed: unnamed.as_ref().map(|text| (&*text.definition).into()),
            params: WrittenParams::of(params),
        })
    }

    /// The same session, on the worker of these tables. `None`: it has what is not
    /// known here. `edition`: of the schema, as it is here.
    pub fn read(
        written: &WrittenSession,
        edition: u64,
        statements: &mut Statements,
        params: &mut ParamTable,
    ) -> Option<Session> {
        let mut features = SessionFeatures::WORDS.iter();
        let (_, features) = features.find(|(word, _)| *word == written.features)?;
        let own = params.intern(written.params.read());
        let session = Session::new(written.mode, written.naming, own.clone());
        let mut session = session.carrying(*features, written.sequences);
        session.role = written.role;
        let mut intern = |definition: &Bytes| statements.intern(&definition.0, &own, edition);
        session.unnamed = written.unnamed.as_ref().map(&mut intern);
        if !written.statements.is_empty() || written.start.is_some() {
            let named = written.statements.iter();
            session.names = Some(Box::new(Names {
                statements: named
                    .map(|(name, statement)| (name.0.as_slice().into(), intern(statement)))
                    .collect(),
                portals: Vec::new(),
                channels: None,
                misused: Box::default(),
                own: written.own,
                start: written
                    .start
                    .as_ref()
                    .map(|start| params.intern(start.read())),
            }));
        }
        Some(session)
    }
}

fn word_of(features: SessionFeatures) -> &'static str {
    let mut words = SessionFeatures::WORDS.iter();
    let word = words.find(|(_, known)| *known == features);
    word.map_or("", |(word, _)| *word)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Reads;
    use crate::flow::{Params, Texts};

    #[test]
    fn another_process_knows_what_the_client_has() {
        let mut here = Statements::new(Arc::new(Texts::default()));
        let mut table = ParamTable::default();
        let mut params = Params::default();
        params.set(b"TimeZone", b"UTC", true);
        params.set(b"search_path", b"\xff", false);
        let mut session = Session::new(
            PoolMode::Transaction,
            Naming::TheClientsStrictly,
            table.intern(params.clone()),
        )
        .carrying(SessionFeatures::Pin, true)
        .starting_with(Some(Reads::Replica));
        session.role.set(Some(Reads::Primary));
        session.unnamed = Some(here.intern(b"select 1\0\0\0", &session.params, 1));
        let named = here.intern(b"select 2\0\0\0", &session.params, 1);
        let start = session.params.clone();
        let names = session.names.get_or_insert_default();
        names.start = Some(start);
        names.statements.insert(b"a"[..].into(), named);

        let text = serde_json::to_string(&session.write().unwrap()).unwrap();
        let written = serde_json::from_str(&text).unwrap();
        let texts = Arc::new(Texts::default());
        let mut table = ParamTable::new(texts.meanings().clone());
        let mut there = Statements::new(texts);
        let same = table.intern(params.clone());
        let known = there.intern(b"select 2\0\0\0", &same, 5);
        let moved = Session::read(&written, 5, &mut there, &mut table).unwrap();

        assert_eq!(moved.terms, session.terms);
        assert_eq!(moved.start(), Some(&params));
        assert_eq!(moved.role(), Some(Reads::Primary));
        let mut role = moved.role;
        role.reset();
        assert_eq!(role.get(), Some(Reads::Replica));
        assert_eq!(*moved.params, params);
        assert_eq!(moved.named(b"a").unwrap().id, known.id);
        let unnamed = moved.unnamed.as_ref().unwrap();
        assert_eq!(&*unnamed.definition, b"select 1\0\0\0");
        assert!(unnamed.suits(&same));
        assert_eq!(moved.prepared_statements(), 1);
        // What a reader does not know is not left out silently.
        let more = text.replacen('{', "{\"more\":1,", 1);
        assert!(serde_json::from_str::<WrittenSession>(&more).is_err());
    }

    #[test]
    fn whoever_is_in_the_middle_of_something_or_listens_stays() {
        let mut session = Session::new(
            PoolMode::Transaction,
            Naming::TheClients,
            Default::default(),
        );
        assert!(session.write().is_some());
        session.rest = -1;
        assert!(session.write().is_none());
        session.rest = 0;
        session.skipping = true;
        assert!(session.write().is_none());
        session.skipping = false;
        session.names.get_or_insert_default().channels = Some(Box::default());
        assert!(session.write().is_none());
    }
}
