//! The `avg_*` values of PgBouncer.
//!
//! Every `stats_period` the totals are remembered. An average covers the time
//! from the last but one of these moments until now, so between one and two
//! periods, and is never computed over almost nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Totals;

/// Remembered totals by database.
#[derive(Clone, Debug)]
pub struct Averages {
    older: Generation,
    newer: Generation,
}

#[derive(Clone, Debug)]
struct Generation {
    at: Instant,
    totals: HashMap<String, Totals>,
}

/// Averages over the window: counts and bytes per second; times in
/// microseconds per transaction (`xact_time`), per query (`query_time`) and
/// per server assignment (`wait_time`). Fractions are cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Average {
    pub server_assignment_count: u64,
    pub xact_count: u64,
    pub query_count: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub xact_time: u64,
    pub query_time: u64,
    pub wait_time: u64,
    pub client_parse_count: u64,
    pub server_parse_count: u64,
    pub bind_count: u64,
    pub client_login_count: u64,
}

impl Averages {
    /// Averages of a process that started at `now`.
    pub fn new(now: Instant) -> Self {
        let generation = |at| Generation {
            at,
            totals: HashMap::new(),
        };
        Averages {
            // PgBouncer too counts the first moment as one second, so that the
            // first values are not divided by nothing.
            older: generation(now.checked_sub(Duration::from_secs(1)).unwrap_or(now)),
            newer: generation(now),
        }
    }

    /// Ends a period. To be called each `stats_period` with the totals of all
    /// databases; they must not decrease.
    pub fn tick<'a>(&mut self, now: Instant, totals: impl IntoIterator<Item = (&'a str, Totals)>) {
        let totals = totals
            .into_iter()
            .map(|(database, totals)| (database.to_owned(), totals))
            .collect();
        let newer = Generation { at: now, totals };
        self.older = std::mem::replace(&mut self.newer, newer);
    }

    /// One database's average, given its totals of `now`.
    pub fn of(&self, now: Instant, database: &str, current: &Totals) -> Average {
        let old = self.older.totals.get(database).copied();
        average(&old.unwrap_or_default(), current, self.window(now))
    }

    /// The average of everything, given the sum of all totals of `now`.
    pub fn overall(&self, now: Instant, current: &Totals) -> Average {
        let mut old = Totals::default();
        for totals in self.older.totals.values() {
            old += *totals;
        }
        average(&old, current, self.window(now))
    }

    fn window(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.older.at)
    }
}

fn average(old: &Totals, current: &Totals, window: Duration) -> Average {
    let per_second = |old: u64, current: u64| {
        let count = u128::from(current.saturating_sub(old));
        let rate = (count * 1_000_000).checked_div(window.as_micros());
        u64::try_from(rate.unwrap_or(0)).unwrap_or(u64::MAX)
    };
    let per_event = |time: (u64, u64), events: (u64, u64)| {
        let time = time.1.saturating_sub(time.0);
        time.checked_div(events.1.saturating_sub(events.0))
            .unwrap_or(0)
    };
    macro_rules! rate {
        ($name:ident) => {
            per_second(old.$name, current.$name)
        };
    }
    macro_rules! mean {
        ($time:ident / $count:ident) => {
            per_event((old.$time, current.$time), (old.$count, current.$count))
        };
    }
    if window.is_zero() {
        return Average::default();
    }
    Average {
        server_assignment_count: rate!(server_assignment_count),
        xact_count: rate!(xact_count),
        query_count: rate!(query_count),
        bytes_received: rate!(bytes_received),
        bytes_sent: rate!(bytes_sent),
        xact_time: mean!(xact_time / xact_count),
        query_time: mean!(query_time / query_count),
        wait_time: mean!(wait_time / server_assignment_count),
        client_parse_count: rate!(client_parse_count),
        server_parse_count: rate!(server_parse_count),
        bind_count: rate!(bind_count),
        client_login_count: rate!(client_login_count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(queries: u64, query_time: u64, bytes: u64) -> Totals {
        Totals {
            query_count: queries,
            query_time,
            bytes_sent: bytes,
            ..Totals::default()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn first_values_count_from_one_second_before_the_start() {
        let start = Instant::now();
        let averages = Averages::new(start);
        let average = averages.of(start + SECOND, "app", &totals(10, 3_000, 200));
        assert_eq!(average.query_count, 5);
        assert_eq!(average.query_time, 300);
        assert_eq!(average.bytes_sent, 100);
    }

    #[test]
    fn the_window_starts_at_the_last_but_one_tick() {
        let start = Instant::now();
        let mut averages = Averages::new(start);
        averages.tick(start + 60 * SECOND, [("app", totals(600, 60_000, 0))]);
        // The window now begins at the start, where the totals were zero.
        let average = averages.of(start + 60 * SECOND, "app", &totals(600, 60_000, 0));
        assert_eq!((average.query_count, average.query_time), (10, 100));

        averages.tick(start + 120 * SECOND, [("app", totals(600, 60_000, 0))]);
        let now = start + 130 * SECOND;
        let average = averages.of(now, "app", &totals(740, 60_000 + 1_400, 0));
        assert_eq!((average.query_count, average.query_time), (2, 10));
    }

    #[test]
    fn overall_sums_the_databases() {
        let start = Instant::now();
        let mut averages = Averages::new(start);
        for at in [10, 20] {
            let both = [("a", totals(100, 0, 0)), ("b", totals(300, 0, 0))];
            averages.tick(start + at * SECOND, both);
        }
        let average = averages.overall(start + 30 * SECOND, &totals(500, 0, 0));
        assert_eq!(average.query_count, 5);
    }

    #[test]
    fn nothing_to_divide_by_is_zero() {
        let start = Instant::now();
        let averages = Averages::new(start);
        let before = start.checked_sub(5 * SECOND).unwrap();
        assert_eq!(
            averages.of(before, "app", &totals(9, 9, 9)),
            Average::default()
        );
        // No query ended although time was counted.
        let average = averages.of(start + SECOND, "app", &totals(0, 500, 0));
        assert_eq!(average.query_time, 0);
    }

    #[test]
    fn huge_counts_do_not_overflow() {
        let start = Instant::now();
        let averages = Averages::new(start);
        let average = averages.of(start, "app", &totals(u64::MAX, u64::MAX, u64::MAX));
        assert_eq!(average.bytes_sent, u64::MAX);
        assert_eq!(average.query_time, 1);
    }
}
