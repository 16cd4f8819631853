//! For how long a server that fails is left alone.

use std::time::Instant;

use crate::config::EjectTime;

/// Twice as long each time, unless it was well for long in between: who comes
/// and goes is out for longer and longer.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    /// Times that it was out.
    times: u32,
    until: Option<Instant>,
    well_since: Option<Instant>,
}

impl Backoff {
    /// It has failed. False: it is out already, and for no longer because of
    /// this. `chance`, any number, makes the time up to a quarter shorter, so
    /// that not everybody tries again at the same moment.
    pub fn fail(&mut self, now: Instant, time: EjectTime, chance: u8) -> bool {
        if self.is_out(now) {
            return false;
        }
        let well = self.well_since.take();
        if well.is_some_and(|since| now.saturating_duration_since(since) >= time.longest) {
            self.times = 0;
        }
        let doubled = 1u32.checked_shl(self.times).unwrap_or(u32::MAX);
        let out = time.first.saturating_mul(doubled).min(time.longest);
        self.times = self.times.saturating_add(1);
        self.until = Some(now + (out - out / 1024 * u32::from(chance)));
        true
    }

    /// It works.
    pub fn recover(&mut self, now: Instant) {
        self.until = None;
        self.well_since.get_or_insert(now);
    }

    /// Whether it is to be left alone, even if it seems to work.
    pub fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When it may be tried again; `None`: it works.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests;
