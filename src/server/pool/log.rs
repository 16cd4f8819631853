//! What the log has of server connections, but for their errors.

use std::time::Instant;

use tracing::{Level, debug, enabled, info};

use super::Pool;
use crate::config::Host;
use crate::flow::Params;
use crate::net::PeerAddr;
use crate::server::{Server, dial};
use crate::sql::lexer::Encoding;
use crate::sql::quote::quote_literal;

impl Pool {
    /// A connection is there, and has not logged in yet.
    pub(super) fn log_open(&self, id: u64, host: &Host, local: PeerAddr) {
        let config = self.config.borrow();
        if !config.log_connections {
            return;
        }
        let (conn, addr) = (format!("S-{id}"), dial::place(host));
        let (db, user) = (&config.database, &config.user);
        match local {
            PeerAddr::Unix => info!(%conn, %db, %user, %addr, "new connection to server"),
            local_addr => info!(%conn, %db, %user, %addr, %local_addr, "new connection to server"),
        }
    }

    /// One that brings a cancel request is there: to PgBouncer it is a connection as any
    /// other. What to end it with, if it is logged.
    pub(in crate::server) fn log_cancel(
        &self,
        host: &Host,
        local: PeerAddr,
    ) -> Option<(u64, Instant)> {
        if !self.is_of_ini() {
            return None;
        }
        let id = self.local.next_id();
        self.log_open(id, host, local);
        Some((id, Instant::now()))
    }

    /// The end of a connection, or of an attempt to open one.
    pub(in crate::server) fn log_close(&self, id: u64, host: &Host, reason: &str, begun: Instant) {
        let config = self.config.borrow();
        if config.log_disconnections {
            let (conn, addr, age) = (
                format!("S-{id}"),
                dial::place(host),
                begun.elapsed().as_secs(),
            );
            let (db, user) = (&config.database, &config.user);
            info!(%conn, %db, %user, %addr, reason, age, "closing because");
        }
    }

    /// With `-v`: which of the settings that the server reports change for a client, in
    /// PgBouncer's words. Others may be secrets of an application.
    pub fn log_settings(&self, server: &Server, wanted: &Params) {
        if !enabled!(Level::DEBUG) || !self.is_of_ini() {
            return;
        }
        let present = server.backend.params();
        let mut sets = Vec::new();
        for (name, value) in present.changes_to(wanted) {
            if let Some(value) = value.filter(|_| present.is_reported(name)) {
                sets.extend_from_slice(b"SET ");
                sets.extend_from_slice(name);
                sets.push(b'=');
                // What cannot be quoted is sent in another way.
                let _ = quote_literal(value, Encoding::AsciiSafe, &mut sets);
                sets.push(b';');
            }
        }
        if sets.is_empty() {
            return;
        }
        let (conn, addr) = (
            self.log_server(&server.info),
            dial::place(&server.info.host),
        );
        let config = self.config.borrow();
        let (db, user) = (&config.database, &config.user);
        let sets = String::from_utf8_lossy(&sets);
        debug!(%conn, %db, %user, %addr, %sets, "varcache_apply");
    }
}
