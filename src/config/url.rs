//! `postgres://user:password@host1,host2:5433/dbname?key=value` as a
//! database's definition.

use percent_encoding::percent_decode_str;

use super::choice::SslMode;
use super::draft::{Report, Section, set};
use super::mistake::Place;
use super::objects::{DatabaseConfig, HostEntry};
use super::value::{Raw, Value};
use crate::auth::Masked;

const DEFAULT_PORT: u16 = 5432;

/// Replaces `url` by the keys that it stands for. Keys that are given both ways
/// are mistakes. No message repeats the URL: it may hold a password. `tls` holds
/// for all servers; an `sslmode` that asks for more is the database's own.
pub(super) fn expand(
    database: &mut DatabaseConfig,
    section: &Section,
    place: &Place,
    report: &mut Report,
    tls: SslMode,
) {
    let Some(url) = database.url.take() else {
        return;
    };
    let parts = match parse(url.reveal()) {
        Ok(parts) => parts,
        Err(error) => return report.mistake(place, format!("`url`: {error}")),
    };
    let mut twice = |given: bool, key: &str| {
        if given {
            report.mistake(place, format!("`{key}` is given both here and in `url`"));
        }
    };
    twice(parts.user.is_some() && database.user.is_some(), "user");
    twice(
        parts.password.is_some() && database.password.is_some(),
        "password",
    );
    twice(
        parts.dbname.is_some() && database.dbname.is_some(),
        "dbname",
    );
    twice(database.host.is_some(), "host");
    twice(database.port.is_some(), "port");
    twice(database.hosts.is_some(), "hosts");

    database.user = database.user.take().or(parts.user);
    database.password = database.password.take().or(parts.password.map(Masked::new));
    database.dbname = database.dbname.take().or(parts.dbname);
    if !parts.hosts.is_empty() {
        database.hosts = Some(parts.hosts);
    }
    for (key, value) in parts.parameters {
        if key == "sslmode" {
            match SslMode::from_ini(&value) {
                // It says what is wanted at least.
                Ok(mode) if mode > tls => {
                    database.server_tls_sslmode.get_or_insert(mode);
                }
                Ok(_) => {}
                Err(error) => report.mistake(place, format!("`url`: sslmode: {error}")),
            }
            continue;
        }
        parameter(database, section, &key, &value, place, report);
    }
}

fn parameter(
    database: &mut DatabaseConfig,
    section: &Section,
    key: &str,
    value: &str,
    place: &Place,
    report: &mut Report,
) {
    match key {
        "application_name" | "client_encoding" | "load_balance_hosts" => {
            set(database, section, key, Raw::Ini(value), place, report);
        }
        _ => report.mistake(
            place,
            format!("`url`: the parameter `{key}` is not supported"),
        ),
    }
}

#[derive(Debug, Default, PartialEq)]
struct Parts {
    user: Option<String>,
    password: Option<String>,
    hosts: Vec<HostEntry>,
    dbname: Option<String>,
    parameters: Vec<(String, String)>,
}

fn parse(url: &str) -> Result<Parts, String> {
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or("it does not begin with postgres:// or postgresql://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (login, hosts),
        None => ("", authority),
    };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let mut parts = Parts {
        user: non_empty(user)?,
        password: password.map(decode).transpose()?,
        dbname: non_empty(path)?,
        ..Parts::default()
    };
    for host in hosts.split(',').filter(|host| !host.is_empty()) {
        parts.hosts.push(host_entry(host)?);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or("a parameter after `?` without `=`")?;
        parts.parameters.push((decode(key)?, decode(value)?));
    }
    Ok(parts)
}

fn host_entry(text: &str) -> Result<HostEntry, String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest
                .split_once(']')
                .ok_or("an IPv6 address without the closing `]`")?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port
            .parse()
            .map_err(|_| format!("`{port}` is not a port"))?,
        None => DEFAULT_PORT,
    };
    match decode(host)? {
        host if host.is_empty() => Err("a port without a host".to_owned()),
        host => Ok(HostEntry {
            host,
            port,
            ..HostEntry::default()
        }),
    }
}

fn non_empty(text: &str) -> Result<Option<String>, String> {
    Ok(Some(decode(text)?).filter(|text| !text.is_empty()))
}

fn decode(text: &str) -> Result<String, String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| "a %-escape that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host: &str, port: u16) -> HostEntry {
        HostEntry {
            host: host.to_owned(),
            port,
            ..HostEntry::default()
        }
    }

    #[test]
    fn a_url_has_every_part() {
        let parts = parse("postgres://us%40er:p%3Aw@h1,[::1]:5433/db%20x?sslmode=disable").unwrap();
        assert_eq!(parts.user.as_deref(), Some("us@er"));
        assert_eq!(parts.password.as_deref(), Some("p:w"));
        assert_eq!(parts.hosts, [entry("h1", 5432), entry("::1", 5433)]);
        assert_eq!(parts.dbname.as_deref(), Some("db x"));
        assert_eq!(parts.parameters, [("sslmode".into(), "disable".into())]);
    }

    #[test]
    fn every_part_may_be_missing() {
        assert_eq!(parse("postgresql://").unwrap(), Parts::default());
        let socket = parse("postgres://%2Frun%2Fpg/db").unwrap();
        assert_eq!(socket.hosts, [entry("/run/pg", 5432)]);
    }

    #[test]
    fn a_broken_url_says_what_is_wrong() {
        for (url, message) in [
            ("mysql://h/db", "does not begin with postgres://"),
            ("postgres://h:99999/db", "`99999` is not a port"),
            ("postgres://[::1/db", "without the closing `]`"),
            ("postgres://:5432/db", "a port without a host"),
            ("postgres://h/db?x", "without `=`"),
            ("postgres://h/%ff", "not UTF-8"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(message), "{url}: {error}");
        }
    }
}
