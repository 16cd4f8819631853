//! Logs in to a PostgreSQL server: the frontend's side of the manual's "Message
//! Flow", section "Start-up".

use std::io;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tracing::info;
use zeroize::{Zeroize, Zeroizing};

use super::login_error::{ErrorResponse, ServerLoginError};
use crate::auth::scram::client::{AwaitServerFirst, Challenge};
use crate::auth::scram::{self, Binding, MAX_ITERATIONS, ScramError};
use crate::auth::{Masked, Md5Hash, ScramKeys, Secret};
use crate::net::message_io::{Frame, read_frame};
use crate::worker::derived_keys::DerivedKeys;

/// Longest single message before the login has succeeded, and after.
const MAX_AUTH_MESSAGE: usize = 65_536;
/// All messages of a login together.
const MAX_LOGIN: usize = 1 << 20;

/// PostgreSQL's keys have 4 bytes in protocol 3.0, and up to 256 later.
const CANCEL_SECRET_LEN: std::ops::RangeInclusive<usize> = 4..=256;

/// What we can prove to a server on behalf of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credential {
    pub user: String,
    /// Answers every kind of question.
    pub password: Option<Masked>,
    /// Answers md5 only.
    pub md5: Option<Md5Hash>,
    /// SCRAM pass-through; answers SCRAM only.
    pub scram_keys: Option<ScramKeys>,
}

impl Credential {
    /// What a user list's secret is good for. A SCRAM verifier alone proves
    /// nothing: set `scram_keys` from what a client proved with.
    pub fn from_secret(user: impl Into<String>, secret: Option<&Secret>) -> Credential {
        let secret = secret.filter(|secret| !secret.is_empty());
        Credential {
            user: user.into(),
            password: match secret {
                Some(Secret::Plain(password)) => Some(password.clone()),
                _ => None,
            },
            md5: match secret {
                Some(Secret::Md5(hash)) => Some(hash.clone()),
                _ => None,
            },
            scram_keys: None,
        }
    }

    /// Whether there is anything that a server may ask for.
    pub fn proves_something(&self) -> bool {
        self.password.is_some() || self.md5.is_some() || self.scram_keys.is_some()
    }
}

/// Names a server process in a CancelRequest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendKey {
    pub pid: i32,
    /// 4 to 256 bytes.
    pub secret: Vec<u8>,
}

/// A server connection that is ready for its first query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedIn {
    /// ParameterStatus in the order of arrival; values in the server's encoding.
    pub parameters: Vec<(String, Vec<u8>)>,
    /// `None` if the server gave none: its queries cannot be cancelled.
    pub backend_key: Option<BackendKey>,
}

/// Sends the startup packet of protocol 3.0 with the given parameters (`user` and
/// `database` among them), proves who we are, and reads up to ReadyForQuery and
/// not a byte beyond. `binding`: the hash of the server's certificate, if the
/// connection is encrypted; SCRAM is bound to it if the server offers that.
///
/// Has no time limit. Not cancel safe: after dropping the future, or an error,
/// close the connection.
pub async fn login<S>(
    io: &mut S,
    startup: &[(&str, &str)],
    credential: &Credential,
    keys: &DerivedKeys,
    binding: Option<&[u8]>,
) -> Result<LoggedIn, ServerLoginError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut login = Login {
        io,
        credential,
        keys,
        binding,
        allowance: MAX_LOGIN,
    };
    let mut out = BytesMut::new();
    frontend::startup_message(startup.iter().copied(), &mut out)?;
    login.send(out).await?;
    login.authenticate().await?;
    login.welcome().await
}

/// The number in an Authentication message.
mod request {
    pub const OK: u32 = 0;
    pub const CLEARTEXT: u32 = 3;
    pub const MD5: u32 = 5;
    pub const SASL: u32 = 10;
    pub const SASL_CONTINUE: u32 = 11;
    pub const SASL_FINAL: u32 = 12;
}

struct Login<'a, S> {
    io: &'a mut S,
    credential: &'a Credential,
    keys: &'a DerivedKeys,
    binding: Option<&'a [u8]>,
    /// Bytes that the server may still send.
    allowance: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Login<'_, S> {
    async fn authenticate(&mut self) -> Result<(), ServerLoginError> {
        let (code, data) = self.read_request().await?;
        match code {
            request::OK => return Ok(()),
            request::CLEARTEXT => self.cleartext().await?,
            request::MD5 => self.md5(&data).await?,
            request::SASL => self.scram(&data).await?,
            code => return Err(ServerLoginError::UnsupportedMethod(code)),
        }
        match self.read_request().await? {
            (request::OK, _) => Ok(()),
            (code, _) => Err(out_of_turn(code)),
        }
    }

    async fn cleartext(&mut self) -> Result<(), ServerLoginError> {
        let password = self.credential.password.as_ref();
        let password = password.ok_or_else(|| self.wrong_type("a plain password"))?;
        self.send_password(password.reveal()).await
    }

    async fn md5(&mut self, salt: &[u8]) -> Result<(), ServerLoginError> {
        let salt = salt
            .try_into()
            .map_err(|_| ServerLoginError::protocol("malformed AuthenticationMD5Password"))?;
        let Credential {
            user,
            password,
            md5,
            ..
        } = self.credential;
        let hash = match (password, md5) {
            (Some(password), _) => Md5Hash::of(user, password.reveal().as_bytes()),
            (None, Some(hash)) => hash.clone(),
            (None, None) => return Err(self.wrong_type("a plain password or an md5 hash")),
        };
        self.send_password(&hash.answer(salt)).await
    }

    async fn scram(&mut self, mechanisms: &[u8]) -> Result<(), ServerLoginError> {
        let offers = |name: &str| {
            let mut offered = mechanisms.split(|&byte| byte == 0);
            offered.any(|offered| offered == name.as_bytes())
        };
        let binding = Binding::new(self.binding, offers(scram::MECHANISM_PLUS));
        let mechanism = match binding {
            Binding::Bound(_) => scram::MECHANISM_PLUS,
            Binding::Unsupported | Binding::Declined => scram::MECHANISM,
        };
        if !offers(mechanism) {
            return Err(ServerLoginError::NoMechanism);
        }
        if self.credential.password.is_none() && self.credential.scram_keys.is_none() {
            return Err(self.wrong_type("a plain password or a SCRAM verifier"));
        }

        let (client_first, state) = AwaitServerFirst::start(rand::random(), binding);
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(mechanism, client_first.as_bytes(), &mut out)?;
        self.send(out).await?;

        let server_first = self.expect_request(request::SASL_CONTINUE).await?;
        let challenge = state.challenge(&server_first)?;
        let (client_final, state) = match self.keys_for(&challenge).await? {
            Some(keys) => challenge.answer(&keys)?,
            None => return Err(ScramError::ForeignKeys.into()),
        };
        let mut out = BytesMut::new();
        frontend::sasl_response(client_final.as_bytes(), &mut out)?;
        self.send(out).await?;

        let server_final = self.expect_request(request::SASL_FINAL).await?;
        Ok(state.finish(&server_final)?)
    }

    /// The keys of the client's proof if they fit, else those of the password.
    async fn keys_for(&self, challenge: &Challenge) -> Result<Option<ScramKeys>, ServerLoginError> {
        let Credential {
            password,
            scram_keys,
            ..
        } = self.credential;
        let fitting = |keys: &&ScramKeys| {
            keys.salt == challenge.salt && keys.iterations == challenge.iterations
        };
        if let Some(keys) = scram_keys.as_ref().filter(fitting) {
            return Ok(Some(keys.clone()));
        }
        let Some(password) = password else {
            return Ok(None);
        };
        if challenge.iterations > MAX_ITERATIONS {
            return Err(ScramError::Iterations(challenge.iterations).into());
        }
        let keys = self
            .keys
            .get(password, &challenge.salt, challenge.iterations);
        Ok(Some(ScramKeys::clone(&*keys.await?)))
    }

    async fn welcome(&mut self) -> Result<LoggedIn, ServerLoginError> {
        let mut logged_in = LoggedIn::default();
        loop {
            let Frame { tag, body } = self.read(MAX_LOGIN).await?;
            match tag {
                b'S' => logged_in.parameters.push(parameter_status(&body)?),
                b'K' => logged_in.backend_key = Some(backend_key_data(&body)?),
                b'Z' if *body == b"I" => return Ok(logged_in),
                tag => return Err(unexpected(tag)),
            }
        }
    }

    async fn expect_request(
        &mut self,
        expected: u32,
    ) -> Result<Zeroizing<Vec<u8>>, ServerLoginError> {
        match self.read_request().await? {
            (code, data) if code == expected => Ok(data),
            (code, _) => Err(out_of_turn(code)),
        }
    }

    /// An Authentication message: its number and what follows.
    async fn read_request(&mut self) -> Result<(u32, Zeroizing<Vec<u8>>), ServerLoginError> {
        let Frame { tag, mut body } = self.read(MAX_AUTH_MESSAGE).await?;
        if tag != b'R' {
            return Err(unexpected(tag));
        }
        let Some((code, _)) = body.split_first_chunk() else {
            return Err(ServerLoginError::protocol(
                "malformed Authentication message",
            ));
        };
        let code = u32::from_be_bytes(*code);
        body.drain(..size_of::<u32>());
        Ok((code, body))
    }

    /// The next message that is neither a notice nor an error.
    async fn read(&mut self, limit: usize) -> Result<Frame, ServerLoginError> {
        loop {
            let frame = read_frame(self.io, limit.min(self.allowance)).await?;
            self.allowance -= frame.body.len();
            match frame.tag {
                b'E' => return Err(ServerLoginError::Server(ErrorResponse::new(&frame.body))),
                b'N' => {
                    let notice = ErrorResponse::new(&frame.body);
                    info!("server says while logging in: {notice}");
                }
                _ => return Ok(frame),
            }
        }
    }

    async fn send_password(&mut self, password: &str) -> Result<(), ServerLoginError> {
        // Room for everything, so that no unwiped copy stays behind.
        let mut out = BytesMut::with_capacity(password.len() + 16);
        frontend::password_message(password.as_bytes(), &mut out)?;
        self.send(out).await
    }

    async fn send(&mut self, mut out: BytesMut) -> Result<(), ServerLoginError> {
        let sent = self.io.write_all(&out).await;
        out.zeroize();
        sent?;
        Ok(self.io.flush().await?)
    }

    fn wrong_type(&self, needed: &'static str) -> ServerLoginError {
        ServerLoginError::WrongPasswordType {
            user: self.credential.user.clone(),
            needed,
        }
    }
}

fn parameter_status(body: &[u8]) -> Result<(String, Vec<u8>), ServerLoginError> {
    let mut parts = body.split(|&byte| byte == 0);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(value), Some([]), None) => {
            Ok((String::from_utf8_lossy(name).into_owned(), value.to_vec()))
        }
        _ => Err(ServerLoginError::protocol("malformed ParameterStatus")),
    }
}

fn backend_key_data(body: &[u8]) -> Result<BackendKey, ServerLoginError> {
    match body.split_first_chunk() {
        Some((pid, secret)) if CANCEL_SECRET_LEN.contains(&secret.len()) => Ok(BackendKey {
            pid: i32::from_be_bytes(*pid),
            secret: secret.to_vec(),
        }),
        _ => Err(ServerLoginError::protocol("malformed BackendKeyData")),
    }
}

fn unexpected(tag: u8) -> ServerLoginError {
    let tag = tag.escape_ascii();
    ServerLoginError::protocol(format!("unexpected message '{tag}' while logging in"))
}

fn out_of_turn(code: u32) -> ServerLoginError {
    ServerLoginError::protocol(format!("authentication request {code} out of turn"))
}

impl From<io::Error> for ServerLoginError {
    fn from(error: io::Error) -> Self {
        ServerLoginError::Io(error)
    }
}

#[cfg(test)]
mod tests;
