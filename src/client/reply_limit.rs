//! A limit on the memory that one reply may take, whatever the server sends.
//!
//! A parsed reply takes its bytes and a value for each of its elements, and each element has at least one line
//! on the wire: so bytes and line ends, counted as they arrive, bound the memory without a parser.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a value takes in memory besides its bytes.
const VALUE_SIZE: usize = size_of::<::redis::Value>();

/// First bytes of replies, in either version of the protocol.
const TYPES: &[u8] = b"+-:$*_,#!=(%~>|";

/// What the stream that receives replies tells: the memory that the present one takes, and why it broke.
#[derive(Debug, Clone)]
pub(super) struct ReplyLimit(Arc<Told>);

#[derive(Debug)]
struct Told {
    /// Memory that the present reply takes.
    memory: AtomicUsize,
    /// Most memory that it may take.
    limit: AtomicUsize,
    /// Whether it begins like no reply.
    foreign: AtomicBool,
    broke: OnceLock<String>,
}

impl ReplyLimit {
    /// A meter of what may come before a question is asked: an error reply.
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Told {
            memory: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            foreign: AtomicBool::new(false),
            broke: OnceLock::new(),
        }))
    }

    /// A new question is asked: its reply starts at 0 and may take as much as `limit`.
    pub(super) fn reset(&self, limit: usize) {
        self.0.memory.store(0, Ordering::Relaxed);
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether the present reply is larger than we take.
    pub(super) fn exceeded(&self) -> bool {
        self.0.memory.load(Ordering::Relaxed) > self.0.limit.load(Ordering::Relaxed)
    }

    /// Whether the present reply begins like no reply.
    pub(super) fn is_foreign(&self) -> bool {
        self.0.foreign.load(Ordering::Relaxed)
    }

    /// Why reading failed, if it did: whoever asks after that is only told that the connection is gone.
    pub(super) fn broke(&self) -> Option<&str> {
        self.0.broke.get().map(String::as_str)
    }

    fn add(&self, bytes: &[u8]) {
        let lines = memchr::memchr_iter(b'\n', bytes).count();
        let size = bytes.len().saturating_add(lines.saturating_mul(VALUE_SIZE));
        if self.0.memory.fetch_add(size, Ordering::Relaxed) == 0
            && let Some(first) = bytes.first()
        {
            self.0.foreign.store(!TYPES.contains(first), Ordering::Relaxed);
        }
    }
}

/// A stream whose incoming bytes are measured; over the limit, reading is an error.
#[derive(Debug)]
pub(super) struct LimitedReply<S> {
    stream: S,
    meter: ReplyLimit,
}

impl<S> LimitedReply<S> {
    pub(super) fn new(stream: S, meter: ReplyLimit) -> Self {
        Self { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LimitedReply<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for LimitedReply<S> {
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

    /// A limit for these tests.
    const LIMIT: usize = 1 << 20;

    #[tokio::test]
    async fn small_elements_weigh_what_they_take_in_memory() {
        let (mut server, client) = tokio::io::duplex(1 << 16);
        let meter = ReplyLimit::new(LIMIT);
        let mut metered = LimitedReply::new(client, meter.clone());
        tokio::spawn(async move { while server.write_all(&b":1\r\n".repeat(1000)).await.is_ok() {} });
        let mut received = 0;
        let mut buffer = vec![0; 4096];
        while let Ok(count) = metered.read(&mut buffer).await {
            received += count;
        }
        assert!(meter.exceeded());
        assert!(received < LIMIT / 10, "{received}");
        meter.reset(LIMIT);
        assert!(!meter.exceeded());
    }

    #[tokio::test]
    async fn a_reply_is_known_by_its_first_byte() {
        for (sent, foreign) in
            [("+PONG\r\n", false), ("*1\r\n+HTTP\r\n", false), ("HTTP/1.1 400 Bad Request\r\n", true)]
        {
            let meter = ReplyLimit::new(8);
            let mut metered = LimitedReply::new(sent.as_bytes(), meter.clone());
            while metered.read_u8().await.is_ok() {}
            assert!(meter.exceeded());
            assert_eq!(meter.is_foreign(), foreign, "{sent:?}");
        }
    }
}
