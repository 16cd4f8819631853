use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::{Pooler, Setup, temp_dir};
use crate::{CLEARTEXT_PASSWORD, asked_for, login, refused};

/// A user whom PostgreSQL asks for this password as well.
const USER: &str = "scram";
const PASSWORD: &str = "secret of scram";

/// libpam with a directory of its own in place of /etc/pam.d, and users from a
/// file (package libpam-wrapper).
struct Pam {
    dir: TempDir,
}

impl Pam {
    /// `passdb` has lines `user:password:service`.
    fn new(passdb: &str) -> Pam {
        let dir = temp_dir("pam");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("services")).expect("directory");
        fs::write(path("passdb"), passdb).expect("passdb");
        let script = format!(
            "#!/bin/sh\necho \"$PAM_RHOST\" >>{}\n",
            path("from").display()
        );
        fs::write(path("note"), script).expect("script");
        fs::set_permissions(path("note"), fs::Permissions::from_mode(0o755)).expect("chmod");
        let service = format!(
            "auth optional pam_exec.so {}\n\
             auth required {matrix} passdb={passdb}\n\
             account required {matrix} passdb={passdb}\n",
            path("note").display(),
            matrix = wrappers("pam_wrapper/pam_matrix.so").display(),
            passdb = path("passdb").display(),
        );
        fs::write(path("services/pgbouncer"), service).expect("service");
        Pam { dir }
    }

    fn setup(&self) -> Setup {
        let services = self.dir.path().join("services").display().to_string();
        let setup = Setup::new()
            .set("auth_type", "pam")
            .environment(
                "LD_PRELOAD",
                &wrappers("libpam_wrapper.so").display().to_string(),
            )
            .environment("PAM_WRAPPER", "1")
            .environment("PAM_WRAPPER_SERVICE_DIR", &services);
        ["app", "app2", "app3", "admin"]
            .into_iter()
            .fold(setup, Setup::without_user)
    }
}

/// A file of the package libpam-wrapper.
fn wrappers(name: &str) -> PathBuf {
    let libraries = fs::read_dir("/usr/lib").expect("/usr/lib");
    let mut paths = libraries.map(|entry| entry.expect("entry").path().join(name));
    let found = paths.find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no {name}: run scripts/install-test-deps.sh"))
}

fn denied(pooler: &Pooler, user: &str, password: &str) {
    let (message, code) = refused(pooler, user, password);
    let expected = ("PAM authentication failed", "28000");
    assert_eq!((message.as_str(), code.as_str()), expected, "{user}");
}

#[test]
fn the_modules_decide_and_the_password_is_good_for_the_server() {
    let pam = Pam::new(&format!("{USER}:{PASSWORD}:pgbouncer\n"));
    let pooler = pam.setup().start();
    assert_eq!(asked_for(&pooler, USER), Some(CLEARTEXT_PASSWORD));
    let mut client = login(&pooler, USER, PASSWORD).expect("login");
    assert_eq!(client.value("select current_user"), USER);
    denied(&pooler, USER, "wrong");
    denied(&pooler, "nobody", PASSWORD);
    let (message, _) = refused(&pooler, USER, "");
    assert_eq!(message, "empty password returned by client");
    let from = fs::read_to_string(pam.dir.path().join("from")).expect("from");
    assert_eq!(from, "127.0.0.1\n".repeat(3));
}

#[test]
fn the_account_must_be_in_order_for_this_service() {
    let pam = Pam::new(&format!("{USER}:{PASSWORD}:another\n"));
    denied(&pam.setup().start(), USER, PASSWORD);
}

#[test]
fn an_ini_has_pgbouncers_code() {
    let pam = Pam::new(&format!("{USER}:{PASSWORD}:pgbouncer\n"));
    let pooler = pam.setup().in_ini().start();
    login(&pooler, USER, PASSWORD).expect("login");
    let (message, code) = refused(&pooler, USER, "wrong");
    assert_eq!(
        (message.as_str(), code.as_str()),
        ("PAM authentication failed", "08P01")
    );
}
