//! The first packet of a connection, which has no tag.
//!
//! PostgreSQL source: src/backend/tcop/backend_startup.c,
//! `ProcessStartupPacket`; manual, "Start-up".

use thiserror::Error;

use super::names::split_nul;

/// `MAX_STARTUP_PACKET_LENGTH` in src/include/libpq/pqcomm.h.
pub const MAX_STARTUP_PACKET: usize = 10_000;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// The longest cancel key of protocol 3.2, in bytes.
pub const MAX_CANCEL_KEY: usize = 256;

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    SslRequest,
    GssEncRequest,
    Cancel { pid: u32, key: Vec<u8> },
    Startup(Startup),
}

/// A parameter's name and its value, in an encoding that is not known yet.
pub type NameValue = (Vec<u8>, Vec<u8>);

/// A StartupMessage of protocol 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Minor version that the client asked for.
    pub minor: u16,
    /// In the client's order; names and values as bytes, since no encoding is
    /// known yet.
    pub parameters: Vec<NameValue>,
}

impl Startup {
    /// The last value given for `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let mut found = self.parameters.iter().rev();
        let (_, value) = found.find(|(n, _)| n == name.as_bytes())?;
        Some(value)
    }
}

/// What a client asks for with the startup parameter `replication`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// All of the server, whatever the database.
    Physical,
    /// One database; SQL may be run as well.
    Logical,
}

impl Replication {
    /// Reads the parameter's value: `database`, or a boolean as PostgreSQL has it
    /// (`ProcessStartupPacket`; bool.c, `parse_bool`).
    pub fn parse(given: &[u8]) -> Result<Option<Replication>, StartupError> {
        let value = given.to_ascii_lowercase();
        let begins =
            |word: &str, least: usize| value.len() >= least && word.as_bytes().starts_with(&value);
        if given == b"database" {
            Ok(Some(Replication::Logical))
        } else if begins("true", 1) || begins("yes", 1) || begins("on", 2) || value == b"1" {
            Ok(Some(Replication::Physical))
        } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || value == b"0" {
            Ok(None)
        } else {
            let given = String::from_utf8_lossy(given).into_owned();
            Err(StartupError::Replication(given))
        }
    }
}

/// Why a first packet is refused. The texts are PostgreSQL's or PgBouncer's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StartupError {
    #[error("invalid length of startup packet")]
    Length,
    #[error("old V2 protocol not supported")]
    OldProtocol,
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2")]
    Version { major: u16, minor: u16 },
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    #[error("invalid length of query cancel packet")]
    CancelLength,
    #[error("invalid value for parameter \"replication\": \"{0}\"")]
    Replication(String),
}

/// Reads the packet's length field: the size of the whole packet in bytes.
pub fn packet_length(field: [u8; 4]) -> Result<usize, StartupError> {
    let length = u32::from_be_bytes(field) as usize;
    match length {
        8..=MAX_STARTUP_PACKET => Ok(length),
        _ => Err(StartupError::Length),
    }
}

/// Decodes a packet without its length field.
pub fn decode(packet: &[u8]) -> Result<FirstPacket, StartupError> {
    let (code, body) = packet.split_first_chunk().ok_or(StartupError::Length)?;
    let code = u32::from_be_bytes(*code);
    match code {
        SSL_REQUEST if body.is_empty() => Ok(FirstPacket::SslRequest),
        GSSENC_REQUEST if body.is_empty() => Ok(FirstPacket::GssEncRequest),
        SSL_REQUEST | GSSENC_REQUEST => Err(StartupError::Length),
        CANCEL_REQUEST => {
            let (pid, key) = body.split_first_chunk().ok_or(StartupError::CancelLength)?;
            if !(4..=MAX_CANCEL_KEY).contains(&key.len()) {
                return Err(StartupError::CancelLength);
            }
            Ok(FirstPacket::Cancel {
                pid: u32::from_be_bytes(*pid),
                key: key.to_vec(),
            })
        }
        _ => match ((code >> 16) as u16, code as u16) {
            (2, _) => Err(StartupError::OldProtocol),
            (3, minor) => Ok(FirstPacket::Startup(Startup {
                minor,
                parameters: parameters(body)?,
            })),
            (major, minor) => Err(StartupError::Version { major, minor }),
        },
    }
}

fn parameters(mut body: &[u8]) -> Result<Vec<NameValue>, StartupError> {
    let mut list = Vec::new();
    loop {
        let (name, after) = split_nul(body).ok_or(StartupError::Layout)?;
        if name.is_empty() {
            return match after.is_empty() {
                true => Ok(list),
                false => Err(StartupError::Layout),
            };
        }
        let (value, after) = split_nul(after).ok_or(StartupError::Layout)?;
        list.push((name.to_vec(), value.to_vec()));
        body = after;
    }
}

/// What is wrong with the startup parameter `options`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OptionsError {
    /// In PostgreSQL's words (postgres.c, `process_postgres_switches`).
    #[error("invalid command-line argument for server process: -c")]
    NoArgument,
    /// The same; the option up to where `=` should stand.
    #[error("{0} requires a value")]
    NoValue(String),
    /// In PgBouncer's words.
    #[error(
        "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
    )]
    Unsupported,
}

/// Splits the startup parameter `options` into settings. Understood are
/// `-c name=value`, `-cname=value` and `--name=value`, with backslash escapes
/// (PostgreSQL source: src/backend/utils/init/postinit.c, `pg_split_opts`, and
/// `ParseLongOption`: a dash in a name is an underscore).
pub fn split_options(options: &[u8]) -> Result<Vec<NameValue>, OptionsError> {
    let mut words = words(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let (switch, setting) = if let Some(long) = word.strip_prefix(b"--") {
            ("--", long.to_vec())
        } else if word == b"-c" {
            ("-c ", words.next().ok_or(OptionsError::NoArgument)?)
        } else {
            let setting = word.strip_prefix(b"-c").ok_or(OptionsError::Unsupported)?;
            ("-c ", setting.to_vec())
        };
        let mut parts = setting.splitn(2, |&b| b == b'=');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            let setting = String::from_utf8_lossy(&setting);
            return Err(OptionsError::NoValue(format!("{switch}{setting}")));
        };
        let name = name.iter().map(|&b| if b == b'-' { b'_' } else { b });
        settings.push((name.collect(), value.to_vec()));
    }
    Ok(settings)
}

fn words(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            // isspace() in the C locale.
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => words.extend(word.take()),
            b'\\' => {
                let word = word.get_or_insert_default();
                word.extend(bytes.next());
            }
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(minor: u16, body: &[u8]) -> Vec<u8> {
        [&(3u32 << 16 | u32::from(minor)).to_be_bytes()[..], body].concat()
    }

    #[test]
    fn parameters_are_split() {
        let packet = startup(2, b"user\0al\0database\0d\0\0");
        let Ok(FirstPacket::Startup(startup)) = decode(&packet) else {
            panic!("not a startup packet");
        };
        assert_eq!(startup.minor, 2);
        assert_eq!(startup.get("user"), Some(&b"al"[..]));
        assert_eq!(startup.get("database"), Some(&b"d"[..]));
        assert_eq!(startup.get("options"), None);
    }

    #[test]
    fn broken_layouts_are_refused() {
        for body in [
            &b""[..],
            b"user",
            b"user\0",
            b"user\0x\0",
            b"\0x",
            b"user\0x\0\0\0",
        ] {
            assert_eq!(decode(&startup(0, body)), Err(StartupError::Layout));
        }
        assert_eq!(
            decode(&(2u32 << 16).to_be_bytes()),
            Err(StartupError::OldProtocol)
        );
        assert_eq!(packet_length([0, 0, 0, 7]), Err(StartupError::Length));
        assert_eq!(packet_length([0, 0, 0x27, 0x11]), Err(StartupError::Length));
        assert_eq!(packet_length([0, 0, 0x27, 0x10]), Ok(10_000));
    }

    #[test]
    fn cancel_keys_of_both_protocols() {
        let packet = |n: usize| {
            let mut p = CANCEL_REQUEST.to_be_bytes().to_vec();
            p.extend_from_slice(&7u32.to_be_bytes());
            p.extend(std::iter::repeat_n(1, n));
            decode(&p)
        };
        for n in [4, 32, 256] {
            assert_eq!(
                packet(n),
                Ok(FirstPacket::Cancel {
                    pid: 7,
                    key: vec![1; n]
                })
            );
        }
        for n in [0, 3, 257] {
            assert_eq!(packet(n), Err(StartupError::CancelLength));
        }
    }

    #[test]
    fn replication_is_a_word_or_a_boolean() {
        for (values, expected) in [
            (&["database"][..], Some(Replication::Logical)),
            (
                &["true", "TRUE", "t", "yes", "on", "1"],
                Some(Replication::Physical),
            ),
            (&["false", "f", "No", "off", "of", "0"], None),
        ] {
            for value in values {
                assert_eq!(
                    Replication::parse(value.as_bytes()),
                    Ok(expected),
                    "{value}"
                );
            }
        }
        for value in ["", "o", "2", "Database", "databases", "truely", "10"] {
            let refused = StartupError::Replication(value.to_owned());
            assert_eq!(
                Replication::parse(value.as_bytes()),
                Err(refused),
                "{value}"
            );
        }
    }

    #[test]
    fn options_are_split_as_postgresql_does() {
        let one = |text: &str| {
            let list = split_options(text.as_bytes()).map_err(|error| error.to_string())?;
            let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
            let settings = list.iter().map(|(n, v)| format!("{}={}", text(n), text(v)));
            Ok::<_, String>(settings.collect::<Vec<_>>())
        };
        assert_eq!(
            one(r"-c search_path=a,b  -cx.y=1\ 2 --work-mem=4MB --a=\\"),
            Ok(vec![
                "search_path=a,b".into(),
                "x.y=1 2".into(),
                "work_mem=4MB".into(),
                r"a=\".into(),
            ])
        );
        assert_eq!(one(""), Ok(vec![]));
        let no_argument = "invalid command-line argument for server process: -c";
        let unsupported = OptionsError::Unsupported.to_string();
        for (bad, error) in [
            ("-d 5", &*unsupported),
            ("x", &unsupported),
            ("-c", no_argument),
            ("-c x", "-c x requires a value"),
            ("-cx", "-c x requires a value"),
            ("--x-y", "--x-y requires a value"),
        ] {
            assert_eq!(one(bad), Err(error.to_owned()), "{bad}");
        }
    }
}
