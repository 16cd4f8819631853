use super::*;
use crate::config::HostRole;

fn host(port: u16) -> Host {
    Host::Tcp {
        host: "db".to_owned(),
        port,
    }
}

fn terms(weight: u32) -> HostTerms {
    HostTerms {
        weight,
        role: HostRole::Auto,
    }
}

fn pair() -> Topology {
    Topology::new(&[host(1), host(2)], &[terms(1), terms(3)])
}

#[test]
fn servers_and_terms_tell_topologies_apart() {
    let topology = pair();
    assert!(topology.is_of(&[host(1), host(2)], &[terms(1), terms(3)]));
    let replica = HostTerms {
        role: HostRole::Replica,
        ..terms(3)
    };
    for (hosts, terms) in [
        (&[host(2), host(1)][..], &[terms(1), terms(3)][..]),
        (&[host(1), host(2)], &[terms(1), terms(1)]),
        (&[host(1), host(2)], &[terms(1), replica]),
        (&[host(1)], &[terms(1)]),
        (
            &[host(1), host(2), host(3)],
            &[terms(1), terms(3), terms(1)],
        ),
    ] {
        assert!(!topology.is_of(hosts, terms), "{hosts:?} {terms:?}");
    }
    let members = topology.members();
    assert_eq!((&*members[1].name, members[1].terms.weight), ("db:2", 3));
}

fn because(why: &str) -> Notice {
    Notice {
        why: why.to_owned(),
        ejected_until: None,
    }
}

#[test]
fn every_role_is_kept_and_has_a_state_of_its_own() {
    let topology = pair();
    let member = &topology.members()[0];
    let mut shown = Vec::new();
    for role in [
        Role::Primary,
        Role::Replica,
        Role::Ejected,
        Role::Fenced,
        Role::Down,
        Role::Unknown,
    ] {
        assert!(member.set_role(role, because("of this")));
        assert!(!member.set_role(role, because("of that")));
        assert_eq!(member.role(), role);
        assert_eq!(member.notice().why, "of that");
        let state = member.state(&Needs::default());
        shown.push(format!("{} {}", role.word(), state.word()));
    }
    assert_eq!(
        shown,
        [
            "primary up",
            "replica up",
            "replica ejected",
            "fenced fenced",
            "down down",
            "unknown unknown"
        ]
    );
    // The first role is no change.
    assert_eq!(member.role_changes(), 5);
}

#[test]
fn a_replica_that_goes_down_is_ejected_once() {
    let topology = pair();
    let member = &topology.members()[0];
    for (role, ejections) in [
        (Role::Down, 0),
        (Role::Replica, 0),
        (Role::Down, 1),
        (Role::Down, 1),
        (Role::Ejected, 1),
        (Role::Down, 1),
        (Role::Replica, 1),
        (Role::Primary, 1),
        (Role::Down, 1),
    ] {
        member.set_role(role, Notice::default());
        assert_eq!(member.ejections(), ejections);
    }
}

#[test]
fn what_is_missing_least_tells_why() {
    let topology = pair();
    let member = &topology.members()[0];
    let seconds = Duration::from_secs;
    let needs = Needs {
        sample: 7,
        max_lag: Some(seconds(5)),
        max_lag_bytes: Some(100),
    };
    assert_eq!(member.obstacle(&needs), Some(Obstacle::Out));
    member.set_role(Role::Replica, Notice::default());
    for (sample, bytes, delay, obstacle, state) in [
        (7, 100, 5, None, State::Up),
        (6, 100, 5, Some(Obstacle::Consistency), State::Up),
        (7, 101, 0, Some(Obstacle::Lag), State::Lagging),
        (7, 0, 6, Some(Obstacle::Lag), State::Lagging),
        (6, 101, 6, Some(Obstacle::Lag), State::Lagging),
    ] {
        member.set_progress(sample, bytes, seconds(delay));
        assert_eq!(member.obstacle(&needs), obstacle);
        assert_eq!(member.state(&needs), state);
        // Without bounds it may be anywhere.
        assert_eq!(member.obstacle(&Needs::default()), None);
    }
    member.set_role(Role::Ejected, Notice::default());
    assert_eq!(member.obstacle(&Needs::default()), Some(Obstacle::Out));
    assert!(Obstacle::Out < Obstacle::Lag && Obstacle::Lag < Obstacle::Consistency);
}

#[test]
fn a_write_is_covered_by_what_begins_after_it() {
    let topology = pair();
    let begun = topology.begin_sample();
    let covering = topology.covering_sample();
    assert!(covering > begun);
    assert!(topology.begin_sample() >= covering);
    // Who waits for the later write waits for the earlier one too.
    topology.note_write(7);
    topology.note_write(5);
    assert_eq!(topology.last_write(), 7);
}

#[test]
fn one_watches_at_a_time() {
    let topology = pair();
    assert!(topology.watch());
    assert!(!topology.watch());
    topology.leave();
    assert!(topology.watch());
}

#[test]
fn what_was_missed_is_told_once_and_a_new_catalog_has_a_new_edition() {
    let topology = pair();
    assert!(!topology.was_missed());
    topology.miss();
    topology.miss();
    assert!(topology.was_missed());
    assert!(!topology.was_missed());
    let edition = topology.edition();
    topology.set_catalog(Catalog::of_postgresql());
    assert_ne!(topology.edition(), edition);
}
