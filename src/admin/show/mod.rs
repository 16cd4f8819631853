//! The SHOW commands: one file per family, each a function from a snapshot to
//! a table. Column names, their order and their types are PgBouncer 1.25's;
//! tools read them by name, and some by position.

mod config;
mod databases;
mod dns;
mod fds;
mod hosts;
mod lists;
mod mem;
mod peers;
mod pools;
mod sockets;
mod stats;
mod users;

use super::snapshot::Snapshot;
use super::table::{Column, Table, Type, row};
use super::view::ConsoleView;

pub use stats::totals_by_database;

/// The console's own database, as it appears beside the others. It has one
/// pool, of the user of the same name.
pub const CONSOLE: &str = "pgbouncer";

/// What SHOW can show as a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    ActiveSockets,
    Clients,
    Config,
    Databases,
    DnsHosts,
    DnsZones,
    Fds,
    Hosts,
    Lists,
    Mem,
    PeerPools,
    Peers,
    Pools,
    Servers,
    Sockets,
    State,
    Stats,
    StatsAverages,
    StatsTotals,
    Totals,
    Users,
    Version,
}

impl Show {
    /// Every table.
    pub const ALL: [Show; 22] = [
        Show::ActiveSockets,
        Show::Clients,
        Show::Config,
        Show::Databases,
        Show::DnsHosts,
        Show::DnsZones,
        Show::Fds,
        Show::Hosts,
        Show::Lists,
        Show::Mem,
        Show::PeerPools,
        Show::Peers,
        Show::Pools,
        Show::Servers,
        Show::Sockets,
        Show::State,
        Show::Stats,
        Show::StatsAverages,
        Show::StatsTotals,
        Show::Totals,
        Show::Users,
        Show::Version,
    ];

    /// The word after SHOW.
    pub fn word(self) -> &'static str {
        match self {
            Show::ActiveSockets => "ACTIVE_SOCKETS",
            Show::Clients => "CLIENTS",
            Show::Config => "CONFIG",
            Show::Databases => "DATABASES",
            Show::DnsHosts => "DNS_HOSTS",
            Show::DnsZones => "DNS_ZONES",
            Show::Fds => "FDS",
            Show::Hosts => "HOSTS",
            Show::Lists => "LISTS",
            Show::Mem => "MEM",
            Show::PeerPools => "PEER_POOLS",
            Show::Peers => "PEERS",
            Show::Pools => "POOLS",
            Show::Servers => "SERVERS",
            Show::Sockets => "SOCKETS",
            Show::State => "STATE",
            Show::Stats => "STATS",
            Show::StatsAverages => "STATS_AVERAGES",
            Show::StatsTotals => "STATS_TOTALS",
            Show::Totals => "TOTALS",
            Show::Users => "USERS",
            Show::Version => "VERSION",
        }
    }

    /// The table of this name, in any case.
    pub fn from_word(word: &str) -> Option<Show> {
        Show::ALL
            .into_iter()
            .find(|show| show.word().eq_ignore_ascii_case(word))
    }

    /// Whether PgBouncer refuses it to those who may only look.
    pub fn admin_only(self) -> bool {
        self == Show::Fds
    }

    /// Whether the workers must be asked; the rest stands in the view.
    pub fn needs_snapshot(self) -> bool {
        !matches!(
            self,
            Show::Config | Show::DnsHosts | Show::DnsZones | Show::State | Show::Version
        )
    }

    /// The table. What does not need a snapshot ignores it.
    pub fn table<'a>(self, snapshot: &'a Snapshot, view: &'a ConsoleView) -> Table<'a> {
        match self {
            Show::ActiveSockets => sockets::active_sockets(snapshot),
            Show::Clients => sockets::clients(snapshot),
            Show::Config => config::config(view),
            Show::Databases => databases::databases(snapshot, view),
            Show::DnsHosts => dns::hosts(view),
            Show::DnsZones => dns::zones(),
            Show::Fds => fds::fds(snapshot, view),
            Show::Hosts => hosts::hosts(snapshot),
            Show::Lists => lists::lists(snapshot, view),
            Show::Mem => mem::mem(snapshot, view),
            Show::PeerPools => peers::peer_pools(snapshot),
            Show::Peers => peers::peers(snapshot),
            Show::Pools => pools::pools(snapshot),
            Show::Servers => sockets::servers(snapshot),
            Show::Sockets => sockets::sockets(snapshot),
            Show::State => config::state(view),
            Show::Stats => stats::stats(snapshot, view),
            Show::StatsAverages => stats::averages(snapshot, view),
            Show::StatsTotals => stats::totals(snapshot),
            Show::Totals => stats::sums(snapshot, view),
            Show::Users => users::users(snapshot, view),
            Show::Version => version(),
        }
    }
}

fn version() -> Table<'static> {
    const COLUMNS: [Column; 1] = [("version", Type::Text)];
    Table {
        columns: &COLUMNS,
        rows: vec![row![super::version()]],
    }
}

#[cfg(test)]
mod tests;
