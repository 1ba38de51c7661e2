//! Wrappers around a connection's socket and response bodies that record write progress in its [`ConnectionState`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body as AxumBody, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::ConnectionState;

/// Socket that records each write and each completed flush.
#[derive(Debug)]
pub(crate) struct ProgressStream<S> {
    stream: S,
    state: Arc<ConnectionState>,
}

impl<S> ProgressStream<S> {
    /// Wraps `stream`, the socket of the connection with `state`.
    pub(crate) fn new(stream: S, state: Arc<ConnectionState>) -> Self {
        Self { stream, state }
    }

    fn record(&self, result: io::Result<usize>) -> Poll<io::Result<usize>> {
        if result.is_ok() {
            self.state.written();
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ProgressStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ProgressStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.record(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the socket only after it has written its own buffers.
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.state.flushed();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.record(written)
    }

    /// Forwarded so that hyper writes bodies without copying them into its own buffer.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Response body that records when it is dropped, either after hyper has taken all of it or early.
#[derive(Debug)]
pub(crate) struct ProgressBody {
    body: AxumBody,
    state: Arc<ConnectionState>,
}

impl ProgressBody {
    /// Wraps `body`, a response on the connection with `state`.
    pub(crate) fn new(body: AxumBody, state: Arc<ConnectionState>) -> Self {
        Self { body, state }
    }
}

impl Body for ProgressBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ProgressBody {
    fn drop(&mut self) {
        self.state.body_queued();
    }
}
