//! What `auth_query` has told, as all workers know it.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use thiserror::Error;
use tokio::sync::OnceCell;

use crate::auth::{Secret, SecretKind};
use crate::server::Farewell;

/// Who is looked up, where, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub database: String,
    pub auth_user: String,
    pub query: String,
    pub name: String,
}

/// A user that the server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name there.
    pub user: String,
    /// Empty if nobody can log in with it.
    pub secret: Secret,
}

/// `None`: there is no such user.
pub type Answer = Result<Option<Found>, LookupError>;

/// Why there is no answer.
#[derive(Clone, Debug, Error)]
pub enum LookupError {
    /// It could not be asked; clients are told what those are who wait for a
    /// server connection.
    #[error("{}", .0.reason)]
    NoServer(Arc<Farewell>),
    #[error("{0}")]
    Failed(String),
    #[error("expected 2 columns from auth_query, not {0}")]
    Columns(u16),
    #[error("expected 1 row at most from auth_query")]
    Rows,
    #[error("expected a user's name and a secret from auth_query")]
    Row,
}

/// Keeps answers for a while, and has those who ask the same at the same time
/// share one. Part of the terms: a reload begins with an empty one.
pub struct Lookups {
    known: Mutex<Known>,
    ttl: Duration,
}

struct Known {
    slots: LruCache<Question, Arc<Slot>>,
    kind: SecretKind,
}

struct Slot {
    asked: Instant,
    answer: OnceCell<Answer>,
}

impl Lookups {
    /// Keeps `size` answers, each for `ttl`.
    pub fn new(size: u32, ttl: Duration) -> Lookups {
        let capacity = NonZeroUsize::new(size as usize);
        Lookups {
            known: Mutex::new(Known {
                // One, so that somebody who asks is found by others.
                slots: LruCache::new(capacity.unwrap_or(NonZeroUsize::MIN)),
                kind: SecretKind::Scram,
            }),
            ttl: capacity.map_or(Duration::ZERO, |_| ttl),
        }
    }

    /// The answer, and when it was asked for: one that is known, or that
    /// somebody is asking for, or that of `ask`.
    ///
    /// Cancel safe: of those who wait for the same answer another one asks.
    pub async fn get<F>(
        &self,
        question: &Question,
        now: Instant,
        ask: impl FnOnce() -> F,
    ) -> (Answer, Instant)
    where
        F: Future<Output = Answer>,
    {
        let usable = |slot: &Slot| {
            let age = now.saturating_duration_since(slot.asked);
            slot.answer.get().is_none() || age < self.ttl
        };
        self.fill(question, self.slot(question, now, usable), ask)
            .await
    }

    /// The same for whom an answer is too old that was asked for before `since`.
    pub async fn get_since<F>(
        &self,
        question: &Question,
        (since, now): (Instant, Instant),
        ask: impl FnOnce() -> F,
    ) -> Answer
    where
        F: Future<Output = Answer>,
    {
        let slot = self.slot(question, now, |slot| slot.asked >= since);
        self.fill(question, slot, ask).await.0
    }

    /// Nobody else shall get the answer that was asked for at this time.
    pub fn forget(&self, question: &Question, asked: Instant) {
        let mut known = self.lock();
        let slot = known.slots.peek(question);
        if slot.is_some_and(|slot| slot.asked == asked) {
            known.slots.pop(question);
        }
    }

    pub fn forget_all(&self) {
        self.lock().slots.clear();
    }

    /// The form of the secret found last: what users have who do not exist.
    pub fn usual_kind(&self) -> SecretKind {
        self.lock().kind
    }

    fn slot(&self, question: &Question, now: Instant, usable: impl Fn(&Slot) -> bool) -> Arc<Slot> {
        let mut known = self.lock();
        if let Some(slot) = known.slots.get(question).filter(|slot| usable(slot)) {
            return slot.clone();
        }
        let slot = Arc::new(Slot {
            asked: now,
            answer: OnceCell::new(),
        });
        known.slots.put(question.clone(), slot.clone());
        slot
    }

    async fn fill<F>(
        &self,
        question: &Question,
        slot: Arc<Slot>,
        ask: impl FnOnce() -> F,
    ) -> (Answer, Instant)
    where
        F: Future<Output = Answer>,
    {
        let answer = slot.answer.get_or_init(ask).await.clone();
        let usable = match &answer {
            Ok(Some(found)) => Some(&found.secret).filter(|secret| !secret.is_empty()),
            _ => None,
        };
        match usable {
            Some(secret) => self.lock().kind = secret.kind(),
            // A role that is made now, or gets its password, can be used at once.
            None => self.forget(question, slot.asked),
        }
        (answer, slot.asked)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookups(***)")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn question(name: &str) -> Question {
        Question {
            database: "app".to_owned(),
            auth_user: "asker".to_owned(),
            query: "select".to_owned(),
            name: name.to_owned(),
        }
    }

    fn ann(secret: &str) -> Answer {
        Ok(Some(Found {
            user: "ann".to_owned(),
            secret: Secret::parse(secret),
        }))
    }

    /// Gives this answer if it is asked at all, and what came of it.
    async fn secret(lookups: &Lookups, now: Instant, answer: Answer) -> String {
        let (answer, _) = lookups.get(&question("ann"), now, async || answer).await;
        text(answer)
    }

    fn text(answer: Answer) -> String {
        match answer {
            Ok(Some(Found {
                secret: Secret::Plain(password),
                ..
            })) => password.reveal().to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_answer_is_used_for_its_time() {
        let lookups = Lookups::new(10, 2 * SECOND);
        let start = Instant::now();
        assert_eq!(secret(&lookups, start, ann("old")).await, "old");
        assert_eq!(secret(&lookups, start + SECOND, ann("new")).await, "old");
        assert_eq!(
            secret(&lookups, start + 2 * SECOND, ann("new")).await,
            "new"
        );
        lookups.forget_all();
        let later = start + 2 * SECOND;
        assert_eq!(secret(&lookups, later, ann("newer")).await, "newer");
        let other = Question {
            query: "another".to_owned(),
            ..question("ann")
        };
        let (answer, _) = lookups.get(&other, later, async || ann("other")).await;
        assert_eq!(text(answer), "other");
    }

    #[tokio::test]
    async fn nothing_is_kept_without_size_or_time() {
        for lookups in [Lookups::new(10, Duration::ZERO), Lookups::new(0, SECOND)] {
            let now = Instant::now();
            assert_eq!(secret(&lookups, now, ann("old")).await, "old");
            assert_eq!(secret(&lookups, now, ann("new")).await, "new");
        }
    }

    #[tokio::test]
    async fn only_what_lets_somebody_in_is_kept() {
        let lookups = Lookups::new(10, SECOND);
        let now = Instant::now();
        for useless in [Ok(None), ann(""), Err(LookupError::Rows)] {
            secret(&lookups, now, useless).await;
        }
        assert_eq!(secret(&lookups, now, ann("now")).await, "now");
    }

    #[tokio::test]
    async fn an_answer_may_be_too_old_for_somebody() {
        let lookups = Lookups::new(10, 9 * SECOND);
        let start = Instant::now();
        let again = async |since, answer: Answer| {
            let ask = async || answer;
            let times = (since, start + SECOND);
            text(lookups.get_since(&question("ann"), times, ask).await)
        };
        secret(&lookups, start, ann("old")).await;
        assert_eq!(again(start, ann("new")).await, "old");
        assert_eq!(again(start + SECOND, ann("new")).await, "new");
        assert_eq!(again(start + SECOND, ann("newer")).await, "new");
        // What was asked for since then is not forgotten with it.
        lookups.forget(&question("ann"), start);
        assert_eq!(secret(&lookups, start + SECOND, ann("newer")).await, "new");
        lookups.forget(&question("ann"), start + SECOND);
        assert_eq!(
            secret(&lookups, start + SECOND, ann("newer")).await,
            "newer"
        );
    }

    #[tokio::test]
    async fn who_asks_at_once_shares_the_answer_even_a_bad_one() {
        for (answer, size) in [(ann("x"), 10), (Ok(None), 10), (Err(LookupError::Rows), 0)] {
            let lookups = Lookups::new(size, Duration::ZERO);
            let asked = Cell::new(0);
            let (now, question) = (Instant::now(), question("ann"));
            let get = || {
                lookups.get(&question, now, async || {
                    asked.set(asked.get() + 1);
                    tokio::task::yield_now().await;
                    answer.clone()
                })
            };
            let ((a, _), (b, _)) = tokio::join!(get(), get());
            assert_eq!((asked.get(), text(a)), (1, text(b)));
        }
    }

    #[tokio::test]
    async fn whoever_asks_and_goes_holds_nobody_up() {
        let lookups = Lookups::new(10, SECOND);
        let (now, question) = (Instant::now(), question("ann"));
        let never = lookups.get(&question, now, std::future::pending);
        let waits = secret(&lookups, now, ann("x"));
        tokio::select! {
            biased;
            _ = async { tokio::time::timeout(SECOND / 100, never).await } => {}
            _ = std::future::pending::<()>() => {}
        }
        assert_eq!(waits.await, "x");
    }

    #[tokio::test]
    async fn the_answer_used_longest_ago_makes_room() {
        let lookups = Lookups::new(2, SECOND);
        let now = Instant::now();
        let get = async |name: &str, fresh: &str| {
            let (answer, _) = lookups.get(&question(name), now, async || ann(fresh)).await;
            text(answer)
        };
        for (name, fresh, seen) in [
            ("a", "1", "1"),
            ("b", "1", "1"),
            ("a", "2", "1"),
            ("c", "1", "1"),
            ("a", "3", "1"),
            ("b", "2", "2"),
        ] {
            assert_eq!(get(name, fresh).await, seen, "{name} {fresh}");
        }
    }
}
