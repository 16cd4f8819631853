use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

/// Where a PostgreSQL server or a pooler listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// The directory that holds the socket, and the port in the socket's name.
    Unix(PathBuf, u16),
}

impl Address {
    /// 127.0.0.1 with this port.
    pub fn local(port: u16) -> Address {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// libpq's `host`.
    pub fn host(&self) -> String {
        match self {
            Address::Tcp(address) => address.ip().to_string(),
            Address::Unix(dir, _) => dir.display().to_string(),
        }
    }

    /// libpq's `port`.
    pub fn port(&self) -> u16 {
        match self {
            Address::Tcp(address) => address.port(),
            Address::Unix(_, port) => *port,
        }
    }
}

/// A port that was free a moment ago, below the range from which the kernel
/// takes ports for outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time start at different places.
    let offset = (std::process::id() % 97) as u16 * 120;
    for _ in 0..12_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (offset + step) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 32000");
}
