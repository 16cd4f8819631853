use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TIME: EjectTime = EjectTime {
    first: SECOND,
    longest: Duration::from_secs(10),
};

/// Fails as soon as it may be tried, so many times; how long it was out each time.
fn fail_again_and_again(backoff: &mut Backoff, start: Instant, times: usize) -> Vec<Duration> {
    let mut now = start;
    let fail = |_| {
        assert!(backoff.fail(now, TIME, 0));
        let until = backoff.until().unwrap();
        let out = until - now;
        now = until;
        out
    };
    (0..times).map(fail).collect()
}

#[test]
fn each_failure_doubles_the_time_up_to_the_longest() {
    let mut backoff = Backoff::default();
    let out = fail_again_and_again(&mut backoff, Instant::now(), 40);
    let seconds: Vec<_> = out.iter().map(Duration::as_secs).collect();
    assert_eq!(seconds[..6], [1, 2, 4, 8, 10, 10]);
    assert!(seconds[6..].iter().all(|&seconds| seconds == 10));
}

#[test]
fn who_is_out_is_not_out_for_longer_because_of_the_same() {
    let (mut backoff, now) = (Backoff::default(), Instant::now());
    assert!(!backoff.is_out(now));
    assert!(backoff.fail(now, TIME, 0));
    assert!(!backoff.fail(now + SECOND / 2, TIME, 0));
    assert_eq!(backoff.until(), Some(now + SECOND));
    assert!(backoff.is_out(now + SECOND / 2));
    assert!(!backoff.is_out(now + SECOND));
}

#[test]
fn who_comes_and_goes_stays_out_longer_and_who_stays_is_trusted_again() {
    let (mut backoff, now) = (Backoff::default(), Instant::now());
    let out = |backoff: &Backoff, now| backoff.until().unwrap() - now;
    backoff.fail(now, TIME, 0);
    let now = now + SECOND;
    backoff.recover(now);
    assert_eq!(backoff.until(), None);
    // Well for a while, and not for the first time seen so.
    let now = now + 9 * SECOND;
    backoff.recover(now);
    backoff.fail(now, TIME, 0);
    assert_eq!(out(&backoff, now), 2 * SECOND);
    let now = now + 2 * SECOND;
    backoff.recover(now);
    let now = now + 10 * SECOND;
    backoff.recover(now);
    backoff.fail(now, TIME, 0);
    assert_eq!(out(&backoff, now), SECOND);
}

proptest! {
    #[test]
    fn chance_takes_a_quarter_off_at_most(failures in 1usize..50, chance: u8) {
        let (mut exact, mut now) = (Backoff::default(), Instant::now());
        fail_again_and_again(&mut exact, now, failures - 1);
        now = exact.until().unwrap_or(now);
        let mut shorter = exact.clone();
        exact.fail(now, TIME, 0);
        shorter.fail(now, TIME, chance);
        let (exact, shorter) = (exact.until().unwrap(), shorter.until().unwrap());
        prop_assert!(shorter <= exact);
        prop_assert!(shorter >= exact - (exact - now) / 4);
    }
}
