//! Processes that are replaced lose nobody.

use nix::sys::signal::Signal;

use crate::support::{Frontend, RawClient, Setup, eventually, free_port};

#[test]
fn processes_share_a_port() {
    let port = free_port();
    let setup = Setup::new().set("so_reuseport", true);
    let poolers = [setup.clone().start_on(port), setup.start_on(port)];
    let clients: Vec<_> = (0..40).map(|_| poolers[0].login()).collect();
    let served = poolers.each_ref().map(|pooler| {
        let mut console = RawClient::login(&pooler.socket, "admin", "pgbouncer");
        let rows = console.query("SHOW CLIENTS").rows();
        let is_app = |row: &Vec<Option<String>>| row[1].as_deref() == Some("app");
        rows.into_iter().filter(is_app).count()
    });
    assert_eq!(served.iter().sum::<usize>(), clients.len());
    // One in 2^39 runs has bad luck.
    assert!(served.iter().all(|&count| count > 0), "{served:?}");
}

/// The kernel would reset their connections.
#[test]
fn who_waits_to_be_accepted_is_served_although_the_process_stops() {
    let mut pooler = Setup::new().start();
    pooler.signal(Signal::SIGSTOP);
    let waiting: Vec<_> = (0..20)
        .map(|_| RawClient::connect(&pooler.address))
        .collect();
    pooler.signal(Signal::SIGTERM);
    pooler.signal(Signal::SIGCONT);
    for mut client in waiting {
        let login = [("user", "app"), ("database", &*pooler.database)];
        client.send(&Frontend::new().startup((3, 0), &login));
        client.finish_login("app", None).expect("login");
        assert_eq!(client.value("select 1"), "1");
    }
    assert_eq!(pooler.wait(), 0);
    eventually("it is closed", true, || {
        RawClient::try_connect(&pooler.address).is_err()
    });
}
