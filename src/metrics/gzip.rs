//! Gzip in two independent parts: a long one that is compressed once and shared, after a short one that is compressed for each
//! response. Together they are one ordinary gzip member.

use std::io::{self, Write as _};

use axum::body::Bytes;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// Compression level. A higher one takes much more time and saves little on metrics and JSON.
const LEVEL: u32 = 2;

/// Header of a gzip member: deflate, no name, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A compressed part of a text. It has no references to an earlier part.
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
            // Ends at a whole byte and without a final block. What the encoder writes when it is dropped is discarded.
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
        // The part may be cached for long.
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;

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
}
