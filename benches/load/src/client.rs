//! One client: login without a password, simple queries, goodbye.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// SSLRequest and version 3.0, manual section "Message Formats".
const SSL_REQUEST: u32 = 80_877_103;
const PROTOCOL: u32 = 196_608;
const BUFFER: usize = 2048;

/// Where clients connect to, and as whom.
pub struct Address {
    pub port: u16,
    pub user: String,
    pub database: String,
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub struct Client {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

impl Client {
    /// Connects and logs in. `suffix` is added to the database's name.
    pub async fn login(address: &Address, suffix: &str) -> Result<Client> {
        let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, address.port))
            .await
            .context("connect")?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &address.tls {
            None => Box::new(tcp),
            Some(config) => {
                tcp.write_all(&[8u32.to_be_bytes(), SSL_REQUEST.to_be_bytes()].concat())
                    .await?;
                if tcp.read_u8().await? != b'S' {
                    bail!("TLS was refused");
                }
                let name = ServerName::try_from("localhost")?;
                let connector = TlsConnector::from(config.clone());
                Box::new(connector.connect(name, tcp).await.context("TLS")?)
            }
        };
        let mut client = Client {
            stream,
            received: Vec::new(),
        };
        let parameters = format!(
            "user\0{}\0database\0{}{suffix}\0\0",
            address.user, address.database
        );
        let length = 8 + parameters.len() as u32;
        let startup = [
            &length.to_be_bytes()[..],
            &PROTOCOL.to_be_bytes()[..],
            parameters.as_bytes(),
        ];
        client.stream.write_all(&startup.concat()).await?;
        client.until_ready().await.context("login")?;
        Ok(client)
    }

    /// One simple query, to its ReadyForQuery. An error of the server is one.
    pub async fn query(&mut self, sql: &str) -> Result<()> {
        let mut message = Vec::with_capacity(sql.len() + 6);
        message.push(b'Q');
        message.extend_from_slice(&(5 + sql.len() as u32).to_be_bytes());
        message.extend_from_slice(sql.as_bytes());
        message.push(0);
        self.stream.write_all(&message).await?;
        self.until_ready().await
    }

    /// Terminate, and the end of the connection.
    pub async fn close(mut self) -> Result<()> {
        self.stream.write_all(b"X\0\0\0\x04").await?;
        Ok(self.stream.shutdown().await?)
    }

    async fn until_ready(&mut self) -> Result<()> {
        let mut chunk = [0; BUFFER];
        loop {
            while let Some((header, rest)) = self.received.split_first_chunk::<5>() {
                let [kind, length @ ..] = *header;
                let body = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                if rest.len() < body {
                    break;
                }
                if kind == b'E' {
                    bail!(
                        "error: {}",
                        String::from_utf8_lossy(&rest[..body]).replace('\0', " ")
                    );
                }
                if kind == b'R' && rest[..body] != [0; 4] {
                    bail!("a password is asked for");
                }
                self.received.drain(..5 + body);
                if kind == b'Z' {
                    // Waiting clients are many: they keep no buffer.
                    self.received = Vec::new();
                    return Ok(());
                }
            }
            match self.stream.read(&mut chunk).await? {
                0 => bail!("the connection was closed"),
                n => self.received.extend_from_slice(&chunk[..n]),
            }
        }
    }
}
