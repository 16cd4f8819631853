//! Logins that somebody else decides: PAM, or an LDAP server.

// Without these features nobody is there to be asked.
#![cfg_attr(not(all(feature = "pam", feature = "ldap")), allow(dead_code))]

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pgwire::messages::startup::Authentication;
use thiserror::Error;
use tracing::warn;

use super::{Authenticated, Login, LoginError, refusal};
use crate::auth::{Authority, Masked};
use crate::net::{PeerAddr, Stream};
use crate::worker::Terms;
use crate::worker::hashing::Hashing;

/// Checks at a time; each may have to wait for a network.
const THREADS: usize = 8;
/// Checks that wait for a thread, as many as in PgBouncer.
const QUEUE: usize = 20;
/// How much longer than the client an answer is waited for, so that the client
/// learns that it was `client_login_timeout`.
const GRACE: Duration = Duration::from_millis(500);
/// How long an answer may take if `client_login_timeout` is off.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why somebody else does not let a user in. For the log only.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Denial {
    /// It has said no.
    #[error("{0}")]
    Denied(String),
    /// It could not say: for the operator to look at.
    #[error("{0}")]
    Unable(String),
}

/// A question for an authority.
pub(super) struct Question {
    pub user: String,
    /// Never empty: an LDAP server takes that for no password at all, and lets
    /// anybody in (RFC 4513, section 5.1.2).
    pub password: Masked,
    /// `None`: it comes over a Unix socket.
    pub from: Option<String>,
    /// Nobody waits for the answer any more.
    pub deadline: Instant,
}

/// Threads that ask, started with the first question.
#[derive(Clone, Debug, Default)]
pub(super) struct Askers(Arc<Mutex<Option<Hashing>>>);

impl Askers {
    fn threads(&self) -> io::Result<Hashing> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(threads) = &*slot {
            return Ok(threads.clone());
        }
        let threads = Hashing::named("auth", THREADS, QUEUE)?;
        Ok(slot.insert(threads).clone())
    }

    /// Waits as long as the queue is full. Cancel safe: when the future is
    /// dropped, a question that has not been asked yet never is.
    async fn ask(&self, authority: Authority, question: Question) -> Result<(), Denial> {
        let unable = |error: &dyn std::error::Error| Denial::Unable(error.to_string());
        let threads = self.threads().map_err(|error| unable(&error))?;
        if threads.is_full() {
            let (authority, user) = (authority.as_str(), &question.user);
            warn!(%user, "{QUEUE} logins wait for {authority} already: this one waits for them");
        }
        let answer = threads.run(move || decide(&authority, &question)).await;
        answer.map_err(|error| unable(&error))?
    }
}

/// Asks the client for its password in clear text, and the authority whether it
/// is right. Gives up on both when the client leaves, and on the authority after
/// `client_login_timeout`; otherwise like [`authenticate`](super::authenticate).
pub async fn entrust(
    stream: &mut Stream,
    user: &str,
    authority: Authority,
    terms: &Terms,
) -> Result<Authenticated, LoginError> {
    let message = match authority {
        Authority::Pam => "PAM authentication failed",
        Authority::Ldap(_) => "LDAP authentication failed",
    };
    let limit = terms.config.general.client_login_timeout.0;
    let deadline = Instant::now() + limit.unwrap_or(PATIENCE) + GRACE;
    let mut login = Login {
        io: &mut *stream,
        user,
        secret: None,
        ctx: &terms.auth,
        binding: None,
    };
    login.send(Authentication::CleartextPassword).await?;
    let password = login.read_password().await?;
    // invalid_authorization_specification
    let sqlstate = terms.config.source.sqlstate("28000");
    let denied = |reason| LoginError::Refused(refusal(sqlstate, message, reason));
    let Ok(password) = std::str::from_utf8(&password).map(Masked::new) else {
        return Err(denied("the password is not valid UTF-8".to_owned()));
    };
    let question = Question {
        user: user.to_owned(),
        password: password.clone(),
        from: match stream.peer_addr() {
            PeerAddr::Tcp(address, _) => Some(address.to_string()),
            PeerAddr::Unix => None,
        },
        deadline,
    };
    let answer = tokio::select! {
        answer = terms.auth.askers.ask(authority.clone(), question) => answer,
        () = stream.closed() => return Err(LoginError::Gone(ErrorKind::UnexpectedEof.into())),
    };
    match answer {
        Ok(()) => Ok(Authenticated {
            scram_keys: None,
            plain: Some(password),
        }),
        Err(denial) => {
            if let Denial::Unable(reason) = &denial {
                warn!(%user, %reason, "{} could not check a password", authority.as_str());
            }
            Err(denied(denial.to_string()))
        }
    }
}

/// May take until the deadline, and with PAM longer.
fn decide(authority: &Authority, question: &Question) -> Result<(), Denial> {
    if question.deadline <= Instant::now() {
        return Err(Denial::Unable("too late to ask".to_owned()));
    }
    match authority {
        #[cfg(feature = "pam")]
        Authority::Pam => super::pam::check(question),
        #[cfg(feature = "ldap")]
        Authority::Ldap(ldap) => super::ldap::check(ldap, question),
        // No configuration gets here that names what was not built.
        #[cfg(not(all(feature = "pam", feature = "ldap")))]
        other => Err(Denial::Unable(format!("built without {}", other.as_str()))),
    }
}
