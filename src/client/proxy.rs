//! Clients that come through a load balancer which says whose connection it is.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use tokio::io::AsyncReadExt;

use super::startup::Failure;
use crate::config::Networks;
use crate::net::{Addresses, PeerAddr, Stream};
use crate::wire::build::Refusal;
use crate::wire::proxy::{self, Header, Progress};

/// Reads the header of a connection from one of these networks, and not a byte
/// beyond. `None`: the socket's own addresses hold. Not cancel safe.
pub(super) async fn told_addresses(
    stream: &mut Stream,
    peer: PeerAddr,
    networks: &Networks,
) -> Result<Option<Addresses>, Failure> {
    let peer = match peer {
        PeerAddr::Tcp(peer, _) if networks.contain(peer) => peer,
        _ => return Ok(None),
    };
    let mut header = Vec::new();
    loop {
        match proxy::read(&header) {
            Ok(Progress::Needs(more)) => {
                let have = header.len();
                // At most MAX_HEADER bytes in all.
                header.resize(have + more, 0);
                let read = stream.read(header.get_mut(have..).unwrap_or_default());
                match read.await? {
                    0 => return Err(Failure::Gone(ErrorKind::UnexpectedEof.into())),
                    read => header.truncate(have + read),
                }
            }
            Ok(Progress::Done(Header::Local)) => return Ok(None),
            Ok(Progress::Done(Header::Proxied {
                source,
                destination,
            })) => {
                return Ok(Some(Addresses {
                    peer: address(source),
                    local: address(destination),
                }));
            }
            Err(error) => {
                return Err(Refusal::fatal("08P01", error.to_string())
                    .hint(format!(
                        "Connections from {peer} must begin with one (proxy_protocol_networks)."
                    ))
                    .into());
            }
        }
    }
}

fn address((ip, port): (IpAddr, u16)) -> PeerAddr {
    PeerAddr::from(SocketAddr::new(ip, port))
}
