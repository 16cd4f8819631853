use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that mean something; see `process::run`. They are kept from the moment
/// they are installed.
pub struct Signals {
    pub hup: Signal,
    pub int: Signal,
    pub term: Signal,
    pub quit: Signal,
    pub usr1: Signal,
    pub usr2: Signal,
}

impl Signals {
    pub fn install() -> std::io::Result<Signals> {
        Ok(Signals {
            hup: signal(SignalKind::hangup())?,
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }
}
