use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::wait::patiently;

/// A network on the way to a server, that can be cut: then nothing arrives any
/// more, nobody is told, and connects are not answered.
#[derive(Debug)]
pub struct Relay {
    pub port: u16,
    state: Arc<State>,
    /// They have taken every place where a connect could wait.
    fillers: Vec<Socket>,
}

#[derive(Debug, Default)]
struct State {
    cut: AtomicBool,
    over: AtomicBool,
}

const PAUSE: Duration = Duration::from_millis(5);

impl Relay {
    /// A way to 127.0.0.1 with this port.
    pub fn to(port: u16) -> Relay {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("bind");
        socket.listen(8).expect("listen");
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true).expect("nonblocking");
        let own = listener.local_addr().expect("address").port();
        let state = Arc::<State>::default();
        let shared = state.clone();
        thread::spawn(move || accept(&listener, port, &shared));
        Relay {
            port: own,
            state,
            fillers: Vec::new(),
        }
    }

    /// From now on nothing arrives.
    pub fn cut(&mut self) {
        self.state.cut.store(true, Ordering::SeqCst);
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        // Once the queue of the listener is full, the kernel drops what comes.
        patiently("connects are not answered", || {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
            let answered = filler
                .connect_timeout(&here.into(), Duration::from_millis(100))
                .is_ok();
            self.fillers.push(filler);
            (!answered).then_some(())
        });
    }

    /// What was under way arrives late.
    pub fn mend(&mut self) {
        self.fillers.clear();
        self.state.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
    }
}

impl State {
    /// Waits while the way is cut. False: the relay is gone.
    fn pass(&self) -> bool {
        while self.cut.load(Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
            thread::sleep(PAUSE);
        }
        !self.over.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, port: u16, state: &Arc<State>) {
    while state.pass() {
        let Ok((client, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        client.set_nonblocking(false).expect("blocking");
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
            continue;
        };
        let copies = (client.try_clone(), server.try_clone());
        let (Ok(from_client), Ok(from_server)) = copies else {
            continue;
        };
        for (from, to) in [(from_client, server), (from_server, client)] {
            let state = state.clone();
            thread::spawn(move || forward(from, to, &state));
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, state: &State) {
    from.set_read_timeout(Some(Duration::from_secs(1)))
        .and_then(|()| to.set_nodelay(true))
        .expect("options");
    let mut chunk = [0; 65536];
    loop {
        let read = from.read(&mut chunk);
        if !state.pass() {
            break;
        }
        match read {
            Ok(0) => break,
            Ok(n) if to.write_all(&chunk[..n]).is_ok() => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
