//! Connections that are being opened, as SHOW SERVERS has them.

use std::cell::{Cell, Ref};
use std::ops::Deref;
use std::rc::Rc;
use std::time::SystemTime;

use super::Pool;
use crate::config::Host;
use crate::net::PeerAddr;
use crate::wire::startup::Replication;

/// What is known of one.
#[derive(Debug)]
pub struct Opening {
    pub id: u64,
    pub host: Host,
    pub replication: Option<Replication>,
    pub since: SystemTime,
    /// The server's address and our own, once it is connected.
    pub ends: Cell<Option<(PeerAddr, PeerAddr)>>,
}

/// In the list until this is dropped.
pub(super) struct Listed<'a> {
    pool: &'a Pool,
    opening: Rc<Opening>,
}

impl Pool {
    pub fn openings(&self) -> Ref<'_, Vec<Rc<Opening>>> {
        self.openings.borrow()
    }

    pub(super) fn list_opening(&self, host: &Host, replication: Option<Replication>) -> Listed<'_> {
        let opening = Rc::new(Opening {
            id: self.local.next_id(),
            host: host.clone(),
            replication,
            since: SystemTime::now(),
            ends: Cell::new(None),
        });
        self.openings.borrow_mut().push(opening.clone());
        Listed {
            pool: self,
            opening,
        }
    }
}

impl Deref for Listed<'_> {
    type Target = Opening;

    fn deref(&self) -> &Opening {
        &self.opening
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut openings = self.pool.openings.borrow_mut();
        openings.retain(|other| !Rc::ptr_eq(other, &self.opening));
    }
}
