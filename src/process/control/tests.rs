use std::path::Path;

use super::*;
use crate::config::Inputs;

fn config() -> Config {
    let text = "[databases]\napp = host=db\nweb = host=db\n[pgbouncer]\n";
    let loaded = Config::load(&Inputs {
        file: Some(Path::new("a.ini")),
        databases: &[],
        env: &Default::default(),
        read: &|_| Ok(text.to_owned()),
    });
    loaded.unwrap()
}

fn controls() -> Controls {
    let (crew, _) = Crew::assemble(1).remove(0);
    Controls::new(crew)
}

fn some(name: &str) -> Option<String> {
    Some(name.to_owned())
}

/// The error, or nothing. What is left to be done is not waited for.
fn begin(controls: &Controls, control: Control, stopping: Option<ShutdownMode>) -> String {
    match controls.begin(control, &config(), stopping) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn errors_are_pgbouncers() {
    let controls = controls();
    let cases = [
        (Control::Resume(None), "pooler is not paused/suspended"),
        (Control::Resume(some("app")), "database app is not paused"),
        (
            Control::Resume(some("pgbouncer")),
            "database pgbouncer is not paused",
        ),
        (Control::Resume(some("x")), "no such database: x"),
        (Control::Pause(some("x")), "no such database: x"),
        (
            Control::Pause(some("pgbouncer")),
            "cannot pause admin db: pgbouncer",
        ),
        (
            Control::Kill(some("pgweir")),
            "cannot kill admin db: pgweir",
        ),
        (
            Control::Reconnect(some("pgbouncer")),
            "cannot reconnect admin db: pgbouncer",
        ),
        (
            Control::WaitClose(some("pgbouncer")),
            "cannot wait in admin db: pgbouncer",
        ),
        (
            Control::Disable(some("pgbouncer")),
            "cannot disable admin db: pgbouncer",
        ),
        (
            Control::Enable(some("pgbouncer")),
            "cannot enable admin db: pgbouncer",
        ),
        (Control::Disable(None), "a database is required"),
        (Control::Enable(None), "a database is required"),
        (Control::Enable(some("x")), "no such database: x"),
        (Control::KillClient(None), "invalid client pointer supplied"),
    ];
    for (control, expected) in cases {
        let text = format!("{control:?}");
        assert_eq!(begin(&controls, control, None), expected, "{text}");
    }
    assert_eq!(*controls.gates(), Gates::default());
}

#[test]
fn a_pause_of_everything_stands_in_the_way_of_others() {
    let controls = controls();
    assert_eq!(begin(&controls, Control::Pause(None), None), "");
    assert!(controls.gates().stops("anything"));
    for again in [
        Control::Pause(None),
        Control::Pause(some("app")),
        Control::Kill(None),
        Control::Kill(some("app")),
        Control::Suspend,
    ] {
        let error = begin(&controls, again, None);
        assert_eq!(error, "already suspended/paused");
    }
    assert_eq!(begin(&controls, Control::Disable(some("app")), None), "");
    assert_eq!(begin(&controls, Control::Resume(None), None), "");
    assert!(!controls.gates().stops("anything"));
    assert!(controls.gates().disabled.contains("app"));
}

#[test]
fn suspend_needs_everything_to_run() {
    let controls = controls();
    assert_eq!(begin(&controls, Control::Pause(some("app")), None), "");
    let error = begin(&controls, Control::Suspend, None);
    assert_eq!(error, "cannot suspend with paused databases");
    assert_eq!(begin(&controls, Control::Resume(some("app")), None), "");
    assert_eq!(begin(&controls, Control::Suspend, None), "");
    assert!(controls.gates().suspended && !controls.gates().stops("app"));
    for again in [Control::Suspend, Control::Pause(None)] {
        let error = begin(&controls, again, None);
        assert_eq!(error, "already suspended/paused");
    }
    assert_eq!(begin(&controls, Control::Resume(None), None), "");
    assert_eq!(*controls.gates(), Gates::default());
}

#[test]
fn while_shutting_down() {
    let controls = controls();
    for mode in [ShutdownMode::WaitForServers, ShutdownMode::WaitForClients] {
        let error = begin(&controls, Control::Resume(None), Some(mode));
        assert_eq!(error, "pooler is shutting down");
    }
    let pause = |mode| begin(&controls, Control::Pause(some("app")), Some(mode));
    assert_eq!(
        pause(ShutdownMode::WaitForServers),
        "already suspended/paused"
    );
    assert_eq!(pause(ShutdownMode::WaitForClients), "");
}

#[test]
fn a_database_that_is_gone_is_forgotten() {
    let controls = controls();
    for control in [Control::Pause(some("app")), Control::Disable(some("web"))] {
        assert_eq!(begin(&controls, control, None), "");
    }
    let mut config = config();
    controls.follow(&config);
    assert!(controls.gates().paused.contains("app"));
    config.databases.remove("app");
    controls.follow(&config);
    assert!(controls.gates().paused.is_empty());
    assert!(controls.gates().disabled.contains("web"));
}

#[tokio::test]
async fn resume_ends_the_wait_of_a_pause() {
    let (crew, mut mailbox) = Crew::assemble(1).remove(0);
    let controls = Controls::new(crew);
    let rest = controls.begin(Control::Pause(some("app")), &config(), None);
    let waiting = tokio::spawn(rest.unwrap());
    let mut unanswered = None;
    while unanswered.is_none() {
        match mailbox.recv().await.unwrap() {
            Command::Gates(_, done) => done.send(()).unwrap(),
            Command::WaitEmpty(_, done) => unanswered = Some(done),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(begin(&controls, Control::Resume(some("app")), None), "");
    assert_eq!(waiting.await.unwrap(), Err(ControlError::Resumed("PAUSE")));
}
