//! Bodies of the fuzz targets for logging in.

use std::path::Path;

use super::scram::Binding;
use super::scram::client::AwaitServerFirst;
use super::scram::server::AwaitProof;
use super::{Hba, IdentMaps, ScramKeys, UserList, Verifier};

/// Nobody proves anything without the password, in either direction. The
/// messages of an exchange stand one on a line.
pub fn fuzz_scram(data: &[u8]) {
    let nonce = [7; 18];
    let keys = ScramKeys::derive(b"secret", b"salt", 1);
    let mut lines = data.splitn(2, |&byte| byte == b'\n');
    let (first, last) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );

    for binding in [
        Binding::Unsupported,
        Binding::Declined,
        Binding::Bound(b"hash"),
    ] {
        if let Ok((_, state)) = AwaitProof::start(first, b"salt", 1, nonce, binding) {
            assert!(state.finish(last, &keys.verifier()).is_err());
        }
        let (_, state): (_, AwaitServerFirst) = AwaitServerFirst::start(nonce, binding);
        if let Ok(challenge) = state.challenge(first)
            && let Ok((_, state)) = challenge.answer(&keys)
        {
            assert!(state.finish(last).is_err());
        }
    }
    let _ = Verifier::parse(&String::from_utf8_lossy(first));
}

/// Mistakes are on lines that the file has, in their order.
pub fn fuzz_userlist(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (users, errors) = UserList::parse(&text);
    let lines = text.lines().count();
    assert!(users.len() + errors.len() <= lines);
    assert!(errors.is_sorted_by_key(|error| error.line));
    assert!(errors.iter().all(|error| (1..=lines).contains(&error.line)));
}

/// Mistakes are on lines that the file has, in their order; a file may name
/// itself.
pub fn fuzz_hba(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = text.lines().count();
    let maps = match IdentMaps::parse(&text) {
        Ok(maps) => maps,
        Err(errors) => {
            assert!(errors.iter().all(|error| (1..=lines).contains(&error.line)));
            IdentMaps::default()
        }
    };
    let read = |_: &Path| Ok("all, @x".to_owned());
    if let Err(errors) = Hba::parse(&text, Path::new("hba"), &maps, &read) {
        let here = |error: &&super::hba::HbaError| error.file == Path::new("hba");
        let here: Vec<_> = errors.iter().filter(here).collect();
        assert!(here.is_sorted_by_key(|error| error.line));
        assert!(here.iter().all(|error| (1..=lines).contains(&error.line)));
    }
}
