//! Asks an LDAP server by binding with the client's password. Manual, "LDAP
//! Authentication".

use std::time::Instant;

use ldap3::{LdapConnAsync, LdapConnSettings, SearchEntry, SearchOptions};
use tokio::runtime::Builder;

use super::entrust::{Denial, Question};
use crate::auth::Ldap;
use crate::auth::ldap::{Bind, Scope, Search};

/// LDAP's result codes: RFC 4511, appendix A.
const SIZE_LIMIT_EXCEEDED: u32 = 4;
const INVALID_CREDENTIALS: u32 = 49;

/// Whether the password is right. Blocks, but not beyond the deadline.
pub(super) fn check(ldap: &Ldap, question: &Question) -> Result<(), Denial> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| unable("runtime", &error))?;
    let left = question.deadline.saturating_duration_since(Instant::now());
    let answer = runtime.block_on(async {
        let asked = tokio::time::timeout(left, ask(ldap, question)).await;
        asked.unwrap_or_else(|_| Err(Denial::Unable("no answer in time".to_owned())))
    });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    answer
}

async fn ask(ldap: &Ldap, question: &Question) -> Result<(), Denial> {
    let Question { user, password, .. } = question;
    let name = match &ldap.bind {
        Bind::Simple { prefix, suffix } => Bind::simple_name(prefix, user, suffix),
        Bind::Search(search) => find(ldap, search, user).await?,
    };
    // A bind without a name or without a password proves nothing and succeeds.
    if name.is_empty() || password.reveal().is_empty() {
        return Err(Denial::Denied("no name or no password".to_owned()));
    }
    let mut server = connect(ldap).await?;
    let bound = server.simple_bind(&name, password.reveal()).await;
    let bound = bound.map_err(|error| unable("bind", &error))?;
    // It has told all that it is asked for.
    let _ = server.unbind().await;
    match bound.rc {
        0 => Ok(()),
        INVALID_CREDENTIALS => Err(Denial::Denied(format!("wrong password for {name:?}"))),
        _ => Err(Denial::Denied(format!("{name:?}: {bound}"))),
    }
}

/// The distinguished name of the only entry that is this user's.
async fn find(ldap: &Ldap, search: &Search, user: &str) -> Result<String, Denial> {
    let mut server = connect(ldap).await?;
    if !search.binddn.is_empty() {
        let bound = server.simple_bind(&search.binddn, search.bindpasswd.reveal());
        let bound = bound.await.and_then(|result| result.success());
        bound.map_err(|error| unable("ldapbinddn", &error))?;
    }
    let filter = search.filter(user);
    let scope = match search.scope {
        Scope::Base => ldap3::Scope::Base,
        Scope::One => ldap3::Scope::OneLevel,
        Scope::Sub => ldap3::Scope::Subtree,
    };
    // More than one is enough to know.
    server.with_search_options(SearchOptions::new().sizelimit(2));
    let found = server.search(&search.base, scope, &filter, ["1.1"]).await;
    let (entries, result) = found
        .map(|found| (found.0, found.1))
        .map_err(|error| unable("search", &error))?;
    let _ = server.unbind().await;
    if ![0, SIZE_LIMIT_EXCEEDED].contains(&result.rc) {
        return Err(Denial::Unable(format!("search for {filter}: {result}")));
    }
    let mut entries = entries.into_iter().filter(|entry| !entry.is_ref());
    match (entries.next(), entries.next()) {
        (Some(entry), None) if result.rc == 0 => Ok(SearchEntry::construct(entry).dn),
        (None, _) => Err(Denial::Denied(format!("no entry for {filter}"))),
        _ => Err(Denial::Denied(format!("several entries for {filter}"))),
    }
}

/// Connects to the first server that can be reached.
async fn connect(ldap: &Ldap) -> Result<ldap3::Ldap, Denial> {
    let mut reason = String::new();
    for url in &ldap.servers {
        let settings = LdapConnSettings::new().set_starttls(ldap.start_tls);
        match LdapConnAsync::with_settings(settings, url).await {
            Ok((connection, handle)) => {
                // The handle learns how it ends.
                tokio::spawn(connection.drive());
                return Ok(handle);
            }
            Err(error) => reason = format!("{reason}{url}: {error}; "),
        }
    }
    Err(Denial::Unable(reason.trim_end_matches("; ").to_owned()))
}

fn unable(what: &str, error: &dyn std::error::Error) -> Denial {
    Denial::Unable(format!("{what}: {error}"))
}
