//! Limit on the memory of a reply.
//!
//! A parsed reply takes the memory of its bytes and of one value per element, and each element has at least one line on the wire.
//! Counting bytes and line ends as they arrive therefore bounds the memory without a second parser.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::reply_budget::{BUDGET, FREE, ReplyBudget, Share};
use super::tls_error;

/// Memory of a parsed value in addition to its bytes.
const VALUE_SIZE: usize = size_of::<::redis::Value>();

/// Memory of a reply while it is being read, as a multiple of its size: the read buffer grows to twice its contents, and the value
/// is copied from it.
const WHILE_READ: usize = 3;

/// Maximum number of bytes kept from the first line of a reply.
const MAX_LINE: usize = 256;

/// Time to wait for unread data after a write has failed.
const UNREAD_DATA_LIMIT: Duration = Duration::from_millis(500);

/// First byte of an error reply.
const ERROR: u8 = b'-';

/// Possible first bytes of a reply in RESP2 and RESP3.
const TYPES: &[u8] = b"+-:$*_,#!=(%~>|";

/// Limit and state of the current reply, shared by the stream and the connection that owns it.
#[derive(Debug, Clone)]
pub(super) struct ReplyLimit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Memory of the current reply, bytes.
    memory: AtomicUsize,
    /// Maximum memory of the current reply, bytes.
    limit: AtomicUsize,
    /// True if the first byte can't begin a reply.
    foreign: AtomicBool,
    /// First read error.
    read_error: OnceLock<String>,
    /// True if sent data was not acknowledged in time.
    unacknowledged: AtomicBool,
    /// True if the current reply is an error or foreign; no bytes are kept from other replies.
    keeps_bytes: AtomicBool,
    /// First bytes of the current reply, at most [`MAX_LINE`].
    first_bytes: Mutex<Vec<u8>>,
    /// Budget shared with all other replies.
    budget: &'static ReplyBudget,
    share: Arc<Share>,
}

impl ReplyLimit {
    /// Creates a limit for bytes that arrive before the first command.
    pub(super) fn new(limit: usize) -> Self {
        Self::within(limit, &BUDGET)
    }

    /// Like [`Self::new`], with this budget.
    pub(super) fn within(limit: usize, budget: &'static ReplyBudget) -> Self {
        Self(Arc::new(Inner {
            memory: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            foreign: AtomicBool::new(false),
            read_error: OnceLock::new(),
            unacknowledged: AtomicBool::new(false),
            keeps_bytes: AtomicBool::new(false),
            first_bytes: Mutex::default(),
            budget,
            share: Arc::default(),
        }))
    }

    /// Begins a new reply with this limit.
    pub(super) fn reset(&self, limit: usize) {
        self.complete();
        // A dropped reply remains dropped: the connection is no longer usable.
        if !self.is_dropped() {
            self.0.memory.store(0, Ordering::Relaxed);
        }
        if self.0.keeps_bytes.load(Ordering::Relaxed) {
            self.0.keeps_bytes.store(false, Ordering::Relaxed);
            self.0.first_bytes.lock().clear();
        }
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// Records that the current reply is complete and no longer counts against the budget.
    pub(super) fn complete(&self) {
        if let Some(share) = self.share() {
            self.0.budget.release(share);
        }
    }

    /// True if the current reply was dropped because the replies of all servers exceed the budget.
    pub(super) fn is_dropped(&self) -> bool {
        self.share().is_some_and(|share| share.is_dropped())
    }

    /// Returns the current reply's share of the budget; `None` if the reply is too small to count. Nearly all replies are, so the
    /// memory of the share is not touched for them.
    fn share(&self) -> Option<&Arc<Share>> {
        (while_read(self.0.memory.load(Ordering::Relaxed)) > FREE).then_some(&self.0.share)
    }

    /// True if the current reply exceeds its limit.
    pub(super) fn is_exceeded(&self) -> bool {
        self.0.memory.load(Ordering::Relaxed) > self.0.limit.load(Ordering::Relaxed)
    }

    /// True if the current reply does not begin like a Redis reply.
    pub(super) fn is_foreign(&self) -> bool {
        self.0.foreign.load(Ordering::Relaxed)
    }

    /// True if the current reply begins like that of an HTTP server: with a status line or an HTML page.
    pub(super) fn is_http(&self) -> bool {
        let first = self.0.first_bytes.lock().to_ascii_lowercase();
        [&b"http/"[..], b"<!doctype html", b"<html"].iter().any(|start| first.starts_with(start))
    }

    /// Returns the first read error. Later commands on the connection fail only with a broken pipe.
    pub(super) fn read_error(&self) -> Option<&str> {
        self.0.read_error.get().map(String::as_str)
    }

    /// True if sent data was not acknowledged in time.
    pub(super) fn is_unacknowledged(&self) -> bool {
        self.0.unacknowledged.load(Ordering::Relaxed)
    }

    /// Returns the error line that begins the current reply, without its `-`. If the connection is then closed, this line states
    /// the reason, which the client library does not report.
    pub(super) fn error_line(&self) -> Option<String> {
        let bytes = self.0.first_bytes.lock();
        let line = bytes.strip_prefix(&[ERROR])?;
        let end = memchr::memchr2(b'\r', b'\n', line).unwrap_or(line.len());
        Some(String::from_utf8_lossy(line.get(..end)?).into_owned())
    }

    /// Records a write error if it means that sent data was not acknowledged.
    fn write_failed(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::TimedOut {
            self.0.unacknowledged.store(true, Ordering::Relaxed);
        }
    }

    /// Counts received bytes.
    fn add(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let lines = memchr::memchr_iter(b'\n', bytes).count();
        let size = bytes.len().saturating_add(lines.saturating_mul(VALUE_SIZE));
        let before = self.0.memory.fetch_add(size, Ordering::Relaxed);
        if before == 0
            && let Some(first) = bytes.first()
        {
            let is_foreign = !TYPES.contains(first);
            self.0.foreign.store(is_foreign, Ordering::Relaxed);
            self.0.keeps_bytes.fetch_or(is_foreign || *first == ERROR, Ordering::Relaxed);
        }
        if self.0.keeps_bytes.load(Ordering::Relaxed) {
            let mut first = self.0.first_bytes.lock();
            let room = MAX_LINE.saturating_sub(first.len());
            first.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        }
        if let Some(share) = self.share() {
            self.0.budget.count(share, while_read(before.saturating_add(size)));
        }
    }
}

/// Returns the memory of an incomplete reply of this size.
const fn while_read(size: usize) -> usize {
    size.saturating_mul(WHILE_READ)
}

/// A stream that counts its incoming bytes. Reading fails once a reply exceeds its limit.
///
/// A server that refuses a connection sends the reason and closes it, often before the first command is written. The client library
/// would drop a reply that precedes the first command, and would not read after a failed write. Reading therefore begins with the
/// first write, and a failed write is reported by the read that finds no more data.
#[derive(Debug)]
pub(super) struct LimitedStream<S> {
    stream: S,
    limit: ReplyLimit,
    /// True after the first write.
    has_written: bool,
    /// Reader waiting for the first write.
    reader: Option<Waker>,
    /// Write error, and the time limit for reading the remaining data.
    write_error: Option<(io::Error, Pin<Box<Sleep>>)>,
}

impl<S> Drop for LimitedStream<S> {
    fn drop(&mut self) {
        self.limit.0.budget.closed(&self.limit.0.share);
    }
}

impl<S> LimitedStream<S> {
    pub(super) fn new(stream: S, limit: ReplyLimit) -> Self {
        Self { stream, limit, has_written: false, reader: None, write_error: None }
    }

    /// Records that a command is being written; replies are read from now on.
    fn begin(&mut self) {
        self.has_written = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Keeps a write error until the remaining data has been read.
    fn defer(&mut self, error: io::Error) {
        self.limit.write_failed(&error);
        self.write_error.get_or_insert_with(|| (error, Box::pin(sleep(UNREAD_DATA_LIMIT))));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LimitedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.has_written {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.limit.share().is_some_and(|share| self.limit.0.budget.has_to_pause(share)) {
            // The tasks of dropped replies have already been woken.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let mut result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some((error, limit)) = &mut self.write_error {
            let is_over = match &result {
                Poll::Ready(result) => result.is_err() || buf.filled().len() == before,
                Poll::Pending => limit.as_mut().poll(cx).is_ready(),
            };
            if is_over && !matches!(result, Poll::Ready(Err(_))) {
                result = Poll::Ready(Err(io::Error::new(error.kind(), error.to_string())));
            }
        }
        if let Poll::Ready(Err(error)) = &result {
            self.limit.0.read_error.get_or_init(|| tls_error::text(error));
        }
        if let Some(new) = buf.filled().get(before..) {
            self.limit.add(new);
        }
        if self.limit.is_exceeded() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the reply is too large")));
        }
        if result.is_pending()
            && let Some(share) = self.limit.share()
        {
            share.wake_on_drop(cx.waker());
        }
        if self.limit.is_dropped() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, "the reply was dropped")));
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LimitedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.begin();
        if self.write_error.is_some() {
            return Poll::Ready(Ok(bytes.len()));
        }
        match ready!(Pin::new(&mut self.stream).poll_write(cx, bytes)) {
            Ok(written) => Poll::Ready(Ok(written)),
            Err(error) => {
                self.defer(error);
                Poll::Ready(Ok(bytes.len()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_error.is_some() {
            return Poll::Ready(Ok(()));
        }
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_flush(cx)) {
            self.defer(error);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMIT: usize = 1 << 20;

    #[tokio::test]
    async fn small_elements_count_with_their_size_in_memory() {
        let (mut server, client) = tokio::io::duplex(1 << 16);
        let limit = ReplyLimit::new(LIMIT);
        let mut stream = LimitedStream::new(client, limit.clone());
        tokio::spawn(async move { while server.write_all(&b":1\r\n".repeat(1000)).await.is_ok() {} });
        stream.begin();
        let mut received = 0;
        let mut buffer = vec![0; 4096];
        while let Ok(count) = stream.read(&mut buffer).await {
            received += count;
        }
        assert!(limit.is_exceeded());
        assert!(received < LIMIT / 10, "{received}");
        limit.reset(LIMIT);
        assert!(!limit.is_exceeded());
    }

    #[tokio::test]
    async fn a_reply_without_progress_is_dropped_when_another_one_needs_its_memory() {
        let budget: &ReplyBudget = Box::leak(Box::new(ReplyBudget::new(LIMIT)));
        let (mut idle, client) = tokio::io::duplex(1 << 20);
        let limit = ReplyLimit::within(LIMIT, budget);
        let mut stream = LimitedStream::new(client, limit.clone());
        stream.begin();
        idle.write_all(&vec![b'x'; LIMIT / 4]).await.unwrap();
        let reading = tokio::spawn(async move {
            let mut bytes = Vec::new();
            (stream.read_to_end(&mut bytes).await, bytes.len())
        });
        while limit.0.memory.load(Ordering::Relaxed) < LIMIT / 4 {
            tokio::task::yield_now().await;
        }
        let other = ReplyLimit::within(LIMIT, budget);
        other.add(&vec![b'x'; LIMIT / 4]);
        assert!(limit.is_dropped() && !limit.is_exceeded() && !other.is_dropped());
        let (result, length) = reading.await.unwrap();
        assert_eq!((result.unwrap_err().kind(), length), (io::ErrorKind::OutOfMemory, LIMIT / 4));
        // A reply that is complete, or whose connection is closed, no longer counts.
        other.complete();
        for _ in 0..10 {
            let next = ReplyLimit::within(LIMIT, budget);
            let stream = LimitedStream::new(tokio::io::empty(), next.clone());
            next.add(&vec![b'x'; LIMIT / 3 - 1000]);
            assert!(!next.is_dropped());
            drop(stream);
        }
    }

    #[tokio::test]
    async fn a_reply_is_recognised_by_its_first_byte() {
        for (sent, foreign) in
            [("+PONG\r\n", false), ("*1\r\n+HTTP\r\n", false), ("HTTP/1.1 400 Bad Request\r\n", true)]
        {
            let limit = ReplyLimit::new(8);
            let mut stream = LimitedStream::new(sent.as_bytes(), limit.clone());
            stream.begin();
            while stream.read_u8().await.is_ok() {}
            assert!(limit.is_exceeded());
            assert_eq!((limit.is_foreign(), limit.is_http()), (foreign, foreign), "{sent:?}");
        }
    }
}
