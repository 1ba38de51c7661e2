//! Why a TLS peer hung up.
//!
//! With TLS 1.3 a server looks at the client's certificate when the client takes the handshake for done already. Its refusal
//! is an alert that waits to be read, while writing fails with a bare `Broken pipe`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TLS stream that looks for an alert when it can't be written to any more.
#[derive(Debug)]
pub(super) struct TlsAlert<S>(pub(super) S);

impl<S: AsyncRead + Unpin> TlsAlert<S> {
    fn instead_of(&mut self, error: io::Error, cx: &mut Context<'_>) -> io::Error {
        if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            return error;
        }
        let mut space = [0; 512];
        match Pin::new(&mut self.0).poll_read(cx, &mut ReadBuf::new(&mut space)) {
            // That is what rustls makes of an alert.
            Poll::Ready(Err(alert)) if alert.kind() == io::ErrorKind::InvalidData => alert,
            _ => error,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TlsAlert<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsAlert<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.0).poll_write(cx, bytes));
        Poll::Ready(written.map_err(|error| self.instead_of(error, cx)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.0).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.instead_of(error, cx)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Can't be written to; what reading gives is given.
    struct Gone(Option<io::Error>);

    impl AsyncRead for Gone {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(self.0.take().map_or(Ok(()), Err))
        }
    }

    impl AsyncWrite for Gone {
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
    async fn an_alert_says_more_than_a_broken_pipe() {
        let alert = io::Error::new(io::ErrorKind::InvalidData, "received fatal alert: CertificateRequired");
        let told = TlsAlert(Gone(Some(alert))).write_all(b"x").await.unwrap_err();
        assert!(told.to_string().contains("CertificateRequired"), "{told}");
        for silent in [None, Some(io::ErrorKind::ConnectionReset.into())] {
            let told = TlsAlert(Gone(silent)).write_all(b"x").await.unwrap_err();
            assert_eq!(told.kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
