//! One client: login by trust or SCRAM, simple queries, goodbye.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::scram::{Exchange, Secret};

/// SSLRequest and version 3.0, manual section "Message Formats".
const SSL_REQUEST: u32 = 80_877_103;
const PROTOCOL: u32 = 196_608;
/// Authentication requests, the same section.
const AUTHENTICATION_SASL: u32 = 10;
const AUTHENTICATION_SASL_CONTINUE: u32 = 11;
const AUTHENTICATION_SASL_FINAL: u32 = 12;
const BUFFER: usize = 2048;

/// Where clients connect to, and as whom.
pub struct Address {
    pub port: u16,
    pub user: String,
    pub database: String,
    pub tls: Option<Arc<rustls::ClientConfig>>,
    pub secret: Secret,
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
        client.prove(&address.secret).await.context("login")?;
        client.until_ready().await.context("login")?;
        Ok(client)
    }

    /// Answers what is asked for, until that is nothing more.
    async fn prove(&mut self, secret: &Secret) -> Result<()> {
        let mut exchange = None;
        loop {
            let (kind, body) = self.message().await?;
            let (code, rest) = match body.split_first_chunk::<4>() {
                Some((code, rest)) if kind == b'R' => (u32::from_be_bytes(*code), rest),
                _ => bail!("{} instead of a request", char::from(kind)),
            };
            let answer = match code {
                0 => return Ok(()),
                AUTHENTICATION_SASL => {
                    let first = exchange.insert(Exchange::begin()).first();
                    let length = (first.len() as u32).to_be_bytes();
                    [&b"SCRAM-SHA-256\0"[..], &length, first.as_bytes()].concat()
                }
                AUTHENTICATION_SASL_CONTINUE => {
                    let exchange = exchange.as_ref().context("SASL goes on before it began")?;
                    exchange.last(secret, std::str::from_utf8(rest)?)?.into()
                }
                AUTHENTICATION_SASL_FINAL => continue,
                code => bail!("authentication request {code} is not answered here"),
            };
            self.stream.write_all(&message(b'p', &answer)).await?;
        }
    }

    /// One simple query, to its ReadyForQuery. An error of the server is one.
    pub async fn query(&mut self, sql: &str) -> Result<()> {
        let query = [sql.as_bytes(), b"\0"].concat();
        self.stream.write_all(&message(b'Q', &query)).await?;
        self.until_ready().await
    }

    /// Terminate, and the end of the connection.
    pub async fn close(mut self) -> Result<()> {
        self.stream.write_all(b"X\0\0\0\x04").await?;
        Ok(self.stream.shutdown().await?)
    }

    async fn until_ready(&mut self) -> Result<()> {
        while self.message().await?.0 != b'Z' {}
        // Waiting clients are many: they keep no buffer.
        self.received = Vec::new();
        Ok(())
    }

    /// The next message; an error is one.
    async fn message(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut chunk = [0; BUFFER];
        loop {
            if let Some((header, rest)) = self.received.split_first_chunk::<5>() {
                let [kind, length @ ..] = *header;
                let length = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                if let Some(body) = rest.get(..length) {
                    let body = body.to_vec();
                    if kind == b'E' {
                        bail!(
                            "error: {}",
                            String::from_utf8_lossy(&body).replace('\0', " ")
                        );
                    }
                    self.received.drain(..5 + length);
                    return Ok((kind, body));
                }
            }
            match self.stream.read(&mut chunk).await? {
                0 => bail!("the connection was closed"),
                n => self.received.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (4 + body.len() as u32).to_be_bytes();
    [&[kind][..], &length, body].concat()
}
