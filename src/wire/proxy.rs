//! The header in which a load balancer tells whom it connects for: the PROXY
//! protocol, versions 1 and 2.
//!
//! `proxy-protocol.txt` in HAProxy's documentation. What stands behind the
//! addresses (TLVs) is passed over.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use thiserror::Error;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const WORD: &[u8] = b"PROXY ";
/// The longest header of version 1, with its line end.
const MAX_LINE: usize = 107;
/// The shortest one: `PROXY UNKNOWN` and its line end.
const MIN_LINE: usize = 15;
/// Version 2: signature, version and command, family, length.
const FRONT: usize = 16;
/// The longest header of version 2 that is read. The addresses take 36 bytes.
pub const MAX_HEADER: usize = 4096;

/// An address with its port.
pub type End = (IpAddr, u16);

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The connection is the load balancer's own (a health check, or it does not
    /// know): its addresses are those of the socket.
    Local,
    /// A client's connection, from here to there.
    Proxied { source: End, destination: End },
}

/// How far the reading of a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// At least so many bytes more belong to it.
    Needs(usize),
    /// These bytes were exactly the header.
    Done(Header),
}

/// What came is no such header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProxyError {
    #[error("no PROXY protocol header")]
    Missing,
    #[error("malformed PROXY protocol header")]
    Malformed,
    #[error("PROXY protocol header is too long")]
    TooLong,
}

/// Reads the bytes that have come of a header, from its first.
pub fn read(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(WORD) {
        read_line(bytes)
    } else if begins(SIGNATURE) {
        read_binary(bytes)
    } else {
        Err(ProxyError::Missing)
    }
}

// ---- version 1 ----

fn read_line(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        let ends = bytes.last() == Some(&b'\r');
        return match bytes.len() {
            MAX_LINE.. => Err(ProxyError::TooLong),
            have @ ..MIN_LINE => Ok(Progress::Needs(MIN_LINE - have)),
            _ => Ok(Progress::Needs(if ends { 1 } else { 2 })),
        };
    };
    let line = core::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let header = match line.split(' ').collect::<Vec<_>>()[..] {
        ["PROXY", "UNKNOWN", ..] => Some(Header::Local),
        ["PROXY", "TCP4", source, destination, from, to] => {
            let (source, destination) = (address::<Ipv4Addr>(source), address(destination));
            proxied::<Ipv4Addr>(source, destination, from, to)
        }
        ["PROXY", "TCP6", source, destination, from, to] => {
            let (source, destination) = (address::<Ipv6Addr>(source), address(destination));
            proxied::<Ipv6Addr>(source, destination, from, to)
        }
        _ => None,
    };
    Ok(Progress::Done(header.ok_or(ProxyError::Malformed)?))
}

fn address<A: FromStr>(text: &str) -> Option<A> {
    text.parse().ok()
}

fn proxied<A: Into<IpAddr>>(
    source: Option<A>,
    destination: Option<A>,
    from: &str,
    to: &str,
) -> Option<Header> {
    Some(Header::Proxied {
        source: (source?.into(), port(from)?),
        destination: (destination?.into(), port(to)?),
    })
}

/// A decimal number without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let number: u16 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

// ---- version 2 ----

fn read_binary(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let Some((front, rest)) = bytes.split_first_chunk::<FRONT>() else {
        return Ok(Progress::Needs(FRONT - bytes.len()));
    };
    let [.., command, family, high, low] = *front;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FRONT + length > MAX_HEADER {
        return Err(ProxyError::TooLong);
    }
    if rest.len() < length {
        return Ok(Progress::Needs(length - rest.len()));
    }
    let header = match (command, family) {
        // LOCAL, whatever else it says.
        (0x20, _) => Some(Header::Local),
        (0x21, 0x11) => ends::<4>(rest),
        (0x21, 0x21) => ends::<16>(rest),
        // Of unknown family, or from a Unix socket.
        (0x21, 0x00 | 0x31 | 0x32) => Some(Header::Local),
        _ => None,
    };
    match header.filter(|_| rest.len() == length) {
        Some(header) => Ok(Progress::Done(header)),
        None => Err(ProxyError::Malformed),
    }
}

/// Two addresses of `N` bytes, then two ports.
fn ends<const N: usize>(bytes: &[u8]) -> Option<Header>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk()?;
    let (to, _) = rest.split_first_chunk()?;
    Some(Header::Proxied {
        source: (IpAddr::from(*source), u16::from_be_bytes(*from)),
        destination: (IpAddr::from(*destination), u16::from_be_bytes(*to)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a header from a stream, as few bytes at a time as are asked for, and
    /// returns what follows it.
    fn from_stream(stream: &[u8]) -> Result<(Header, &[u8]), ProxyError> {
        let mut have = 0;
        loop {
            match read(&stream[..have])? {
                Progress::Done(header) => return Ok((header, &stream[have..])),
                Progress::Needs(more) => have += more,
            }
            assert!(have <= stream.len(), "needs more than there is");
        }
    }

    fn line(text: &str) -> Result<Header, ProxyError> {
        let stream = format!("{text}\r\nrest");
        from_stream(stream.as_bytes()).map(|(header, rest)| {
            assert_eq!(rest, b"rest", "{text}");
            header
        })
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body, b"rest"].concat()
    }

    fn between(source: &str, from: u16, destination: &str, to: u16) -> Header {
        Header::Proxied {
            source: (source.parse().unwrap(), from),
            destination: (destination.parse().unwrap(), to),
        }
    }

    #[test]
    fn lines_of_version_1() {
        assert_eq!(
            line("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443"),
            Ok(between("192.0.2.7", 56324, "198.51.100.1", 443))
        );
        assert_eq!(
            line("PROXY TCP6 2001:db8::1 ::1 0 65535"),
            Ok(between("2001:db8::1", 0, "::1", 65535))
        );
        let longest = format!("PROXY TCP6 {0} {0} 65535 65535", ["ffff"; 8].join(":"));
        assert!(matches!(line(&longest), Ok(Header::Proxied { .. })));
        assert_eq!(line("PROXY UNKNOWN"), Ok(Header::Local));
        assert_eq!(line("PROXY UNKNOWN anything at all"), Ok(Header::Local));
    }

    #[test]
    fn other_lines_are_refused() {
        for text in [
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 ",
            "PROXY TCP4 192.0.2.7  198.51.100.1 56324 443",
            "PROXY TCP4 2001:db8::1 ::1 1 2",
            "PROXY TCP6 192.0.2.7 198.51.100.1 1 2",
            "PROXY TCP4 192.0.2.007 198.51.100.1 1 2",
            "PROXY TCP4 192.0.2.7 198.51.100.1 01 2",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 2",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 2",
            "PROXY UNKNOWNS and more",
            "PROXY  UNKNOWN",
        ] {
            assert_eq!(line(text), Err(ProxyError::Malformed), "{text}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(92));
        assert_eq!(long.len() + 2, MAX_LINE + 1);
        assert_eq!(line(&long), Err(ProxyError::TooLong));
        assert_eq!(line(&long[..long.len() - 1]), Ok(Header::Local));
    }

    #[test]
    fn headers_of_version_2() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
        let expected = between("192.0.2.7", 56324, "198.51.100.1", 443);
        let stream = binary(0x21, 0x11, &four);
        assert_eq!(from_stream(&stream), Ok((expected, &b"rest"[..])));
        // A TLV behind the addresses.
        let stream = binary(0x21, 0x11, &[&four[..], b"\x04\0\x01x"].concat());
        assert_eq!(from_stream(&stream), Ok((expected, &b"rest"[..])));

        let address = |last: u8| {
            let mut address = [0; 16];
            address[15] = last;
            address
        };
        let six = [&address(1)[..], &address(2), &[0, 3, 0, 4]].concat();
        let stream = binary(0x21, 0x21, &six);
        let expected = between("::1", 3, "::2", 4);
        assert_eq!(from_stream(&stream), Ok((expected, &b"rest"[..])));

        for (command, family, body) in [
            (0x20, 0x00, &b""[..]),
            (0x20, 0x11, &four),
            (0x20, 0x77, b"?"),
            (0x21, 0x00, b""),
            (0x21, 0x31, &[0; 216]),
        ] {
            let stream = binary(command, family, body);
            assert_eq!(from_stream(&stream), Ok((Header::Local, &b"rest"[..])));
        }
        let longest = binary(0x20, 0, &[0; MAX_HEADER - FRONT]);
        assert!(from_stream(&longest).is_ok());
    }

    #[test]
    fn other_headers_are_refused() {
        let malformed = |stream: Vec<u8>| {
            assert_eq!(from_stream(&stream), Err(ProxyError::Malformed));
        };
        // Another version, another command, datagrams, too short.
        malformed(binary(0x11, 0x11, &[0; 12]));
        malformed(binary(0x22, 0x11, &[0; 12]));
        malformed(binary(0x21, 0x12, &[0; 12]));
        malformed(binary(0x21, 0x11, &[0; 11]));
        malformed(binary(0x21, 0x21, &[0; 35]));
        let too_long = binary(0x20, 0, &[0; MAX_HEADER - FRONT + 1]);
        assert_eq!(from_stream(&too_long), Err(ProxyError::TooLong));
        for other in [
            &b"\0\0\0\x08\x04\xd2\x16\x2f"[..],
            b"PROXI",
            b"GET",
            b"\r\n\r\n\r",
            b"\x16",
        ] {
            assert_eq!(read(other), Err(ProxyError::Missing), "{other:?}");
        }
    }
}
