//! Asks the servers of a database for their roles and positions, again and
//! again: one task for each, on the worker whose client needed it first.

use std::cell::RefCell;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tracing::{info, warn};

use super::family::Family;
use super::login_error::ErrorResponse;
use super::pool::{OpenError, Pool};
use crate::net::Stream;
use crate::net::message_io::{FrameError, read_frame};
use crate::reactor;
use crate::route::{Finding, Needs, QUESTION, Role, Survey, Topology};
use crate::sql::classify::catalog;
use crate::wire::build;
use crate::wire::row::data_row;
use crate::worker::{Command, Crew};

/// Longest message of an answer.
const LONGEST: usize = 1 << 20;
/// How often the catalog is read anew: at the latest, and if something was met
/// that is not in it.
const CATALOG_PERIOD: Duration = Duration::from_secs(60);
const CATALOG_PAUSE: Duration = Duration::from_secs(2);
/// How long that may take: meanwhile the primary is not checked.
const CATALOG_LIMIT: Duration = Duration::from_secs(10);

/// Begins to ask the servers of this family's database, unless somebody does
/// already. Must be called inside a reactor. Ends with the family.
pub fn start(family: &Rc<Family>, crew: &Crew) {
    let topology = family.topology();
    if !topology.watch() {
        return;
    }
    let survey = Rc::new(RefCell::new(Survey::new(topology.clone())));
    let left = Rc::new(Watched(topology.clone()));
    for place in 0..topology.members().len() {
        let watch = Watch {
            family: Rc::downgrade(family),
            survey: survey.clone(),
            place,
            crew: crew.clone(),
            _left: left.clone(),
        };
        reactor::spawn(watch.run());
    }
}

/// Somebody else may ask when this is dropped.
struct Watched(Arc<Topology>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.leave();
    }
}

struct Watch {
    family: Weak<Family>,
    survey: Rc<RefCell<Survey>>,
    place: usize,
    crew: Crew,
    _left: Rc<Watched>,
}

impl Watch {
    async fn run(self) {
        let mut connection = None;
        let mut catalog_at = None;
        let mut known = None;
        while let Some(family) = self.family.upgrade() {
            let routing = family.routing();
            let Some(pool) = family.pools().get(self.place).cloned() else {
                return;
            };
            drop(family);
            if pool.is_closing() {
                return;
            }
            if pool.is_paused() {
                connection = None;
                pool.set_watched(false);
                pool.pause_or_resume().await;
                continue;
            }
            let begun = Instant::now();
            // Also while it is connecting.
            pool.set_watched(true);
            let asked = self.survey.borrow().ask(self.place, begun);
            let answer = reactor::timeout(routing.check_timeout, ask(&pool, &mut connection));
            let finding = match answer.await {
                Ok(Ok(finding)) => finding,
                Ok(Err(error)) => {
                    connection = None;
                    match error {
                        WatchError::Open(refused) if refused.is_refusal() => {
                            Finding::Refused(refused.text())
                        }
                        WatchError::Open(error) => Finding::Silent(error.text()),
                        error => Finding::Silent(error.to_string()),
                    }
                }
                Err(_) => {
                    connection = None;
                    let limit = routing.check_timeout.as_secs_f64();
                    Finding::Silent(format!("no answer within {limit} s (host_check_timeout)"))
                }
            };
            let before = roles(self.survey.borrow().topology());
            let (time, chance) = (routing.eject_time, rand::random());
            let changed = self
                .survey
                .borrow_mut()
                .found(asked, &finding, time, chance);
            if changed {
                self.tell(&pool, &before);
            }
            let is_primary = matches!(finding, Finding::Writable { .. });
            if let Some(stream) = connection.as_mut().filter(|_| is_primary)
                && catalog_at.is_none_or(|at: Instant| {
                    let age = begun - at;
                    age >= CATALOG_PERIOD
                        || age >= CATALOG_PAUSE && self.survey.borrow().topology().was_missed()
                })
            {
                catalog_at = Some(begun);
                let read = reactor::timeout(CATALOG_LIMIT, read_catalog(stream, &mut known));
                match read.await.unwrap_or(Err(WatchError::Slow)) {
                    // A new one makes every worker judge all texts again.
                    Ok(Some(catalog)) => self.survey.borrow().topology().set_catalog(catalog),
                    Ok(None) => {}
                    Err(error) => {
                        connection = None;
                        let db = &pool.config().database;
                        warn!(%db, reason = %error, "cannot read the catalog: what statements \
                            do is not known, so they go to the primary");
                    }
                }
            }
            pool.set_watched(connection.is_some());
            if pool.is_paused() {
                continue;
            }
            let next = begun + routing.check_period.max(Duration::from_millis(10));
            tokio::select! {
                () = reactor::sleep_until(next) => {}
                () = pool.pause_or_resume() => {}
            }
        }
    }

    /// Servers have other roles than `before`.
    fn tell(&self, pool: &Pool, before: &[Role]) {
        let config = pool.config();
        let db = &config.database;
        let survey = self.survey.borrow();
        let members = survey.topology().members().iter().zip(before);
        for (member, _) in members.filter(|(member, before)| member.role() != **before) {
            let (addr, role) = (&member.name, member.role().word());
            let (state, reason) = (member.state(&Needs::default()).word(), member.notice().why);
            match member.role() {
                Role::Down | Role::Fenced => {
                    warn!(%db, %addr, role, state, %reason, "role of host");
                }
                _ => info!(%db, %addr, role, state, "role of host"),
            }
        }
        for worker in self.crew.everyone() {
            let _ = self.crew.tell(worker, Command::Roles(db.clone()));
        }
    }
}

fn roles(topology: &Topology) -> Vec<Role> {
    topology
        .members()
        .iter()
        .map(|member| member.role())
        .collect()
}

/// Why a server did not answer.
#[derive(Debug, Error)]
enum WatchError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Server(String),
    #[error("it takes longer than {} s", CATALOG_LIMIT.as_secs())]
    Slow,
    #[error("the answer was not understood")]
    Answer,
}

async fn ask(pool: &Rc<Pool>, connection: &mut Option<Stream>) -> Result<Finding, WatchError> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let opened = open(pool).await?;
            connection.insert(opened)
        }
    };
    let rows = query(stream, QUESTION).await?;
    let row = rows.first().ok_or(WatchError::Answer)?;
    Finding::of_row(row).ok_or(WatchError::Answer)
}

/// A connection as the pool's user, or if this one is refused, as another.
async fn open(pool: &Rc<Pool>) -> Result<Stream, OpenError> {
    let mut opened = pool.open_aside().await;
    for other in pool.of_other_users() {
        match &opened {
            Err(error) if error.is_refusal() => opened = other.open_aside().await,
            _ => break,
        }
    }
    opened
}

/// The catalog, unless its rows are the `known` ones, of which a digest is kept.
async fn read_catalog(
    stream: &mut Stream,
    known: &mut Option<[u8; 32]>,
) -> Result<Option<catalog::Catalog>, WatchError> {
    query(stream, "SET search_path = pg_catalog").await?;
    let mut rows = query(stream, catalog::QUERY).await?;
    // The server gives them in any order.
    rows.sort_unstable();
    let mut digest = Sha256::new();
    for field in rows.iter().flatten() {
        digest.update(field.as_ref().map_or(-1, |f| f.len() as i64).to_be_bytes());
        digest.update(field.as_deref().unwrap_or_default());
    }
    let digest = digest.finalize().into();
    if known.replace(digest) == Some(digest) {
        return Ok(None);
    }
    let mut builder = catalog::Builder::default();
    for row in &rows {
        let [object, schema, name, standing, definition] = row.as_slice() else {
            return Err(WatchError::Answer);
        };
        let text = |field: &Option<Vec<u8>>| {
            let field = field.as_deref().unwrap_or_default();
            String::from_utf8(field.to_vec()).map_err(|_| WatchError::Answer)
        };
        let definition = match definition {
            Some(_) => Some(text(definition)?),
            None => None,
        };
        let added = builder.add(catalog::Row {
            object: &text(object)?,
            schema: &text(schema)?,
            name: &text(name)?,
            standing: &text(standing)?,
            definition: definition.as_deref(),
        });
        added.map_err(|error| WatchError::Server(error.to_string()))?;
    }
    Ok(Some(builder.build()))
}

type Row = Vec<Option<Vec<u8>>>;

/// Runs a query and returns its rows.
async fn query(stream: &mut Stream, sql: &str) -> Result<Vec<Row>, WatchError> {
    let mut out = Vec::new();
    build::query(&mut out, sql.as_bytes());
    stream.write_all(&out).await?;
    let mut rows = Vec::new();
    let mut failure = None;
    loop {
        let frame = read_frame(stream, LONGEST).await?;
        match frame.tag {
            b'D' => rows.push(data_row(&frame.body).ok_or(WatchError::Answer)?),
            b'E' => failure = Some(ErrorResponse::new(&frame.body).message().into_owned()),
            b'Z' => break,
            _ => {}
        }
    }
    match failure {
        Some(failure) => Err(WatchError::Server(failure)),
        None => Ok(rows),
    }
}
