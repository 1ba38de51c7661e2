//! A limit on the memory that one reply may take, whatever the server sends.
//!
//! A parsed reply takes its bytes and a value for each of its elements, and each element has at least one line
//! on the wire: so bytes and line ends, counted as they arrive, bound the memory without a parser.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most memory that one reply may take: some thousand slow log entries with all their arguments.
pub(super) const REPLY_LIMIT: usize = 16 << 20;

/// What a value takes in memory besides its bytes.
const VALUE_SIZE: usize = size_of::<::redis::Value>();

/// What the stream that receives replies tells: the memory that the present one takes, and why it broke.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    memory: AtomicUsize,
    broke: OnceLock<String>,
}

impl Meter {
    /// A new question is asked: its reply starts at 0.
    pub(super) fn reset(&self) {
        self.0.memory.store(0, Ordering::Relaxed);
    }

    /// Whether the present reply is larger than we take.
    pub(super) fn exceeded(&self) -> bool {
        self.0.memory.load(Ordering::Relaxed) > REPLY_LIMIT
    }

    /// Why reading failed, if it did: whoever asks after that is only told that the connection is gone.
    pub(super) fn broke(&self) -> Option<&str> {
        self.0.broke.get().map(String::as_str)
    }

    fn add(&self, bytes: &[u8]) {
        let lines = memchr::memchr_iter(b'\n', bytes).count();
        let size = bytes.len().saturating_add(lines.saturating_mul(VALUE_SIZE));
        self.0.memory.fetch_add(size, Ordering::Relaxed);
    }
}

/// A stream whose incoming bytes are measured; over the limit, reading is an error.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    meter: Meter,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, meter: Meter) -> Self {
        Self { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &result {
            self.meter.0.broke.get_or_init(|| error.to_string());
        }
        if let Some(new) = buf.filled().get(before..) {
            self.meter.add(new);
        }
        if self.meter.exceeded() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the reply is too large")));
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn small_elements_weigh_what_they_take_in_memory() {
        let (mut server, client) = tokio::io::duplex(1 << 16);
        let meter = Meter::default();
        let mut metered = Metered::new(client, meter.clone());
        tokio::spawn(async move { while server.write_all(&b":1\r\n".repeat(1000)).await.is_ok() {} });
        let mut received = 0;
        let mut buffer = vec![0; 4096];
        while let Ok(count) = metered.read(&mut buffer).await {
            received += count;
        }
        assert!(meter.exceeded());
        assert!(received < REPLY_LIMIT / 10, "{received}");
        meter.reset();
        assert!(!meter.exceeded());
    }
}
