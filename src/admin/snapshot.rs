//! What the console and `/metrics` show: plain values that workers hand over
//! when asked. Nothing here refers to a live object.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::PoolMode;
use crate::net::tls::Encryption;
use crate::route::{Role, State};
use crate::sql::effects::Features;
use crate::stats::Totals;
use crate::wire::startup::Replication;

/// State of a client, PgBouncer's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// Logging in.
    Login,
    /// Connected, not in a transaction, nothing asked.
    Idle,
    /// Linked to a server connection.
    Active,
    /// Asked for something and waits for a server connection.
    Waiting,
    /// No client at all: a cancel request that is being dealt with.
    CancelRequest,
}

/// State of a server connection, PgBouncer's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Linked to a client.
    Active,
    /// Ready for a client.
    Idle,
    /// Idle for longer than `server_check_delay`: checked before use.
    Used,
    /// Being reset, checked or cleaned.
    Tested,
    /// Connecting or logging in.
    New,
    /// Kept from clients while a cancel request for it is under way.
    BeingCanceled,
    /// It listens for clients, beside its pool (no word of PgBouncer's).
    Listening,
}

/// One row of SHOW CLIENTS or SHOW SERVERS (`S` says which states).
#[derive(Clone, Debug)]
pub struct SocketRow<S> {
    /// One counter for clients and servers together.
    pub id: u64,
    pub user: String,
    pub database: String,
    /// `None`: an ordinary connection.
    pub replication: Option<Replication>,
    pub state: S,
    /// Peer's address; `unix` for a Unix socket.
    pub addr: String,
    pub port: u16,
    pub local_addr: String,
    pub local_port: u16,
    pub connect_time: SystemTime,
    pub request_time: SystemTime,
    /// How long a waiting client has waited.
    pub wait: Duration,
    /// The connection will be closed as soon as it is released.
    pub close_needed: bool,
    /// Id of the connection at the other end of the link, if there is one.
    pub link: Option<u64>,
    /// The server's pid (servers), or the peer's pid on a Unix socket (clients).
    pub remote_pid: u32,
    pub encryption: Option<Encryption>,
    pub application_name: String,
    pub prepared_statements: usize,
    /// What the client keeps its server connection for.
    pub pins: Features,
    /// How many channels are listened to for the client, elsewhere.
    pub channels: usize,
    /// The worker that has it.
    pub worker: usize,
    /// Bytes that have come and could not be dealt with yet.
    pub held: u16,
    /// Bytes that the other side has not taken yet.
    pub unsent: u16,
    /// Bytes that are still to come of the message that is being passed on.
    pub rest: u32,
    /// The socket's descriptor. `None`: it does not make the connection, as with TLS.
    pub fd: Option<i32>,
    /// Of a connection that has logged in.
    pub variables: Arc<Variables>,
}

/// Settings of a session that SHOW FDS has columns for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    pub client_encoding: String,
    pub standard_conforming_strings: String,
    pub datestyle: String,
    pub timezone: String,
}

impl<S> SocketRow<S> {
    /// A connection of which nothing else is known yet.
    pub fn new(id: u64, state: S, since: SystemTime) -> Self {
        SocketRow {
            id,
            user: String::new(),
            database: String::new(),
            replication: None,
            state,
            addr: String::new(),
            port: 0,
            local_addr: String::new(),
            local_port: 0,
            connect_time: since,
            request_time: since,
            wait: Duration::ZERO,
            close_needed: false,
            link: None,
            remote_pid: 0,
            encryption: None,
            application_name: String::new(),
            prepared_statements: 0,
            pins: Features::empty(),
            channels: 0,
            worker: 0,
            held: 0,
            unsent: 0,
            rest: 0,
            fd: None,
            variables: Arc::default(),
        }
    }
}

/// One row of SHOW MEM.
#[derive(Clone, Debug)]
pub struct MemoryRow {
    pub name: &'static str,
    /// What one takes in bytes, to be shown while there is none.
    pub size: u64,
    pub used: u64,
    /// Kept for the next use.
    pub free: u64,
    /// What all of them take in bytes.
    pub bytes: u64,
}

impl MemoryRow {
    /// So many of the same size.
    pub fn uniform(name: &'static str, size: usize, used: usize) -> MemoryRow {
        let (size, used) = (size as u64, used as u64);
        MemoryRow {
            name,
            size,
            used,
            free: 0,
            bytes: size * used,
        }
    }
}

/// One row of SHOW POOLS; counts are of now.
#[derive(Clone, Debug)]
pub struct PoolRow {
    pub database: String,
    pub user: String,
    pub cl_active: usize,
    pub cl_waiting: usize,
    pub cl_active_cancel_req: usize,
    pub cl_waiting_cancel_req: usize,
    pub sv_active: usize,
    pub sv_active_cancel: usize,
    pub sv_being_canceled: usize,
    pub sv_idle: usize,
    pub sv_used: usize,
    pub sv_tested: usize,
    pub sv_login: usize,
    /// How long the oldest waiting client has waited.
    pub maxwait: Duration,
    pub pool_mode: PoolMode,
    /// Whether clients are spread over the hosts (`round-robin`).
    pub load_balance_hosts: bool,
    /// Whether there is more than one; SHOW POOLS tells how they are used only
    /// then.
    pub several_hosts: bool,
    /// Effective bounds, for metrics.
    pub pool_size: u32,
    pub totals: Totals,
}

impl PoolRow {
    /// Server connections that count against the pool's bounds, in whatever
    /// state; those that only carry a cancel request do not.
    pub fn servers(&self) -> usize {
        self.sv_active
            + self.sv_being_canceled
            + self.sv_idle
            + self.sv_used
            + self.sv_tested
            + self.sv_login
    }
}

/// One row of SHOW HOSTS.
#[derive(Clone, Debug)]
pub struct HostRow {
    pub database: String,
    pub host: String,
    pub port: u16,
    pub role: Role,
    pub state: State,
    pub weight: u32,
    /// Reads that it got, as a replica or in place of one.
    pub reads: u64,
    /// Of these, repeated elsewhere because it refused them or was lost.
    pub refused_reads: u64,
    pub lost_reads: u64,
    /// Clients that have a connection to it or wait for one.
    pub outstanding: usize,
    /// How far it is behind the primary, in bytes of WAL, and for how long.
    pub lag: u64,
    pub delay: Duration,
    /// It gets no reads before.
    pub ejected_until: Option<SystemTime>,
    /// Checks and attempts to connect that failed, times that it was ejected, and
    /// that its role changed.
    pub failures: u64,
    pub ejections: u64,
    pub role_changes: u64,
    /// Why it has its role and state; empty if there is nothing to say.
    pub reason: String,
}

/// One row of SHOW PEERS and of SHOW PEER_POOLS; counts are of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRow {
    pub peer_id: u32,
    /// A directory for a Unix socket.
    pub host: String,
    pub port: u16,
    pub pool_size: u32,
    /// Cancel requests that the peer is dealing with.
    pub cl_active_cancel_req: usize,
    /// Those for which no connection is free.
    pub cl_waiting_cancel_req: usize,
    pub sv_active_cancel: usize,
    /// Connections being opened.
    pub sv_login: usize,
}

/// Everything that is to be seen at one moment, merged over the workers.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Clients of the console included, with database `pgbouncer` whatever
    /// name they connected to.
    pub clients: Vec<SocketRow<ClientState>>,
    pub servers: Vec<SocketRow<ServerState>>,
    /// Without the console's own, which SHOW adds.
    pub pools: Vec<PoolRow>,
    /// The servers of databases that route statements.
    pub hosts: Vec<HostRow>,
    /// Who cancel requests are handed on to; the process adds them.
    pub peers: Vec<PeerRow>,
    /// Clients that have not logged in yet.
    pub login_clients: usize,
    /// What workers hold in memory, by kind.
    pub memory: Vec<MemoryRow>,
    /// Totals of pools that are gone and of logins to the console, by database.
    pub past: Vec<(String, Totals)>,
}

impl Snapshot {
    /// What several workers have, as one: a pool of which each has a part is
    /// one row.
    pub fn merge(parts: impl IntoIterator<Item = Snapshot>) -> Snapshot {
        let mut all = Snapshot::default();
        let mut pools: BTreeMap<(String, String), PoolRow> = BTreeMap::new();
        let mut hosts: BTreeMap<(String, String, u16), HostRow> = BTreeMap::new();
        for part in parts {
            for row in part.hosts {
                let key = (row.database.clone(), row.host.clone(), row.port);
                match hosts.entry(key) {
                    Entry::Vacant(entry) => {
                        entry.insert(row);
                    }
                    Entry::Occupied(mut entry) => entry.get_mut().add(&row),
                }
            }
            all.clients.extend(part.clients);
            all.servers.extend(part.servers);
            all.login_clients += part.login_clients;
            all.past.extend(part.past);
            for row in part.memory {
                match all.memory.iter_mut().find(|known| known.name == row.name) {
                    Some(known) => known.add(&row),
                    None => all.memory.push(row),
                }
            }
            for row in part.pools {
                match pools.entry((row.database.clone(), row.user.clone())) {
                    Entry::Vacant(entry) => {
                        entry.insert(row);
                    }
                    Entry::Occupied(mut entry) => entry.get_mut().add(&row),
                }
            }
        }
        all.hosts = hosts.into_values().collect();
        all.pools = pools.into_values().collect();
        all.clients.sort_by_key(|row| row.id);
        all.servers.sort_by_key(|row| row.id);
        all
    }
}

impl MemoryRow {
    /// Adds what another worker has of it.
    fn add(&mut self, other: &MemoryRow) {
        self.used += other.used;
        self.free += other.free;
        self.bytes += other.bytes;
    }
}

impl HostRow {
    /// Adds what another user's clients, or another worker's, do there.
    fn add(&mut self, other: &HostRow) {
        self.reads += other.reads;
        self.refused_reads += other.refused_reads;
        self.lost_reads += other.lost_reads;
        self.outstanding += other.outstanding;
        // It may be ejected for some users only.
        if (other.state, other.ejected_until) > (self.state, self.ejected_until) {
            (self.state, self.ejected_until) = (other.state, other.ejected_until);
            self.reason.clone_from(&other.reason);
        }
    }
}

impl PoolRow {
    /// Adds another worker's part of the same pool.
    fn add(&mut self, other: &PoolRow) {
        self.cl_active += other.cl_active;
        self.cl_waiting += other.cl_waiting;
        self.cl_active_cancel_req += other.cl_active_cancel_req;
        self.cl_waiting_cancel_req += other.cl_waiting_cancel_req;
        self.sv_active += other.sv_active;
        self.sv_active_cancel += other.sv_active_cancel;
        self.sv_being_canceled += other.sv_being_canceled;
        self.sv_idle += other.sv_idle;
        self.sv_used += other.sv_used;
        self.sv_tested += other.sv_tested;
        self.sv_login += other.sv_login;
        self.maxwait = self.maxwait.max(other.maxwait);
        self.totals += other.totals;
    }
}

#[cfg(test)]
impl PoolRow {
    /// A pool in which nothing has happened.
    pub fn idle(database: &str, user: &str) -> Self {
        PoolRow {
            database: database.to_owned(),
            user: user.to_owned(),
            cl_active: 0,
            cl_waiting: 0,
            cl_active_cancel_req: 0,
            cl_waiting_cancel_req: 0,
            sv_active: 0,
            sv_active_cancel: 0,
            sv_being_canceled: 0,
            sv_idle: 0,
            sv_used: 0,
            sv_tested: 0,
            sv_login: 0,
            maxwait: Duration::ZERO,
            pool_mode: PoolMode::Transaction,
            load_balance_hosts: true,
            several_hosts: false,
            pool_size: 20,
            totals: Totals::default(),
        }
    }
}

#[cfg(test)]
impl HostRow {
    /// A replica that nobody has read from.
    pub fn replica(database: &str, host: &str, port: u16) -> Self {
        HostRow {
            database: database.to_owned(),
            host: host.to_owned(),
            port,
            role: Role::Replica,
            state: State::Up,
            weight: 1,
            reads: 0,
            refused_reads: 0,
            lost_reads: 0,
            outstanding: 0,
            lag: 0,
            delay: Duration::ZERO,
            ejected_until: None,
            failures: 0,
            ejections: 0,
            role_changes: 0,
            reason: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_pool_are_one_row() {
        let part = |database: &str, seconds, queries| {
            let mut row = PoolRow::idle(database, "alice");
            (row.cl_active, row.cl_waiting, row.sv_active, row.sv_idle) = (1, 2, 3, 4);
            row.maxwait = Duration::from_secs(seconds);
            row.totals.query_count = queries;
            Snapshot {
                pools: vec![row],
                login_clients: 1,
                ..Snapshot::default()
            }
        };
        let all = Snapshot::merge([part("b", 5, 10), part("a", 9, 1), part("b", 7, 20)]);
        let names: Vec<_> = all.pools.iter().map(|row| &*row.database).collect();
        assert_eq!(names, ["a", "b"]);
        let row = &all.pools[1];
        let counts = (row.cl_active, row.cl_waiting, row.sv_active, row.sv_idle);
        assert_eq!(counts, (2, 4, 6, 8));
        assert_eq!(row.servers(), 14);
        assert_eq!(row.maxwait, Duration::from_secs(7));
        assert_eq!((row.totals.query_count, row.pool_size), (30, 20));
        assert_eq!(all.login_clients, 3);
    }

    #[test]
    fn a_host_is_one_row_for_all_users_and_workers() {
        let part = |port, reads, outstanding| HostRow {
            reads,
            refused_reads: 1,
            lost_reads: 2,
            outstanding,
            lag: 5,
            ..HostRow::replica("app", "db", port)
        };
        let until = Some(SystemTime::UNIX_EPOCH);
        let ejected = HostRow {
            state: State::Ejected,
            ejected_until: until,
            reason: "user alice: refused".to_owned(),
            ..part(2, 30, 3)
        };
        let snapshot = |hosts| Snapshot {
            hosts,
            ..Snapshot::default()
        };
        let all = Snapshot::merge([
            snapshot(vec![part(2, 10, 1), part(1, 20, 2)]),
            snapshot(vec![ejected, part(1, 0, 0)]),
        ]);
        let counts = |row: &HostRow| (row.port, row.reads, row.outstanding, row.lag);
        let rows: Vec<_> = all.hosts.iter().map(counts).collect();
        assert_eq!(rows, [(1, 20, 2, 5), (2, 40, 4, 5)]);
        let both = &all.hosts[1];
        assert_eq!((both.refused_reads, both.lost_reads), (2, 4));
        // The worst is told, whoever it concerns.
        let shown = (both.state, both.ejected_until, both.reason.as_str());
        assert_eq!(shown, (State::Ejected, until, "user alice: refused"));
        assert_eq!(all.hosts[0].state, State::Up);
    }
}
