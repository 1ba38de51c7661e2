//! A reader that reads as much as has arrived, and keeps a buffer only for what its user has not taken yet.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Maximum number of bytes of one read.
const CHUNK: usize = 16 << 10;

/// Reads from `S` in large chunks, however small the buffers of its user are. A connection waits most of the time, so it has no
/// buffer then.
#[derive(Debug)]
pub(super) struct ChunkReader<S> {
    stream: S,
    /// Bytes that were read, and not taken.
    rest: Vec<u8>,
    /// Number of bytes of `rest` that were taken.
    taken: usize,
}

impl<S> ChunkReader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, rest: Vec::new(), taken: 0 }
    }

    /// Returns the stream, to write to it.
    pub(super) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> ChunkReader<S> {
    /// Takes all that has arrived if it is `expected`, without an allocation. Otherwise it is left for the next read, and the
    /// result is false; so it is at the end of the stream.
    pub(super) fn poll_take(&mut self, expected: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.rest.is_empty() {
            let mut bytes = [const { MaybeUninit::uninit() }; CHUNK];
            let mut chunk = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
            if chunk.filled() == expected {
                return Poll::Ready(Ok(true));
            }
            self.rest.extend_from_slice(chunk.filled());
        } else if self.rest.get(self.taken..) == Some(expected) {
            (self.rest, self.taken) = (Vec::new(), 0);
            return Poll::Ready(Ok(true));
        }
        Poll::Ready(Ok(false))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ChunkReader<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            let mut bytes = [const { MaybeUninit::uninit() }; CHUNK];
            let mut chunk = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
            let (now, rest) = chunk.filled().split_at(chunk.filled().len().min(buf.remaining()));
            buf.put_slice(now);
            self.rest.extend_from_slice(rest);
            return Poll::Ready(Ok(()));
        }
        let left = self.rest.get(self.taken..).unwrap_or_default();
        let now = left.get(..buf.remaining()).unwrap_or(left);
        buf.put_slice(now);
        self.taken = self.taken.saturating_add(now.len());
        if self.taken >= self.rest.len() {
            (self.rest, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn small_reads_take_a_chunk_and_nothing_is_kept_after_it() {
        let (mut server, client) = tokio::io::duplex(1 << 16);
        let mut reader = ChunkReader::new(client);
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(3 * CHUNK + 5).collect();
        server.write_all(&sent).await.unwrap();
        let mut received = vec![0; 7];
        reader.read_exact(&mut received).await.unwrap();
        assert_eq!(reader.rest.len(), CHUNK - 7, "one read took a chunk");
        while received.len() < sent.len() {
            received.push(reader.read_u8().await.unwrap());
        }
        assert_eq!(received, sent);
        assert_eq!(reader.rest.capacity(), 0);
        drop(server);
        assert_eq!(reader.read(&mut [0; 4]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn only_what_is_expected_is_taken_as_a_whole() {
        let (mut server, client) = tokio::io::duplex(1 << 10);
        let mut reader = ChunkReader::new(client);
        let take = |reader: &mut ChunkReader<_>| {
            reader.poll_take(b"+PONG\r\n", &mut Context::from_waker(std::task::Waker::noop()))
        };
        assert!(take(&mut reader).is_pending());
        server.write_all(b"+PONG\r\n").await.unwrap();
        assert!(matches!(take(&mut reader), Poll::Ready(Ok(true))));
        assert!(take(&mut reader).is_pending());
        // A part, two at once, and one that is preceded by something else.
        for (sent, first) in [("+PON", 1), ("+PONG\r\n+PONG\r\n", 7), (":1\r\n+PONG\r\n", 4)] {
            server.write_all(sent.as_bytes()).await.unwrap();
            assert!(matches!(take(&mut reader), Poll::Ready(Ok(false))));
            let mut received = vec![0; first];
            reader.read_exact(&mut received).await.unwrap();
            let rest = sent.get(first..).unwrap();
            let is_left = rest == "+PONG\r\n";
            assert!(matches!(take(&mut reader), Poll::Ready(Ok(taken)) if taken == is_left), "{sent:?}");
            let mut received = vec![0; if is_left { 0 } else { rest.len() }];
            reader.read_exact(&mut received).await.unwrap();
            assert_eq!(reader.rest.capacity(), 0);
        }
        drop(server);
        assert!(matches!(take(&mut reader), Poll::Ready(Ok(false))));
        assert_eq!(reader.read(&mut [0; 4]).await.unwrap(), 0);
    }
}
