//! Lets a client prove who it is, in the messages of the manual's "Message
//! Flow", section "Start-up".

use std::io;

use bytes::{Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::startup::Authentication;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::auth::scram::server::AwaitProof;
use crate::auth::scram::{self, Binding, ScramError};
use crate::auth::{Masked, Method, ScramKeys, Secret, SecretKind, UserList, Verifier};
use crate::net::message_io::{FrameError, read_frame};
use crate::worker::derived_keys::DerivedKeys;
use crate::worker::hashing::HashingError;

mod entrust;
#[cfg(feature = "ldap")]
mod ldap;
#[cfg(feature = "pam")]
mod pam;

use entrust::Askers;
pub use entrust::entrust;

/// Longest body of a password message (`PG_MAX_AUTH_TOKEN_LENGTH` in
/// src/include/libpq/auth.h).
const MAX_PASSWORD_MESSAGE: usize = 65_535;

/// What all logins of the process share.
#[derive(Clone, Debug)]
pub struct AuthContext {
    keys: DerivedKeys,
    seed: Zeroizing<[u8; 32]>,
    scram_iterations: u32,
    usual_kind: SecretKind,
    /// Threads that wait for PAM and LDAP servers.
    askers: Askers,
}

/// What the client's proof has left in our hands, for logging in to servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authenticated {
    /// SCRAM pass-through: set if the client proved itself against a stored
    /// SCRAM verifier.
    pub scram_keys: Option<ScramKeys>,
    /// The user's password, if the user list has it or the client sent it.
    pub plain: Option<Masked>,
}

/// Why a client is not let in.
#[derive(Debug, Error)]
pub enum LoginError {
    /// Nobody is there to be told: the connection broke, or the client left.
    #[error("client went away while logging in: {0}")]
    Gone(io::Error),
    /// To be sent as a FATAL ErrorResponse.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// An answer that gives nothing away, and the truth for the log. Display shows
/// both.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} ({reason})")]
pub struct Refusal {
    pub sqlstate: &'static str,
    pub message: &'static str,
    pub hint: Option<&'static str>,
    /// For the log only.
    pub reason: String,
    /// The client has done all that SCRAM asks for, with another password.
    pub wrong_proof: bool,
}

impl Refusal {
    pub fn is_of_unknown_user(&self) -> bool {
        self.reason == NO_SUCH_USER
    }
}

impl AuthContext {
    /// `scram_iterations` is used where there is no stored verifier to say;
    /// `usual_kind` is the form of password that an unknown user seems to have
    /// ([`UserList::usual_kind`]).
    pub fn new(keys: DerivedKeys, scram_iterations: u32, usual_kind: SecretKind) -> AuthContext {
        AuthContext {
            keys,
            seed: Zeroizing::new(rand::random()),
            scram_iterations: scram_iterations.max(1),
            usual_kind,
            askers: Askers::default(),
        }
    }

    /// The same context after a reload: the salts that clients see stay as they
    /// were.
    pub fn with_settings(&self, scram_iterations: u32, usual_kind: SecretKind) -> AuthContext {
        AuthContext {
            scram_iterations: scram_iterations.max(1),
            usual_kind,
            ..self.clone()
        }
    }

    /// The same, if users have passwords of this form.
    pub fn with_usual_kind(&self, usual_kind: SecretKind) -> AuthContext {
        AuthContext {
            usual_kind,
            ..self.clone()
        }
    }

    /// The cache of keys, for logging in to servers with the same passwords.
    pub fn keys(&self) -> &DerivedKeys {
        &self.keys
    }

    /// Derives the SCRAM keys of all plain passwords, one after the other. To be
    /// run in the background after each load of the user list if clients log in
    /// by SCRAM: else the first login of a user takes longer than one of a user
    /// who does not exist.
    pub async fn warm(&self, users: &UserList) -> Result<(), HashingError> {
        for (user, secret) in users.iter() {
            if let Secret::Plain(password) = secret {
                self.derive(user, password).await?;
            }
        }
        Ok(())
    }

    async fn derive(&self, user: &str, password: &Masked) -> Result<Verifier, HashingError> {
        let salt = Verifier::salt_for(&self.seed, user);
        let keys = self.keys.get(password, &salt, self.scram_iterations);
        Ok(keys.await?.verifier())
    }
}

/// Asks the client for a proof by `method` and checks it against what is known
/// of the user: `None` for an unknown one, who takes the same way as a wrong
/// password. Sends AuthenticationSASLFinal but not AuthenticationOk, and reads
/// not a byte beyond the client's last answer.
///
/// The secret may be outdated: before a password is wrong `again` is asked for the
/// present one. (A SCRAM exchange cannot be saved: the client has answered with the
/// salt of the old one.)
///
/// As in PgBouncer, `md5` becomes SCRAM for a user with a SCRAM secret, and
/// `scram-sha-256` fails for one with an md5 secret.
///
/// `binding`: the hash of our certificate, if the connection is encrypted; then
/// SCRAM can be bound to it, and the client is offered that.
///
/// Has no time limit. Not cancel safe: after dropping the future, close the
/// connection.
pub async fn authenticate<S>(
    io: &mut S,
    user: &str,
    method: Method,
    secret: Option<&Secret>,
    ctx: &AuthContext,
    binding: Option<&[u8]>,
    again: impl AsyncFnOnce() -> Option<Secret>,
) -> Result<Authenticated, LoginError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let usable = secret.filter(|secret| !secret.is_empty());
    let kind = usable.map_or(ctx.usual_kind, Secret::kind);
    let login = Login {
        io,
        user,
        secret,
        ctx,
        binding,
    };
    match method {
        Method::Any => Ok(login.unasked()),
        Method::Trust if secret.is_some() => Ok(login.unasked()),
        Method::Trust => Err(refuse(
            "28000",
            "\"trust\" authentication failed",
            NO_SUCH_USER,
        )),
        Method::Plain => login.plain(again).await,
        Method::Md5 if kind != SecretKind::Scram => login.md5(again).await,
        Method::Md5 | Method::ScramSha256 => login.scram().await,
    }
}

const NO_SUCH_USER: &str = "no such user";

struct Login<'a, S> {
    io: &'a mut S,
    user: &'a str,
    secret: Option<&'a Secret>,
    ctx: &'a AuthContext,
    binding: Option<&'a [u8]>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Login<'_, S> {
    fn unasked(&self) -> Authenticated {
        Authenticated {
            scram_keys: None,
            plain: match self.secret {
                Some(Secret::Plain(password)) if !password.reveal().is_empty() => {
                    Some(password.clone())
                }
                _ => None,
            },
        }
    }

    async fn plain(
        mut self,
        again: impl AsyncFnOnce() -> Option<Secret>,
    ) -> Result<Authenticated, LoginError> {
        let secret = self.secret_or_mock(self.ctx.usual_kind);
        self.send(Authentication::CleartextPassword).await?;
        let password = self.read_password().await?;
        let good = self.is_password_of(secret, &password).await?
            || match again().await {
                Some(secret) => self.is_password_of(secret, &password).await?,
                None => false,
            };
        if !good {
            return Err(self.wrong_password());
        }
        Ok(Authenticated {
            scram_keys: None,
            plain: std::str::from_utf8(&password).ok().map(Masked::new),
        })
    }

    async fn is_password_of(
        &self,
        secret: Secret,
        password: &Zeroizing<Vec<u8>>,
    ) -> Result<bool, LoginError> {
        if secret.kind() != SecretKind::Scram {
            return Ok(secret.verify_plain(self.user, password));
        }
        let (user, password) = (self.user.to_owned(), password.clone());
        let verify = move || secret.verify_plain(&user, &password);
        let hashing = self.ctx.keys.hashing();
        hashing.run(verify).await.map_err(internal)
    }

    async fn md5(
        mut self,
        again: impl AsyncFnOnce() -> Option<Secret>,
    ) -> Result<Authenticated, LoginError> {
        let secret = self.secret_or_mock(SecretKind::Md5);
        let salt: [u8; 4] = rand::random();
        self.send(Authentication::MD5Password(salt.to_vec()))
            .await?;
        let answer = self.read_password().await?;
        if secret.verify_md5(self.user, salt, &answer) {
            return Ok(self.unasked());
        }
        match again().await {
            // Whoever was asked has it.
            Some(secret) if secret.verify_md5(self.user, salt, &answer) => {
                Ok(Authenticated::default())
            }
            _ => Err(self.wrong_password()),
        }
    }

    async fn scram(mut self) -> Result<Authenticated, LoginError> {
        let offered: &[&str] = match self.binding {
            Some(_) => &[scram::MECHANISM_PLUS, scram::MECHANISM],
            None => &[scram::MECHANISM],
        };
        let mechanisms = offered.iter().map(ToString::to_string).collect();
        self.send(Authentication::SASL(mechanisms)).await?;
        let body = self.read_response().await?;
        let (mechanism, client_first) = sasl_initial_response(&body, offered)?;
        let binding = Binding::new(self.binding, mechanism == scram::MECHANISM_PLUS);

        // A plain password's verifier will have the mock verifier's salt. An md5
        // hash cannot be proved by SCRAM: doomed, but not at once.
        let (stored, password) = match self.secret_or_mock(SecretKind::Scram) {
            Secret::Scram(verifier) => (verifier, None),
            Secret::Plain(password) => (self.mock_verifier(), Some(password)),
            Secret::Md5(_) => (self.mock_verifier(), None),
        };
        let (server_first, state) = AwaitProof::start(
            client_first,
            &stored.salt,
            stored.iterations,
            rand::random(),
            binding,
        )
        .map_err(|e| self.sasl_failed(e))?;
        self.send(Authentication::SASLContinue(Bytes::from(server_first)))
            .await?;

        // While the client derives its keys we derive ours.
        let verifier = match password {
            Some(password) => {
                let derived = self.ctx.derive(self.user, &password).await;
                derived.map_err(internal)?
            }
            None => stored,
        };
        let client_final = self.read_response().await?;
        let proven = state
            .finish(&client_final, &verifier)
            .map_err(|e| self.sasl_failed(e))?;
        self.send(Authentication::SASLFinal(Bytes::from(proven.server_final)))
            .await?;
        let by_stored_verifier = matches!(self.secret, Some(Secret::Scram(_)));
        Ok(Authenticated {
            scram_keys: by_stored_verifier.then_some(proven.keys),
            ..self.unasked()
        })
    }

    fn mock_verifier(&self) -> Verifier {
        Verifier::mock(&self.ctx.seed, self.user, self.ctx.scram_iterations)
    }

    /// The user's secret, or one of the given form that nobody can fulfil.
    fn secret_or_mock(&self, kind: SecretKind) -> Secret {
        let mock = Secret::mock(kind, &self.ctx.seed, self.user, self.ctx.scram_iterations);
        match self.secret {
            Some(secret) if !secret.is_empty() => secret.clone(),
            _ => mock,
        }
    }

    async fn send(&mut self, request: Authentication) -> Result<(), LoginError> {
        let mut out = BytesMut::new();
        request.encode(&mut out).map_err(internal)?;
        self.io.write_all(&out).await.map_err(LoginError::Gone)?;
        self.io.flush().await.map_err(LoginError::Gone)
    }

    /// The text of a PasswordMessage (`recv_password_packet` in
    /// src/backend/libpq/auth.c).
    async fn read_password(&mut self) -> Result<Zeroizing<Vec<u8>>, LoginError> {
        let mut body = self.read_response().await?;
        if body.pop() != Some(0) || body.contains(&0) {
            return Err(protocol("invalid password packet size"));
        }
        if body.is_empty() {
            return Err(refuse(
                "28P01",
                "empty password returned by client",
                "empty password",
            ));
        }
        Ok(body)
    }

    /// The body of a PasswordMessage, SASLInitialResponse or SASLResponse.
    async fn read_response(&mut self) -> Result<Zeroizing<Vec<u8>>, LoginError> {
        let frame = match read_frame(self.io, MAX_PASSWORD_MESSAGE).await {
            Ok(frame) => frame,
            Err(FrameError::Io(e)) => return Err(LoginError::Gone(e)),
            Err(FrameError::Length { .. }) => return Err(protocol("invalid message length")),
        };
        match frame.tag {
            b'p' => Ok(frame.body),
            b'X' => Err(LoginError::Gone(io::ErrorKind::ConnectionAborted.into())),
            _ => Err(protocol("expected password response")),
        }
    }

    fn wrong_password(&self) -> LoginError {
        refuse("28P01", "password authentication failed", self.reason())
    }

    fn sasl_failed(&self, error: ScramError) -> LoginError {
        let hint = match error {
            ScramError::Unsupported(hint) => Some(hint),
            ScramError::Downgrade | ScramError::OtherCertificate => {
                Some("Something between the client and pgweir ends the TLS connection.")
            }
            _ => None,
        };
        // PostgreSQL's words, where PgBouncer has none.
        let (sqlstate, message) = match error {
            ScramError::Downgrade => ("28000", "SCRAM channel binding negotiation error"),
            ScramError::OtherCertificate => ("28000", "SCRAM channel binding check failed"),
            _ => ("28P01", "SASL authentication failed"),
        };
        let wrong_proof = matches!(error, ScramError::Proof);
        let reason = match error {
            ScramError::Proof => self.reason().to_owned(),
            error => error.to_string(),
        };
        LoginError::Refused(Refusal {
            hint,
            wrong_proof,
            ..refusal(sqlstate, message, reason)
        })
    }

    fn reason(&self) -> &'static str {
        match self.secret {
            None => NO_SUCH_USER,
            Some(secret) if secret.is_empty() => "user has no password",
            Some(Secret::Md5(_)) => {
                "wrong password, or auth_type is scram-sha-256 and the user's secret is md5"
            }
            Some(_) => "wrong password",
        }
    }
}

/// Takes a SASLInitialResponse apart: mechanism, length, data.
fn sasl_initial_response<'a, 'b>(
    body: &'a [u8],
    offered: &[&'b str],
) -> Result<(&'b str, &'a [u8]), LoginError> {
    const MALFORMED: &str = "malformed SASLInitialResponse";
    let end = memchr::memchr(0, body).ok_or_else(|| protocol(MALFORMED))?;
    let (mechanism, rest) = body.split_at(end);
    let chosen = offered.iter().find(|name| name.as_bytes() == mechanism);
    let chosen = chosen
        .ok_or_else(|| protocol("client selected an invalid SASL authentication mechanism"))?;
    let (length, data) = rest
        .get(1..)
        .and_then(|rest| rest.split_first_chunk::<4>())
        .ok_or_else(|| protocol(MALFORMED))?;
    if usize::try_from(u32::from_be_bytes(*length)) != Ok(data.len()) {
        return Err(protocol(MALFORMED));
    }
    Ok((chosen, data))
}

fn refusal(sqlstate: &'static str, message: &'static str, reason: String) -> Refusal {
    Refusal {
        sqlstate,
        message,
        hint: None,
        reason,
        wrong_proof: false,
    }
}

fn refuse(sqlstate: &'static str, message: &'static str, reason: &str) -> LoginError {
    LoginError::Refused(refusal(sqlstate, message, reason.to_owned()))
}

fn protocol(message: &'static str) -> LoginError {
    refuse("08P01", message, "protocol violation")
}

fn internal(error: impl std::error::Error) -> LoginError {
    refuse("XX000", "could not check the password", &error.to_string())
}

#[cfg(test)]
mod tests;
