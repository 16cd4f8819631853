//! Bytes that a slow peer has not taken yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// What could not be written at once. Owns memory only while there is
/// something in it; most connections never have any.
#[derive(Debug, Default)]
pub struct Outgoing(Option<Box<Rest>>);

#[derive(Debug, Default)]
struct Rest {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes that are kept.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            None => 0,
            Some(rest) => rest.bytes.len() - rest.sent,
        }
    }

    /// Writes `bytes` now as far as the socket takes them, and keeps the rest.
    /// What was kept before goes first.
    pub fn write<W: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut W,
        cx: &mut Context<'_>,
        mut bytes: &[u8],
    ) -> io::Result<()> {
        if self.poll_flush(socket, cx)?.is_ready() {
            while !bytes.is_empty() {
                match Pin::new(&mut *socket).poll_write(cx, bytes)? {
                    Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(n) => bytes = bytes.get(n..).unwrap_or_default(),
                    Poll::Pending => break,
                }
            }
        }
        if !bytes.is_empty() {
            let rest = self.0.get_or_insert_default();
            rest.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Ready when nothing is left. Cancel safe.
    #[inline]
    pub fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0 {
            None => Poll::Ready(Ok(())),
            Some(_) => self.poll_rest(socket, cx),
        }
    }

    fn poll_rest<W: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(rest) = &mut self.0 else {
            return Poll::Ready(Ok(()));
        };
        while let Some(left) = rest.bytes.get(rest.sent..).filter(|left| !left.is_empty()) {
            match ready!(Pin::new(&mut *socket).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => rest.sent += n,
            }
        }
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}
