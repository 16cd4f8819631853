//! Logging in against the real thing: our client's side to a PostgreSQL that the
//! test starts (`PG_BIN`, or the newest installed), our server's side to psql and
//! tokio-postgres.

// Clippy's exception for tests does not reach the helpers of this file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use pgweir::auth::scram::ScramError;
use pgweir::auth::{Masked, Md5Hash, Method, Secret, SecretKind, Verifier};
use pgweir::client::auth::{AuthContext, Authenticated, LoginError, authenticate};
use pgweir::server::login::{Credential, LoggedIn, login};
use pgweir::server::login_error::ServerLoginError;
use pgweir::worker::derived_keys::DerivedKeys;
use pgweir::worker::hashing::Hashing;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

const PASSWORD: &str = "pen\u{ad}cil \u{2168}";

fn pg_bin() -> PathBuf {
    if let Some(dir) = std::env::var_os("PG_BIN") {
        return dir.into();
    }
    let installed = std::fs::read_dir("/usr/lib/postgresql").expect("no PostgreSQL is installed");
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = installed
        .map(|entry| entry.unwrap().path())
        .max_by_key(version);
    newest.expect("no PostgreSQL is installed").join("bin")
}

/// A command that does not run as root: PostgreSQL refuses to.
fn command(program: &str) -> Command {
    let mut command = Command::new(pg_bin().join(program));
    if Uid::effective().is_root() {
        let user = unprivileged();
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.stdout(Stdio::null());
    command
}

fn unprivileged() -> User {
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| User::from_name(name).unwrap())
        .expect("a user other than root")
}

/// A server that ends with the test, on a Unix socket only.
struct Postgres {
    dir: TempDir,
    child: Child,
}

impl Postgres {
    async fn start() -> Postgres {
        let dir = TempDir::new().unwrap();
        if Uid::effective().is_root() {
            let user = unprivileged();
            nix::unistd::chown(dir.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let data = dir.path().join("data");
        let initdb = command("initdb")
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"])
            .arg(&data)
            .status();
        assert!(initdb.unwrap().success());
        let rules: String = [
            ("postgres", "trust"),
            ("trusted", "trust"),
            ("clear", "password"),
            ("hashed", "md5"),
            ("scrammed", "scram-sha-256"),
        ]
        .iter()
        .map(|(user, method)| format!("local all {user} {method}\n"))
        .collect();
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
        let child = command("postgres")
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(dir.path())
            .arg("-D")
            .arg(&data)
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Postgres { dir, child };
        let deadline = Instant::now() + Duration::from_secs(30);
        while server
            .login(&credential("postgres"), "postgres")
            .await
            .is_err()
        {
            assert!(Instant::now() < deadline, "PostgreSQL does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server
    }

    async fn login(
        &self,
        credential: &Credential,
        database: &str,
    ) -> Result<LoggedIn, ServerLoginError> {
        let mut io = UnixStream::connect(self.dir.path().join(".s.PGSQL.5432")).await?;
        let startup = [
            ("user", credential.user.as_str()),
            ("database", database),
            ("application_name", "pgweir test"),
        ];
        let logged_in = login(&mut io, &startup, credential, &derived_keys(), None).await?;
        io.write_all(b"X\0\0\0\x04").await?;
        Ok(logged_in)
    }

    fn sql(&self, sql: &str) -> String {
        let output = command("psql")
            .args([
                "-XAtq",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-c",
                sql,
                "-h",
            ])
            .arg(self.dir.path())
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn rolpassword(&self, user: &str) -> String {
        self.sql(&format!(
            "select rolpassword from pg_authid where rolname = '{user}'"
        ))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32);
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = self.child.wait();
    }
}

fn derived_keys() -> DerivedKeys {
    DerivedKeys::new(Hashing::start(1, 4).unwrap())
}

fn context() -> AuthContext {
    AuthContext::new(derived_keys(), 4096, SecretKind::Scram)
}

fn credential(user: &str) -> Credential {
    Credential {
        user: user.into(),
        ..Credential::default()
    }
}

fn with_password(user: &str, password: &str) -> Credential {
    Credential {
        password: Some(Masked::new(password)),
        ..credential(user)
    }
}

#[tokio::test]
async fn postgresql_lets_us_in() {
    let server = Postgres::start().await;
    for (user, encryption) in [
        ("trusted", "scram-sha-256"),
        ("clear", "scram-sha-256"),
        ("hashed", "md5"),
        ("scrammed", "scram-sha-256"),
    ] {
        server.sql(&format!(
            "set password_encryption = '{encryption}'; \
             create role {user} login password '{PASSWORD}'"
        ));
    }

    // Each method with the plain password.
    for user in ["trusted", "clear", "hashed", "scrammed"] {
        let credential = with_password(user, PASSWORD);
        let logged_in = server.login(&credential, "postgres").await.unwrap();
        let parameter = |name: &str| {
            let mut all = logged_in.parameters.iter();
            all.find(|(found, _)| found == name).map(|(_, value)| value)
        };
        assert_eq!(parameter("application_name").unwrap(), b"pgweir test");
        assert_eq!(parameter("session_authorization").unwrap(), user.as_bytes());
        assert!(parameter("server_version").is_some());
        let key = logged_in.backend_key.unwrap();
        assert!(key.pid > 0 && key.secret.len() == 4, "{key:?}");
    }

    // The server's own words.
    for user in ["clear", "hashed", "scrammed"] {
        let wrong = with_password(user, "guess");
        let error = server.login(&wrong, "postgres").await.unwrap_err();
        assert_eq!(error.sqlstate(), "28P01");
        let text = format!("FATAL password authentication failed for user \"{user}\"");
        assert!(error.to_string().ends_with(&text), "{error}");
    }
    let trusted = credential("trusted");
    let error = server.login(&trusted, "nowhere").await.unwrap_err();
    assert_eq!(error.sqlstate(), "3D000");
    let error = server.login(&credential("nobody"), "postgres").await;
    assert_eq!(error.unwrap_err().sqlstate(), "28000");

    // From an md5 hash.
    let hash = Md5Hash::parse(&server.rolpassword("hashed")).unwrap();
    let hashed = Credential {
        md5: Some(hash),
        ..credential("hashed")
    };
    server.login(&hashed, "postgres").await.unwrap();
    let error = server
        .login(&credential("hashed"), "postgres")
        .await
        .unwrap_err();
    assert!(matches!(error, ServerLoginError::WrongPasswordType { .. }));

    // SCRAM pass-through: a client proves itself to us against PostgreSQL's
    // verifier, and what it proved with logs us in to PostgreSQL.
    let stored = server.rolpassword("scrammed");
    let verifier = Verifier::parse(&stored).unwrap();
    assert!(verifier.verify_plain(PASSWORD.as_bytes()));
    let passed_on = Credential {
        scram_keys: prove(&Secret::Scram(verifier)).await.scram_keys,
        ..credential("scrammed")
    };
    server.login(&passed_on, "postgres").await.unwrap();

    // The same password set anew has another salt.
    server.sql(&format!("alter role scrammed password '{PASSWORD}'"));
    let error = server.login(&passed_on, "postgres").await.unwrap_err();
    assert!(
        matches!(error, ServerLoginError::Scram(ScramError::ForeignKeys)),
        "{error:?}"
    );
}

/// A client with the password proves itself to us.
async fn prove(secret: &Secret) -> Authenticated {
    let (mut client, mut server) = tokio::io::duplex(1 << 16);
    let ctx = context();
    let serving = async {
        read_startup(&mut server).await;
        let result = authenticate(
            &mut server,
            "scrammed",
            Method::ScramSha256,
            Some(secret),
            &ctx,
            None,
            async || None,
        );
        let result = result.await.unwrap();
        server.write_all(WELCOME).await.unwrap();
        result
    };
    let credential = with_password("scrammed", PASSWORD);
    let keys = derived_keys();
    let (proven, logged_in) =
        tokio::join!(serving, login(&mut client, &[], &credential, &keys, None));
    logged_in.unwrap();
    proven
}

const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19client_encoding\0UTF8\0Z\0\0\0\x05I";

async fn read_startup(io: &mut (impl AsyncRead + Unpin)) {
    let length = io.read_u32().await.unwrap();
    let mut startup = vec![0; length as usize - 4];
    io.read_exact(&mut startup).await.unwrap();
}

/// Lets one client in by `method`, answers its first query with nothing.
async fn serve(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    method: Method,
    secret: Option<&Secret>,
) -> Result<Authenticated, LoginError> {
    read_startup(io).await;
    match authenticate(io, "ann", method, secret, &context(), None, async || None).await {
        Ok(authenticated) => {
            io.write_all(WELCOME).await.unwrap();
            assert_eq!(io.read_u8().await.unwrap(), b'Q');
            read_startup(io).await;
            let answer = b"I\0\0\0\x04Z\0\0\0\x05I";
            io.write_all(answer).await.unwrap();
            Ok(authenticated)
        }
        Err(LoginError::Refused(refusal)) => {
            let fields = format!("SFATAL\0C{}\0M{}\0\0", refusal.sqlstate, refusal.message);
            io.write_u8(b'E').await.unwrap();
            io.write_u32(fields.len() as u32 + 4).await.unwrap();
            io.write_all(fields.as_bytes()).await.unwrap();
            Err(refusal.into())
        }
        Err(gone) => Err(gone),
    }
}

fn secrets() -> [Secret; 3] {
    let keys = pgweir::auth::ScramKeys::derive(PASSWORD.as_bytes(), b"sixteen bytes!!!", 4096);
    [
        Secret::Plain(Masked::new(PASSWORD)),
        Secret::Md5(Md5Hash::of("ann", PASSWORD.as_bytes())),
        Secret::Scram(keys.verifier()),
    ]
}

/// All methods with all secrets but the one pair that cannot work.
fn pairs() -> impl Iterator<Item = (Method, Secret)> {
    [Method::Plain, Method::Md5, Method::ScramSha256]
        .into_iter()
        .flat_map(|method| secrets().map(|secret| (method, secret)))
        .filter(|(method, secret)| {
            (*method, secret.kind()) != (Method::ScramSha256, SecretKind::Md5)
        })
}

async fn psql(dir: &Path, password: &str) -> std::process::Output {
    let mut command = tokio::process::Command::new(pg_bin().join("psql"));
    command
        .args(["-XAtq", "-U", "ann", "-d", "db", "-c", "select", "-h"])
        .arg(dir)
        .env("PGPASSWORD", password)
        .kill_on_drop(true);
    command.output().await.unwrap()
}

#[tokio::test]
async fn psql_is_let_in_and_kept_out() {
    let dir = TempDir::new().unwrap();
    let listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
    for (method, secret) in pairs() {
        let serve_one = async |secret: Option<&Secret>| {
            let (mut io, _) = listener.accept().await.unwrap();
            serve(&mut io, method, secret).await
        };
        let (served, output) = tokio::join!(serve_one(Some(&secret)), psql(dir.path(), PASSWORD));
        assert!(output.status.success(), "{method:?} {output:?}");
        served.unwrap();

        for known in [Some(&secret), None] {
            let (served, output) = tokio::join!(serve_one(known), psql(dir.path(), "guess"));
            let error = String::from_utf8_lossy(&output.stderr);
            let LoginError::Refused(refusal) = served.unwrap_err() else {
                panic!("{method:?}: {error}");
            };
            let expected = format!("FATAL:  {}\n", refusal.message);
            assert!(error.ends_with(&expected), "{method:?}: {error}");
            assert!(!output.status.success());
        }
    }
}

#[tokio::test]
async fn tokio_postgres_is_let_in() {
    for (method, secret) in pairs() {
        let (client, mut server) = tokio::io::duplex(1 << 16);
        let using = async {
            let (client, connection) = tokio_postgres::Config::new()
                .user("ann")
                .password(PASSWORD)
                .dbname("db")
                .connect_raw(client, tokio_postgres::NoTls)
                .await
                .unwrap();
            let connection = tokio::spawn(connection);
            client.batch_execute("select").await.unwrap();
            drop(client);
            connection.await.unwrap().unwrap();
        };
        let (served, ()) = tokio::join!(serve(&mut server, method, Some(&secret)), using);
        served.unwrap();
    }
}
