use std::time::Duration;

use postgres_protocol::message::frontend;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::auth::Md5Hash;
use crate::reactor;
use crate::server::login::{Credential, login};
use crate::server::login_error::ServerLoginError;
use crate::worker::hashing::Hashing;

const ITERATIONS: u32 = 16;

fn context(usual_kind: SecretKind) -> AuthContext {
    let keys = DerivedKeys::new(Hashing::start(1, 4).unwrap());
    AuthContext::new(keys, ITERATIONS, usual_kind)
}

fn secret(kind: SecretKind) -> Secret {
    match kind {
        SecretKind::Plain => Secret::parse("pencil"),
        SecretKind::Md5 => Secret::Md5(Md5Hash::of("ann", b"pencil")),
        SecretKind::Scram => {
            Secret::Scram(ScramKeys::derive(b"pencil", b"sixteen bytes!!!", 32).verifier())
        }
    }
}

fn credential(password: &str) -> Credential {
    Credential {
        user: "ann".into(),
        password: Some(Masked::new(password)),
        ..Credential::default()
    }
}

/// Plays the rest of a server around `authenticate`.
async fn serve(
    io: &mut DuplexStream,
    method: Method,
    secret: Option<&Secret>,
    ctx: &AuthContext,
    shown: Option<&[u8]>,
) -> Result<Authenticated, LoginError> {
    let length = io.read_u32().await.unwrap();
    let mut startup = vec![0; length as usize - 4];
    io.read_exact(&mut startup).await.unwrap();
    let result = authenticate(io, "ann", method, secret, ctx, shown, async || None).await;
    match &result {
        Ok(_) => {
            let welcome = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
            io.write_all(welcome).await.unwrap();
        }
        Err(LoginError::Refused(refusal)) => {
            let fields = format!("SFATAL\0C{}\0M{}\0\0", refusal.sqlstate, refusal.message);
            io.write_u8(b'E').await.unwrap();
            io.write_u32(fields.len() as u32 + 4).await.unwrap();
            io.write_all(fields.as_bytes()).await.unwrap();
        }
        Err(LoginError::Gone(_)) => {}
    }
    result
}

type Outcome = (
    Result<Authenticated, LoginError>,
    Result<(), ServerLoginError>,
);

/// Our login to servers against our login of clients.
async fn exchange(
    method: Method,
    secret: Option<&Secret>,
    credential: &Credential,
    ctx: &AuthContext,
) -> Outcome {
    bound_exchange(method, secret, credential, ctx, (None, None)).await
}

/// The same, where the hash of a certificate is `shown` by one and `seen` by
/// the other.
async fn bound_exchange(
    method: Method,
    secret: Option<&Secret>,
    credential: &Credential,
    ctx: &AuthContext,
    (shown, seen): (Option<&[u8]>, Option<&[u8]>),
) -> Outcome {
    let (mut client, mut server) = duplex(1 << 16);
    let startup = [("user", "ann"), ("database", "db")];
    // Each side closes when it is done.
    let serving = async {
        let result = serve(&mut server, method, secret, ctx, shown).await;
        drop(server);
        result
    };
    let logging_in = async {
        let result = login(&mut client, &startup, credential, ctx.keys(), seen).await;
        drop(client);
        result
    };
    let (served, logged_in) = tokio::join!(serving, logging_in);
    (served, logged_in.map(drop))
}

const ASKING: [Method; 3] = [Method::Plain, Method::Md5, Method::ScramSha256];
const KINDS: [SecretKind; 3] = [SecretKind::Plain, SecretKind::Md5, SecretKind::Scram];

#[tokio::test]
async fn the_right_password_opens_and_leaves_what_is_needed_behind() {
    let ctx = context(SecretKind::Scram);
    for (method, kind) in ASKING
        .into_iter()
        .flat_map(|m| KINDS.map(|kind| (m, kind)))
        .filter(|&pair| pair != (Method::ScramSha256, SecretKind::Md5))
    {
        let secret = secret(kind);
        let (served, logged_in) =
            exchange(method, Some(&secret), &credential("pencil"), &ctx).await;
        let served = served.unwrap();
        logged_in.unwrap();
        let knows_password = kind == SecretKind::Plain || method == Method::Plain;
        assert_eq!(
            served.plain.is_some(),
            knows_password,
            "{method:?} {kind:?}"
        );
        let by_verifier = kind == SecretKind::Scram && method != Method::Plain;
        assert_eq!(
            served.scram_keys.is_some(),
            by_verifier,
            "{method:?} {kind:?}"
        );
    }
}

#[tokio::test]
async fn a_wrong_password_an_unknown_user_and_an_empty_secret_look_alike() {
    for (method, kind) in ASKING.into_iter().flat_map(|m| KINDS.map(|kind| (m, kind))) {
        let ctx = context(kind);
        let empty = Secret::parse("");
        let secret = secret(kind);
        let mut refusals = Vec::new();
        for known in [Some(&secret), None, Some(&empty)] {
            let (served, logged_in) = exchange(method, known, &credential("Pencil"), &ctx).await;
            let Err(LoginError::Refused(refusal)) = served else {
                panic!("{method:?} {kind:?}: {served:?}");
            };
            assert!(matches!(logged_in, Err(ServerLoginError::Server(_))));
            refusals.push((refusal.sqlstate, refusal.message, refusal.hint));
        }
        let scram =
            method == Method::ScramSha256 || (method == Method::Md5 && kind == SecretKind::Scram);
        let message = match scram {
            true => "SASL authentication failed",
            false => "password authentication failed",
        };
        assert_eq!(refusals[0], ("28P01", message, None));
        assert_eq!(refusals[0], refusals[1]);
        assert_eq!(refusals[0], refusals[2]);
    }
}

#[tokio::test]
async fn the_log_knows_why() {
    let ctx = context(SecretKind::Scram);
    let reason = async |secret: Option<&Secret>| {
        let credential = credential("pencil");
        let (served, _) = exchange(Method::ScramSha256, secret, &credential, &ctx).await;
        served.unwrap_err().to_string()
    };
    let unknown = reason(None).await;
    assert_eq!(unknown, "SASL authentication failed (no such user)");
    let md5 = reason(Some(&secret(SecretKind::Md5))).await;
    assert!(md5.contains("the user's secret is md5"), "{md5}");
}

#[tokio::test]
async fn trust_asks_nothing_but_wants_a_known_user() {
    let ctx = context(SecretKind::Scram);
    let secret = secret(SecretKind::Plain);
    let (served, logged_in) =
        exchange(Method::Trust, Some(&secret), &Credential::default(), &ctx).await;
    assert_eq!(served.unwrap().plain, Some(Masked::new("pencil")));
    logged_in.unwrap();
    let (served, _) = exchange(Method::Trust, None, &Credential::default(), &ctx).await;
    let Err(LoginError::Refused(refusal)) = served else {
        panic!("{served:?}")
    };
    assert_eq!(refusal.message, "\"trust\" authentication failed");
    let (served, _) = exchange(Method::Any, None, &Credential::default(), &ctx).await;
    assert_eq!(served.unwrap(), Authenticated::default());
}

#[tokio::test]
async fn what_a_scram_client_proved_logs_in_to_the_next_server() {
    let ctx = context(SecretKind::Scram);
    let secret = secret(SecretKind::Scram);
    let method = Method::ScramSha256;
    let (served, _) = exchange(method, Some(&secret), &credential("pencil"), &ctx).await;
    let passed_on = Credential {
        user: "ann".into(),
        scram_keys: served.unwrap().scram_keys,
        ..Credential::default()
    };
    let (served, logged_in) = exchange(method, Some(&secret), &passed_on, &ctx).await;
    assert_eq!(served.unwrap().scram_keys, passed_on.scram_keys);
    logged_in.unwrap();

    // Same password, but another salt.
    let other = Secret::Scram(ScramKeys::derive(b"pencil", b"another salt", 32).verifier());
    let (_, logged_in) = exchange(method, Some(&other), &passed_on, &ctx).await;
    let error = logged_in.unwrap_err();
    assert!(matches!(
        error,
        ServerLoginError::Scram(ScramError::ForeignKeys)
    ));
    assert!(error.hint().unwrap().contains("pg_authid"));
}

/// The salt and iteration count that a client is shown.
async fn challenge(secret: Option<&Secret>, ctx: &AuthContext) -> String {
    let (mut client, mut server) = duplex(1 << 16);
    let mut out = BytesMut::new();
    frontend::sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=abc", &mut out).unwrap();
    client.write_all(&out).await.unwrap();
    let serving = authenticate(
        &mut server,
        "ann",
        Method::ScramSha256,
        secret,
        ctx,
        None,
        async || None,
    );
    let asking = async {
        read_frame(&mut client, 1000).await.unwrap();
        let answer = read_frame(&mut client, 1000).await.unwrap();
        drop(client);
        String::from_utf8(answer.body[4..].to_vec()).unwrap()
    };
    let (served, challenge) = tokio::join!(serving, asking);
    assert!(matches!(served, Err(LoginError::Gone(_))));
    let (_, stable) = challenge.split_once(",s=").unwrap();
    stable.to_owned()
}

#[tokio::test]
async fn salts_are_stable_and_give_nothing_away() {
    let ctx = context(SecretKind::Plain);
    let unknown = challenge(None, &ctx).await;
    assert_eq!(unknown, challenge(None, &ctx).await);
    assert!(unknown.ends_with(",i=16"), "{unknown}");
    // Whether the user exists, is created or changes the password.
    for secret in [
        secret(SecretKind::Plain),
        Secret::parse(""),
        secret(SecretKind::Md5),
    ] {
        assert_eq!(challenge(Some(&secret), &ctx).await, unknown);
    }
    let reloaded = ctx.with_settings(17, SecretKind::Md5);
    let after = challenge(None, &reloaded).await;
    assert_eq!(after, unknown.replace(",i=16", ",i=17"));
    assert_ne!(challenge(None, &context(SecretKind::Plain)).await, unknown);
    let stored = challenge(Some(&secret(SecretKind::Scram)), &ctx).await;
    assert!(stored.ends_with(",i=32"), "{stored}");
}

#[tokio::test]
async fn warming_derives_what_logins_need() {
    let ctx = context(SecretKind::Plain);
    let (users, _) = UserList::parse("\"ann\" \"pencil\"\n\"bob\" \"\"");
    ctx.warm(&users).await.unwrap();
    let salt = Verifier::salt_for(&ctx.seed, "ann");
    let password = Masked::new("pencil");
    let get = ctx.keys.get(&password, &salt, ITERATIONS);
    // Ready at the first poll: nothing had to be derived.
    assert!(reactor::timeout(Duration::ZERO, get).await.is_ok());
}

/// Feeds raw bytes after the request; the answer's refusal.
async fn feed(method: Method, bytes: &[u8]) -> Result<Authenticated, LoginError> {
    let ctx = context(SecretKind::Plain);
    let secret = secret(SecretKind::Plain);
    let (mut client, mut server) = duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    authenticate(
        &mut server,
        "ann",
        method,
        Some(&secret),
        &ctx,
        None,
        async || None,
    )
    .await
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

#[tokio::test]
async fn malformed_messages_are_refused_by_name() {
    let sasl = |mechanism: &str, length: i32, data: &[u8]| {
        let mut body = mechanism.as_bytes().to_vec();
        body.push(0);
        body.extend(length.to_be_bytes());
        body.extend(data);
        message(b'p', &body)
    };
    let first = b"n,,n=,r=abc";
    for (method, bytes, sqlstate, text) in [
        (
            Method::Plain,
            message(b'p', b"pencil"),
            "08P01",
            "invalid password packet size",
        ),
        (
            Method::Plain,
            message(b'p', b""),
            "08P01",
            "invalid password packet size",
        ),
        (
            Method::Plain,
            message(b'p', b"pen\0cil\0"),
            "08P01",
            "invalid password packet size",
        ),
        (
            Method::Plain,
            message(b'p', b"\0"),
            "28P01",
            "empty password returned by client",
        ),
        (
            Method::Md5,
            message(b'p', b"\0"),
            "28P01",
            "empty password returned by client",
        ),
        (
            Method::Md5,
            message(b'Q', b"select 1\0"),
            "08P01",
            "expected password response",
        ),
        (
            Method::Plain,
            vec![b'p', 0, 0, 0, 3],
            "08P01",
            "invalid message length",
        ),
        (
            Method::Plain,
            vec![b'p', 0, 1, 0, 4],
            "08P01",
            "invalid message length",
        ),
        (
            Method::Plain,
            vec![b'p', 255, 255, 255, 255],
            "08P01",
            "invalid message length",
        ),
        (
            Method::ScramSha256,
            sasl("SCRAM-SHA-256-PLUS", 11, first),
            "08P01",
            "client selected an invalid SASL authentication mechanism",
        ),
        (
            Method::ScramSha256,
            sasl("SCRAM-SHA-256", 12, first),
            "08P01",
            "malformed SASLInitialResponse",
        ),
        (
            Method::ScramSha256,
            sasl("SCRAM-SHA-256", -1, b""),
            "08P01",
            "malformed SASLInitialResponse",
        ),
        (
            Method::ScramSha256,
            message(b'p', b"SCRAM-SHA-256\0\0\0"),
            "08P01",
            "malformed SASLInitialResponse",
        ),
        (
            Method::ScramSha256,
            message(b'p', b"SCRAM-SHA-256"),
            "08P01",
            "malformed SASLInitialResponse",
        ),
        (
            Method::ScramSha256,
            sasl("SCRAM-SHA-256", 3, b"n,,"),
            "28P01",
            "SASL authentication failed",
        ),
    ] {
        match feed(method, &bytes).await {
            Err(LoginError::Refused(refusal)) => {
                assert_eq!((refusal.sqlstate, refusal.message), (sqlstate, text));
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let bound = sasl("SCRAM-SHA-256", 33, b"p=tls-server-end-point,,n=,r=abcd");
    let Err(LoginError::Refused(refusal)) = feed(Method::ScramSha256, &bound).await else {
        panic!("channel binding must be refused");
    };
    assert!(refusal.hint.unwrap().contains("channel binding"));
}

#[tokio::test]
async fn both_sides_bind_to_the_certificate_they_see() {
    let ctx = context(SecretKind::Scram);
    let secret = secret(SecretKind::Scram);
    let credential = credential("pencil");
    for (shown, seen, expected) in [
        (None, None, Ok(())),
        (Some("one"), Some("one"), Ok(())),
        // One that cannot bind does without.
        (Some("one"), None, Ok(())),
        (None, Some("one"), Ok(())),
        (
            Some("one"),
            Some("two"),
            Err(("28000", "SCRAM channel binding check failed")),
        ),
    ] {
        let hashes = (shown.map(str::as_bytes), seen.map(str::as_bytes));
        let (served, logged_in) = bound_exchange(
            Method::ScramSha256,
            Some(&secret),
            &credential,
            &ctx,
            hashes,
        )
        .await;
        let served = served.map(drop).map_err(|error| match error {
            LoginError::Refused(refusal) => (refusal.sqlstate, refusal.message),
            LoginError::Gone(error) => panic!("{error}"),
        });
        assert_eq!(served, expected, "{shown:?} {seen:?}");
        assert_eq!(logged_in.is_ok(), expected.is_ok(), "{shown:?} {seen:?}");
    }
}

/// A client's SCRAM where binding is offered: mechanism and first message.
async fn offer_binding(mechanism: &str, client_first: &str) -> Refusal {
    let ctx = context(SecretKind::Scram);
    let secret = secret(SecretKind::Scram);
    let (mut client, mut server) = duplex(1 << 16);
    let mut out = BytesMut::new();
    frontend::sasl_initial_response(mechanism, client_first.as_bytes(), &mut out).unwrap();
    client.write_all(&out).await.unwrap();
    client.shutdown().await.unwrap();
    let (scram, hash) = (Method::ScramSha256, Some(&b"hash"[..]));
    let served = authenticate(
        &mut server,
        "ann",
        scram,
        Some(&secret),
        &ctx,
        hash,
        async || None,
    )
    .await;
    let offer = read_frame(&mut client, 1000).await.unwrap();
    assert_eq!(offer.body[4..], *b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    match served {
        Err(LoginError::Refused(refusal)) => refusal,
        other => panic!("{mechanism} {client_first}: {other:?}"),
    }
}

#[tokio::test]
async fn a_downgrade_is_refused() {
    let refusal = offer_binding("SCRAM-SHA-256", "y,,n=,r=abc").await;
    assert_eq!(refusal.sqlstate, "28000");
    assert_eq!(refusal.message, "SCRAM channel binding negotiation error");
    assert!(refusal.hint.unwrap().contains("between"));
    for (mechanism, client_first) in [
        ("SCRAM-SHA-256-PLUS", "n,,n=,r=abc"),
        ("SCRAM-SHA-256-PLUS", "y,,n=,r=abc"),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=abc"),
        ("SCRAM-SHA-256", "p=tls-server-end-point,,n=,r=abc"),
    ] {
        let refusal = offer_binding(mechanism, client_first).await;
        assert_eq!(refusal.message, "SASL authentication failed");
    }
    let refusal = offer_binding("SCRAM-SHA-1", "n,,n=,r=abc").await;
    assert_eq!(refusal.sqlstate, "08P01");
}

#[tokio::test]
async fn a_client_that_leaves_is_told_nothing() {
    for bytes in [&b""[..], b"p", b"p\0\0\0\x09pen", b"X\0\0\0\x04"] {
        let result = feed(Method::Plain, bytes).await;
        assert!(matches!(result, Err(LoginError::Gone(_))), "{result:?}");
    }
}

#[tokio::test]
async fn nothing_is_read_beyond_the_answer() {
    let ctx = context(SecretKind::Plain);
    let secret = secret(SecretKind::Plain);
    let (mut client, mut server) = duplex(1 << 16);
    let mut bytes = message(b'p', b"pencil\0");
    bytes.extend(b"Q and more");
    client.write_all(&bytes).await.unwrap();
    authenticate(
        &mut server,
        "ann",
        Method::Plain,
        Some(&secret),
        &ctx,
        None,
        async || None,
    )
    .await
    .unwrap();
    drop(client);
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"Q and more");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        framed: bool,
        named: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut body = Vec::new();
        if named {
            body.extend(b"SCRAM-SHA-256\0");
        }
        body.extend(&bytes);
        let bytes = if framed { message(b'p', &body) } else { body };
        for method in ASKING {
            prop_assert!(runtime.block_on(feed(method, &bytes)).is_err());
        }
    }
}
