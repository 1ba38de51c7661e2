//! Text as gzip, in parts that are made one by one: the long part of a text that many clients take is made once, and
//! put behind a short part that each of them gets anew. What they take is one ordinary gzip member.

use std::io::{self, Write as _};

use axum::body::Bytes;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// Metrics and JSON become not much smaller with more effort, but take much more time.
const EFFORT: u32 = 2;

/// What every gzip text begins with: deflate, no name, no time, unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A part of a text, on its own: it refers to nothing before it.
#[derive(Debug)]
pub(crate) struct Part {
    /// The deflated text.
    pub(crate) bytes: Bytes,
    /// The check sum and the length of the text itself.
    crc: Crc,
}

impl Part {
    /// The part that a text begins with, the gzip head included.
    pub(crate) fn first(text: &[u8]) -> io::Result<Self> {
        let mut bytes = Vec::from(HEAD);
        if !text.is_empty() {
            let mut encoder = DeflateEncoder::new(bytes, Compression::new(EFFORT));
            encoder.write_all(text)?;
            // Up to a whole byte, and open for what follows; what the encoder adds when it is dropped goes nowhere.
            encoder.flush()?;
            bytes = std::mem::take(encoder.get_mut());
        }
        Ok(Self::new(bytes, text))
    }

    /// The part that a text ends with.
    pub(crate) fn last(text: &[u8]) -> io::Result<Self> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(EFFORT));
        encoder.write_all(text)?;
        Ok(Self::new(encoder.finish()?, text))
    }

    fn new(mut bytes: Vec<u8>, text: &[u8]) -> Self {
        // It may be kept for long.
        bytes.shrink_to_fit();
        let mut crc = Crc::new();
        crc.update(text);
        Self { bytes: bytes.into(), crc }
    }

    /// What follows behind `last`, if that follows this.
    pub(crate) fn end(&self, last: &Self) -> Bytes {
        let mut crc = Crc::new();
        crc.combine(&self.crc);
        crc.combine(&last.crc);
        Bytes::from([crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat())
    }
}

/// All of a text.
pub(crate) fn whole(text: &[u8]) -> io::Result<Bytes> {
    let (first, last) = (Part::first(&[])?, Part::last(text)?);
    let end = first.end(&last);
    Ok(Bytes::from([first.bytes, last.bytes, end].concat()))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn plain(gzip: &[u8]) -> Vec<u8> {
        let (mut decoder, mut text) = (GzDecoder::new(gzip), Vec::new());
        decoder.read_to_end(&mut text).unwrap();
        assert!(decoder.into_inner().is_empty(), "one member, and nothing behind it");
        text
    }

    #[test]
    fn parts_make_one_text() {
        let long = "a line of metrics that is there again and again 17\n".repeat(10_000);
        for first in ["", "x", "live 1\n", &long] {
            for last in ["", "y", &long] {
                let (start, rest) =
                    (Part::first(first.as_bytes()).unwrap(), Part::last(last.as_bytes()).unwrap());
                let gzip = [&start.bytes[..], &rest.bytes, &start.end(&rest)].concat();
                assert_eq!(plain(&gzip), [first, last].concat().as_bytes());
            }
        }
        assert_eq!(plain(&whole(long.as_bytes()).unwrap()), long.as_bytes());
        assert!(whole(long.as_bytes()).unwrap().len() < long.len() / 50);
    }
}
