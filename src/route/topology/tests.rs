use super::*;

fn host(port: u16) -> Host {
    Host::Tcp {
        host: "db".to_owned(),
        port,
    }
}

fn pair() -> Topology {
    Topology::new(&[host(1), host(2)], &[1, 3])
}

#[test]
fn servers_and_weights_tell_topologies_apart() {
    let topology = pair();
    assert!(topology.is_of(&[host(1), host(2)], &[1, 3]));
    for (hosts, weights) in [
        (&[host(2), host(1)][..], &[1, 3][..]),
        (&[host(1), host(2)], &[1, 1]),
        (&[host(1)], &[1]),
        (&[host(1), host(2), host(3)], &[1, 3, 1]),
    ] {
        assert!(!topology.is_of(hosts, weights), "{hosts:?} {weights:?}");
    }
    let members = topology.members();
    assert_eq!((&*members[1].name, members[1].weight), ("db:2", 3));
}

#[test]
fn every_role_is_kept_and_has_a_word_of_its_own() {
    let topology = pair();
    let member = &topology.members()[0];
    let mut words = Vec::new();
    for role in [
        Role::Primary,
        Role::Replica,
        Role::Fenced,
        Role::Down,
        Role::Unknown,
    ] {
        assert!(member.set_role(role, "because"));
        assert!(!member.set_role(role, "because of it"));
        assert_eq!(member.role(), role);
        assert_eq!(member.why(), "because of it");
        words.push(role.word());
    }
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), 5);
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
