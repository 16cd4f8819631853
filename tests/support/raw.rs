use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::frontend::cstr;
use super::wait::PATIENCE;
use super::{Address, Frontend, tls};

/// A message from the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

/// An ErrorResponse or NoticeResponse: its fields by their letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub fields: BTreeMap<char, String>,
}

/// What came back for one request, up to ReadyForQuery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub messages: Vec<Message>,
}

/// The tags of messages in their order: `"12TDCZ"`.
pub fn tags(messages: &[Message]) -> String {
    messages.iter().map(|m| m.tag as char).collect()
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = &self.body[..self.body.len().min(200)];
        write!(f, "{}({})", self.tag as char, start.escape_ascii())
    }
}

impl Message {
    /// The body as text without its closing zero bytes.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.trim_end_matches('\0').to_owned()
    }

    /// The columns of a DataRow; `None` is NULL.
    pub fn columns(&self) -> Vec<Option<String>> {
        let mut columns = Vec::new();
        let mut rest = &self.body[2..];
        while !rest.is_empty() {
            let length = i32::from_be_bytes(rest[..4].try_into().expect("length"));
            rest = &rest[4..];
            if length < 0 {
                columns.push(None);
            } else {
                let (value, more) = rest.split_at(length as usize);
                columns.push(Some(String::from_utf8_lossy(value).into_owned()));
                rest = more;
            }
        }
        columns
    }

    /// The fields of an ErrorResponse or NoticeResponse.
    pub fn failure(&self) -> Failure {
        assert!(matches!(self.tag, b'E' | b'N'), "not an error: {self:?}");
        let fields = self
            .body
            .split(|b| *b == 0)
            .filter(|field| !field.is_empty())
            .map(|field| {
                let text = String::from_utf8_lossy(&field[1..]).into_owned();
                (field[0] as char, text)
            })
            .collect();
        Failure { fields }
    }

    /// A line of a transcript: of errors their code and text, of what tells about
    /// something else only the tag.
    pub fn line(&self) -> String {
        match self.tag {
            b'E' => {
                let error = self.failure();
                format!("E {} {}", error.sqlstate(), error.message())
            }
            b'D' => format!("D {:?}", self.columns()),
            b'C' => format!("C {}", self.text()),
            b'Z' => format!("Z{}", self.body[0] as char),
            tag => (tag as char).to_string(),
        }
    }

    /// The names in a RowDescription.
    pub fn column_names(&self) -> Vec<String> {
        assert_eq!(self.tag, b'T');
        let mut names = Vec::new();
        let mut rest = &self.body[2..];
        while !rest.is_empty() {
            let end = rest.iter().position(|b| *b == 0).expect("name");
            names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
            rest = &rest[end + 19..];
        }
        names
    }
}

impl Failure {
    pub fn severity(&self) -> &str {
        self.fields.get(&'S').map_or("", String::as_str)
    }

    pub fn sqlstate(&self) -> &str {
        self.fields.get(&'C').map_or("", String::as_str)
    }

    pub fn message(&self) -> &str {
        self.fields.get(&'M').map_or("", String::as_str)
    }

    pub fn detail(&self) -> &str {
        self.fields.get(&'D').map_or("", String::as_str)
    }
}

impl Answer {
    pub fn tags(&self) -> String {
        tags(&self.messages)
    }

    pub fn rows(&self) -> Vec<Vec<Option<String>>> {
        self.all(b'D').map(Message::columns).collect()
    }

    /// The first column of the first row.
    #[track_caller]
    pub fn value(&self) -> String {
        let row = self.rows().into_iter().next();
        row.and_then(|row| row.into_iter().next()?)
            .unwrap_or_else(|| panic!("no value in {:?}", self.messages))
    }

    /// The first column of every row, NULL as an empty text.
    pub fn column(&self) -> Vec<String> {
        let first = |row: Vec<Option<String>>| row.into_iter().next().flatten().unwrap_or_default();
        self.rows().into_iter().map(first).collect()
    }

    pub fn command_tags(&self) -> Vec<String> {
        self.all(b'C').map(Message::text).collect()
    }

    pub fn errors(&self) -> Vec<Failure> {
        self.all(b'E').map(Message::failure).collect()
    }

    /// The only error.
    #[track_caller]
    pub fn error(&self) -> Failure {
        let mut errors = self.errors();
        assert_eq!(errors.len(), 1, "one error expected: {:?}", self.messages);
        errors.remove(0)
    }

    /// The transaction status of ReadyForQuery: `I`, `T` or `E`.
    #[track_caller]
    pub fn status(&self) -> char {
        match self.messages.last() {
            Some(Message { tag: b'Z', body }) => body[0] as char,
            _ => panic!("no ReadyForQuery: {:?}", self.messages),
        }
    }

    fn all(&self, tag: u8) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |m| m.tag == tag)
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A client that sends what it is told and shows what comes, message by
/// message. Every read has a deadline.
#[derive(Debug)]
pub struct RawClient {
    stream: Stream,
    address: Address,
    buffer: Vec<u8>,
    start: usize,
    /// The ParameterStatus values seen so far.
    pub parameters: BTreeMap<String, String>,
    /// The body of BackendKeyData.
    pub key: Vec<u8>,
    /// What a login by SCRAM is to be bound to: the hash of a certificate.
    pub bound_to: Option<Vec<u8>>,
}

impl RawClient {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(address: &Address) -> RawClient {
        RawClient::try_connect(address).unwrap_or_else(|e| panic!("connect {address:?}: {e}"))
    }

    pub fn try_connect(address: &Address) -> io::Result<RawClient> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Stream::Tcp(stream)
            }
            Address::Unix(dir, port) => {
                let stream = UnixStream::connect(dir.join(format!(".s.PGSQL.{port}")))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Stream::Unix(stream)
            }
        };
        Ok(RawClient {
            stream,
            address: address.clone(),
            buffer: Vec::new(),
            start: 0,
            parameters: BTreeMap::new(),
            key: Vec::new(),
            bound_to: None,
        })
    }

    /// Connects and goes over to TLS, except at a Unix socket or if it is
    /// declined.
    pub fn try_connect_tls(address: &Address) -> io::Result<RawClient> {
        RawClient::try_connect(address)?.try_encrypt()
    }

    /// Goes over to TLS, except at a Unix socket or if it is declined.
    pub fn try_encrypt(mut self) -> io::Result<RawClient> {
        if let Stream::Tcp(socket) = &mut self.stream {
            socket.write_all(&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f])?;
            let mut answer = [0];
            socket.read_exact(&mut answer)?;
            if answer == *b"S" {
                let stream = tls::encrypt(socket.try_clone()?)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                self.stream = Stream::Unix(stream);
            }
        }
        Ok(self)
    }

    /// Connects and logs in without a password.
    #[track_caller]
    pub fn login(address: &Address, user: &str, database: &str) -> RawClient {
        RawClient::try_login(address, user, database, None)
            .unwrap_or_else(|e| panic!("login of {user} at {address:?}: {e:?}"))
    }

    /// Connects and logs in; an error of the server is an error here.
    pub fn try_login(
        address: &Address,
        user: &str,
        database: &str,
        password: Option<&str>,
    ) -> Result<RawClient, Failure> {
        let parameters = [("user", user), ("database", database)];
        RawClient::try_login_with(address, &parameters, password)
    }

    /// As [`RawClient::try_login`], with any startup parameters.
    pub fn try_login_with(
        address: &Address,
        parameters: &[(&str, &str)],
        password: Option<&str>,
    ) -> Result<RawClient, Failure> {
        let connect = match tls::everywhere() {
            true => RawClient::try_connect_tls,
            false => RawClient::try_connect,
        };
        let mut client = connect(address).map_err(|e| Failure {
            fields: BTreeMap::from([('M', e.to_string())]),
        })?;
        let startup = Frontend::new().startup((3, 0), parameters);
        client.try_send(&startup.bytes).map_err(|e| Failure {
            fields: BTreeMap::from([('M', e.to_string())]),
        })?;
        let user = parameters.iter().find(|(name, _)| *name == "user");
        client.finish_login(user.map_or("", |(_, user)| user), password)?;
        Ok(client)
    }

    /// What follows a startup packet, up to ReadyForQuery.
    pub fn finish_login(&mut self, user: &str, password: Option<&str>) -> Result<(), Failure> {
        loop {
            let Some(message) = self.read_or_end() else {
                let text = "connection closed during login".to_owned();
                return Err(Failure {
                    fields: BTreeMap::from([('M', text)]),
                });
            };
            match message.tag {
                b'E' => return Err(message.failure()),
                b'Z' => return Ok(()),
                b'R' => self.authenticate(&message.body, user, password),
                _ => {}
            }
        }
    }

    fn authenticate(&mut self, body: &[u8], user: &str, password: Option<&str>) {
        let method = u32::from_be_bytes(body[..4].try_into().expect("method"));
        if method == 0 {
            return;
        }
        let password = password.unwrap_or_else(|| panic!("password of {user} asked for"));
        match method {
            3 => self.send(&Frontend::new().password(&cstr(password))),
            5 => {
                let salt = body[4..8].try_into().expect("salt");
                let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                self.send(&Frontend::new().password(&cstr(&hash)));
            }
            10 => self.authenticate_scram(password),
            other => panic!("unexpected authentication request {other}"),
        }
    }

    /// SCRAM up to AuthenticationSASLFinal; a refusal is left to be read.
    fn authenticate_scram(&mut self, password: &str) {
        let (binding, mechanism) = match self.bound_to.clone() {
            None => (ChannelBinding::unsupported(), "SCRAM-SHA-256"),
            Some(hash) => (
                ChannelBinding::tls_server_end_point(hash),
                "SCRAM-SHA-256-PLUS",
            ),
        };
        let mut scram = ScramSha256::new(password.as_bytes(), binding);
        let mut first = cstr(mechanism);
        first.extend((scram.message().len() as u32).to_be_bytes());
        first.extend(scram.message());
        self.send(&Frontend::new().password(&first));
        let Some(challenge) = self.read_unless(b'E') else {
            return;
        };
        scram.update(&challenge.body[4..]).expect("server-first");
        let proof = scram.message().to_vec();
        self.send(&Frontend::new().password(&proof));
        if let Some(last) = self.read_unless(b'E') {
            scram.finish(&last.body[4..]).expect("server-final");
        }
    }

    /// The next message, unless it has this tag: then it stays unread.
    fn read_unless(&mut self, tag: u8) -> Option<Message> {
        while self.buffered().is_empty() {
            self.fill().ok().filter(|n| *n > 0)?;
        }
        if self.buffered()[0] == tag {
            return None;
        }
        Some(self.read())
    }

    /// Sends these messages.
    #[track_caller]
    pub fn send(&mut self, messages: &Frontend) {
        self.send_bytes(&messages.bytes);
    }

    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("send");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Sends from another thread, so that this one can read meanwhile.
    pub fn send_in_background(&self, messages: Frontend) -> JoinHandle<()> {
        let mut writer: Box<dyn Write + Send> = match &self.stream {
            Stream::Tcp(stream) => Box::new(stream.try_clone().expect("clone")),
            Stream::Unix(stream) => Box::new(stream.try_clone().expect("clone")),
        };
        std::thread::spawn(move || writer.write_all(&messages.bytes).expect("send"))
    }

    /// The next message. ParameterStatus and BackendKeyData are remembered too.
    #[track_caller]
    pub fn read(&mut self) -> Message {
        match self.read_or_end() {
            Some(message) => message,
            None => panic!("connection closed where a message was expected"),
        }
    }

    /// The next message, or `None` if the connection was closed before one.
    #[track_caller]
    pub fn read_or_end(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.take_message() {
                return Some(message);
            }
            match self.fill() {
                Ok(0) => {
                    let rest = self.buffered();
                    assert!(rest.is_empty(), "closed within {}", rest.escape_ascii());
                    return None;
                }
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no message came: {e}"),
            }
        }
    }

    /// Everything up to the end of the connection: whole messages, and the
    /// beginning of one that was not finished.
    #[track_caller]
    pub fn read_torn(&mut self) -> (Vec<Message>, Vec<u8>) {
        let mut messages = Vec::new();
        loop {
            messages.extend(std::iter::from_fn(|| self.take_message()));
            match self.fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
                Err(e) => panic!("no end came: {e}"),
            }
        }
        (messages, self.buffered().to_vec())
    }

    /// One byte outside of any message, as the answer to SSLRequest.
    #[track_caller]
    pub fn read_byte(&mut self) -> u8 {
        while self.buffered().is_empty() {
            assert_ne!(self.fill().expect("a byte"), 0, "closed");
        }
        self.start += 1;
        self.buffer[self.start - 1]
    }

    /// Everything up to and including the next message with this tag.
    #[track_caller]
    pub fn read_until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.read();
            let last = message.tag == tag;
            messages.push(message);
            if last {
                return messages;
            }
        }
    }

    /// Everything up to ReadyForQuery.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        Answer {
            messages: self.read_until(b'Z'),
        }
    }

    /// Sends and reads up to ReadyForQuery.
    #[track_caller]
    pub fn exchange(&mut self, messages: &Frontend) -> Answer {
        self.send(messages);
        self.answer()
    }

    /// Runs a simple query that must not fail.
    #[track_caller]
    pub fn query(&mut self, sql: &str) -> Answer {
        let answer = self.try_query(sql);
        assert!(answer.errors().is_empty(), "{sql}: {:?}", answer.errors());
        answer
    }

    /// Runs a simple query that may fail.
    #[track_caller]
    pub fn try_query(&mut self, sql: &str) -> Answer {
        self.exchange(&Frontend::new().query(sql))
    }

    /// The single value that a simple query returns.
    #[track_caller]
    pub fn value(&mut self, sql: &str) -> String {
        self.query(sql).value()
    }

    /// Reads what is left and returns it when the connection ends.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.read_or_end()).collect()
    }

    /// What it is told in the end, besides what it has asked for, by a pooler with
    /// an ini.
    #[track_caller]
    pub fn expect_end(&mut self) -> Failure {
        let messages = self.read_to_end();
        let error = messages.iter().find(|m| m.tag == b'E').expect("an error");
        let failure = error.failure();
        assert_eq!((failure.severity(), failure.sqlstate()), ("FATAL", "08P01"));
        failure
    }

    /// Whether nothing arrives for as long as this.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        if !self.buffered().is_empty() {
            return false;
        }
        self.set_read_timeout(time);
        let read = self.fill();
        self.set_read_timeout(PATIENCE);
        matches!(read, Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Asks the server to cancel what this client runs, over a connection of
    /// its own, and waits until that one is closed.
    pub fn cancel(&self) {
        RawClient::cancel_key(&self.address, &self.key);
    }

    /// Sends a CancelRequest with the body of a BackendKeyData.
    pub fn cancel_key(address: &Address, key: &[u8]) {
        let mut client = RawClient::connect(address);
        client.send(&Frontend::new().cancel(key));
        assert_eq!(client.read_to_end(), [], "a cancel request is not answered");
    }

    /// Ends what this side sends; reading goes on.
    pub fn shutdown_write(&mut self) {
        // An error says that the other side has closed already.
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Ends the connection, as dropping does.
    pub fn close(&mut self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Reads and throws away `count` bytes, whatever they are.
    #[track_caller]
    pub fn skip_bytes(&mut self, count: usize) {
        let mut left = count;
        loop {
            let taken = self.buffered().len().min(left);
            self.start += taken;
            left -= taken;
            if left == 0 {
                return;
            }
            assert_ne!(self.fill().expect("bytes"), 0, "closed, {left} bytes early");
        }
    }

    /// The tag and body length of the next message, whose body stays unread.
    #[track_caller]
    pub fn read_header(&mut self) -> (u8, usize) {
        while self.buffered().len() < 5 {
            assert_ne!(self.fill().expect("a header"), 0, "closed");
        }
        let (tag, length) = header(self.buffered()).expect("header");
        self.start += 5;
        (tag, length - 4)
    }

    fn take_message(&mut self) -> Option<Message> {
        let (tag, length) = header(self.buffered())?;
        let body = self.buffered().get(5..length + 1)?.to_vec();
        self.start += length + 1;
        if tag == b'S' {
            let mut texts = body.split(|b| *b == 0);
            let mut text = || String::from_utf8_lossy(texts.next().unwrap_or(&[])).into_owned();
            let (name, value) = (text(), text());
            self.parameters.insert(name, value);
        } else if tag == b'K' {
            self.key.clone_from(&body);
        }
        Some(Message { tag, body })
    }

    fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let mut chunk = [0; 65536];
        let count = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut chunk),
            Stream::Unix(stream) => stream.read(&mut chunk),
        }?;
        self.buffer.extend(&chunk[..count]);
        Ok(count)
    }

    fn set_read_timeout(&self, time: Duration) {
        let result = match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(time)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(time)),
        };
        result.expect("timeout");
    }
}

/// The tag and the length (which counts itself) at the start of these bytes.
fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let length = bytes.get(1..5)?.try_into().ok()?;
    let length = u32::from_be_bytes(length) as usize;
    assert!(length >= 4, "impossible length: {}", bytes.escape_ascii());
    Some((bytes[0], length))
}
