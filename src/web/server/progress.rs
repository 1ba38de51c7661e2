//! A connection's socket and bodies, watched: what its client takes is noted in its [`Slot`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body as AxumBody, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::Slot;

/// A socket that notes when its client takes something, and when it has taken all.
#[derive(Debug)]
pub(crate) struct ProgressStream<S> {
    stream: S,
    slot: Arc<Slot>,
}

impl<S> ProgressStream<S> {
    /// Watches `stream` for `slot`.
    pub(crate) fn new(stream: S, slot: Arc<Slot>) -> Self {
        Self { stream, slot }
    }

    fn note(&self, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        if written.is_ok() {
            self.slot.took();
        }
        Poll::Ready(written)
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
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Only called when all that was handed over has been written.
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.slot.took_all();
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
        self.note(written)
    }

    /// Without this the server would copy every body into a buffer of its own.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A body that notes when all of it has been handed to the connection (or it is not wanted any more).
#[derive(Debug)]
pub(crate) struct ProgressBody {
    body: AxumBody,
    slot: Arc<Slot>,
}

impl ProgressBody {
    /// Watches `body` for `slot`.
    pub(crate) fn new(body: AxumBody, slot: Arc<Slot>) -> Self {
        Self { body, slot }
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
        self.slot.handed();
    }
}
