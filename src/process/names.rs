//! The names of servers, for the whole process.

use std::sync::Arc;

use crate::config::Config;
use crate::net::dns::{Dns, Ttl};
use crate::worker::{Command, Crew};

/// Looks names up for this crew, which is told when one has lost addresses.
pub fn start(config: &Config, crew: Crew) -> Arc<Dns> {
    Dns::system(ttl(config), move |host, gone| {
        let host: Arc<str> = Arc::from(host);
        let gone: Arc<[_]> = gone.iter().map(|gone| gone.ip().to_canonical()).collect();
        for worker in crew.everyone() {
            // A worker that has ended has no connections.
            let _ = crew.tell(worker, Command::AddressesGone(host.clone(), gone.clone()));
        }
    })
}

/// For how long answers are good.
pub fn ttl(config: &Config) -> Ttl {
    Ttl {
        found: config.general.dns_max_ttl,
        failed: config.general.dns_nxdomain_ttl,
    }
}
