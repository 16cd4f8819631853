use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::support::tls::copy_for_server;
use crate::support::{Certificates, free_port, patiently, server_user, temp_dir};

/// Who may read the directory, beside those who log in.
pub const READER: &str = "cn=reader,dc=example,dc=net";
pub const READERS_PASSWORD: &str = "may read";

/// A throw-away OpenLDAP server on 127.0.0.1, for the domain `example.net`.
///
/// It lets in whoever binds with a name and an empty password, as some servers
/// do.
#[derive(Debug)]
pub struct Slapd {
    pub port: u16,
    /// For `ldaps`.
    pub tls_port: u16,
    process: Child,
    _dir: TempDir,
}

impl Slapd {
    /// With an entry below `ou=people` for each user and password.
    pub fn start(users: &[(&str, &str)]) -> Slapd {
        let dir = temp_dir("slapd");
        let data = dir.path().join("data");
        fs::create_dir(&data).expect("data");
        for name in ["ca.crt", "server.crt", "server.key"] {
            copy_for_server(&Certificates::shared().path(name), &dir.path().join(name));
        }
        let config = dir.path().join("slapd.conf");
        fs::write(&config, configuration(dir.path())).expect("config");
        fs::write(dir.path().join("entries"), entries(users)).expect("entries");
        if let Some((uid, gid)) = server_user() {
            chown(&data, Some(uid), Some(gid)).expect("chown");
        }

        let mut load = slapd(&["-Tadd"], dir.path());
        load.arg("-l").arg(dir.path().join("entries"));
        let loaded = load.output().expect("slapd, of the package slapd");
        let text = String::from_utf8_lossy(&loaded.stderr);
        assert!(loaded.status.success(), "{text}");

        let (port, tls_port) = (free_port(), free_port());
        let urls = format!("ldap://127.0.0.1:{port}/ ldaps://127.0.0.1:{tls_port}/");
        let mut process = slapd(&["-d", "0", "-h", &urls], dir.path())
            .spawn()
            .expect("slapd");
        patiently("slapd answers", || {
            let ended = process.try_wait().expect("wait");
            assert_eq!(ended, None, "slapd ended");
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Slapd {
            port,
            tls_port,
            process,
            _dir: dir,
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).expect("pid");
        kill(Pid::from_raw(pid), signal).expect("kill");
    }

    /// `auth_ldap_options` that point here.
    pub fn options(&self, more: &str) -> String {
        format!("ldapserver=127.0.0.1 ldapport={} {more}", self.port)
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn slapd(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new("/usr/sbin/slapd");
    if let Some((uid, gid)) = server_user() {
        command.uid(uid).gid(gid);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.args(arguments);
    command.arg("-f").arg(dir.join("slapd.conf"));
    command
}

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
allow bind_anon_cred bind_anon_dn
TLSCACertificateFile {dir}/ca.crt
TLSCertificateFile {dir}/server.crt
TLSCertificateKeyFile {dir}/server.key
pidfile {dir}/pid
database ldif
suffix "dc=example,dc=net"
directory {dir}/data
access to * by dn.exact="{READER}" read by anonymous auth by * none
"#
    )
}

fn entries(users: &[(&str, &str)]) -> String {
    let mut text = format!(
        "dn: dc=example,dc=net\nobjectClass: dcObject\nobjectClass: organization\no: e\ndc: example\n\n\
         dn: ou=people,dc=example,dc=net\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: {READER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n\
         cn: reader\nuserPassword: {READERS_PASSWORD}\n"
    );
    for (user, password) in users {
        // Written by hand, not by what is tested.
        let escaped: String = user
            .chars()
            .flat_map(|c| match c.is_ascii_alphanumeric() {
                true => vec![c],
                false => format!("\\{:02x}", u32::from(c)).chars().collect(),
            })
            .collect();
        write!(
            text,
            "\ndn: uid={escaped},ou=people,dc=example,dc=net\nobjectClass: inetOrgPerson\n\
             uid: {user}\ncn: {user}\nsn: x\nmail: {}@example.net\nuserPassword: {password}\n",
            escaped.replace('\\', "")
        )
        .expect("write");
    }
    text
}
