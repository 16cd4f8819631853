//! How many clients there are, over all workers, and on which.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use crate::config::Config;
use crate::wire::build::Refusal;

/// Counts connections. Changed at login and logout only.
#[derive(Debug)]
pub struct Census {
    counts: Mutex<Counts>,
    /// Connections of each worker.
    seated: Box<[AtomicU32]>,
    newcomers: AtomicU32,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    databases: HashMap<Arc<str>, u32>,
    users: HashMap<Arc<str>, u32>,
}

/// A connection that belongs to a worker until this is dropped.
#[derive(Debug)]
pub struct Seat {
    census: Arc<Census>,
    worker: u32,
}

impl Seat {
    /// Which worker's it is.
    pub fn worker(&self) -> usize {
        self.worker as usize
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(seated) = self.census.seated.get(self.worker()) {
            seated.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A connection that has not logged in, until this is dropped.
#[derive(Debug)]
pub struct Newcomer(Arc<Census>);

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.0.newcomers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client that is counted until this is dropped.
#[derive(Debug)]
pub struct Admission {
    seat: Seat,
    database: Arc<str>,
    user: Arc<str>,
}

impl Census {
    /// Nobody is there yet.
    pub fn new(workers: usize) -> Arc<Census> {
        Arc::new(Census {
            counts: Mutex::default(),
            seated: (0..workers.max(1)).map(|_| AtomicU32::new(0)).collect(),
            newcomers: AtomicU32::new(0),
        })
    }

    /// A seat for a new connection, on the worker that has the fewest.
    pub fn seat(self: &Arc<Self>) -> Seat {
        let load = |(_, seated): &(usize, &AtomicU32)| seated.load(Ordering::Relaxed);
        let least = self.seated.iter().enumerate().min_by_key(load);
        let worker = least.map_or(0, |(worker, seated)| {
            seated.fetch_add(1, Ordering::Relaxed);
            worker as u32
        });
        Seat {
            census: self.clone(),
            worker,
        }
    }

    /// A seat on this worker, for a client whose cancel requests come there.
    pub fn seat_at(self: &Arc<Self>, worker: usize) -> Seat {
        if let Some(seated) = self.seated.get(worker) {
            seated.fetch_add(1, Ordering::Relaxed);
        }
        Seat {
            census: self.clone(),
            worker: worker as u32,
        }
    }

    /// Counts a connection that has not logged in; `None`: there are `max`.
    pub fn newcomer(self: &Arc<Self>, max: u32) -> Option<Newcomer> {
        let more = |count: u32| (count < max).then_some(count + 1);
        let counted = self
            .newcomers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok().map(|_| Newcomer(self.clone()))
    }

    /// Connections that have not logged in.
    pub fn newcomers(&self) -> usize {
        self.newcomers.load(Ordering::Relaxed) as usize
    }

    /// Clients, including those that are only logging in.
    pub fn clients(&self) -> usize {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total as usize
    }

    /// Counts one more client, if `max_client_conn`,
    /// `max_db_client_connections` and `max_user_client_connections` allow it.
    pub fn admit(
        &self,
        seat: Seat,
        config: &Config,
        database: &str,
        user: &str,
    ) -> Result<Admission, Refusal> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let max = config.general.max_client_conn;
        if counts.total >= max {
            return Err(
                Refusal::fatal("08P01", "no more connections allowed (max_client_conn)")
                    .detail(format!("{max} clients are connected."))
                    .hint("Raise max_client_conn, or let clients share connections."),
            );
        }
        let limits = [
            (
                "max_db_client_connections",
                config.max_db_client_connections(database),
                counts.databases.get(database),
            ),
            (
                "max_user_client_connections",
                config.max_user_client_connections(user),
                counts.users.get(user),
            ),
        ];
        for (setting, max, count) in limits {
            if max > 0 && count.is_some_and(|&count| count >= max) {
                let message = format!("client connections exceeded ({setting})");
                return Err(Refusal::fatal("08P01", message)
                    .detail(format!("{max} such clients are connected."))
                    .hint(format!("Raise {setting}.")));
            }
        }
        Ok(counts.count(seat, database, user))
    }

    /// Counts a client that another process has let in.
    pub fn readmit(&self, seat: Seat, database: &str, user: &str) -> Admission {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.count(seat, database, user)
    }
}

impl Counts {
    fn count(&mut self, seat: Seat, database: &str, user: &str) -> Admission {
        self.total += 1;
        Admission {
            seat,
            database: count(&mut self.databases, database),
            user: count(&mut self.users, user),
        }
    }
}

/// Counts one more, and returns the name that all of them share.
fn count(map: &mut HashMap<Arc<str>, u32>, name: &str) -> Arc<str> {
    let shared = match map.get_key_value(name) {
        Some((shared, _)) => shared.clone(),
        None => Arc::from(name),
    };
    *map.entry(shared.clone()).or_default() += 1;
    shared
}

impl Admission {
    pub fn database(&self) -> &str {
        &self.database
    }

    pub fn user(&self) -> &str {
        &self.user
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let counts = self.seat.census.counts.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        let Counts {
            databases, users, ..
        } = &mut *counts;
        for (map, name) in [(databases, &self.database), (users, &self.user)] {
            match map.get_mut(name) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    map.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_dealt_evenly() {
        let census = Census::new(3);
        let seats: Vec<_> = (0..7).map(|_| census.seat()).collect();
        let workers: Vec<_> = seats.iter().map(Seat::worker).collect();
        assert_eq!(workers, [0, 1, 2, 0, 1, 2, 0]);
        drop(seats.into_iter().filter(|seat| seat.worker() == 2));
        let again: Vec<_> = (0..2).map(|_| census.seat()).collect();
        assert_eq!(again.iter().map(Seat::worker).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn newcomers_are_bounded() {
        let census = Census::new(1);
        let first = census.newcomer(2);
        let second = census.newcomer(2);
        assert!(first.is_some() && second.is_some() && census.newcomer(2).is_none());
        drop(first);
        assert_eq!(census.newcomers(), 1);
        assert!(census.newcomer(2).is_some());
    }
}
