//! Write errors on connections that the TLS peer has closed.
//!
//! In TLS 1.3, the client completes the handshake before the server has checked the client certificate. If the server rejects the
//! certificate, writing fails with `Broken pipe` while the alert with the reason is still unread.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TLS stream that returns the peer's alert, if there is one, as the error of a failed write.
#[derive(Debug)]
pub(super) struct AlertStream<S>(pub(super) S);

impl<S: AsyncRead + Unpin> AlertStream<S> {
    /// Reads the peer's alert; returns `error` if there is none.
    fn alert_or(&mut self, error: io::Error, cx: &mut Context<'_>) -> io::Error {
        if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            return error;
        }
        let mut buffer = [0; 512];
        match Pin::new(&mut self.0).poll_read(cx, &mut ReadBuf::new(&mut buffer)) {
            // rustls reports alerts with this error kind.
            Poll::Ready(Err(alert)) if alert.kind() == io::ErrorKind::InvalidData => alert,
            _ => error,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AlertStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for AlertStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.0).poll_write(cx, bytes));
        Poll::Ready(written.map_err(|error| self.alert_or(error, cx)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.0).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.alert_or(error, cx)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A stream whose writes fail. It holds the result of the next read.
    struct Closed(Option<io::Error>);

    impl AsyncRead for Closed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(self.0.take().map_or(Ok(()), Err))
        }
    }

    impl AsyncWrite for Closed {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_alert_replaces_a_broken_pipe() {
        let alert = io::Error::new(io::ErrorKind::InvalidData, "received fatal alert: CertificateRequired");
        let error = AlertStream(Closed(Some(alert))).write_all(b"x").await.unwrap_err();
        assert!(error.to_string().contains("CertificateRequired"), "{error}");
        for silent in [None, Some(io::ErrorKind::ConnectionReset.into())] {
            let error = AlertStream(Closed(silent)).write_all(b"x").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
