//! What the console and `/metrics` show of a worker.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Worker;
use crate::admin::snapshot::{
    ClientState, HostRow, MemoryRow, PoolRow, ServerState, Snapshot, SocketRow, Variables,
};
use crate::client::{self, ClientInfo};
use crate::config::{Host, PoolConfig};
use crate::flow::Params;
use crate::net::PeerAddr;
use crate::route::{Member, Needs, State};
use crate::server::{Family, Opening, Pool, Server, ServerInfo};
use crate::sql::effects::Features;

impl Worker {
    pub(super) fn snapshot(&self) -> Snapshot {
        let now = Moment {
            instant: Instant::now(),
            system: SystemTime::now(),
        };
        let worker = self.crew.number();
        let clients = self.clients.borrow();
        let consoles = self.consoles.borrow();
        let all = clients.values().chain(consoles.values());
        let mut seen = SeenVariables::default();
        let mut rows: Vec<_> = all
            .map(|client| client_row(client, worker, &now, &mut seen))
            .collect();
        for row in &mut rows {
            row.channels = self.channel_count(row.id);
        }
        let logins = self.logins.borrow();
        rows.extend(logins.iter().map(|(id, login)| login.row(*id, worker)));
        let mut counts: HashMap<*const Pool, ClientCounts> = HashMap::new();
        for client in clients.values() {
            let Some(pool) = client.pool() else { continue };
            let count = counts.entry(Rc::as_ptr(pool)).or_default();
            match client.state.get() {
                ClientState::Waiting => count.waiting += 1,
                _ => count.active += 1,
            }
        }
        let settings_of = |row: &SocketRow<_>| {
            let settings = (row.application_name.clone(), row.variables.clone());
            (row.id, settings)
        };
        let of_clients: HashMap<u64, _> = rows.iter().map(settings_of).collect();
        let (mut servers, mut opening) = (Vec::new(), Vec::new());
        let mut pools = Vec::new();
        for pool in self.pools.each() {
            let config = pool.config();
            let count = counts.get(&Rc::as_ptr(&pool));
            let count = count.copied().unwrap_or_default();
            pools.push(pool_row(&pool, count, &now));
            let book = pool.book();
            let idle = book.idle();
            let of_idle: HashMap<u64, _> = idle
                .map(|(idle, _)| {
                    let params = idle.backend.params();
                    (idle.info.id, (application_name(params), seen.of(params)))
                })
                .collect();
            for (_, info) in pool.servers().iter() {
                let mut row = server_row(info, worker, &now);
                if row.state == ServerState::Idle && is_used(info.idle_since.get(), &config, &now) {
                    row.state = ServerState::Used;
                }
                row.database = config.database.to_string();
                row.user = config.user.to_string();
                // A client's settings go with it to the server.
                let settings = match row.link {
                    Some(client) => of_clients.get(&client),
                    None => of_idle.get(&row.id),
                };
                (row.application_name, row.variables) = settings.cloned().unwrap_or_default();
                servers.push(row);
            }
            let openings = pool.openings();
            opening.extend(openings.iter().map(|o| opening_row(o, &config, worker)));
        }
        let (servers_count, pools_count) = (servers.len(), pools.len());
        servers.extend(opening);
        servers.extend(
            self.local
                .listening
                .borrow()
                .iter()
                .map(|row| (**row).clone()),
        );
        Snapshot {
            clients: rows,
            servers,
            pools,
            hosts: self
                .pools
                .families()
                .iter()
                .flat_map(|f| host_rows(f, &now))
                .collect(),
            peers: Vec::new(),
            login_clients: 0,
            memory: self.memory(servers_count, pools_count),
            past: self.pools.past(now.instant),
        }
    }
}

impl Worker {
    /// What this worker holds, but for what tables and texts take besides.
    fn memory(&self, servers: usize, pools: usize) -> Vec<MemoryRow> {
        let clients = self.clients.borrow().len();
        let others = self.consoles.borrow().len() + self.logins.borrow().len();
        let server = size_of::<Server>() + size_of::<ServerInfo>();
        let mut rows = vec![
            MemoryRow::uniform("pool_cache", size_of::<Pool>(), pools),
            MemoryRow::uniform("server_cache", server, servers),
            MemoryRow::uniform("client_cache", client::SIZE, clients),
            MemoryRow::uniform("login_client_cache", client::LOGIN_SIZE, others),
        ];
        rows.extend(self.local.memory());
        rows
    }
}

/// Whether a connection that has been idle since then is checked before its next
/// use.
fn is_used(since: Option<Instant>, config: &PoolConfig, now: &Moment) -> bool {
    let due = |since| now.instant >= since + config.server_check_delay;
    config.server_check_query.is_some() && since.is_some_and(due)
}

#[derive(Clone, Copy, Default)]
struct ClientCounts {
    active: usize,
    waiting: usize,
}

fn pool_row(pool: &Pool, clients: ClientCounts, now: &Moment) -> PoolRow {
    let config = pool.config();
    let book = pool.book();
    let used = |since| is_used(Some(since), &config, now);
    let sv_used = book.idle().filter(|(_, since)| used(*since)).count();
    let state = |state: ServerState| {
        let servers = pool.servers();
        servers
            .iter()
            .filter(|(_, info)| info.state.get() == state)
            .count()
    };
    let canceled = pool.servers();
    let canceled = canceled
        .iter()
        .filter(|(_, info)| info.cancels.get() > 0 && info.state.get() == ServerState::Active);
    let cancels = canceled.map(|(_, info)| info.cancels.get() as usize).sum();
    PoolRow {
        database: config.database.to_string(),
        user: config.user.to_string(),
        cl_active: clients.active,
        // Logins that wait for their first connection are in the queue too. Where
        // statements are routed, a client may wait in another pool than its own.
        cl_waiting: match config.host {
            Some(_) => book.waiting_count(),
            None => clients.waiting.max(book.waiting_count()),
        },
        // Each has a connection of its own to the server, from the beginning.
        cl_active_cancel_req: cancels,
        cl_waiting_cancel_req: 0,
        sv_active: state(ServerState::Active),
        sv_active_cancel: cancels,
        sv_being_canceled: state(ServerState::BeingCanceled),
        sv_idle: book.idle_count() - sv_used,
        sv_used,
        sv_tested: state(ServerState::Tested),
        sv_login: book.opening_count() as usize,
        maxwait: book.oldest_wait().map_or(Duration::ZERO, |since| {
            now.instant.saturating_duration_since(since)
        }),
        pool_mode: config.pool_mode,
        load_balance_hosts: config.load_balance_hosts,
        several_hosts: config.hosts.len() > 1,
        pool_size: config.pool_size,
        totals: pool.counters.totals(),
    }
}

fn host_rows(family: &Family, now: &Moment) -> Vec<HostRow> {
    let needs = Needs::new(&family.routing(), 0);
    let database = family.config().database.to_string();
    let row = |(member, pool): (&Member, &Rc<Pool>)| {
        let (host, port) = match &member.host {
            Host::Tcp { host, port } => (host.clone(), *port),
            Host::Unix { dir, port } => (dir.clone(), *port),
        };
        let totals = pool.counters.totals();
        let notice = member.notice();
        let mut shown = (member.state(&needs), notice.ejected_until, notice.why);
        if let Some((why, until)) = pool.ejection().filter(|_| shown.0 < State::Ejected) {
            shown = (State::Ejected, Some(until), why);
        }
        let (state, ejected_until, reason) = shown;
        HostRow {
            database: database.clone(),
            host,
            port,
            role: member.role(),
            state,
            weight: member.terms.weight,
            reads: totals.replica_read_count
                + totals.primary_read_out_count
                + totals.primary_read_lag_count
                + totals.primary_read_consistency_count,
            refused_reads: totals.refused_read_count,
            lost_reads: totals.lost_read_count,
            outstanding: pool.outstanding(),
            lag: member.lag(),
            delay: member.delay(),
            ejected_until: ejected_until.map(|until| now.system_time(until)),
            failures: member.failures(),
            ejections: member.ejections(),
            role_changes: member.role_changes(),
            reason,
        }
    };
    family.members().map(row).collect()
}

/// One moment on both clocks.
struct Moment {
    instant: Instant,
    system: SystemTime,
}

impl Moment {
    fn system_time(&self, instant: Instant) -> SystemTime {
        let ahead = instant.saturating_duration_since(self.instant);
        self.system + ahead - self.instant.saturating_duration_since(instant)
    }
}

/// Equal settings are shared, and shown once.
#[derive(Default)]
struct SeenVariables(HashMap<*const Params, Arc<Variables>>);

impl SeenVariables {
    /// `params` must live as long as this does.
    fn of(&mut self, params: &Rc<Params>) -> Arc<Variables> {
        let seen = self.0.entry(Rc::as_ptr(params));
        let value =
            |name: &[u8]| String::from_utf8_lossy(params.get(name).unwrap_or_default()).into();
        let variables = seen.or_insert_with(|| {
            Arc::new(Variables {
                client_encoding: value(b"client_encoding"),
                standard_conforming_strings: value(b"standard_conforming_strings"),
                datestyle: value(b"DateStyle"),
                timezone: value(b"TimeZone"),
            })
        });
        variables.clone()
    }
}

fn client_row(
    info: &ClientInfo,
    worker: usize,
    now: &Moment,
    seen: &mut SeenVariables,
) -> SocketRow<ClientState> {
    let params = info.params.get();
    let state = info.state.get();
    let link = info.link.get();
    let since = info.request_time.get();
    SocketRow {
        id: info.id,
        user: info.user().to_owned(),
        database: info.database().to_owned(),
        // Such a client always has a server connection.
        replication: link.as_ref().and_then(|server| server.replication),
        state,
        addr: info.peer.host(),
        port: info.peer.port(),
        local_addr: info.local.host(),
        local_port: info.local.port(),
        connect_time: info.connect_time(),
        request_time: now.system_time(since),
        wait: match state {
            ClientState::Waiting => now.instant.saturating_duration_since(since),
            _ => Duration::ZERO,
        },
        close_needed: false,
        pins: link
            .as_ref()
            .map_or(Features::empty(), |server| server.pins.get()),
        rest: link.as_ref().map_or(0, |server| server.client_rest.get()),
        link: link.map(|server| server.id),
        remote_pid: info.peer_pid,
        encryption: info.encryption(),
        application_name: params.as_ref().map_or(String::new(), application_name),
        variables: params.as_ref().map_or_else(Arc::default, |p| seen.of(p)),
        fd: info.descriptor(),
        prepared_statements: info.prepared_statements.get() as usize,
        channels: 0,
        worker,
        held: info.held.get(),
        unsent: info.unsent.get(),
    }
}

fn application_name(params: &Rc<Params>) -> String {
    let name = params.get(b"application_name").unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn server_row(info: &ServerInfo, worker: usize, now: &Moment) -> SocketRow<ServerState> {
    SocketRow {
        replication: info.replication,
        addr: info.peer.host(),
        port: info.peer.port(),
        local_addr: info.local.host(),
        local_port: info.local.port(),
        request_time: now.system_time(info.request_time.get()),
        close_needed: info.close_needed.get(),
        link: info.link.get(),
        remote_pid: info.key.as_ref().map_or(0, |key| key.pid as u32),
        encryption: info.encryption,
        prepared_statements: info.prepared_statements.get(),
        pins: info.pins.get(),
        worker,
        held: info.held.get(),
        unsent: info.unsent.get(),
        rest: info.rest.get(),
        fd: info.descriptor,
        ..SocketRow::new(info.id, info.state.get(), info.connect_time)
    }
}

/// One that is not open yet.
fn opening_row(opening: &Opening, config: &PoolConfig, worker: usize) -> SocketRow<ServerState> {
    let (addr, port) = match (opening.ends.get(), &opening.host) {
        (Some((peer, _)), _) => (peer.host(), peer.port()),
        (None, Host::Tcp { host, port }) => (host.clone(), *port),
        (None, Host::Unix { .. }) => (PeerAddr::Unix.host(), PeerAddr::Unix.port()),
    };
    let local = opening.ends.get().map(|(_, local)| local);
    SocketRow {
        user: config.user.to_string(),
        database: config.database.to_string(),
        replication: opening.replication,
        addr,
        port,
        local_addr: local.map_or(String::new(), |local| local.host()),
        local_port: local.map_or(0, |local| local.port()),
        worker,
        ..SocketRow::new(opening.id, ServerState::New, opening.since)
    }
}
