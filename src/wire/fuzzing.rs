//! Bodies of the fuzz targets for what a peer sends.

use super::names::{self, Target};
use super::proxy::{self, Progress};
use super::startup::{self, FirstPacket};
use super::{HEADER_LEN, Header};

/// Frames follow one another without gaps; names and the rest make up the
/// whole body.
pub fn fuzz_messages(mut data: &[u8]) {
    while let Ok(Some(header)) = Header::peek(data) {
        assert!(header.total >= HEADER_LEN);
        let Some(body) = data.get(HEADER_LEN..header.total) else {
            break;
        };
        if let Some(view) = names::parse(body) {
            assert_eq!([view.name, b"\0", view.definition].concat(), body);
        }
        if let Some(view) = names::bind(body) {
            let front = [view.portal, b"\0", view.statement, b"\0"].concat();
            assert_eq!(front, body[..view.rest]);
        }
        if let Some(target) = names::target(body) {
            let (kind, name) = match target {
                Target::Statement(name) => (b"S", name),
                Target::Portal(name) => (b"P", name),
            };
            assert_eq!([&kind[..], name, b"\0"].concat(), body);
        }
        data = &data[header.total..];
    }
}

/// A header is asked for to its last byte and not beyond, however it comes, and is
/// never long.
pub fn fuzz_proxy(data: &[u8]) {
    let mut have = 0;
    while let Ok(Progress::Needs(more)) = proxy::read(data.get(..have).unwrap_or(data)) {
        assert!(more > 0 && have + more <= proxy::MAX_HEADER);
        // One byte less decides nothing either.
        if let Some(less) = data.get(..have + more - 1) {
            assert!(!matches!(proxy::read(less), Ok(Progress::Done(_))));
        }
        have += more;
        if have > data.len() {
            return;
        }
    }
}

/// What a first packet is decoded to says all that was in it.
pub fn fuzz_startup(data: &[u8]) {
    if let Some(field) = data.first_chunk()
        && let Ok(length) = startup::packet_length(*field)
    {
        assert!((8..=startup::MAX_STARTUP_PACKET).contains(&length));
    }
    match startup::decode(data) {
        Ok(FirstPacket::Startup(startup)) => {
            let mut again = [&3u16.to_be_bytes()[..], &startup.minor.to_be_bytes()].concat();
            for (name, value) in &startup.parameters {
                assert!(!name.is_empty());
                again.extend_from_slice(&[name, &b"\0"[..], value, b"\0"].concat());
            }
            again.push(0);
            assert_eq!(again, data);
        }
        Ok(FirstPacket::Cancel { pid, key }) => {
            assert_eq!([&pid.to_be_bytes()[..], &key].concat(), data[4..]);
        }
        Ok(FirstPacket::SslRequest | FirstPacket::GssEncRequest) => assert_eq!(data.len(), 4),
        Err(_) => {}
    }
    for (name, value) in startup::split_options(data).unwrap_or_default() {
        assert!(!name.contains(&b'-') && !name.contains(&b'='));
        assert!(name.len() + value.len() < data.len());
    }
}
