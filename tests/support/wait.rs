use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long anything may take that should take no time at all. Generous: the
/// machine may be busy; a test that passes never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again until `look` finds something.
///
/// Panics after [`PATIENCE`] with what was waited for.
#[track_caller]
pub fn patiently<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `look` returns `expected`; panics with what it returned last.
#[track_caller]
pub fn eventually<T: PartialEq + Debug>(what: &str, expected: T, mut look: impl FnMut() -> T) {
    let start = Instant::now();
    loop {
        let seen = look();
        if seen == expected {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "waited in vain: {what}: expected {expected:?}, last seen {seen:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
