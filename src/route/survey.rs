//! What the servers say of themselves, put together: who is the primary, who
//! follows it, and how far.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::backoff::Backoff;
use super::topology::{Notice, Role, Topology};
use crate::config::{EjectTime, HostRole};

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

/// More are thinned out.
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
    /// It is there, but lets nobody in who could ask.
    Refused(String),
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

/// A question that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    place: usize,
    sample: u32,
    begun: Instant,
}

/// Puts findings together. One per topology.
#[derive(Debug)]
pub struct Survey {
    topology: Arc<Topology>,
    /// The place of the primary, also while it is silent.
    primary: Option<usize>,
    /// That of the primary; without one, of the last that there was.
    timeline: u32,
    /// Oldest first.
    samples: VecDeque<Sample>,
    /// Of each server.
    backoffs: Box<[Backoff]>,
}

impl Survey {
    pub fn new(topology: Arc<Topology>) -> Survey {
        let backoffs = vec![Backoff::default(); topology.members().len()];
        Survey {
            topology,
            primary: None,
            timeline: 0,
            samples: VecDeque::new(),
            backoffs: backoffs.into(),
        }
    }

    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// The server at `place` is about to be asked.
    pub fn ask(&self, place: usize, now: Instant) -> Asked {
        Asked {
            place,
            sample: self.topology.begin_sample(),
            begun: now,
        }
    }

    /// What it has said. `chance`: any number, see [`Backoff::fail`]. True: some
    /// server's role has changed.
    pub fn found(&mut self, asked: Asked, finding: &Finding, time: EjectTime, chance: u8) -> bool {
        match finding {
            Finding::Refused(why) if self.role(asked.place) == Role::Primary => {
                self.refused(asked.place, why)
            }
            Finding::Silent(why) | Finding::Refused(why) => self.silent(asked, why, time, chance),
            Finding::Recovering { timeline, position } => {
                self.recovering(asked, *timeline, *position)
            }
            Finding::Writable { timeline, position } => self.writable(asked, *timeline, *position),
        }
    }

    /// Some users may be refused and others not: nobody else is the primary only
    /// because of that.
    fn refused(&self, place: usize, why: &str) -> bool {
        if let Some(member) = self.topology.members().get(place) {
            member.note_failure();
        }
        self.set_role(place, Role::Primary, why)
    }

    fn silent(&mut self, asked: Asked, why: &str, time: EjectTime, chance: u8) -> bool {
        let (Some(member), Some(backoff)) = (
            self.topology.members().get(asked.place),
            self.backoffs.get_mut(asked.place),
        ) else {
            return false;
        };
        backoff.fail(asked.begun, time, chance);
        member.note_failure();
        let notice = Notice {
            why: why.to_owned(),
            ejected_until: backoff.until(),
        };
        member.set_role(Role::Down, notice)
    }

    /// The first answer after its time is over lets a server in that has failed.
    fn recovering(&mut self, asked: Asked, timeline: u32, position: u64) -> bool {
        if self.primary == Some(asked.place) {
            self.primary = None;
        }
        self.follow(asked.place, timeline, position, asked.begun);
        if let Some(primary) = self.primary.filter(|_| timeline < self.timeline) {
            let (name, known) = (self.name(primary), self.timeline);
            let why = format!(
                "in recovery on timeline {timeline}, while the primary is {name} on timeline {known}"
            );
            return self.set_role(asked.place, Role::Fenced, &why);
        }
        let (Some(member), Some(backoff)) = (
            self.topology.members().get(asked.place),
            self.backoffs.get_mut(asked.place),
        ) else {
            return false;
        };
        if member.terms.role == HostRole::Primary {
            return self.set_role(asked.place, Role::Fenced, "in recovery, against its `role`");
        }
        if backoff.is_out(asked.begun) {
            return member.set_role(Role::Ejected, member.notice());
        }
        backoff.recover(asked.begun);
        member.set_role(Role::Replica, Notice::default())
    }

    /// Of several servers that take writes the one that was promoted last is the
    /// primary: each promotion begins a timeline with a greater number (manual,
    /// "Timelines"). With the same number the one stays that was there first.
    fn writable(&mut self, asked: Asked, timeline: u32, position: u64) -> bool {
        let place = asked.place;
        if self
            .topology
            .members()
            .get(place)
            .is_none_or(|m| m.terms.role == HostRole::Replica)
        {
            return self.set_role(place, Role::Fenced, "takes writes, against its `role`");
        }
        let known = self.timeline;
        let stays = self.primary == Some(place);
        match self.primary {
            Some(primary) if !stays && timeline <= known => {
                let name = self.name(primary);
                let why = format!(
                    "takes writes on timeline {timeline}, while the primary is {name} on timeline {known}"
                );
                return self.set_role(place, Role::Fenced, &why);
            }
            None if timeline < known => {
                let why = format!(
                    "takes writes on timeline {timeline}, while the last primary was on timeline {known}"
                );
                return self.set_role(place, Role::Fenced, &why);
            }
            Some(former) if !stays && self.role(former) == Role::Primary => {
                let name = self.name(place);
                let why = format!(
                    "was the primary on timeline {known}, until {name} was promoted to timeline {timeline}"
                );
                self.set_role(former, Role::Fenced, &why);
            }
            _ => {}
        }
        if !stays || timeline < known {
            self.samples.clear();
        }
        (self.primary, self.timeline) = (Some(place), timeline);
        self.take_sample(asked, position);
        self.set_role(place, Role::Primary, "")
    }

    fn take_sample(&mut self, asked: Asked, position: u64) {
        let last = self.samples.back();
        if last.is_some_and(|last| last.position > position) {
            // It was set back in time.
            self.samples.clear();
        }
        if self.samples.len() >= MOST_SAMPLES {
            // With every second one it is still known since when a replica is
            // behind, and less exactly up to where it has come.
            let mut stays = false;
            self.samples.retain(|_| {
                stays = !stays;
                stays
            });
        }
        self.samples.push_back(Sample {
            number: asked.sample,
            position,
            begun: asked.begun,
        });
    }

    /// A replica has replayed up to there. One that is on another timeline than the
    /// primary may have what the primary never had, at the same positions.
    fn follow(&mut self, place: usize, timeline: u32, replayed: u64, now: Instant) {
        let Some(member) = self.topology.members().get(place) else {
            return;
        };
        let follows = self.primary.is_some() && self.timeline == timeline;
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
        let notice = Notice {
            why: why.to_owned(),
            ejected_until: None,
        };
        member.is_some_and(|member| member.set_role(role, notice))
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
