use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Host, HostTerms};
use crate::route::topology::{Member, Needs};

const TIME: EjectTime = EjectTime {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
};

/// Some servers, what is known of them, and a clock.
struct World {
    survey: Survey,
    start: Instant,
}

impl World {
    fn new(servers: u16) -> World {
        let host = |port| Host::Tcp {
            host: "db".to_owned(),
            port,
        };
        let hosts: Vec<Host> = (0..servers).map(host).collect();
        World::with_roles(&hosts, &vec![HostRole::Auto; hosts.len()])
    }

    fn with_roles(hosts: &[Host], roles: &[HostRole]) -> World {
        let terms = |&role| HostTerms { weight: 1, role };
        let terms: Vec<_> = roles.iter().map(terms).collect();
        World {
            survey: Survey::new(Arc::new(Topology::new(hosts, &terms))),
            start: Instant::now(),
        }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    /// The server at `place` is asked and answers; true: a role has changed.
    fn hear(&mut self, place: usize, millis: u64, finding: &Finding) -> bool {
        let asked = self.survey.ask(place, self.at(millis));
        self.survey.found(asked, finding, TIME, 0)
    }

    fn member(&self, place: usize) -> &Member {
        &self.survey.topology().members()[place]
    }

    fn roles(&self) -> Vec<Role> {
        let members = self.survey.topology().members();
        members.iter().map(Member::role).collect()
    }

    /// What a client keeps that has just written.
    fn write(&self) -> u32 {
        self.survey.topology().covering_sample()
    }

    fn sees(&self, place: usize, write: u32) -> bool {
        let needs = Needs {
            sample: write,
            ..Needs::default()
        };
        self.member(place).obstacle(&needs).is_none()
    }
}

fn writable(timeline: u32, position: u64) -> Finding {
    Finding::Writable { timeline, position }
}

fn recovering(timeline: u32, position: u64) -> Finding {
    Finding::Recovering { timeline, position }
}

fn silent() -> Finding {
    Finding::Silent("connection refused".to_owned())
}

use Role::{Down, Ejected, Fenced, Primary, Replica, Unknown};

#[test]
fn roles_are_what_servers_say() {
    let mut world = World::new(3);
    let topology = world.survey.topology().clone();
    assert_eq!(world.roles(), [Unknown; 3]);
    assert!(world.hear(1, 0, &recovering(1, 90)));
    assert!(!topology.is_known() && topology.primary().is_none());
    assert!(world.hear(0, 0, &writable(1, 100)));
    // The third may have been promoted in its place.
    assert_eq!(topology.primary(), None);
    assert!(world.hear(2, 0, &silent()));
    assert_eq!(world.roles(), [Primary, Replica, Down]);
    assert!(topology.is_known());
    assert_eq!(topology.primary(), Some(0));
    assert_eq!(world.member(2).notice().why, "connection refused");
    // The same again is no news.
    assert!(!world.hear(0, 1, &writable(1, 100)));
    assert!(!world.hear(1, 1, &recovering(1, 100)));
    assert!(!world.hear(2, 1, &silent()));
    assert!(world.hear(2, 2000, &recovering(1, 100)));
    assert_eq!(world.member(2).notice().why, "");
}

#[test]
fn the_answer_to_the_question() {
    let row = |fields: [&str; 3]| fields.map(|field| Some(field.as_bytes().to_vec()));
    let primary = Finding::of_row(&row(["f", "3", "50331648"]));
    assert_eq!(primary, Some(writable(3, 50_331_648)));
    let replica = Finding::of_row(&row(["t", "3", "0"]));
    assert_eq!(replica, Some(recovering(3, 0)));
    assert_eq!(Finding::of_row(&row(["t", "-1", "0"])), None);
    assert_eq!(Finding::of_row(&row(["t", "1", "-1"])), None);
    let [recovers, timeline, _] = row(["t", "1", "0"]);
    assert_eq!(Finding::of_row(&[recovers.clone(), timeline]), None);
    assert_eq!(Finding::of_row(&[recovers, None, None]), None);
}

#[test]
fn the_primary_is_who_was_promoted_last() {
    let mut world = World::new(2);
    world.hear(0, 0, &writable(1, 100));
    world.hear(1, 0, &recovering(1, 100));
    // The promotion is seen before the former primary's end.
    assert!(world.hear(1, 1, &writable(2, 110)));
    assert_eq!(world.roles(), [Fenced, Primary]);
    assert!(
        world
            .member(0)
            .notice()
            .why
            .contains("promoted to timeline 2")
    );
    // It goes on as if nothing had happened.
    assert!(!world.hear(0, 2, &writable(1, 500)));
    assert_eq!(world.roles(), [Fenced, Primary]);
    assert!(world.member(0).notice().why.contains("on timeline 1"));
    // Also after it was away, and while the new one is.
    assert!(world.hear(0, 3, &silent()));
    assert!(world.hear(1, 3, &silent()));
    assert!(world.hear(0, 4, &writable(1, 500)));
    assert_eq!(world.roles(), [Fenced, Down]);
    assert!(world.hear(1, 5, &writable(2, 120)));
    assert_eq!(world.roles(), [Fenced, Primary]);
    // Made a replica of the new one, it is as good as any.
    assert!(world.hear(0, 2000, &recovering(2, 120)));
    assert_eq!(world.roles(), [Replica, Primary]);
}

#[test]
fn the_last_primarys_timeline_is_remembered() {
    let mut world = World::new(2);
    world.hear(0, 0, &writable(1, 100));
    world.hear(1, 1, &writable(2, 110));
    // The primary is made a replica, and nobody has taken its place yet.
    world.hear(1, 2, &recovering(2, 120));
    world.hear(0, 2, &writable(1, 500));
    assert_eq!(world.roles(), [Fenced, Replica]);
    assert!(
        world
            .member(0)
            .notice()
            .why
            .contains("last primary was on timeline 2")
    );
    world.hear(0, 3, &writable(3, 130));
    assert_eq!(world.roles(), [Primary, Replica]);
}

#[test]
fn nobody_is_what_it_may_not_be() {
    let host = |port| Host::Tcp {
        host: "db".to_owned(),
        port,
    };
    let hosts = [host(0), host(1), host(2)];
    let roles = [HostRole::Primary, HostRole::Replica, HostRole::Auto];
    let mut world = World::with_roles(&hosts, &roles);
    for place in 0..3 {
        world.hear(place, 0, &recovering(1, 100));
    }
    assert_eq!(world.roles(), [Fenced, Replica, Replica]);
    assert_eq!(
        world.member(0).notice().why,
        "in recovery, against its `role`"
    );
    assert!(world.hear(1, 1, &writable(2, 100)));
    assert_eq!(world.roles(), [Fenced, Fenced, Replica]);
    assert_eq!(
        world.member(1).notice().why,
        "takes writes, against its `role`"
    );
    // Neither does it make a fence for others.
    world.hear(0, 2, &writable(1, 100));
    assert_eq!(world.roles(), [Primary, Fenced, Replica]);
    world.hear(2, 3, &writable(2, 100));
    assert_eq!(world.roles(), [Fenced, Fenced, Primary]);
}

#[test]
fn a_replica_that_failed_is_in_again_when_a_later_check_succeeds() {
    let mut world = World::new(2);
    let member = |world: &World| {
        let member = world.member(1);
        let notice = member.notice();
        let until = notice.ejected_until.map(|until| until - world.start);
        (
            member.role(),
            until.map(|until| until.as_millis()),
            notice.why,
        )
    };
    let why = || "connection refused".to_owned();
    world.hear(0, 0, &writable(1, 100));
    world.hear(1, 0, &recovering(1, 100));
    assert!(world.hear(1, 1000, &silent()));
    assert_eq!(member(&world), (Down, Some(2000), why()));
    // It answers, but not for long enough.
    assert!(world.hear(1, 1500, &recovering(1, 100)));
    assert_eq!(member(&world), (Ejected, Some(2000), why()));
    assert!(!world.sees(1, 0));
    assert!(!world.hear(1, 1999, &recovering(1, 100)));
    assert!(world.hear(1, 2000, &recovering(1, 100)));
    assert_eq!(member(&world), (Replica, None, String::new()));
    assert!(world.sees(1, 0));
    // It comes and goes: the probe after each time decides, and it is out for
    // longer and longer.
    world.hear(1, 2500, &silent());
    assert_eq!(member(&world), (Down, Some(4500), why()));
    world.hear(1, 4400, &silent());
    assert_eq!(member(&world), (Down, Some(4500), why()));
    world.hear(1, 4500, &silent());
    assert_eq!(member(&world), (Down, Some(8500), why()));
    let member = world.member(1);
    assert_eq!((member.failures(), member.ejections()), (4, 2));
}

#[test]
fn nobody_waits_for_a_primary_that_failed_before() {
    let mut world = World::new(2);
    world.hear(0, 0, &writable(1, 100));
    world.hear(0, 1, &silent());
    world.hear(0, 2, &writable(1, 100));
    assert_eq!(world.roles(), [Primary, Unknown]);
    // Nor for a replica that is promoted while it is out.
    world.hear(1, 3, &silent());
    world.hear(1, 4, &recovering(1, 100));
    world.hear(1, 5, &writable(2, 100));
    assert_eq!(world.roles(), [Fenced, Primary]);
}

#[test]
fn a_primary_that_refuses_those_who_ask_stays_the_primary() {
    let mut world = World::new(2);
    let refused = Finding::Refused("role is gone".to_owned());
    assert!(world.hear(0, 0, &refused));
    assert_eq!(world.roles(), [Down, Unknown]);
    world.hear(0, 1, &writable(1, 100));
    world.hear(1, 1, &recovering(1, 100));
    assert!(!world.hear(0, 2, &refused));
    assert!(world.hear(1, 2, &refused));
    assert_eq!(world.roles(), [Primary, Down]);
    assert_eq!(world.member(0).notice().why, "role is gone");
    // But not if another takes its place.
    world.hear(1, 3, &writable(2, 100));
    assert_eq!(world.roles(), [Fenced, Primary]);
    assert!(world.hear(0, 4, &refused));
    assert_eq!(world.roles(), [Down, Primary]);
}

#[test]
fn of_two_primaries_on_one_timeline_the_first_stays() {
    let mut world = World::new(2);
    world.hear(1, 0, &writable(1, 100));
    world.hear(0, 0, &writable(1, 900));
    assert_eq!(world.roles(), [Fenced, Primary]);
    world.hear(1, 1, &silent());
    world.hear(0, 1, &writable(1, 900));
    assert_eq!(world.roles(), [Fenced, Down]);
}

#[test]
fn a_replica_is_read_when_it_has_replayed_a_later_sample() {
    let mut world = World::new(2);
    world.hear(0, 0, &writable(1, 100));
    world.hear(1, 1, &recovering(1, 100));
    assert!(world.sees(1, 0));
    // The primary is being asked while a client writes: its answer may be from
    // before the write, and the replica's position proves nothing.
    let early = world.survey.ask(0, world.at(2));
    let write = world.write();
    world.survey.found(early, &writable(1, 150), TIME, 0);
    world.hear(1, 3, &recovering(1, 150));
    assert!(!world.sees(1, write));
    // The next one is from after it.
    world.hear(0, 4, &writable(1, 200));
    world.hear(1, 5, &recovering(1, 199));
    assert!(!world.sees(1, write));
    world.hear(1, 6, &recovering(1, 200));
    assert!(world.sees(1, write));
    assert!(!world.sees(1, world.write()));
}

#[test]
fn only_replicas_are_read() {
    let mut world = World::new(1);
    assert!(!world.sees(0, 0));
    for (finding, reads) in [
        (writable(1, 100), false),
        (recovering(1, 100), true),
        (silent(), false),
    ] {
        world.hear(0, 0, &finding);
        assert_eq!(world.sees(0, 0), reads, "{finding:?}");
    }
}

#[test]
fn lag_is_bytes_of_wal_and_time_since_the_primary_was_there() {
    let mut world = World::new(2);
    for (millis, position) in [(0, 100), (1000, 200), (2000, 200), (3000, 300)] {
        world.hear(0, millis, &writable(1, position));
    }
    let lag = |world: &World| (world.member(1).lag(), world.member(1).delay());
    let millis = Duration::from_millis;
    for (position, expected) in [
        (300, (0, millis(0))),
        (999, (0, millis(0))),
        (299, (1, millis(500))),
        (200, (100, millis(500))),
        (199, (101, millis(2500))),
        (50, (250, millis(3500))),
    ] {
        world.hear(1, 3500, &recovering(1, position));
        assert_eq!(lag(&world), expected, "{position}");
    }
}

#[test]
fn a_primary_that_was_set_back_is_followed_from_there() {
    let mut world = World::new(2);
    world.hear(0, 0, &writable(1, 900));
    world.hear(1, 0, &recovering(1, 900));
    let write = world.write();
    world.hear(0, 1, &writable(1, 500));
    // At 900 it is ahead of the primary; what it has is another story, but it
    // has replayed up to where the primary is.
    world.hear(1, 2, &recovering(1, 400));
    assert!(!world.sees(1, write));
    assert_eq!(world.member(1).lag(), 100);
    world.hear(1, 3, &recovering(1, 500));
    assert!(world.sees(1, write));
}

#[test]
fn the_same_position_on_another_timeline_proves_nothing() {
    let mut world = World::new(3);
    world.hear(0, 0, &writable(1, 100));
    let write = world.write();
    world.hear(0, 1, &writable(1, 200));
    world.hear(1, 2, &recovering(2, 300));
    assert!(!world.sees(1, write));
    assert!(world.sees(1, 0));
    // A promotion: samples of the former primary count no more.
    let before = world.write();
    world.hear(2, 3, &writable(2, 250));
    world.hear(1, 4, &recovering(2, 249));
    assert!(!world.sees(1, before) && !world.sees(1, write));
    world.hear(1, 5, &recovering(2, 250));
    assert!(world.sees(1, before) && world.sees(1, write));
    // One that still follows the former primary.
    world.hear(0, 6, &recovering(1, 900));
    assert_eq!(world.roles(), [Fenced, Replica, Primary]);
    assert!(!world.sees(0, write) && !world.sees(0, 0));
    world.hear(0, 7, &recovering(2, 250));
    assert!(world.sees(0, write));
}

#[test]
fn samples_stay_few_and_go_far_back() {
    let mut world = World::new(2);
    let rounds = 3 * MOST_SAMPLES as u64;
    for n in 0..rounds {
        world.hear(0, n, &writable(1, n));
        assert!(world.survey.samples.len() <= MOST_SAMPLES);
    }
    let write = world.write();
    for position in [0, 1000, rounds - 2] {
        world.hear(1, rounds, &recovering(1, position));
        assert!(!world.sees(1, write));
        let (millis, exact) = (
            world.member(1).delay().as_millis() as u64,
            rounds - position,
        );
        assert!(
            millis < exact && exact <= millis + 17,
            "{millis} of {exact}"
        );
    }
    world.hear(0, rounds, &writable(1, rounds));
    world.hear(1, rounds, &recovering(1, rounds));
    assert!(world.sees(1, write));
}

/// What happens to a primary and a replica.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody writes so much, and is told.
    Write(u64),
    /// The replica replays so much of what it has not.
    Replay(u64),
    /// The question goes out; the answer comes with a later step.
    AskPrimary,
    PrimaryAnswers,
    AskReplica,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u64..50).prop_map(Step::Write),
        (1u64..80).prop_map(Step::Replay),
        Just(Step::AskPrimary),
        Just(Step::PrimaryAnswers),
        Just(Step::AskReplica),
    ]
}

proptest! {
    /// Whatever happens in between: a replica that may be read has replayed the
    /// write.
    #[test]
    fn who_has_written_never_reads_less(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new(2);
        world.hear(0, 0, &writable(1, 1));
        world.hear(1, 0, &recovering(1, 1));
        let (mut there, mut replayed) = (1, 1);
        let mut asked = None;
        let mut writes: Vec<(u64, u32)> = Vec::new();
        for (at, step) in (1..).zip(steps) {
            match step {
                Step::Write(bytes) => {
                    there += bytes;
                    writes.push((there, world.write()));
                }
                Step::Replay(bytes) => replayed = there.min(replayed + bytes),
                // The server may look at its position at once ...
                Step::AskPrimary => asked = Some((world.survey.ask(0, world.at(at)), there)),
                Step::PrimaryAnswers => {
                    if let Some((asked, position)) = asked.take() {
                        world.survey.found(asked, &writable(1, position), TIME, 0);
                    }
                }
                Step::AskReplica => {
                    world.hear(1, at, &recovering(1, replayed));
                }
            }
            for &(position, covered_by) in &writes {
                if world.sees(1, covered_by) {
                    prop_assert!(position <= replayed, "{position} of {replayed}");
                }
            }
        }
        // In the end it has everything, and is known to.
        world.hear(0, 1000, &writable(1, there));
        world.hear(1, 1000, &recovering(1, there));
        prop_assert!(writes.iter().all(|&(_, covered_by)| world.sees(1, covered_by)));
    }

    /// However the answers come, one server is the primary in the end: that on
    /// the newest timeline.
    #[test]
    fn the_newest_timeline_wins(
        order in Just((0..4usize).collect::<Vec<_>>()).prop_shuffle(),
        rounds in 1usize..3,
    ) {
        let mut world = World::new(4);
        for _ in 0..rounds {
            for &place in &order {
                // The last one is a replica.
                let finding = match place {
                    3 => recovering(3, 300),
                    _ => writable(1 + place as u32, 300),
                };
                world.hear(place, 0, &finding);
            }
        }
        prop_assert_eq!(world.roles(), vec![Fenced, Fenced, Primary, Replica]);
    }
}
