//! What the servers say of themselves, put together: who is the primary, who
//! follows it, and how far.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::topology::{Role, Topology};

/// Asked of each server: whether it is in recovery, its timeline, and its
/// position in the WAL.
///
/// - The position of a primary is the one up to which it has given out
///   positions: with `synchronous_commit` off a commit is acknowledged before it
///   is written.
/// - A replica is on a timeline when its control file says so, or (which users
///   without `pg_read_all_stats` do not see) when it receives it. The control
///   file is later, but never wrong.
pub const QUESTION: &str = "SELECT pg_is_in_recovery(), \
    CASE WHEN pg_is_in_recovery() THEN greatest(\
        (SELECT min_recovery_end_timeline FROM pg_control_recovery()), \
        (SELECT timeline_id FROM pg_control_checkpoint()), \
        (SELECT received_tli FROM pg_stat_wal_receiver)) \
    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int4 END, \
    CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0') \
    ELSE pg_current_wal_insert_lsn() END - '0/0'";

/// Samples that a replica may be behind and still be told how far it is.
const MOST_SAMPLES: usize = 1024;

/// What a server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Writable {
        timeline: u32,
        position: u64,
    },
    Recovering {
        timeline: u32,
        position: u64,
    },
    /// It did not answer, for this reason.
    Silent(String),
}

impl Finding {
    /// The answer to [`QUESTION`].
    pub fn of_row(row: &[Option<Vec<u8>>]) -> Option<Finding> {
        let [recovers, timeline, position] = row else {
            return None;
        };
        let text = |field: &Option<Vec<u8>>| String::from_utf8(field.clone()?).ok();
        let timeline = text(timeline)?.parse().ok()?;
        let position = text(position)?.parse().ok()?;
        Some(match text(recovers)?.as_str() {
            "t" => Finding::Recovering { timeline, position },
            _ => Finding::Writable { timeline, position },
        })
    }
}

/// The primary was at `position` some time after the sample was begun.
#[derive(Clone, Copy, Debug)]
struct Sample {
    number: u32,
    position: u64,
    begun: Instant,
}

/// Puts findings together. One per topology.
#[derive(Debug)]
pub struct Survey {
    topology: Arc<Topology>,
    /// Place and timeline of the primary, also while it is silent.
    primary: Option<(usize, u32)>,
    /// Oldest first.
    samples: VecDeque<Sample>,
}

impl Survey {
    pub fn new(topology: Arc<Topology>) -> Survey {
        Survey {
            topology,
            primary: None,
            samples: VecDeque::new(),
        }
    }

    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// A server is about to be asked. Returns what [`Survey::found`] needs.
    pub fn ask(&self) -> u32 {
        self.topology.begin_sample()
    }

    /// What the server at `place` has said; it was asked at `begun`. True: some
    /// server's role has changed.
    pub fn found(&mut self, place: usize, sample: u32, begun: Instant, finding: &Finding) -> bool {
        match finding {
            Finding::Silent(why) => self.set_role(place, Role::Down, why),
            Finding::Recovering { timeline, position } => {
                if self.primary.is_some_and(|(primary, _)| primary == place) {
                    self.primary = None;
                }
                self.follow(place, *timeline, *position, begun);
                self.set_role(place, Role::Replica, "")
            }
            Finding::Writable { timeline, position } => {
                let changed = self.writable(place, *timeline);
                if self.primary.is_some_and(|(primary, _)| primary == place) {
                    self.take_sample(sample, *position, begun);
                }
                changed
            }
        }
    }

    /// Of several servers that take writes the one that was promoted last is the
    /// primary: each promotion begins a timeline with a greater number (manual,
    /// "Timelines"). With the same number the one stays that was there first.
    fn writable(&mut self, place: usize, timeline: u32) -> bool {
        match self.primary {
            Some((primary, known)) if primary == place && timeline >= known => {
                self.primary = Some((place, timeline));
                self.set_role(place, Role::Primary, "")
            }
            Some((primary, known)) if primary != place && timeline <= known => {
                let name = self.name(primary);
                let why = format!(
                    "takes writes on timeline {timeline}, while the primary is {name} on timeline {known}"
                );
                self.set_role(place, Role::Fenced, &why)
            }
            former => {
                self.samples.clear();
                self.primary = Some((place, timeline));
                if let Some((former, known)) = former.filter(|&(former, _)| former != place) {
                    let now = self.role(former);
                    if now == Role::Primary {
                        let name = self.name(place);
                        let why = format!(
                            "was the primary on timeline {known}, until {name} was promoted to timeline {timeline}"
                        );
                        self.set_role(former, Role::Fenced, &why);
                    }
                }
                self.set_role(place, Role::Primary, "")
            }
        }
    }

    fn take_sample(&mut self, number: u32, position: u64, begun: Instant) {
        if self
            .samples
            .back()
            .is_some_and(|last| last.position > position)
        {
            // It was set back in time.
            self.samples.clear();
        }
        if self.samples.len() >= MOST_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            number,
            position,
            begun,
        });
    }

    /// A replica has replayed up to there. One that is on another timeline than the
    /// primary may have what the primary never had, at the same positions.
    fn follow(&mut self, place: usize, timeline: u32, replayed: u64, now: Instant) {
        let Some(member) = self.topology.members().get(place) else {
            return;
        };
        let follows = self.primary.is_some_and(|(_, known)| known == timeline);
        let replayed = if follows { replayed } else { 0 };
        let ahead = self.samples.partition_point(|s| s.position <= replayed);
        let reached = ahead.checked_sub(1).and_then(|at| self.samples.get(at));
        let behind = self.samples.get(ahead);
        let last = self.samples.back();
        member.set_progress(
            reached.map_or(0, |sample| sample.number),
            last.map_or(0, |last| last.position.saturating_sub(replayed)),
            behind.map_or_else(Default::default, |sample| {
                now.saturating_duration_since(sample.begun)
            }),
        );
    }

    fn set_role(&self, place: usize, role: Role, why: &str) -> bool {
        let member = self.topology.members().get(place);
        member.is_some_and(|member| member.set_role(role, why))
    }

    fn role(&self, place: usize) -> Role {
        let member = self.topology.members().get(place);
        member.map_or(Role::Unknown, |member| member.role())
    }

    fn name(&self, place: usize) -> &str {
        let member = self.topology.members().get(place);
        member.map_or("", |member| &member.name)
    }
}

#[cfg(test)]
mod tests;
