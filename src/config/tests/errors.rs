use super::{load_files, mistakes};

/// An ini that has everything it needs but what a test adds.
const INI: &str = "[databases]\na = host=h\n[pgbouncer]\nauth_file = u\n";
/// The same as TOML; what follows goes into `[pgweir]`.
const TOML: &str = "databases.a.host = 'h'\nusers.a.password = 'p'\n[pgweir]\n";

#[test]
fn every_mistake_in_an_ini_has_its_line() {
    let text = "\
listen_port = 1
[databases]
ok = host=h
broken = host
unclosed = password='x
empty = host=''
typo = hst=h
pgbouncer = host=h
\"app\" = host=h
[databses]
skipped = ???
[users]
u = pool_size=many
[pgbouncer]
lisen_port = 1
listen_port = 70000
log_stats = yes
pool_mode = transactional
server_lifetime = 30s
auth_type = hba
client_tls_sslmode = require
server_tls_sslmode = verify-full
workers = 65
= 3
stats_listen = 9127
";
    let expected = "\
p.ini:1: `listen_port` stands before the first section
p.ini:4: expected key=value, found `host`
p.ini:5: `password`: the quote is not closed
p.ini:6: `host` has an empty value
p.ini:7: unknown key `hst`, did you mean `host`?
p.ini:8: `pgbouncer` is the console's name and cannot be a database
p.ini:9: a key is quoted with ', not with \"
p.ini:10: unknown section `databses`, did you mean `databases`?
p.ini:13: `pool_size`: `many` is not an integer
p.ini:15: unknown key `lisen_port`, did you mean `listen_port`?
p.ini:16: `listen_port`: 70000 is out of range: 0 to 65535
p.ini:17: `log_stats`: `yes` is not a boolean: write 1 or 0
p.ini:18: `pool_mode`: unknown value `transactional`, did you mean `transaction`?
p.ini:19: `server_lifetime`: `30s` is not a number of seconds
p.ini:20: auth_type=hba needs auth_hba_file
p.ini:21: client_tls_sslmode=require needs client_tls_key_file and client_tls_cert_file
p.ini:22: server_tls_sslmode=verify-full needs server_tls_ca_file
p.ini:23: workers=65: there can be 64 at most
p.ini:24: expected `key = value`, found `= 3`
p.ini:25: `stats_listen`: `9127` is not an address with a port, such as 127.0.0.1:9127";
    assert_eq!(mistakes("p.ini", text), expected);
}

#[test]
fn every_mistake_in_toml_has_its_line() {
    let text = "\
pool_mode = 'session'
[pgweir]
lisen_port = 1
listen_port = '6432'
listen_backlog = -1
log_stats = 1
pool_mode = 'sesion'
server_lifetime = '30 parsecs'
dns_zone_check_period = '1s'
pkt_buf = 4096
unix_socket_mode = 777
tcp_user_timeout = 30
[database.app]
host = 'h'
[databases]
x = 1
[databases.a]
host = 'h'
hosts = [{ host = 'h', wieght = 2 }]
pasword = 'x'
[databases.b]
url = 'postgres://u@h/db?sslmode=require&gssencmode=disable'
user = 'u'
[databases.c]
password = 'p'
[users.u]
password = 'p'
auth_user = 'x'
";
    let expected = "\
p.toml:1: `pool_mode` belongs under [pgweir]
p.toml:3: unknown key `lisen_port`, did you mean `listen_port`?
p.toml:4: `listen_port`: found string where it does not fit: write an integer, without quotes
p.toml:5: `listen_backlog`: -1 is out of range: 0 to 4294967295
p.toml:6: `log_stats`: found integer where it does not fit: write true or false
p.toml:7: `pool_mode`: unknown value `sesion`, did you mean `session`?
p.toml:8: `server_lifetime`: `30 parsecs` is not a time: write a time such as \"30s\", \"5m\" or \"1h 30m\", or seconds
p.toml:9: `dns_zone_check_period` is known, but not built yet
p.toml:10: `pkt_buf` has no meaning in pgweir
p.toml:11: `unix_socket_mode`: found integer where it does not fit: write it in octal: \"0770\" or 0o770
p.toml:12: `tcp_user_timeout`: 30 has no unit: write \"30ms\"
p.toml:13: unknown section `database`, did you mean `databases`?
p.toml:16: `x`: found integer where it does not fit: write a table of settings
p.toml:19: `hosts`: unknown key `wieght` of a host
p.toml:20: unknown key `pasword`, did you mean `password`?
p.toml:22: `url`: the parameter `gssencmode` is not supported
p.toml:22: `user` is given both here and in `url`
p.toml:25: `password` without `user` has no effect
p.toml:28: unknown key `auth_user`";
    assert_eq!(mistakes("p.toml", text), expected);
}

#[test]
fn broken_toml_has_its_line() {
    let error = mistakes("p.toml", "[pgweir]\nlisten_port = \n");
    assert!(error.starts_with("p.toml:2: "), "{error}");
}

#[test]
fn the_wrong_format_is_recognised() {
    assert_eq!(
        mistakes("p.toml", "[databases]\na = host=h\n[pgbouncer]\n"),
        "p.toml: this looks like a pgbouncer.ini: name it *.ini, or turn it into TOML with `pgweir convert`"
    );
    assert_eq!(
        mistakes("p.ini", "[pgweir]\nlisten_port = 1\n"),
        "p.ini: this looks like TOML: name it *.toml"
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = load_files(&[("p.toml", "[pgweir]")], &["x".to_owned()], &[]);
    assert!(error.unwrap_err().to_string().contains("--database"));
}

#[test]
fn what_is_not_built_is_noted_for_an_ini() {
    let text = format!(
        "{INI}dns_zone_check_period = 5\ndns_max_ttl = 15\npkt_buf = 8192\n[peers]\n1 = host=h\n"
    );
    let config = super::ini(&text);
    assert_eq!(
        config.notices,
        [
            "p.ini:5: `dns_zone_check_period` is not built yet and has no effect",
            "p.ini:9: peers have no effect without `peer_id`",
        ]
    );
}

#[test]
fn contradictions_are_found() {
    for (file, text, expected) in [
        (
            "p.toml",
            "",
            "p.toml: nobody can log in with auth_type=md5: there is neither auth_file nor auth_user nor a user with a password\np.toml: there is no database",
        ),
        (
            "p.ini",
            "[pgbouncer]\nunix_socket_dir =\n",
            "p.ini:2: nowhere to listen on: set listen_addr or unix_socket_dir",
        ),
        (
            "p.toml",
            "[pgweir]\nauth_ldap_options='ldapserver=h'\n[databases.a]\nhost='h'\n",
            "p.toml:2: `auth_ldap_options`: one of ldapprefix, ldapsuffix and ldapbasedn is needed",
        ),
        (
            "p.toml",
            "[pgweir]\nauth_type='any'\n[databases.a]\nhost='h'\n",
            "p.toml:3: auth_type=any needs a `user` for database `a`",
        ),
        (
            "p.ini",
            "[pgbouncer]\nlisten_addr=*\nunix_socket_dir=\n[databases]\na=\n",
            "p.ini:5: database `a` has no host, and unix_socket_dir is empty",
        ),
        (
            "p.toml",
            &format!("{TOML}client_tls_sslmode = 'prefer'\n"),
            "p.toml:4: client_tls_sslmode=prefer needs client_tls_key_file and client_tls_cert_file",
        ),
        (
            "p.ini",
            "[pgbouncer]\nclient_tls_sslmode=verify-ca\nclient_tls_key_file=k\nclient_tls_cert_file=c\n",
            "p.ini:2: client_tls_sslmode=verify-ca needs client_tls_ca_file",
        ),
        (
            "p.toml",
            &format!("{TOML}server_tls_key_file = 'k'\n"),
            "p.toml:3: server_tls_sslmode=prefer needs server_tls_key_file and server_tls_cert_file together",
        ),
        (
            "p.toml",
            "[pgweir]\nauth_type='any'\n[databases.a]\nuser='u'\nhosts=[{host='h', weight=2}]\n",
            "p.toml:5: database `a`: `weight` and `role` of a host have no effect without `route_reads`",
        ),
        (
            "p.toml",
            "[pgweir]\nauth_type='any'\npool_mode='transaction'\n[databases.a]\nuser='u'\n\
             route_reads=true\nhosts=[{host='h', role='replica'}]\n",
            "p.toml:7: database `a`: none of the hosts may be the primary",
        ),
    ] {
        assert_eq!(mistakes(file, text), expected);
    }
    let config = super::toml(&format!("{TOML}min_pool_size = 30\n"));
    assert_eq!(
        config.notices,
        ["p.toml:4: database `a`: min_pool_size=30 is more than the pool may have: 20"]
    );
}

#[cfg(not(any(feature = "ldap", feature = "pam")))]
#[test]
fn what_was_not_built_in_is_refused_with_its_feature() {
    for word in ["ldap", "pam"] {
        let text = format!("[databases]\na=host=h\n[pgbouncer]\nauth_type = {word}\n");
        let expected = format!(
            "p.ini:4: auth_type={word}: this pgweir was built without it; build with --features {word}"
        );
        assert_eq!(mistakes("p.ini", &text), expected);
    }
}

#[test]
fn without_a_file_nobody_from_outside_gets_in() {
    let url = ["a=postgres://u@h/db".to_owned()];
    let env = [("PGWEIR_LISTEN_ADDR", "127.0.0.1, *")];
    let error = load_files(&[], &url, &env).unwrap_err().to_string();
    assert!(
        error.contains("listening on `*` would let anybody in"),
        "{error}"
    );
    let no_user = ["a=postgres://h/db".to_owned()];
    let error = load_files(&[], &no_user, &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "--database a: auth_type=any needs a `user` for database `a`"
    );
}

#[test]
fn mistakes_in_the_environment_are_named() {
    let file = [("p.ini", INI)];
    let env = [
        ("PGWEIR_LISTEN_PROT", "1"),
        ("PGWEIR_LISTEN_PORT", "x"),
        ("PGWEIR_DNS_ZONE_CHECK_PERIOD", "1s"),
    ];
    assert_eq!(
        load_files(&file, &[], &env).unwrap_err().to_string(),
        "\
environment: PGWEIR_DNS_ZONE_CHECK_PERIOD: known, but not built yet
environment: PGWEIR_LISTEN_PORT: found string where it does not fit: write an integer, without quotes
environment: PGWEIR_LISTEN_PROT: unknown setting `listen_prot`, did you mean `listen_port`?"
    );
}

#[test]
fn ways_to_log_in_need_what_they_check() {
    for (settings, expected) in [
        ("auth_type = hba\n", "auth_type=hba needs auth_hba_file"),
        (
            "auth_type = cert\nclient_tls_sslmode = require\nclient_tls_key_file = k\n\
             client_tls_cert_file = c\n",
            "auth_type=cert needs client_tls_sslmode=verify-full",
        ),
    ] {
        let told = mistakes("p.ini", &format!("{INI}{settings}"));
        assert_eq!(told, format!("p.ini:5: {expected}"));
    }
}

#[test]
fn users_can_be_looked_up_where_a_query_can_run() {
    let toml = |name: &str| mistakes("p.toml", &format!("{TOML}auth_dbname = '{name}'\n"));
    assert_eq!(
        toml("nowhere"),
        "p.toml:4: authentication database \"nowhere\" is not configured"
    );
    assert_eq!(
        toml("pgweir"),
        "p.toml:4: cannot use the reserved \"pgweir\" database as an auth_dbname"
    );
    let told = mistakes("p.ini", &format!("{INI}auth_dbname = pgbouncer\n"));
    assert_eq!(
        told,
        "p.ini:5: cannot use the reserved \"pgbouncer\" database as an auth_dbname"
    );
    // PgBouncer starts with this one.
    let ini = format!("[databases]\nd = host=h auth_dbname=pgbouncer\n{INI}");
    let config = load_files(&[("p.ini", &ini)], &[], &[]).unwrap();
    assert_eq!(
        config.notices,
        ["p.ini:2: cannot use the reserved \"pgbouncer\" database as an auth_dbname"]
    );
}

#[test]
fn an_ini_has_a_main_section() {
    let without = "there is no section [pgbouncer]";
    assert_eq!(mistakes("p.ini", ""), format!("p.ini: {without}"));
    let told = mistakes("p.ini", "[databases]\nd = host=h\n");
    assert_eq!(told, format!("p.ini: {without}"));
}

#[test]
fn nobody_listens_on_port_0() {
    let told = mistakes("p.ini", &format!("[databases]\nd = host=h port=0\n{INI}"));
    assert_eq!(told, "p.ini:2: `port`: there is no port 0");
}
