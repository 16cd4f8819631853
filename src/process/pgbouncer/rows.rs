//! What PgBouncer says of its connections: the rows of SHOW FDS, each of which comes
//! with a descriptor. Columns are found by their names: later versions have more of
//! them.

use std::collections::{HashMap, HashSet};

use thiserror::Error;

use crate::auth::Masked;
use crate::auth::scram::Key;
use crate::server::login::BackendKey;
use crate::wire::names::split_nul;
use crate::wire::row::data_row;

/// What a process of PgBouncer has, sorted. `F` is a descriptor.
#[derive(Debug)]
pub struct Connections<F> {
    pub listeners: Vec<Listener<F>>,
    pub clients: Vec<Taken<F>>,
    /// Server connections that no client holds.
    pub servers: Vec<F>,
    /// So many were still logging in.
    pub newcomers: usize,
}

#[derive(Debug)]
pub struct Listener<F> {
    pub unix: bool,
    pub socket: F,
}

/// A client, and the server connection that it holds.
#[derive(Debug)]
pub struct Taken<F> {
    pub client: Client,
    pub socket: F,
    pub server: Option<Linked<F>>,
}

/// A server connection, and the key that cancels what it runs.
#[derive(Debug)]
pub struct Linked<F> {
    pub key: CancelKey,
    pub socket: F,
}

impl<F> Linked<F> {
    pub fn backend_key(&self) -> BackendKey {
        let [a, b, c, d, secret @ ..] = self.key;
        BackendKey {
            pid: i32::from_be_bytes([a, b, c, d]),
            secret: secret.to_vec(),
        }
    }
}

/// Process id and key, as a client sends them.
pub type CancelKey = [u8; 8];

/// A client as PgBouncer knows it.
#[derive(Debug)]
pub struct Client {
    pub database: String,
    pub user: String,
    pub key: CancelKey,
    /// Those of its settings that PgBouncer tells.
    pub settings: Vec<(&'static str, String)>,
    /// The secret of a user that is not in a list: it was looked up, or has just said it.
    pub password: Option<Masked>,
    /// What it has proved itself with: client and server key.
    pub scram_keys: Option<(Key, Key)>,
}

impl Client {
    /// The process id that it was told.
    pub fn pid(&self) -> u32 {
        let [a, b, c, d, ..] = self.key;
        u32::from_be_bytes([a, b, c, d])
    }

    /// What it was told to name with that.
    pub fn secret(&self) -> [u8; 4] {
        let [.., a, b, c, d] = self.key;
        [a, b, c, d]
    }
}

/// Not what PgBouncer would say.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Mistake {
    #[error("there is no column \"{0}\"")]
    NoColumn(&'static str),
    #[error("a row has no proper {0}")]
    Field(&'static str),
    #[error("a row is not understood")]
    Row,
    #[error("two sockets have the same number")]
    Twice,
    /// It is over TLS, or about to be closed.
    #[error("the server connection of a client in a transaction cannot be taken over")]
    Unpaired,
}

/// Settings: as SHOW FDS calls them, and as PostgreSQL does.
const SETTINGS: [(&str, &str); 4] = [
    ("client_encoding", "client_encoding"),
    ("std_strings", "standard_conforming_strings"),
    ("datestyle", "DateStyle"),
    ("timezone", "TimeZone"),
];

/// Where each column is.
#[derive(Debug)]
pub struct Columns(HashMap<Vec<u8>, usize>);

/// A row without its descriptor.
#[derive(Debug)]
pub struct Row {
    /// Its number in PgBouncer.
    fd: i64,
    task: Task,
}

#[derive(Debug)]
enum Task {
    Pooler { unix: bool },
    Newcomer,
    Client { client: Box<Client>, link: i64 },
    Server { key: CancelKey, link: i64 },
}

impl Columns {
    /// From the body of a RowDescription.
    pub fn read(body: &[u8]) -> Result<Columns, Mistake> {
        let (count, mut rest) = body.split_first_chunk::<2>().ok_or(Mistake::Row)?;
        let mut columns = HashMap::new();
        for at in 0..usize::from(u16::from_be_bytes(*count)) {
            let (name, after) = split_nul(rest).ok_or(Mistake::Row)?;
            columns.insert(name.to_vec(), at);
            // Table, column, type, size, modifier, format.
            rest = after.get(18..).ok_or(Mistake::Row)?;
        }
        Ok(Columns(columns))
    }

    /// One field of a DataRow, whichever table it is of.
    pub fn text(&self, body: &[u8], name: &'static str) -> Result<Option<String>, Mistake> {
        Fields(self, data_row(body).ok_or(Mistake::Row)?).text(name)
    }

    /// From the body of a DataRow.
    pub fn row(&self, body: &[u8]) -> Result<Row, Mistake> {
        let fields = data_row(body).ok_or(Mistake::Row)?;
        let fields = Fields(self, fields);
        let fd = fields.number("fd")?;
        let task = match fields.text("task")?.as_deref() {
            Some("pooler") => Task::Pooler {
                unix: fields.text("addr")?.as_deref() == Some("unix"),
            },
            Some("server") => Task::Server {
                key: fields.key()?,
                link: fields.number("link")?,
            },
            Some("client") => match (fields.text("database")?, fields.text("user")?) {
                (Some(database), Some(user)) => Task::Client {
                    client: Box::new(fields.client(database, user)?),
                    link: fields.number("link")?,
                },
                _ => Task::Newcomer,
            },
            _ => return Err(Mistake::Field("task")),
        };
        Ok(Row { fd, task })
    }
}

/// A row's fields.
struct Fields<'a>(&'a Columns, Vec<Option<Vec<u8>>>);

impl Fields<'_> {
    /// `None`: there is no such column.
    fn field(&self, name: &str) -> Option<Option<&[u8]>> {
        let at = *self.0.0.get(name.as_bytes())?;
        Some(self.1.get(at)?.as_deref())
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, Mistake> {
        let field = self.field(name).ok_or(Mistake::NoColumn(name))?;
        let text = field.map(|bytes| String::from_utf8(bytes.to_vec()));
        text.transpose().map_err(|_| Mistake::Field(name))
    }

    fn number(&self, name: &'static str) -> Result<i64, Mistake> {
        let text = self.text(name)?;
        let number = text.and_then(|text| text.parse().ok());
        number.ok_or(Mistake::Field(name))
    }

    /// Eight bytes as one number, in network order.
    fn key(&self) -> Result<CancelKey, Mistake> {
        let text = self.text("cancel")?;
        let number: Option<u64> = text.and_then(|text| text.parse().ok());
        Ok(number.ok_or(Mistake::Field("cancel"))?.to_be_bytes())
    }

    fn client(&self, database: String, user: String) -> Result<Client, Mistake> {
        let mut settings = Vec::new();
        for (column, name) in SETTINGS {
            settings.extend(self.text(column)?.map(|value| (name, value)));
        }
        // Not in all versions.
        let has = |name: &str| self.field(name).is_some();
        let password = match has("password") {
            true => self.text("password")?,
            false => None,
        };
        let keys = ["scram_client_key", "scram_server_key"].map(|name| match has(name) {
            true => self.bytes(name),
            false => Ok(None),
        });
        let [client_key, server_key] = keys;
        Ok(Client {
            database,
            user,
            key: self.key()?,
            settings,
            password: password.map(Masked::new),
            scram_keys: client_key?.zip(server_key?),
        })
    }

    /// A bytea of a key's length.
    fn bytes(&self, name: &'static str) -> Result<Option<Key>, Mistake> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let key = text.strip_prefix("\\x").and_then(unhex);
        let key = key.ok_or(Mistake::Field(name))?;
        Ok(Some(Key::new(key)))
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut digits = text.bytes().map(|digit| char::from(digit).to_digit(16));
    let mut bytes = [0; 32];
    for byte in &mut bytes {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    digits.next().is_none().then_some(bytes)
}

/// Who belongs to whom.
pub fn sort<F>(rows: Vec<(Row, F)>) -> Result<Connections<F>, Mistake> {
    let mut sorted = Connections {
        listeners: Vec::new(),
        clients: Vec::new(),
        servers: Vec::new(),
        newcomers: 0,
    };
    let mut clients = Vec::new();
    let mut linked = HashMap::new();
    let mut seen = HashSet::new();
    for (Row { fd, task }, socket) in rows {
        if !seen.insert(fd) {
            return Err(Mistake::Twice);
        }
        match task {
            Task::Pooler { unix } => sorted.listeners.push(Listener { unix, socket }),
            Task::Newcomer => sorted.newcomers += 1,
            Task::Client { client, link } => clients.push((fd, client, link, socket)),
            Task::Server { link: 0, .. } => sorted.servers.push(socket),
            Task::Server { key, link } => {
                linked.insert(fd, (link, Linked { key, socket }));
            }
        }
    }
    for (fd, client, link, socket) in clients {
        let server = match link {
            0 => None,
            link => match linked.remove(&link) {
                Some((back, server)) if back == fd => Some(server),
                _ => return Err(Mistake::Unpaired),
            },
        };
        sorted.clients.push(Taken {
            client: *client,
            socket,
            server,
        });
    }
    // Their clients are not told of.
    let lonely = linked.into_values().map(|(_, server)| server.socket);
    sorted.servers.extend(lonely);
    Ok(sorted)
}

#[cfg(test)]
mod tests;
