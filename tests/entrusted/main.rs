//! Logins that PAM or an LDAP server decides, with real ones: slapd and
//! libpam, both thrown away after the test.
//! `cargo test --features ldap,pam --test entrusted`

// Helpers outside of test functions fail tests by panicking, too.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod ldap;
mod pam;
mod slapd;

use support::{Failure, Frontend, Pooler, RawClient};

fn login(pooler: &Pooler, user: &str, password: &str) -> Result<RawClient, Failure> {
    RawClient::try_login(&pooler.address, user, &pooler.database, Some(password))
}

/// The error's message and SQLSTATE.
#[track_caller]
fn refused(pooler: &Pooler, user: &str, password: &str) -> (String, String) {
    let failure = login(pooler, user, password).expect_err("login");
    (failure.message().to_owned(), failure.sqlstate().to_owned())
}

/// What the pooler asks this user for: the code of AuthenticationRequest.
fn asked_for(pooler: &Pooler, user: &str) -> Option<u8> {
    let mut client = RawClient::connect(&pooler.address);
    let parameters = [("user", user), ("database", pooler.database.as_str())];
    client.send(&Frontend::new().startup((3, 0), &parameters));
    let request = client.read();
    assert_eq!(request.tag, b'R', "{request:?}");
    request.body.get(3).copied()
}

const CLEARTEXT_PASSWORD: u8 = 3;
