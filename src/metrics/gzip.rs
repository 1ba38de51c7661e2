//! Gzip compression in independent parts that together form one ordinary gzip member. For the text of a few targets, a short part
//! that is compressed for each response is followed by a long part that is compressed once and shared. The text of many targets
//! is compressed in chunks.

use std::io::{self, Read as _, Write as _};

use axum::body::Bytes;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// Compression level. A higher level takes much more time and saves little for metrics and JSON.
const LEVEL: u32 = 2;

/// Uncompressed length of a chunk, in bytes. The encoder's window is 64 KiB. If a chunk exceeds it, the encoder's 192 KiB of hash
/// tables are shifted, which takes half of the compression time.
pub(crate) const CHUNK_BYTES: usize = 60 << 10;

/// Compression level of chunks, which contain the text of many targets, with lines that differ little.
const CHUNK_LEVEL: u32 = 1;

/// Final block of deflate data, without content.
const FINAL_BLOCK: [u8; 2] = [0x03, 0x00];

/// Header of a gzip member: deflate, no name, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Compressed part of a text, without references to an earlier part.
#[derive(Debug)]
pub(crate) struct Part {
    /// Deflate data.
    pub(crate) bytes: Bytes,
    /// Checksum and length of the uncompressed text.
    crc: Crc,
}

impl Part {
    /// Compresses the first part of a text. The result begins with the gzip header.
    pub(crate) fn first(text: &[u8]) -> io::Result<Self> {
        let mut bytes = Vec::from(HEADER);
        if !text.is_empty() {
            let mut encoder = DeflateEncoder::new(bytes, Compression::new(LEVEL));
            encoder.write_all(text)?;
            // The data ends at a byte boundary, without a final block. Data written when the encoder is dropped is discarded.
            encoder.flush()?;
            bytes = std::mem::take(encoder.get_mut());
        }
        Ok(Self::new(bytes, text))
    }

    /// Compresses the last part of a text.
    pub(crate) fn last(text: &[u8]) -> io::Result<Self> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(LEVEL));
        encoder.write_all(text)?;
        Ok(Self::new(encoder.finish()?, text))
    }

    fn new(mut bytes: Vec<u8>, text: &[u8]) -> Self {
        // The part may be cached for a long time.
        bytes.shrink_to_fit();
        let mut crc = Crc::new();
        crc.update(text);
        Self { bytes: bytes.into(), crc }
    }

    /// Returns the end of the gzip member that consists of this part and `last`.
    pub(crate) fn trailer(&self, last: &Self) -> Bytes {
        let mut crc = Crc::new();
        crc.combine(&self.crc);
        crc.combine(&last.crc);
        Bytes::from([crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat())
    }
}

/// Compresses a whole text.
pub(crate) fn whole(text: &[u8]) -> io::Result<Bytes> {
    let (first, last) = (Part::first(&[])?, Part::last(text)?);
    let trailer = first.trailer(&last);
    Ok(Bytes::from([first.bytes, last.bytes, trailer].concat()))
}

/// Text in chunks. Only the compressed form is kept in memory.
#[derive(Debug, Default)]
pub(crate) struct ChunkedText {
    /// Deflate data without references to another chunk.
    chunks: Vec<Bytes>,
    /// Checksum and length of the uncompressed text.
    crc: Crc,
    /// Length of the uncompressed text, bytes.
    plain: usize,
    /// Length of the chunks, bytes.
    compressed: usize,
}

impl ChunkedText {
    /// Appends another text.
    pub(crate) fn append(&mut self, other: Self) {
        self.crc.combine(&other.crc);
        self.plain = self.plain.saturating_add(other.plain);
        self.compressed = self.compressed.saturating_add(other.compressed);
        self.chunks.extend(other.chunks);
    }

    /// Number of chunks.
    pub(crate) fn count(&self) -> usize {
        self.chunks.len()
    }

    /// Length in bytes, compressed or not, without header and trailer.
    pub(crate) fn length(&self, gzip: bool) -> usize {
        if gzip { self.compressed } else { self.plain }
    }

    /// Returns a chunk, compressed or not.
    pub(crate) fn chunk(&self, index: usize, gzip: bool) -> io::Result<Bytes> {
        let Some(chunk) = self.chunks.get(index) else { return Ok(Bytes::new()) };
        if gzip {
            return Ok(chunk.clone());
        }
        // A chunk has no final block.
        let data = chunk.as_ref().chain(&FINAL_BLOCK[..]);
        let mut plain = Vec::with_capacity(CHUNK_BYTES);
        DeflateDecoder::new(data).read_to_end(&mut plain)?;
        Ok(plain.into())
    }

    /// Returns the header of a gzip member.
    pub(crate) fn header() -> Bytes {
        Bytes::from_static(&HEADER)
    }

    /// Returns the end of a gzip member that consists of these texts.
    pub(crate) fn trailer(parts: &[impl AsRef<Self>]) -> Bytes {
        let mut crc = Crc::new();
        for part in parts {
            crc.combine(&part.as_ref().crc);
        }
        Bytes::from([&FINAL_BLOCK[..], &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat())
    }
}

/// Compressor of texts into chunks.
#[derive(Debug)]
pub(crate) struct Chunker {
    encoder: DeflateEncoder<Vec<u8>>,
}

impl Chunker {
    pub(crate) fn new() -> Self {
        Self { encoder: DeflateEncoder::new(Vec::new(), Compression::new(CHUNK_LEVEL)) }
    }

    /// Compresses `text` and appends it to `chunks`.
    pub(crate) fn add(&mut self, text: &[u8], chunks: &mut ChunkedText) -> io::Result<()> {
        for plain in text.chunks(CHUNK_BYTES) {
            self.encoder.write_all(plain)?;
            // The data ends at a byte boundary, without a final block.
            self.encoder.flush()?;
            let mut bytes = std::mem::take(self.encoder.get_mut());
            bytes.shrink_to_fit();
            // The final block that this writes is discarded.
            self.encoder.reset(Vec::new())?;
            let mut crc = Crc::new();
            crc.update(plain);
            chunks.crc.combine(&crc);
            chunks.plain = chunks.plain.saturating_add(plain.len());
            chunks.compressed = chunks.compressed.saturating_add(bytes.len());
            chunks.chunks.push(bytes.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;

    fn plain(gzip: &[u8]) -> Vec<u8> {
        let (mut decoder, mut text) = (GzDecoder::new(gzip), Vec::new());
        decoder.read_to_end(&mut text).unwrap();
        assert!(decoder.into_inner().is_empty(), "one member and nothing after it");
        text
    }

    #[test]
    fn parts_make_one_text() {
        let long = "a line of metrics that is there again and again 17\n".repeat(10_000);
        for first in ["", "x", "live 1\n", &long] {
            for last in ["", "y", &long] {
                let (start, rest) =
                    (Part::first(first.as_bytes()).unwrap(), Part::last(last.as_bytes()).unwrap());
                let gzip = [&start.bytes[..], &rest.bytes, &start.trailer(&rest)].concat();
                assert_eq!(plain(&gzip), [first, last].concat().as_bytes());
            }
        }
        assert_eq!(plain(&whole(long.as_bytes()).unwrap()), long.as_bytes());
        assert!(whole(long.as_bytes()).unwrap().len() < long.len() / 50);
    }

    #[test]
    fn chunks_are_one_text_in_either_form() {
        let mut chunker = Chunker::new();
        let mut parts = [ChunkedText::default(), ChunkedText::default()];
        let long = (0..20_000).fold(String::new(), |text, number| text + &format!("a_metric {number}\n"));
        let mut expected = Vec::new();
        for (part, texts) in parts.iter_mut().zip([&[][..], &["x", &long, "", "the end\n"]]) {
            for text in texts {
                let mut more = ChunkedText::default();
                chunker.add(text.as_bytes(), &mut more).unwrap();
                part.append(more);
                expected.extend_from_slice(text.as_bytes());
            }
        }
        let parts = parts.map(std::sync::Arc::new);
        let body = |gzip| {
            let chunks =
                parts.iter().flat_map(|part| (0..part.count()).map(|at| part.chunk(at, gzip).unwrap()));
            let body = chunks.collect::<Vec<_>>().concat();
            assert_eq!(body.len(), parts.iter().map(|part| part.length(gzip)).sum::<usize>());
            body
        };
        assert!(parts[1].count() > 3);
        assert_eq!(body(false), expected);
        let gzip = [&ChunkedText::header()[..], &body(true), &ChunkedText::trailer(&parts)].concat();
        assert_eq!(plain(&gzip), expected);
    }
}
