//! The least that a transaction pooler can be, to show what the kernel alone
//! takes: no pooler with one server connection per transaction and TCP on both
//! sides does with less than its system calls.
//!
//! What a turn of its loop has to send it sends at the end, one after the other, since
//! that takes the kernel less time than sends with receives between them; with
//! `--io-uring` by one system call.
//!
//! Of the protocol it knows that a server is free when its bytes end in
//! ReadyForQuery `I`, and that `X` is a goodbye. Clients are those of pgbench:
//! one request at a time, read as fast as it is answered, gone between
//! transactions. Any other is the end of it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use clap::Parser;
use io_uring::{IoUring, opcode, types};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// ReadyForQuery outside of a transaction, manual section "Message Formats".
const READY: &[u8] = b"Z\0\0\0\x05I";
const PROTOCOL: u32 = 196_608;
/// So many are sent at once.
const LETTERS: u32 = 128;
const LISTENER: Token = Token(usize::MAX - 1);

#[derive(Parser)]
#[command(version)]
struct Args {
    #[arg(long)]
    port: u16,
    /// PostgreSQL's port, on the loopback interface.
    #[arg(long)]
    server: u16,
    #[arg(long)]
    user: String,
    #[arg(long)]
    database: String,
    #[arg(long, default_value_t = 20)]
    connections: usize,
    /// Send all of a turn by one system call.
    #[arg(long)]
    io_uring: bool,
}

struct Client {
    stream: TcpStream,
    welcome: bool,
    /// The server connection that works for it.
    server: Option<usize>,
    waits: bool,
}

struct Relay {
    poll: Poll,
    /// Each with the client that it works for. Tokens are positions here, and
    /// those of clients come after.
    servers: Vec<(TcpStream, Option<usize>)>,
    idle: Vec<usize>,
    clients: Vec<Option<Client>>,
    /// Clients whose request is unread yet, the longest waiting first.
    waiting: VecDeque<usize>,
    /// What a server said at its login, which is what each client hears.
    welcome: Vec<u8>,
    buffer: Box<[u8]>,
    /// What is to be sent at the end of the turn, and to whom up to where.
    posted: Vec<u8>,
    letters: Vec<(Peer, usize)>,
    ring: Option<IoUring>,
}

#[derive(Clone, Copy)]
enum Peer {
    Client(usize),
    Server(usize),
}

fn main() -> Result<()> {
    let args = Args::parse();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let mut listener = TcpListener::bind(address).context("listen")?;
    let mut relay = Relay::new(&args)?;
    let registry = relay.poll.registry();
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    loop {
        relay.poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => relay.accept(&listener)?,
                Token(server) if server < relay.servers.len() => relay.answer(server)?,
                Token(token) => relay.ask(token - relay.servers.len())?,
            }
        }
        relay.send()?;
    }
}

impl Relay {
    fn new(args: &Args) -> Result<Relay> {
        let mut relay = Relay {
            poll: Poll::new()?,
            servers: Vec::new(),
            idle: (0..args.connections).collect(),
            clients: Vec::new(),
            waiting: VecDeque::new(),
            welcome: Vec::new(),
            buffer: vec![0; 16 * 1024].into(),
            posted: Vec::new(),
            letters: Vec::new(),
            ring: match args.io_uring {
                true => Some(IoUring::new(LETTERS).context("io_uring")?),
                false => None,
            },
        };
        for server in 0..args.connections {
            let (mut stream, welcome) = log_in(args).context("login to the server")?;
            let registry = relay.poll.registry();
            registry.register(&mut stream, Token(server), Interest::READABLE)?;
            relay.servers.push((stream, None));
            relay.welcome = welcome;
        }
        Ok(relay)
    }

    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        while let Some((mut stream, _)) = unless_empty(listener.accept())? {
            stream.set_nodelay(true)?;
            let free = self.clients.iter().position(Option::is_none);
            let slot = free.unwrap_or(self.clients.len());
            let token = Token(self.servers.len() + slot);
            let registry = self.poll.registry();
            registry.register(&mut stream, token, Interest::READABLE)?;
            self.clients
                .resize_with(self.clients.len().max(slot + 1), || None);
            self.clients[slot] = Some(Client {
                stream,
                welcome: false,
                server: None,
                waits: false,
            });
        }
        Ok(())
    }

    /// A client has something to say.
    fn ask(&mut self, client: usize) -> Result<()> {
        let Some(found) = &mut self.clients[client] else {
            return Ok(());
        };
        if !found.welcome {
            if let Some(n) = unless_empty(found.stream.read(&mut self.buffer))? {
                found.welcome = true;
                match n {
                    0 => self.clients[client] = None,
                    _ => found.stream.write_all(&self.welcome)?,
                }
            }
        } else if let Some(server) = found.server {
            self.forward(client, server)?;
        } else if let Some(server) = self.idle.pop() {
            if !self.forward(client, server)? {
                self.idle.push(server);
            }
        } else if !found.waits {
            found.waits = true;
            self.waiting.push_back(client);
        }
        Ok(())
    }

    /// From the client to the server. Whether there was something.
    fn forward(&mut self, client: usize, server: usize) -> Result<bool> {
        let Some(found) = &mut self.clients[client] else {
            return Ok(false);
        };
        found.waits = false;
        let mut any = false;
        while let Some(n) = unless_empty(found.stream.read(&mut self.buffer))? {
            if n == 0 || self.buffer[0] == b'X' {
                if found.server.is_some() {
                    bail!("a client has left in the middle");
                }
                self.clients[client] = None;
                return Ok(false);
            }
            self.posted.extend_from_slice(&self.buffer[..n]);
            self.letters.push((Peer::Server(server), self.posted.len()));
            any = true;
            // Less than there was room for: the next bytes come with an event.
            if n < self.buffer.len() {
                break;
            }
        }
        if any {
            found.server = Some(server);
            self.servers[server].1 = Some(client);
        }
        Ok(any)
    }

    /// From the server to its client.
    fn answer(&mut self, server: usize) -> Result<()> {
        let (stream, client) = &mut self.servers[server];
        while let Some(n) = unless_empty(stream.read(&mut self.buffer))? {
            let Some(known) = *client else {
                bail!("a server that nobody has asked says something, or has gone");
            };
            if n == 0 {
                bail!("a server has gone");
            }
            let bytes = &self.buffer[..n];
            self.posted.extend_from_slice(bytes);
            let letter = (Peer::Client(known), self.posted.len());
            self.letters.push(letter);
            if bytes.ends_with(READY) {
                if let Some(found) = &mut self.clients[known] {
                    found.server = None;
                }
                *client = None;
                return self.free(server);
            }
            if n < self.buffer.len() {
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        if let Some(mut ring) = self.ring.take() {
            self.send_by(&mut ring)?;
            self.ring = Some(ring);
            return Ok(());
        }
        let mut begin = 0;
        for (peer, end) in self.letters.drain(..) {
            let bytes = &self.posted[begin..end];
            begin = end;
            match peer {
                Peer::Server(server) => self.servers[server].0.write_all(bytes)?,
                Peer::Client(client) => {
                    if let Some(found) = &mut self.clients[client] {
                        found.stream.write_all(bytes)?;
                    }
                }
            }
        }
        self.posted.clear();
        Ok(())
    }

    #[allow(unsafe_code)]
    fn send_by(&mut self, ring: &mut IoUring) -> Result<()> {
        let mut begin = 0;
        for letters in self.letters.chunks(LETTERS as usize) {
            let mut open = 0;
            for &(peer, end) in letters {
                let bytes = &self.posted[begin..end];
                begin = end;
                let file = match peer {
                    Peer::Server(server) => Some(self.servers[server].0.as_raw_fd()),
                    Peer::Client(client) => {
                        let found = self.clients[client].as_ref();
                        found.map(|found| found.stream.as_raw_fd())
                    }
                };
                let Some(file) = file else { continue };
                let send = opcode::Send::new(types::Fd(file), bytes.as_ptr(), bytes.len() as u32);
                let send = send.build().user_data(bytes.len() as u64);
                // SAFETY: sockets that do not block are done with it when the call below
                // returns, and an error there ends the process.
                unsafe { ring.submission().push(&send)? };
                open += 1;
            }
            ring.submit_and_wait(open)?;
            for sent in ring.completion() {
                if sent.result() as u64 != sent.user_data() {
                    bail!(
                        "a socket has taken {} of {}",
                        sent.result(),
                        sent.user_data()
                    );
                }
            }
        }
        self.letters.clear();
        self.posted.clear();
        Ok(())
    }

    fn free(&mut self, server: usize) -> Result<()> {
        while let Some(client) = self.waiting.pop_front() {
            if self.forward(client, server)? {
                return Ok(());
            }
        }
        self.idle.push(server);
        Ok(())
    }
}

fn unless_empty<T>(result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A connection without a password, and all that the server said.
fn log_in(args: &Args) -> Result<(TcpStream, Vec<u8>)> {
    let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, args.server))?;
    stream.set_nodelay(true)?;
    let parameters = format!("user\0{}\0database\0{}\0\0", args.user, args.database);
    let length = 8 + parameters.len() as u32;
    stream.write_all(
        &[
            &length.to_be_bytes(),
            &PROTOCOL.to_be_bytes(),
            parameters.as_bytes(),
        ]
        .concat(),
    )?;
    let mut said = Vec::new();
    while !said.ends_with(READY) {
        let mut chunk = [0; 2048];
        match stream.read(&mut chunk)? {
            0 => bail!(
                "refused: {}",
                String::from_utf8_lossy(&said).replace('\0', " ")
            ),
            n => said.extend_from_slice(&chunk[..n]),
        }
    }
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream), said))
}
