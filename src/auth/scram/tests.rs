use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::client::AwaitServerFirst;
use super::server::{AwaitProof, Proven};
use super::*;

const ITERATIONS: u32 = 16;

fn keys(password: &str) -> ScramKeys {
    ScramKeys::derive(password.as_bytes(), b"sixteen bytes!!!", ITERATIONS)
}

const UNBOUND: Binding<'_> = Binding::Unsupported;

/// Our client against our server.
fn exchange(keys: &ScramKeys, verifier: &Verifier) -> Result<Proven, ScramError> {
    bound_exchange(keys, verifier, UNBOUND, UNBOUND)
}

/// The same with what each of them is bound to.
fn bound_exchange(
    keys: &ScramKeys,
    verifier: &Verifier,
    clients: Binding<'_>,
    servers: Binding<'_>,
) -> Result<Proven, ScramError> {
    let (client_first, client) = AwaitServerFirst::start([1; 18], clients);
    let (server_first, server) = AwaitProof::start(
        client_first.as_bytes(),
        &verifier.salt,
        verifier.iterations,
        [2; 18],
        servers,
    )?;
    let challenge = client.challenge(server_first.as_bytes())?;
    let (client_final, client) = challenge.answer(keys)?;
    let proven = server.finish(client_final.as_bytes(), verifier)?;
    client.finish(proven.server_final.as_bytes())?;
    Ok(proven)
}

/// The example of RFC 7677, section 3.
mod rfc7677 {
    use super::*;

    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    #[test]
    fn the_server_agrees() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let (server_first, state) = AwaitProof::start_with(
            CLIENT_FIRST.as_bytes(),
            &salt,
            4096,
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            UNBOUND,
        )
        .unwrap();
        assert_eq!(server_first, SERVER_FIRST);
        let keys = ScramKeys::derive(b"pencil", &salt, 4096);
        let proven = state
            .finish(CLIENT_FINAL.as_bytes(), &keys.verifier())
            .unwrap();
        assert_eq!(proven.server_final, SERVER_FINAL);
        // What the proof gave away is what the password makes.
        assert_eq!(proven.keys, keys);
    }
}

/// `select rolpassword from pg_authid` on PostgreSQL 15, password `pencil`.
const POSTGRESQL_VERIFIER: &str = "SCRAM-SHA-256$4096:6KZDdnyHdMKGpqBS3a+aog==$bWE1JZ6VlgqAk5clCAgiTtMCYkSfA6Jx/UmEUW0rWsE=:izZr6bESPPhuNrlP5vp6RJWgyEJ8fVrzJD3GuAEO70U=";

#[test]
fn a_verifier_of_postgresql_is_the_passwords() {
    let verifier = Verifier::parse(POSTGRESQL_VERIFIER).unwrap();
    assert!(verifier.verify_plain(b"pencil"));
    assert!(!verifier.verify_plain(b"Pencil"));
    let keys = ScramKeys::derive(b"pencil", &verifier.salt, verifier.iterations);
    assert_eq!(keys.verifier(), verifier);
}

#[test]
fn what_is_no_verifier_does_not_parse() {
    let good = POSTGRESQL_VERIFIER;
    let (head, server_key) = good.rsplit_once(':').unwrap();
    for text in [
        "",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256$",
        head,
        &good[..good.len() - 1],
        &format!("{good}="),
        &format!("{head}:{}", &server_key[4..]),
        &good.replace("4096", "0"),
        &good.replace("4096", "-1"),
        &good.replace("4096", "+1"),
        &good.replace("4096", ""),
        &good.replace("4096", "4294967296"),
        &good.replace("SHA-256$", "SHA-1$"),
    ] {
        assert_eq!(Verifier::parse(text), None, "{text}");
    }
}

#[test]
fn both_sides_agree_and_the_keys_come_out() {
    let keys = keys("pencil");
    let proven = exchange(&keys, &keys.verifier()).unwrap();
    assert_eq!(proven.keys, keys);
    // Pass-through: the next server has the same verifier.
    assert!(exchange(&proven.keys, &keys.verifier()).is_ok());
}

#[test]
fn binding_must_be_what_both_sides_see() {
    use Binding::*;
    let keys = keys("pencil");
    let exchange = |clients, servers| {
        let proven = bound_exchange(&keys, &keys.verifier(), clients, servers);
        proven.map(|proven| assert_eq!(proven.keys, keys))
    };
    let (one, two) = (Bound(b"one"), Bound(b"two"));
    for (clients, servers) in [
        (Unsupported, Unsupported),
        (Declined, Unsupported),
        (Unsupported, Declined),
        (one, one),
    ] {
        assert_eq!(exchange(clients, servers), Ok(()));
    }
    assert_eq!(exchange(Declined, Declined), Err(ScramError::Downgrade));
    assert_eq!(exchange(one, two), Err(ScramError::OtherCertificate));
    let no_binding = exchange(one, Unsupported);
    assert!(matches!(no_binding, Err(ScramError::Unsupported(_))));
    for (clients, servers) in [(one, Declined), (Declined, one), (Unsupported, one)] {
        let refused = exchange(clients, servers);
        assert!(
            matches!(refused, Err(ScramError::Malformed(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn another_implementation_of_the_client_agrees() {
    let hash = vec![7; 32];
    let bound = ChannelBinding::tls_server_end_point(hash.clone());
    for (binding, ours, password) in [
        (ChannelBinding::unsupported(), UNBOUND, "pencil"),
        (
            ChannelBinding::unrequested(),
            UNBOUND,
            "I\u{ad}X \u{2168} ü\u{a0}",
        ),
        (
            ChannelBinding::unsupported(),
            Binding::Declined,
            "bell \u{7} is prohibited",
        ),
        (bound, Binding::Bound(&hash), "pencil"),
    ] {
        let verifier = keys(password).verifier();
        let mut client = ScramSha256::new(password.as_bytes(), binding);
        let (server_first, state) =
            AwaitProof::start(client.message(), &verifier.salt, ITERATIONS, [7; 18], ours).unwrap();
        client.update(server_first.as_bytes()).unwrap();
        let proven = state.finish(client.message(), &verifier).unwrap();
        client.finish(proven.server_final.as_bytes()).unwrap();
    }
}

#[test]
fn passwords_are_normalised_as_postgresql_does() {
    // RFC 4013, section 3: the soft hyphen vanishes, the numeral is two letters.
    assert_eq!(keys("I\u{ad}X"), keys("IX"));
    assert_eq!(keys("\u{2168}"), keys("IX"));
    // Prohibited, or nothing left: taken as it is.
    assert_ne!(keys("\u{7}"), keys(""));
    assert_ne!(keys("\u{ad}"), keys(""));
    let latin1 = ScramKeys::derive(b"\xe9", b"salt", ITERATIONS);
    assert_ne!(latin1, ScramKeys::derive(b"", b"salt", ITERATIONS));
}

#[test]
fn a_wrong_password_proves_nothing() {
    let verifier = keys("pencil").verifier();
    assert_eq!(
        exchange(&keys("Pencil"), &verifier).unwrap_err(),
        ScramError::Proof
    );
    let mock = Verifier::mock(&[3; 32], "nobody", ITERATIONS);
    let guess = ScramKeys::derive(b"pencil", &mock.salt, ITERATIONS);
    assert_eq!(exchange(&guess, &mock).unwrap_err(), ScramError::Proof);
}

#[test]
fn a_mock_verifier_depends_on_seed_and_user_alone() {
    let mock = |seed, user| Verifier::mock(&[seed; 32], user, 4096);
    assert_eq!(mock(1, "ann"), mock(1, "ann"));
    assert_ne!(mock(1, "ann").salt, mock(1, "bob").salt);
    assert_ne!(mock(1, "ann").salt, mock(2, "ann").salt);
    assert_eq!(mock(1, "ann").salt, Verifier::salt_for(&[1; 32], "ann"));
    assert_eq!(mock(1, "ann").salt.len(), SALT_LEN);
}

mod hostile_client {
    use super::*;

    fn start(client_first: &str) -> Result<(String, AwaitProof), ScramError> {
        AwaitProof::start(
            client_first.as_bytes(),
            b"salt",
            ITERATIONS,
            [2; 18],
            UNBOUND,
        )
    }

    #[test]
    fn first_messages_that_are_refused() {
        for (message, want_unsupported) in [
            ("p=tls-server-end-point,,n=,r=abc", true),
            ("n,a=admin,n=,r=abc", true),
            ("n,,m=ext,n=,r=abc", true),
            ("", false),
            ("n", false),
            ("n,", false),
            ("n,,", false),
            ("x,,n=,r=abc", false),
            ("n,,r=abc", false),
            ("n,,n=", false),
            ("n,,n=,r", false),
            ("n,,n=,r=a c", false),
            ("n,,n=,r=aéc", false),
            ("n,,n=,r=abc,", false),
            ("n,,n=,r=abc,1=x", false),
        ] {
            let error = start(message).unwrap_err();
            let unsupported = matches!(error, ScramError::Unsupported(_));
            assert_eq!(unsupported, want_unsupported, "{message}: {error}");
        }
        assert!(start("y,,n=name,r=abc,x=ext").is_ok());
    }

    /// A good final message for the given flag, to be damaged.
    fn finish(flag: char, damage: impl Fn(String) -> String) -> Result<Proven, ScramError> {
        let keys = keys("pencil");
        let verifier = keys.verifier();
        let (client_first, client) = AwaitServerFirst::start([1; 18], UNBOUND);
        let sent = client_first.replacen('n', &flag.to_string(), 1);
        let (server_first, server) = AwaitProof::start(
            sent.as_bytes(),
            &verifier.salt,
            ITERATIONS,
            [2; 18],
            UNBOUND,
        )?;
        let challenge = client.challenge(server_first.as_bytes())?;
        let (client_final, _) = challenge.answer(&keys)?;
        server.finish(damage(client_final).as_bytes(), &verifier)
    }

    #[test]
    fn final_messages_that_are_refused() {
        assert!(finish('n', |good| good).is_ok());
        let refused = |damage: &dyn Fn(String) -> String| finish('n', damage).unwrap_err();

        let nonce = message::nonce([2; 18]);
        let another = message::nonce([3; 18]);
        assert_eq!(
            refused(&|good| good.replace(&nonce, &another)),
            ScramError::Nonce
        );
        assert_eq!(refused(&|good| good.replace(&nonce, "")), ScramError::Nonce);
        // Extensions are allowed, but they are part of what is proved.
        assert_eq!(
            refused(&|good| good.replace(",p=", ",x=y,p=")),
            ScramError::Proof
        );
        let other_proof = |good: String| {
            let (head, _) = good.rsplit_once('=').unwrap();
            let (head, _) = head.rsplit_once("p=").unwrap();
            format!("{head}p={}", STANDARD.encode([0; 32]))
        };
        assert_eq!(refused(&other_proof), ScramError::Proof);
        let malformed: [&dyn Fn(String) -> String; 6] = [
            &|_| String::new(),
            &|good| good.replace("c=biws", "c=eSws"),
            &|good| good.replace(",p=", ",q="),
            &|good| good + ",x=y",
            &|good| good.replace(",p=", ",p=AAAA"),
            &|good| good.replace(",p=", ",p=,p="),
        ];
        for damage in malformed {
            let error = refused(damage);
            assert!(matches!(error, ScramError::Malformed(_)), "{error}");
        }
    }

    #[test]
    fn the_final_message_repeats_the_channel_binding_flag() {
        // Our client says "n" to the end; to have said "y" first is a downgrade.
        let error = finish('y', |good| good).unwrap_err();
        assert!(matches!(error, ScramError::Malformed(_)), "{error}");
        let error = finish('y', |good| good.replace("biws", "eSws")).unwrap_err();
        assert_eq!(error, ScramError::Proof);
    }
}

mod hostile_server {
    use super::*;

    fn challenge(server_first: &str) -> Result<client::Challenge, ScramError> {
        let (_, client) = AwaitServerFirst::start([1; 18], UNBOUND);
        client.challenge(server_first.as_bytes())
    }

    #[test]
    fn first_messages_that_are_refused() {
        let ours = message::nonce([1; 18]);
        for nonce in ["r=abc", &format!("r={ours}"), &format!("r=x{ours}")] {
            let error = challenge(&format!("{nonce},s=AAAA,i=1")).unwrap_err();
            assert_eq!(error, ScramError::Nonce, "{nonce}");
        }
        for rest in [
            "",
            ",s=AAAA",
            ",i=1",
            ",s=!,i=1",
            ",s=AAAA,i=0",
            ",s=AAAA,i=-1",
            ",s=AAAA,i=",
            ",s=AAAA,i=99999999999",
            ",s=AAAA,i=1,",
            ",s=AAAA,i=1,,",
        ] {
            let error = challenge(&format!("r={ours}x{rest}")).unwrap_err();
            assert!(matches!(error, ScramError::Malformed(_)), "{rest}: {error}");
        }
        assert!(challenge(&format!("r={ours}x,s=AAAA,i=1")).is_ok());
    }

    #[test]
    fn keys_of_another_salt_or_count_are_not_used() {
        let keys = keys("pencil");
        let mut other = keys.verifier();
        other.iterations += 1;
        assert_eq!(
            exchange(&keys, &other).unwrap_err(),
            ScramError::ForeignKeys
        );
        let mut other = keys.verifier();
        other.salt.push(0);
        assert_eq!(
            exchange(&keys, &other).unwrap_err(),
            ScramError::ForeignKeys
        );
    }

    #[test]
    fn a_server_without_the_verifier_is_found_out() {
        let keys = keys("pencil");
        let finish = |server_final: &str| {
            let ours = message::nonce([1; 18]);
            let salt = STANDARD.encode(&keys.salt);
            let challenge = challenge(&format!("r={ours}x,s={salt},i={ITERATIONS}")).unwrap();
            let (_, client) = challenge.answer(&keys).unwrap();
            client.finish(server_final.as_bytes()).unwrap_err()
        };
        let forged = format!("v={}", STANDARD.encode([0; 32]));
        assert_eq!(finish(&forged), ScramError::Signature);
        assert_eq!(
            finish("e=invalid-proof"),
            ScramError::Server("invalid-proof".into())
        );
        for malformed in ["", "v", "v=", "v=AAAA", "x=y", &format!("{forged},")] {
            assert!(
                matches!(finish(malformed), ScramError::Malformed(_)),
                "{malformed}"
            );
        }
    }
}

#[test]
fn nothing_secret_prints() {
    let keys = keys("pencil");
    let text = format!("{keys:?} {:?}", keys.verifier());
    assert!(text.contains("client_key: ***"), "{text}");
    assert!(!text.contains(&keys.client_key.encode()), "{text}");
}

proptest! {
    #[test]
    fn garbage_never_panics(
        first in "[nyp,=ra-z0-9+/]{0,60}",
        last in "[cr=p,a-z0-9+/]{0,80}",
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let verifier = keys("pencil").verifier();
        for first in [first.as_bytes(), &bytes, b"n,,n=,r=abc"] {
            for last in [last.as_bytes(), &bytes] {
                let started = AwaitProof::start(first, &verifier.salt, ITERATIONS, [2; 18], UNBOUND);
                if let Ok((_, server)) = started {
                    prop_assert!(server.finish(last, &verifier).is_err());
                }
            }
            let (_, client) = AwaitServerFirst::start([1; 18], UNBOUND);
            prop_assert!(client.challenge(first).is_err());
        }
        if let Ok(text) = std::str::from_utf8(&bytes) {
            prop_assert_eq!(Verifier::parse(text), None);
        }
    }
}
