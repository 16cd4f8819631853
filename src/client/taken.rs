//! A client that a PgBouncer has left, in whose place this process serves. What
//! PgBouncer does not tell of it is as if it logged in now.

mod answers;
mod pair;

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tracing::{debug, warn};

use super::auth::Authenticated;
use super::farewell::{Goodbye, Who};
use super::info::{CancelKey, ClientInfo, Party};
use super::login;
use super::lookup::Account;
use super::session::Client;
use super::startup::Failure;
use super::task::Task;
use crate::auth::{ScramKeys, Secret};
use crate::config::{PoolConfig, Source};
use crate::flow::Params;
use crate::net::{Detached, Outgoing, Stream};
use crate::process::{PgBouncersClient, Taken};
use crate::reactor;
use crate::server::Pool;
use crate::server::login::Credential;
use crate::server::pool::hang_up;
use crate::wire::build::Refusal;
use crate::wire::cancel_key;
use crate::worker::Worker;
use crate::worker::lookups::Found;

/// Serves it: at first together with the server connection that it holds, if there is
/// one, and then as any other.
pub async fn take(worker: Rc<Worker>, taken: Box<Taken<OwnedFd>>) {
    let Taken {
        client,
        socket,
        server,
    } = *taken;
    let id = worker.local().next_id();
    let (conn, db, user) = (format!("C-{id}"), &client.database, &client.user);
    let mut stream = match Detached::from_file(socket).and_then(Detached::attach) {
        Ok(stream) => stream,
        Err(error) => return warn!(%conn, %db, %user, reason = %error, "cannot take a client over"),
    };
    debug!(%conn, %db, %user, "taken over");
    let Some(guest) = Guest::new(&worker, id, &client, &stream) else {
        // It ends what it is doing there.
        server.into_iter().for_each(|server| hang_up(server.socket));
        let refusal = Refusal::fatal("3D000", format!("no such database: {db}"));
        return refuse(stream, (id, &client), refusal.into(), &worker).await;
    };
    let mut asked = Params::default();
    for (name, value) in &client.settings {
        asked.set(name.as_bytes(), value.as_bytes(), false);
    }
    if let Some(server) = server {
        match Box::pin(guest.serve_pair(stream, server, asked)).await {
            Some(settled) => (stream, asked) = settled,
            None => return,
        }
    }
    match Box::pin(guest.agree(&client, &stream, &asked)).await {
        Ok((pool, params)) => {
            let key = guest.key();
            // From here on it is a client like others.
            drop(guest);
            // That its prepared statements are unknown is no mistake of its own.
            let session = login::session(&pool.config(), Source::Toml, params.clone());
            let party = Party::Client(worker.readmit(db, user), pool.clone());
            let info = Rc::new(ClientInfo::new(id, key, party, &stream, params));
            worker.enlist(info.clone());
            let client = Client::new(stream, session, info, (pool, worker));
            reactor::spawn(Task::Serving(client));
        }
        Err(failure) => {
            drop(guest);
            refuse(stream, (id, &client), failure, &worker).await;
        }
    }
}

/// It cannot go on here.
async fn refuse(
    mut stream: Stream,
    (id, client): (u64, &PgBouncersClient),
    failure: Failure,
    worker: &Worker,
) {
    let terms = worker.terms();
    let (refusal, reason) = match failure {
        Failure::Told(message, reason) => (message, reason),
        Failure::Refused(mut refusal) => {
            refusal.sqlstate = terms.config.source.sqlstate(refusal.sqlstate);
            let mut message = Vec::new();
            refusal.encode(&mut message);
            (message, refusal.message)
        }
        Failure::Gone(_) | Failure::Tls(_) => (Vec::new(), "client unexpected eof".to_owned()),
    };
    let who = Who {
        id,
        db: Some(&client.database),
        user: Some(&client.user),
        peer: stream.peer_addr(),
        pid: stream.peer_pid(),
    };
    who.log_end(
        &reason,
        Default::default(),
        !refusal.is_empty(),
        &terms.config,
    );
    let output = Outgoing::default();
    Goodbye { output, refusal }.say(&mut stream).await;
}

/// It until it can do without what PgBouncer has begun. The console and cancel requests
/// know it already.
struct Guest {
    worker: Rc<Worker>,
    pool: Rc<Pool>,
    info: Rc<ClientInfo>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.worker.delist(&self.info);
    }
}

impl Guest {
    /// `None`: its database is not in the configuration.
    fn new(
        worker: &Rc<Worker>,
        id: u64,
        client: &PgBouncersClient,
        stream: &Stream,
    ) -> Option<Guest> {
        let terms = worker.terms();
        let (database, user) = (&*client.database, &*client.user);
        let config = terms.config.pool(database, user)?;
        let found = client.password.as_ref().map(|password| Found {
            user: client.user.clone(),
            secret: Secret::parse(password.reveal()),
        });
        let credential = credential(&config, client, found, worker);
        let pool = worker.pool(config, credential);
        let party = Party::Client(worker.readmit(database, user), pool.clone());
        let mut secret = client.secret();
        if terms.config.general.peer_id != 0 {
            cancel_key::mark_key(&mut secret);
        }
        let key = (client.pid(), CancelKey::Short(secret));
        let info = ClientInfo::new(id, key, party, stream, Rc::default());
        let info = Rc::new(info);
        worker.enlist(info.clone());
        Some(Guest {
            worker: worker.clone(),
            pool,
            info,
        })
    }

    /// Looks its secret up, if PgBouncer has not told it: 1.24 does not where `auth_user`
    /// is that of all databases.
    async fn look_up(&self, client: &PgBouncersClient, stream: &Stream) -> Result<(), Failure> {
        let names = (&*client.database, &*client.user);
        if client.password.is_none()
            && let Some(found) = Account::of(names, stream, &self.worker).await?.into_found()
            && let Some(config) = self.worker.terms().config.pool(names.0, names.1)
        {
            let credential = credential(&config, client, Some(found), &self.worker);
            self.worker.pool(config, credential);
        }
        Ok(())
    }

    /// What it was told for its cancel requests.
    fn key(&self) -> (u32, CancelKey) {
        let key = CancelKey::from_bytes(self.info.key.bytes());
        (self.info.pid, key.unwrap_or(CancelKey::Short([0; 4])))
    }

    /// Its parameters: what PgBouncer tells, and the server's. Without a server it is
    /// left in peace until it says something.
    async fn agree(
        &self,
        client: &PgBouncersClient,
        stream: &Stream,
        asked: &Params,
    ) -> Result<(Rc<Pool>, Rc<Params>), Failure> {
        let once = async || {
            self.look_up(client, stream).await?;
            let pool = self.pool.clone().ready().await;
            let params = login::agree_on_parameters(&pool, asked).await?;
            Ok::<_, Failure>((pool, params))
        };
        let gone = || Failure::Gone(ErrorKind::UnexpectedEof.into());
        let agreed = async {
            if let Ok(agreed) = once().await {
                return Ok(agreed);
            }
            match stream.heard().await {
                true => once().await,
                false => Err(gone()),
            }
        };
        let dismissed = || {
            let text = "terminating connection due to administrator command";
            Refusal::fatal("57P01", text).into()
        };
        tokio::select! {
            agreed = agreed => agreed,
            () = stream.closed() => Err(gone()),
            () = self.info.dismissed() => Err(dismissed()),
        }
    }
}

/// What can be proved for a client whose secret this is, if the configuration has none.
fn credential(
    config: &PoolConfig,
    client: &PgBouncersClient,
    found: Option<Found>,
    worker: &Worker,
) -> Credential {
    let terms = worker.terms();
    let found_secret = found.as_ref().map(|found| &found.secret);
    let secret = found_secret.or_else(|| terms.users.get(&client.user));
    // The keys alone do not say for which verifier they are.
    let scram_keys = match (&client.scram_keys, secret) {
        (Some((client_key, server_key)), Some(Secret::Scram(verifier))) => Some(ScramKeys {
            client_key: client_key.clone(),
            server_key: server_key.clone(),
            salt: verifier.salt.clone(),
            iterations: verifier.iterations,
        }),
        _ => None,
    };
    let authenticated = Authenticated {
        scram_keys,
        plain: None,
    };
    let shown = (&authenticated, found.as_ref());
    login::credential(config, &client.user, shown, worker)
}
