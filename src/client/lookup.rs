//! Users that only the server knows: `auth_query`.

use std::cell::OnceCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tracing::{error, warn};

use super::startup::Failure;
use crate::auth::Secret;
use crate::client::auth::AuthContext;
use crate::config::{AuthType, CONSOLE, Source};
use crate::flow::Finding;
use crate::net::Stream;
use crate::server::{Farewell, cleanup};
use crate::wire::build::Refusal;
use crate::wire::row::data_row;
use crate::worker::lookups::{Answer, Found, LookupError, Question};
use crate::worker::{Terms, Worker};

/// What is known of somebody who logs in.
#[derive(Default)]
pub(super) struct Account {
    listed: Option<Secret>,
    found: Option<Found>,
    lookup: Option<Lookup>,
    /// Found in place of what is outdated.
    renewed: OnceCell<Found>,
}

struct Lookup {
    worker: Rc<Worker>,
    terms: Arc<Terms>,
    question: Question,
    /// When the login came to this, and when what it knows was asked for.
    begun: Instant,
    asked: Instant,
}

impl Account {
    /// Looks a user up who has no secret in the configuration, if that is wanted.
    /// Ends with the client; what has been lent to it is given back when dropped.
    pub async fn of(
        (database, user): (&str, &str),
        stream: &Stream,
        worker: &Rc<Worker>,
    ) -> Result<Account, Failure> {
        let terms = worker.terms();
        let listed = terms.users.get(user).cloned();
        let question = question(&terms, (database, user), listed.as_ref(), worker)?;
        let Some(question) = question else {
            return Ok(Account {
                listed,
                ..Account::default()
            });
        };
        let begun = Instant::now();
        let known = terms
            .lookups
            .get(&question, begun, || ask(worker, &terms, &question));
        let (answer, asked) = tokio::select! {
            known = known => known,
            () = stream.closed() => return Err(Failure::Gone(ErrorKind::UnexpectedEof.into())),
        };
        let found = answer.map_err(|error| failed(error, &question))?;
        if found.is_none() && terms.config.source == Source::Ini {
            return Err(Refusal::fatal("08P01", "no such user").into());
        }
        Ok(Account {
            listed,
            found,
            lookup: Some(Lookup {
                worker: worker.clone(),
                terms,
                question,
                begun,
                asked,
            }),
            renewed: OnceCell::new(),
        })
    }

    /// What the client is to prove that it knows.
    pub fn secret(&self) -> Option<&Secret> {
        let found = self.found.as_ref().map(|found| &found.secret);
        found.or(self.listed.as_ref())
    }

    /// How to treat somebody without a secret: like the others that are looked
    /// up.
    pub fn context(&self, context: &AuthContext) -> AuthContext {
        match &self.lookup {
            Some(lookup) => context.with_usual_kind(lookup.terms.lookups.usual_kind()),
            None => context.clone(),
        }
    }

    /// The secret as it is now, if what was known is older than the login.
    pub async fn again(&self) -> Option<Secret> {
        let lookup = self.lookup.as_ref().filter(|lookup| lookup.is_outdated())?;
        let times = (lookup.begun, Instant::now());
        let ask = || ask(&lookup.worker, &lookup.terms, &lookup.question);
        let lookups = &lookup.terms.lookups;
        match lookups.get_since(&lookup.question, times, ask).await {
            Ok(found) => {
                let found = found?;
                let secret = found.secret.clone();
                // Empty: it is asked once.
                let _ = self.renewed.set(found);
                Some(secret)
            }
            Err(error) => {
                let (name, db) = (&lookup.question.name, &lookup.question.database);
                warn!(%db, user = %name, reason = %error, "auth_query failed");
                None
            }
        }
    }

    /// The client has failed: perhaps by a secret that is outdated, which the next
    /// one shall not meet.
    pub fn failed(&self) {
        if let Some(lookup) = self.lookup.as_ref().filter(|lookup| lookup.is_outdated()) {
            let lookups = &lookup.terms.lookups;
            lookups.forget(&lookup.question, lookup.asked);
        }
    }

    /// The user that was looked up.
    pub fn into_found(self) -> Option<Found> {
        self.renewed.into_inner().or(self.found)
    }
}

impl Lookup {
    fn is_outdated(&self) -> bool {
        self.asked < self.begun
    }
}

/// What is to be asked; `None`: nothing, what is listed counts.
fn question(
    terms: &Terms,
    (database, user): (&str, &str),
    listed: Option<&Secret>,
    worker: &Worker,
) -> Result<Option<Question>, Refusal> {
    let config = &terms.config;
    let is_ini = config.source == Source::Ini;
    let known = match config.general.auth_type {
        AuthType::Any => true,
        AuthType::Trust | AuthType::Cert => listed.is_some(),
        // In a TOML file a user may be listed for its settings only.
        _ => listed.is_some_and(|secret| is_ini || !secret.is_empty()),
    };
    let console = CONSOLE.contains(&database);
    if known || !console && config.database(database).is_none() {
        return Ok(None);
    }
    let Some(asking) = config.auth_query(database) else {
        return Ok(None);
    };
    let place = asking.database.unwrap_or(database);
    let refused = |reason: String, hint: &str| {
        error!(db = %database, %user, "{reason}");
        Err(Refusal::fatal("08P01", "bouncer config error").hint(hint))
    };
    if CONSOLE.contains(&place) {
        // As in PgBouncer; otherwise nobody can be told from somebody unknown.
        if asking.database.is_none() && !is_ini {
            return Ok(None);
        }
        return refused(
            format!("cannot use the reserved \"{place}\" database as an auth_dbname"),
            "Set auth_dbname to a database in which auth_query can run.",
        );
    }
    if config.database(place).is_none() {
        return refused(
            format!("authentication database \"{place}\" is not configured"),
            "Set auth_dbname to one of the databases of the configuration.",
        );
    }
    if worker.is_disabled(place) {
        let message = format!("authentication database \"{place}\" is disabled");
        let refusal = Refusal::fatal("08P01", message);
        return Err(refusal.hint("An administrator said DISABLE; ENABLE ends it."));
    }
    Ok(Some(Question {
        database: place.to_owned(),
        auth_user: asking.user.to_owned(),
        query: asking.query.to_owned(),
        name: user.to_owned(),
    }))
}

fn failed(error: LookupError, question: &Question) -> Failure {
    if let LookupError::NoServer(farewell) = error {
        return Failure::Told(farewell.message.clone(), farewell.reason.clone());
    }
    let (db, user) = (&question.database, &question.auth_user);
    error!(%db, %user, name = %question.name, reason = %error, "auth_query failed");
    let refusal = Refusal::fatal("08P01", "bouncer config error");
    refusal.hint("auth_query failed; the log says why.").into()
}

/// Asks on a server connection of `auth_user`.
async fn ask(worker: &Worker, terms: &Terms, question: &Question) -> Answer {
    let Question {
        database,
        auth_user,
        query,
        name,
    } = question;
    let unreachable = |farewell: Arc<Farewell>| LookupError::NoServer(farewell);
    let failed = |error: cleanup::CleanupError| match error {
        cleanup::CleanupError::Query { body, .. } => {
            LookupError::Failed(crate::flow::error_fields::summary(&body))
        }
        error => LookupError::Failed(error.to_string()),
    };
    let config = terms.config.pool_as(database, auth_user);
    let config = config.ok_or_else(|| LookupError::Failed("no such database".to_owned()))?;
    let credential = terms.credential(&config);
    let pool = worker.pool(config, credential).ready().await;
    let welcome = pool.welcome().unwrap_or_default();
    let mut lease = pool.lease(&welcome).await.map_err(unreachable)?;
    // What a client has set (search_path above all) shall not change what the
    // query means.
    let welcome = pool.welcome().unwrap_or_default();
    let set = cleanup::set_parameters(&mut lease, &pool, &welcome);
    set.await.map_err(failed)?;
    let finding = cleanup::look_up(&mut lease, &pool, query, name).await;
    found(&finding.map_err(failed)?)
}

fn found(finding: &Finding) -> Answer {
    let columns = finding.columns.unwrap_or_default();
    if columns != 2 {
        return Err(LookupError::Columns(columns));
    }
    let row = match finding.rows.as_slice() {
        [] => return Ok(None),
        [row] => data_row(row),
        _ => return Err(LookupError::Rows),
    };
    let text = |field| String::from_utf8(field).map_err(|_| LookupError::Row);
    match row.as_deref() {
        Some([Some(user), secret]) if !user.is_empty() => Ok(Some(Found {
            user: text(user.clone())?,
            // As an empty one, NULL matches nothing.
            secret: Secret::parse(&text(secret.clone().unwrap_or_default())?),
        })),
        _ => Err(LookupError::Row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::row::encoded;

    fn answer(columns: Option<u16>, rows: &[&[Option<&str>]]) -> Result<Option<String>, String> {
        let finding = Finding {
            columns,
            rows: rows.iter().map(|fields| encoded(fields)).collect(),
            error: None,
        };
        let found = found(&finding).map_err(|error| error.to_string())?;
        Ok(found.map(|found| {
            let usable = !found.secret.is_empty();
            format!("{} {:?} {usable}", found.user, found.secret.kind())
        }))
    }

    #[test]
    fn a_row_is_a_user_and_a_secret() {
        let two = |user, secret| answer(Some(2), &[&[user, secret]]);
        let known = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(two(Some("ann"), Some("x")), known("ann Plain true"));
        let md5 = "md500000000000000000000000000000000";
        assert_eq!(two(Some("ann"), Some(md5)), known("ann Md5 true"));
        assert_eq!(two(Some("ann"), None), known("ann Plain false"));
        assert_eq!(two(Some("ann"), Some("")), known("ann Plain false"));
        assert_eq!(answer(Some(2), &[]), Ok(None));
    }

    #[test]
    fn anything_else_is_a_mistake() {
        let columns = |n| Err(format!("expected 2 columns from auth_query, not {n}"));
        assert_eq!(answer(None, &[]), columns(0));
        assert_eq!(answer(Some(1), &[]), columns(1));
        assert_eq!(answer(Some(3), &[&[Some("a"), None, None]]), columns(3));
        let ann: &[_] = &[Some("ann"), None];
        assert!(answer(Some(2), &[ann, ann]).is_err());
        for wrong in [&[None, Some("x")][..], &[Some(""), Some("x")], &[Some("x")]] {
            assert!(answer(Some(2), &[wrong]).is_err(), "{wrong:?}");
        }
    }
}
