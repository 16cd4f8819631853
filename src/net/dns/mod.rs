//! Names of hosts: looked up beside the workers, remembered for all of them.

mod cache;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use thiserror::Error;
use tokio::sync::{Notify, Semaphore};
use tracing::{info, warn};

use cache::{Cache, Step};
pub use cache::{DnsHost, Ttl};

/// Names that are looked up at the same time; others wait. A name server that
/// does not answer keeps a thread for some seconds.
const LOOKUPS: usize = 16;

/// Why a name has no address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct LookupError(Arc<str>);

type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;
type Gone = dyn Fn(&str, &[SocketAddr]) + Send + Sync;

/// The process's names. Ports are 0 in all that it gives.
pub struct Dns {
    cache: Mutex<(Cache, Ttl)>,
    /// Some answer has come.
    learned: Notify,
    threads: Semaphore,
    lookup: Box<Lookup>,
    /// Told of addresses that a name does not have any more.
    gone: Box<Gone>,
}

impl Dns {
    /// By the system's own means: `/etc/hosts`, name servers, or whatever
    /// nsswitch.conf says.
    pub fn system(
        ttl: Ttl,
        gone: impl Fn(&str, &[SocketAddr]) + Send + Sync + 'static,
    ) -> Arc<Dns> {
        let lookup = |name: &str| Ok((name, 0).to_socket_addrs()?.collect());
        Dns::new(ttl, lookup, gone)
    }

    fn new(
        ttl: Ttl,
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        gone: impl Fn(&str, &[SocketAddr]) + Send + Sync + 'static,
    ) -> Arc<Dns> {
        Arc::new(Dns {
            cache: Mutex::new((Cache::default(), ttl)),
            learned: Notify::new(),
            threads: Semaphore::new(LOOKUPS),
            lookup: Box::new(lookup),
            gone: Box::new(gone),
        })
    }

    /// For answers that come from now on.
    pub fn set_ttl(&self, ttl: Ttl) {
        self.lock().1 = ttl;
    }

    /// The addresses of a name in the order in which they are to be tried, at
    /// least one; an IP address is its own. Must be called inside a runtime. Cancel
    /// safe: a look-up that has begun goes on, for others.
    pub async fn resolve(self: &Arc<Self>, name: &str) -> Result<Vec<SocketAddr>, LookupError> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, 0)]);
        }
        let mut asked = false;
        loop {
            let mut learned = pin!(self.learned.notified());
            // From here on an answer is not missed.
            learned.as_mut().enable();
            let step = match asked {
                false => self.lock().0.ask(name, Instant::now()),
                true => self.lock().0.learned(name),
            };
            match step {
                Step::Use(addresses) => return Ok(addresses),
                Step::Fail(reason) => return Err(LookupError(reason)),
                Step::LookUp => drop(tokio::spawn(self.clone().look_up(name.to_owned()))),
                Step::Wait => {}
            }
            learned.await;
            asked = true;
        }
    }

    async fn look_up(self: Arc<Self>, name: String) {
        let _thread = self.threads.acquire().await;
        let (dns, asked) = (self.clone(), name.clone());
        let answer = tokio::task::spawn_blocking(move || (dns.lookup)(&asked)).await;
        let answer = match answer {
            Ok(Ok(addresses)) if addresses.is_empty() => Err("it has no address".to_owned()),
            Ok(Ok(mut addresses)) => {
                let mut seen = Vec::new();
                addresses.retain(|address| {
                    let new = !seen.contains(address);
                    seen.push(*address);
                    new
                });
                Ok(addresses)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("BUG: the look-up panicked".to_owned()),
        };
        if let Err(reason) = &answer {
            warn!(host = name, reason, "DNS lookup failed");
        }
        let gone = {
            let (cache, ttl) = &mut *self.lock();
            cache.learn(&name, answer, Instant::now(), *ttl)
        };
        if !gone.is_empty() {
            let addresses: Vec<_> = gone.iter().map(|gone| gone.ip().to_string()).collect();
            let addresses = addresses.join(",");
            info!(
                host = name,
                gone = addresses,
                "the name has other addresses now"
            );
            (self.gone)(&name, &gone);
        }
        self.learned.notify_waiters();
    }

    /// What SHOW DNS_HOSTS shows.
    pub fn hosts(&self) -> Vec<DnsHost> {
        self.lock().0.hosts(Instant::now())
    }

    /// How many names there are, and how many of them are being looked up.
    pub fn counts(&self) -> (usize, usize) {
        self.lock().0.counts()
    }

    fn lock(&self) -> MutexGuard<'_, (Cache, Ttl)> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dns").field(&self.lock().0).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    const TTL: Ttl = Ttl {
        found: Duration::from_secs(60),
        failed: Duration::from_secs(60),
    };

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 0))
    }

    #[tokio::test]
    async fn many_who_ask_together_cause_one_look_up() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let lookup = move |name: &str| {
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(50));
            match name {
                "db" => Ok(vec![address(1), address(1)]),
                _ => Err(io::Error::other("never heard of it")),
            }
        };
        let dns = Dns::new(TTL, lookup, |_, _| panic!("nothing has gone"));
        let ask = |name| {
            let dns = dns.clone();
            tokio::spawn(async move { dns.resolve(name).await })
        };
        let all: Vec<_> = (0..20).map(|n| ask(["db", "other"][n % 2])).collect();
        for (n, answer) in all.into_iter().enumerate() {
            let expected = match n % 2 {
                0 => Ok(vec![address(1)]),
                _ => Err(LookupError("never heard of it".into())),
            };
            assert_eq!(answer.await.unwrap(), expected);
        }
        assert_eq!(count.load(Ordering::SeqCst), 2);
        let shown: Vec<_> = dns.hosts().into_iter().map(|host| host.addresses).collect();
        assert_eq!(shown, [vec![address(1)], vec![]]);
        assert_eq!(dns.counts(), (2, 0));
    }

    #[tokio::test]
    async fn who_gives_up_does_not_stop_the_look_up() {
        let lookup = |_: &str| {
            std::thread::sleep(Duration::from_millis(50));
            Ok(vec![address(1)])
        };
        let dns = Dns::new(TTL, lookup, |_, _| ());
        let soon = Duration::from_millis(5);
        assert!(tokio::time::timeout(soon, dns.resolve("db")).await.is_err());
        assert_eq!(dns.resolve("db").await, Ok(vec![address(1)]));
    }

    #[tokio::test]
    async fn without_a_ttl_each_asks_anew_and_changes_are_told() {
        let count = AtomicUsize::new(0);
        let lookup = move |_: &str| {
            let last = count.fetch_add(1, Ordering::SeqCst);
            Ok(vec![address(last as u8)])
        };
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        let gone = move |name: &str, gone: &[SocketAddr]| {
            assert_eq!(name, "db");
            tell.lock().unwrap().extend_from_slice(gone);
        };
        let dns = Dns::new(Ttl::default(), lookup, gone);
        for last in 0..3 {
            assert_eq!(dns.resolve("db").await, Ok(vec![address(last)]));
        }
        assert_eq!(*told.lock().unwrap(), [address(0), address(1)]);
        dns.set_ttl(TTL);
        assert_eq!(dns.resolve("db").await, Ok(vec![address(3)]));
        assert_eq!(dns.resolve("db").await, Ok(vec![address(3)]));
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        let dns = Dns::new(TTL, |name| panic!("{name}"), |_, _| ());
        for address in ["10.0.0.1", "::1"] {
            let expected = SocketAddr::new(address.parse().unwrap(), 0);
            assert_eq!(dns.resolve(address).await, Ok(vec![expected]));
        }
        assert_eq!(dns.counts(), (0, 0));
    }

    #[tokio::test]
    async fn the_system_knows_itself_and_not_what_cannot_be() {
        let dns = Dns::system(TTL, |_, _| ());
        let addresses = dns.resolve("localhost").await.unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
        // RFC 6761: never a name.
        assert!(dns.resolve("no-such-host.invalid").await.is_err());
    }
}
