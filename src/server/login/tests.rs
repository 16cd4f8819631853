use proptest::prelude::*;
use tokio::io::{AsyncReadExt, duplex};

use super::*;
use crate::auth::Verifier;
use crate::auth::scram::server::AwaitProof;
use crate::worker::hashing::Hashing;

const UNBOUND: Binding<'_> = Binding::Unsupported;

fn derived_keys() -> DerivedKeys {
    DerivedKeys::new(Hashing::start(1, 4).unwrap())
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

fn request(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes(), data].concat())
}

/// Lets a login read `script` whatever it says; returns what it sent as well.
async fn scripted(
    credential: &Credential,
    script: &[Vec<u8>],
) -> (Result<LoggedIn, ServerLoginError>, Vec<u8>) {
    let (mut ours, mut server) = duplex(1 << 22);
    server.write_all(&script.concat()).await.unwrap();
    server.shutdown().await.unwrap();
    let startup = [("user", "ann"), ("database", "db")];
    let result = login(&mut ours, &startup, credential, &derived_keys(), None).await;
    drop(ours);
    let mut sent = Vec::new();
    server.read_to_end(&mut sent).await.unwrap();
    (result, sent)
}

fn with_password() -> Credential {
    Credential {
        user: "ann".into(),
        password: Some(Masked::new("pencil")),
        ..Credential::default()
    }
}

const STARTUP: &[u8] = b"\0\0\0\x1e\0\x03\0\0user\0ann\0database\0db\0\0";

#[tokio::test]
async fn a_welcome_is_collected_whole() {
    let script = [
        message(b'N', b"SNOTICE\0Mhello\0\0"),
        request(0, b""),
        message(b'S', b"server_version\x0015.4\0"),
        message(b'N', b"SWARNING\0Mcollation\0\0"),
        message(b'S', b"application_name\0caf\xe9\0"),
        message(b'K', &[&[0, 0, 1, 2][..], &[7; 32]].concat()),
        message(b'Z', b"I"),
    ];
    let (result, sent) = scripted(&Credential::default(), &script).await;
    let expected = LoggedIn {
        parameters: vec![
            ("server_version".into(), b"15.4".to_vec()),
            ("application_name".into(), b"caf\xe9".to_vec()),
        ],
        backend_key: Some(BackendKey {
            pid: 258,
            secret: vec![7; 32],
        }),
    };
    assert_eq!(result.unwrap(), expected);
    assert_eq!(sent, STARTUP);
}

#[tokio::test]
async fn nothing_is_read_beyond_ready_for_query() {
    let script = [request(0, b""), message(b'Z', b"I"), b"and more".to_vec()].concat();
    let mut io = tokio::io::join(script.as_slice(), tokio::io::sink());
    let credential = Credential::default();
    login(&mut io, &[], &credential, &derived_keys(), None)
        .await
        .unwrap();
    assert_eq!(*io.reader(), b"and more");
}

#[tokio::test]
async fn passwords_are_answered_from_what_is_there() {
    let end = [request(0, b""), message(b'Z', b"I")].concat();
    let md5 = Md5Hash::of("ann", b"pencil");
    let answer = format!("{}\0", *md5.answer([1, 2, 3, 4]));
    let with_md5 = Credential {
        md5: Some(md5),
        ..Credential::default()
    };
    for (credential, question, answer) in [
        (&with_password(), request(3, b""), &b"pencil\0"[..]),
        (
            &with_password(),
            request(5, &[1, 2, 3, 4]),
            answer.as_bytes(),
        ),
        (&with_md5, request(5, &[1, 2, 3, 4]), answer.as_bytes()),
    ] {
        let (result, sent) = scripted(credential, &[question, end.clone()]).await;
        result.unwrap();
        assert_eq!(sent[STARTUP.len()..], message(b'p', answer));
    }
}

#[test]
fn a_secret_is_used_for_what_it_is_good_for() {
    let from = |text: &str| Credential::from_secret("ann", Some(&Secret::parse(text)));
    assert_eq!(from("pencil"), with_password());
    assert_eq!(from("").password, None);
    let md5 = from(&format!("md5{}", "0".repeat(32)));
    assert!(md5.md5.is_some() && md5.password.is_none());
    assert_eq!(Credential::from_secret("ann", None), from(""));
}

#[tokio::test]
async fn a_credential_that_does_not_fit_is_named_with_its_remedy() {
    let keys = ScramKeys::derive(b"pencil", b"salt", 16);
    let only_keys = Credential {
        scram_keys: Some(keys),
        ..Credential::default()
    };
    let only_md5 = Credential {
        md5: Some(Md5Hash::of("ann", b"pencil")),
        ..Credential::default()
    };
    let scram = request(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    for (credential, question, remedy) in [
        (&only_md5, request(3, b""), "a plain password of"),
        (&only_keys, request(3, b""), "a plain password of"),
        (&only_keys, request(5, &[0; 4]), "or an md5 hash"),
        (&only_md5, scram, "or a SCRAM verifier"),
    ] {
        let (result, sent) = scripted(credential, &[question]).await;
        let error = result.unwrap_err();
        assert_eq!(
            error.to_string(),
            "server login failed: wrong password type"
        );
        assert!(error.hint().unwrap().contains(remedy), "{:?}", error.hint());
        assert_eq!(sent, STARTUP, "nothing may be given away");
    }
}

#[tokio::test]
async fn the_servers_own_error_is_kept_whole() {
    let body = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"ann\"\0\
                 Dcaf\xe9\0Hask\0Fauth.c\0\0";
    for script in [
        vec![message(b'E', body)],
        vec![request(3, b""), message(b'E', body)],
        vec![request(0, b""), message(b'E', body)],
    ] {
        let (result, _) = scripted(&with_password(), &script).await;
        let error = result.unwrap_err();
        assert_eq!(error.sqlstate(), "28P01");
        assert_eq!(error.hint().unwrap(), "ask");
        let ServerLoginError::Server(response) = error else {
            panic!("{error:?}");
        };
        assert_eq!(response.body(), body);
        assert_eq!(response.fields().count(), 7);
        assert_eq!(response.field(b'D').unwrap(), "caf\u{fffd}");
        assert_eq!(
            response.to_string(),
            "FATAL password authentication failed for user \"ann\""
        );
    }
}

#[tokio::test]
async fn what_is_not_the_protocol_is_a_violation() {
    let ok = request(0, b"");
    for script in [
        vec![message(b'Z', b"I")],
        vec![message(b'R', b"\0\0\0")],
        vec![request(5, &[1, 2, 3])],
        vec![request(3, b""), request(3, b"")],
        vec![request(11, b"")],
        vec![ok.clone(), ok.clone()],
        vec![ok.clone(), message(b'Z', b"T")],
        vec![ok.clone(), message(b'Z', b"")],
        vec![ok.clone(), message(b'S', b"name\0value")],
        vec![ok.clone(), message(b'S', b"name\0")],
        vec![ok.clone(), message(b'S', b"name\0value\0\0")],
        vec![ok.clone(), message(b'K', b"\0\0\0\x01\0\0\0")],
        vec![ok.clone(), message(b'K', &[0; 261])],
        vec![ok.clone(), message(b'D', b"")],
        vec![vec![b'R', 0, 0, 0, 3]],
        vec![message(b'R', &[0; 65_537])],
    ] {
        let (result, _) = scripted(&with_password(), &script).await;
        let error = result.unwrap_err();
        assert!(
            matches!(
                error,
                ServerLoginError::Protocol(_) | ServerLoginError::UnsupportedMethod(11)
            ),
            "{script:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_login_is_bounded_as_a_whole() {
    let notice = message(b'N', &[b'x'; 60_000]);
    let (result, _) = scripted(&Credential::default(), &vec![notice; 18]).await;
    let error = result.unwrap_err();
    assert!(matches!(error, ServerLoginError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn a_broken_connection_is_told_apart() {
    for script in [vec![], vec![request(0, b"")], vec![b"R\0\0".to_vec()]] {
        let (result, _) = scripted(&Credential::default(), &script).await;
        let error = result.unwrap_err();
        assert!(matches!(error, ServerLoginError::Io(_)), "{error:?}");
    }
}

#[tokio::test]
async fn other_methods_are_named() {
    let (result, _) = scripted(&with_password(), &[request(7, b"")]).await;
    let error = result.unwrap_err();
    assert!(matches!(error, ServerLoginError::UnsupportedMethod(7)));
    let plus = request(10, b"SCRAM-SHA-256-PLUS\0\0");
    let (result, _) = scripted(&with_password(), &[plus]).await;
    assert!(matches!(result, Err(ServerLoginError::NoMechanism)));
}

/// Plays a SCRAM server that sends `last` after a good proof.
async fn scram_server(
    iterations: u32,
    last: impl AsyncFn(String) -> Vec<u8>,
) -> Result<LoggedIn, ServerLoginError> {
    let (mut ours, mut server) = duplex(1 << 16);
    let verifier = ScramKeys::derive(b"pencil", b"salt", 16).verifier();
    let serving = async {
        server.read_exact(&mut [0; STARTUP.len()]).await?;
        let question = request(10, b"SCRAM-SHA-256\0\0");
        server.write_all(&question).await?;
        let initial = read_frame(&mut server, 1000).await.unwrap();
        let client_first = &initial.body["SCRAM-SHA-256\0".len() + 4..];
        let (server_first, state) =
            AwaitProof::start(client_first, &verifier.salt, iterations, [1; 18], UNBOUND).unwrap();
        server
            .write_all(&request(11, server_first.as_bytes()))
            .await?;
        let Ok(client_final) = read_frame(&mut server, 1000).await else {
            return Ok(());
        };
        let proven = state.finish(&client_final.body, &verifier).unwrap();
        server.write_all(&last(proven.server_final).await).await?;
        drop(server);
        io::Result::Ok(())
    };
    let logging_in = async {
        let startup = [("user", "ann"), ("database", "db")];
        let result = login(&mut ours, &startup, &with_password(), &derived_keys(), None).await;
        drop(ours);
        result
    };
    let (served, result) = tokio::join!(serving, logging_in);
    served.unwrap();
    result
}

fn end() -> Vec<u8> {
    [request(0, b""), message(b'Z', b"I")].concat()
}

#[tokio::test]
async fn a_scram_server_must_prove_itself_before_it_is_believed() {
    let good = async |signature: String| [request(12, signature.as_bytes()), end()].concat();
    scram_server(16, good).await.unwrap();

    let skipped = scram_server(16, async |_| end()).await.unwrap_err();
    assert!(
        skipped.to_string().contains("out of turn"),
        "{skipped}: AuthenticationOk instead of a signature"
    );
    let forged = async |_| {
        let other = ScramKeys::derive(b"guess", b"salt", 16).verifier();
        let signature = forged_signature(&other);
        [request(12, signature.as_bytes()), end()].concat()
    };
    let forged = scram_server(16, forged).await.unwrap_err();
    assert_eq!(
        forged.to_string(),
        "server login failed: invalid server signature"
    );
}

/// A well-formed server-final-message for another exchange.
fn forged_signature(verifier: &Verifier) -> String {
    let keys = ScramKeys::derive(b"guess", &verifier.salt, verifier.iterations);
    let (client_first, client) = AwaitServerFirst::start([9; 18], UNBOUND);
    let (server_first, server) = AwaitProof::start(
        client_first.as_bytes(),
        &verifier.salt,
        verifier.iterations,
        [8; 18],
        UNBOUND,
    )
    .unwrap();
    let challenge = client.challenge(server_first.as_bytes()).unwrap();
    let (client_final, _) = challenge.answer(&keys).unwrap();
    let proven = server.finish(client_final.as_bytes(), verifier).unwrap();
    proven.server_final
}

#[tokio::test]
async fn iterations_are_bounded() {
    let never = async |_| unreachable!("no proof may be sent");
    let error = scram_server(MAX_ITERATIONS + 1, never).await.unwrap_err();
    assert!(matches!(
        error,
        ServerLoginError::Scram(ScramError::Iterations(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn garbage_never_panics(
        tag in prop::sample::select(b"RSKZNEv".to_vec()),
        code in 0u32..13,
        body in prop::collection::vec(any::<u8>(), 0..40),
        begun: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut script = Vec::new();
        if begun {
            script.push(request(0, b""));
        }
        script.push(request(code, &body));
        script.push(message(tag, &body));
        script.push(body.clone());
        let (result, _) = runtime.block_on(scripted(&with_password(), &script));
        // One random script in a million is a good one.
        prop_assert!(result.is_err() || body == b"I");
    }
}
