//! Response bodies whose bytes are shared by all clients that receive them.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::metrics::gzip::ChunkedText;

/// Maximum size of a frame, in bytes; each is a slice of the shared bytes.
const FRAME_BYTES: usize = 64 << 10;

/// Identity of a shared body, as a response extension. The connection table uses it to count the memory that slow
/// clients hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodyId {
    /// Address of the bytes, which distinguishes one body from another.
    pub(crate) address: usize,
    /// Length in bytes.
    pub(crate) length: usize,
    /// True if the body is compressed; each encoding is allocated and freed separately.
    pub(crate) gzip: bool,
}

/// Body of several byte strings, sent in order without copying. The total length is known in advance.
#[derive(Debug)]
pub(crate) struct SharedBody {
    parts: [Bytes; 3],
}

impl SharedBody {
    /// Creates a body from `parts`.
    pub(crate) fn new(parts: [Bytes; 3]) -> Self {
        Self { parts }
    }

    fn remaining(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(part) = self.parts.iter_mut().find(|part| !part.is_empty()) else {
            return Poll::Ready(None);
        };
        let length = part.len().min(FRAME_BYTES);
        Poll::Ready(Some(Ok(Frame::data(part.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.remaining()).unwrap_or(u64::MAX))
    }
}

/// Body of chunked texts, sent in order. Compressed as one gzip member, or decompressed chunk by chunk.
#[derive(Debug)]
pub(crate) struct ChunkedBody {
    parts: [Arc<ChunkedText>; 2],
    gzip: bool,
    position: Position,
    /// Number of bytes that have not been sent yet.
    remaining: usize,
}

/// Part of the body that is sent next.
#[derive(Debug, Clone, Copy)]
enum Position {
    Header,
    Chunk { part: usize, index: usize },
    Trailer,
    End,
}

impl ChunkedBody {
    /// Creates a body from `parts`.
    pub(crate) fn new(parts: [Arc<ChunkedText>; 2], gzip: bool) -> Self {
        let around = if gzip { ChunkedText::header().len() + ChunkedText::trailer(&parts).len() } else { 0 };
        let remaining = parts.iter().map(|part| part.length(gzip)).sum::<usize>().saturating_add(around);
        Self { parts, gzip, position: Position::Header, remaining }
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let (bytes, next) = match self.position {
                Position::Header => (
                    if self.gzip { ChunkedText::header() } else { Bytes::new() },
                    Position::Chunk { part: 0, index: 0 },
                ),
                Position::Chunk { part, index } => match self.parts.get(part) {
                    Some(chunks) if index < chunks.count() => {
                        (chunks.chunk(index, self.gzip)?, Position::Chunk { part, index: index + 1 })
                    }
                    Some(_) => (Bytes::new(), Position::Chunk { part: part + 1, index: 0 }),
                    None => (Bytes::new(), Position::Trailer),
                },
                Position::Trailer => {
                    (if self.gzip { ChunkedText::trailer(&self.parts) } else { Bytes::new() }, Position::End)
                }
                Position::End => return Ok(None),
            };
            self.position = next;
            if !bytes.is_empty() {
                self.remaining = self.remaining.saturating_sub(bytes.len());
                return Ok(Some(bytes));
            }
        }
    }
}

impl Body for ChunkedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.next().transpose().map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.remaining).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn all_parts_arrive_in_order_and_without_a_copy() {
        let first = Bytes::from(vec![b'a'; FRAME_BYTES + 10]);
        let then = Bytes::from_static(b"live");
        let mut body = SharedBody::new([first.clone(), Bytes::new(), then.clone()]);
        let mut cx = Context::from_waker(Waker::noop());
        let mut frames = Vec::new();
        assert_eq!(body.size_hint().exact(), Some(65_550));
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) {
            frames.push(frame.into_data().unwrap());
        }
        assert!(body.is_end_stream());
        let lengths: Vec<usize> = frames.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [FRAME_BYTES, 10, 4]);
        assert_eq!(frames[0].as_ptr(), first.as_ptr(), "a slice of the same allocation");
        assert_eq!(frames.concat(), [&first[..], &then[..]].concat());
    }

    #[test]
    fn empty_parts_are_an_empty_body() {
        let mut body = SharedBody::new(Default::default());
        assert!(body.is_end_stream());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(None)));
    }
}
