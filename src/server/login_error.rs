//! Why a login to a server failed, in words for the clients that wait for it.

use std::borrow::Cow;
use std::{fmt, io};

use thiserror::Error;

use crate::auth::scram::ScramError;
use crate::net::message_io::FrameError;
use crate::worker::hashing::HashingError;

/// An ErrorResponse or NoticeResponse as the server sent it, every field kept
/// (manual, "Error and Notice Message Fields"). Any bytes make one; what is
/// malformed has no fields.
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    body: Vec<u8>,
}

impl ErrorResponse {
    /// Takes the body of a message, without type byte and length.
    pub fn new(body: &[u8]) -> ErrorResponse {
        ErrorResponse {
            body: body.to_vec(),
        }
    }

    /// The body as it came, for forwarding.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The fields in order: type and value, the latter in the server's encoding.
    pub fn fields(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.body
            .split(|&byte| byte == 0)
            .map_while(|field| field.split_first().map(|(&tag, value)| (tag, value)))
    }

    /// A field's text, with what is not UTF-8 replaced.
    pub fn field(&self, tag: u8) -> Option<Cow<'_, str>> {
        self.fields()
            .find(|(found, _)| *found == tag)
            .map(|(_, value)| String::from_utf8_lossy(value))
    }

    /// The same, with this added to its DETAIL.
    pub fn with_detail(&self, text: &str) -> ErrorResponse {
        let (mut body, mut detail) = (Vec::new(), b"D".to_vec());
        for (tag, value) in self.fields() {
            if tag == b'D' {
                detail.extend_from_slice(value);
                detail.push(b' ');
            } else {
                body.push(tag);
                body.extend_from_slice(value);
                body.push(0);
            }
        }
        detail.extend_from_slice(text.as_bytes());
        body.extend_from_slice(&detail);
        body.extend_from_slice(b"\0\0");
        ErrorResponse { body }
    }

    /// The severity that is never translated, where the server sends it.
    pub fn severity(&self) -> Cow<'_, str> {
        self.field(b'V')
            .or_else(|| self.field(b'S'))
            .unwrap_or(Cow::Borrowed("FATAL"))
    }

    pub fn sqlstate(&self) -> Cow<'_, str> {
        self.field(b'C').unwrap_or(Cow::Borrowed("XX000"))
    }

    pub fn message(&self) -> Cow<'_, str> {
        self.field(b'M')
            .unwrap_or(Cow::Borrowed("server sent an error without a message"))
    }
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.severity(), self.message())
    }
}

impl fmt::Debug for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorResponse({self}, SQLSTATE {})", self.sqlstate())
    }
}

/// Why a server connection could not log in. Display is the text for the log and,
/// but for [`Server`](ServerLoginError::Server), for waiting clients.
#[derive(Debug, Error)]
pub enum ServerLoginError {
    /// The server's own words, to be forwarded as they are.
    #[error("server login failed: {0}")]
    Server(ErrorResponse),
    /// The connection broke.
    #[error("server connection failed while logging in: {0}")]
    Io(#[source] io::Error),
    /// The server does not speak the protocol.
    #[error("server login failed: {0}")]
    Protocol(String),
    /// What we have for the user does not answer what the server asks.
    #[error("server login failed: wrong password type")]
    WrongPasswordType { user: String, needed: &'static str },
    /// GSSAPI, SSPI and the like.
    #[error("server login failed: authentication request {0} is not supported")]
    UnsupportedMethod(u32),
    #[error(
        "server login failed: none of the server's SASL authentication mechanisms are supported"
    )]
    NoMechanism,
    /// The SCRAM exchange failed on our side.
    #[error("server login failed: {0}")]
    Scram(#[from] ScramError),
    #[error("server login failed: {0}")]
    Hashing(#[from] HashingError),
}

impl ServerLoginError {
    pub(super) fn protocol(problem: impl Into<String>) -> ServerLoginError {
        ServerLoginError::Protocol(problem.into())
    }

    /// The SQLSTATE for waiting clients: the server's, or PgBouncer's 08P01.
    pub fn sqlstate(&self) -> Cow<'_, str> {
        match self {
            ServerLoginError::Server(error) => error.sqlstate(),
            ServerLoginError::Io(_) => Cow::Borrowed("08006"),
            ServerLoginError::Hashing(_) => Cow::Borrowed("XX000"),
            _ => Cow::Borrowed("08P01"),
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            ServerLoginError::Server(error) => return error.field(b'H'),
            ServerLoginError::WrongPasswordType { user, needed } => Cow::Owned(format!(
                "The server asks for {needed} of user \"{user}\". Store it in auth_file, or set \
                 password in the database's definition."
            )),
            ServerLoginError::UnsupportedMethod(_) => Cow::Borrowed(
                "Let the server's pg_hba.conf ask for scram-sha-256, md5, password or trust.",
            ),
            ServerLoginError::NoMechanism => {
                Cow::Borrowed("Let the server offer SCRAM-SHA-256 on connections without TLS.")
            }
            ServerLoginError::Scram(ScramError::ForeignKeys) => Cow::Borrowed(
                "SCRAM pass-through needs the same verifier on both sides: copy rolpassword \
                 from the server's pg_authid to auth_file (and from primary to every other \
                 server), or store the plain password.",
            ),
            ServerLoginError::Scram(ScramError::Signature) => Cow::Borrowed(
                "Whoever answers at the server's address does not know the user's password.",
            ),
            ServerLoginError::Scram(ScramError::Iterations(_)) => {
                Cow::Borrowed("Lower scram_iterations on the server and set the password again.")
            }
            _ => return None,
        })
    }
}

impl From<FrameError> for ServerLoginError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => ServerLoginError::Io(error),
            FrameError::Length { .. } => ServerLoginError::Protocol(error.to_string()),
        }
    }
}
