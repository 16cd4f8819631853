//! What a client must do to log in, and clients that are let in for what they
//! are rather than for what they know.

use nix::unistd::{Uid, User, geteuid};

use super::auth::{LoginError, Refusal};
use crate::auth::{Authority, Demand, IdentMap, Method, Visitor};
use crate::config::Source;
use crate::net::{PeerAddr, Stream};
use crate::wire::startup::Replication;
use crate::worker::Terms;
use crate::worker::hashing::Hashing;

/// The name under which the process's own user is the console's admin.
const OWN: &str = "pgbouncer";

/// Whether it is the process's own user, over the Unix socket: he may send it
/// signals as well, and is asked for no password at the console.
pub fn is_own_user(stream: &Stream, user: &str) -> bool {
    user == OWN && stream.peer_uid() == Some(geteuid().as_raw())
}

/// What a client asks for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub database: &'a str,
    pub user: &'a str,
    pub replication: Option<Replication>,
}

/// How a client is to prove its name.
pub enum Proof {
    Ask(Method),
    Entrust(Authority),
}

/// What is demanded of this client, by `auth_type` or by the rule that fits it.
pub fn demand(stream: &Stream, asked: Asked<'_>, terms: &Terms) -> Option<(Demand, usize)> {
    let Asked {
        database,
        user,
        replication,
    } = asked;
    let visitor = Visitor {
        database,
        user,
        address: match stream.peer_addr() {
            PeerAddr::Tcp(address, _) => Some(address),
            PeerAddr::Unix => None,
        },
        encrypted: stream.encryption().is_some(),
        // With a database it is a rule for databases that counts.
        replication: replication == Some(Replication::Physical),
    };
    terms.demand(&visitor)
}

/// How this client is to do that. `known`: the user exists. Who has proved its
/// name already is asked nothing: [`Method::Trust`].
pub async fn proof(
    stream: &Stream,
    user: &str,
    known: bool,
    demand: Option<(Demand, usize)>,
    terms: &Terms,
) -> Result<Proof, LoginError> {
    let trust = Proof::Ask(Method::Trust);
    let Some((demand, rule)) = demand else {
        return Err(refuse(
            terms,
            "no authentication method is found",
            Some("No line of auth_hba_file is for this user, database and address."),
            "no rule".to_owned(),
        ));
    };
    match demand {
        Demand::Ask(method) => Ok(Proof::Ask(method)),
        Demand::Entrust(authority) => Ok(Proof::Entrust(authority)),
        Demand::Reject => Err(refuse(
            terms,
            "login rejected",
            Some("A line of auth_hba_file rejects this user, database and address."),
            format!("auth_hba_file, line {rule}"),
        )),
        Demand::Peer(map) => {
            let hashing = terms.auth.keys().hashing();
            match system_user(stream, hashing).await {
                Some(name) if known && may_be(&name, user, map.as_deref()) => Ok(trust),
                name => Err(refuse(
                    terms,
                    "unix socket login rejected",
                    None,
                    reason("system user", name, known),
                )),
            }
        }
        Demand::Cert(map) => match stream.peer_common_name() {
            Some(name) if known && may_be(&name, user, map.as_deref()) => Ok(trust),
            name => Err(refuse(
                terms,
                "certificate authentication failed",
                Some("The certificate's common name must be the user's, or one that a map names."),
                reason("certificate of", name, known),
            )),
        },
    }
}

fn may_be(name: &str, user: &str, map: Option<&IdentMap>) -> bool {
    map.map_or(name == user, |map| map.allows(name, user))
}

/// The name of the user at the other end of a Unix socket.
async fn system_user(stream: &Stream, hashing: &Hashing) -> Option<String> {
    let uid = Uid::from_raw(stream.peer_uid()?);
    // It may be looked up in a directory service.
    let user = hashing.run(move || User::from_uid(uid)).await.ok()?;
    Some(user.ok()??.name)
}

fn reason(what: &str, name: Option<String>, known: bool) -> String {
    match (name, known) {
        (_, false) => "no such user".to_owned(),
        (Some(name), true) => format!("{what} {name:?}"),
        (None, true) => format!("no {what} anybody"),
    }
}

fn refuse(
    terms: &Terms,
    message: &'static str,
    hint: Option<&'static str>,
    reason: String,
) -> LoginError {
    LoginError::Refused(Refusal {
        // invalid_authorization_specification; PgBouncer has one code for everything.
        sqlstate: match terms.config.source {
            Source::Ini => "08P01",
            Source::Toml | Source::CommandLine => "28000",
        },
        message,
        hint,
        reason,
        wrong_proof: false,
    })
}
