//! SHA1 by which a server identifies a script.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

/// SHA1 as 40 hexadecimal digits in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Sha1Digits([u8; 40]);

impl Sha1Digits {
    /// Computes the SHA1 by which a server identifies the script with this body.
    #[must_use]
    pub(crate) fn of(body: &[u8]) -> Self {
        Self::from_bytes(&Sha1::digest(body).into())
    }

    /// Returns the digits of a SHA1 in binary.
    #[must_use]
    pub(crate) fn from_bytes(hash: &[u8; 20]) -> Self {
        const HEX: [u8; 16] = *b"0123456789abcdef";
        let mut digits = [b'0'; 40];
        let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        for (digit, nibble) in digits.iter_mut().zip(nibbles) {
            *digit = HEX.get(usize::from(nibble)).copied().unwrap_or_default();
        }
        Self(digits)
    }

    /// Parses 40 hexadecimal digits of any letter case; returns `None` for anything else.
    #[must_use]
    pub(crate) fn parse(digits: impl AsRef<[u8]>) -> Option<Self> {
        let mut digits: [u8; 40] = digits.as_ref().try_into().ok()?;
        digits.make_ascii_lowercase();
        digits.iter().all(u8::is_ascii_hexdigit).then_some(Self(digits))
    }

    /// Returns the SHA1 in binary.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(self.0.as_chunks::<2>().0) {
            // Both constructors guarantee hexadecimal digits.
            let digits = std::str::from_utf8(pair).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        bytes
    }

    /// Returns the 40 digits.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        // Both constructors guarantee ASCII digits.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Sha1Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Sha1Digits> for String {
    fn from(sha1: Sha1Digits) -> Self {
        sha1.as_str().to_owned()
    }
}

impl TryFrom<String> for Sha1Digits {
    type Error = &'static str;

    fn try_from(digits: String) -> Result<Self, Self::Error> {
        Self::parse(digits).ok_or("a SHA1 has 40 hexadecimal digits")
    }
}

/// Serialization of an optional SHA1 as a string, which is empty for `None`.
pub(super) mod or_empty {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    use super::Sha1Digits;

    #[expect(clippy::ref_option, reason = "the signature that serde(with) calls")]
    pub(in crate::script) fn serialize<S: Serializer>(
        sha1: &Option<Sha1Digits>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        sha1.as_ref().map_or("", Sha1Digits::as_str).serialize(serializer)
    }

    pub(in crate::script) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Sha1Digits>, D::Error> {
        let digits = String::deserialize(deserializer)?;
        if digits.is_empty() {
            return Ok(None);
        }
        Sha1Digits::try_from(digits).map(Some).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reply of `SCRIPT LOAD "return 1"`.
    const RETURN_1: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

    #[test]
    fn the_digits_are_those_of_the_server() {
        assert_eq!(Sha1Digits::of(b"return 1").as_str(), RETURN_1);
        assert_eq!(Sha1Digits::parse(RETURN_1.to_ascii_uppercase()), Some(Sha1Digits::of(b"return 1")));
        assert_eq!(Sha1Digits::of(b"return 1").to_string(), RETURN_1);
    }

    #[test]
    fn only_40_hexadecimal_digits_are_a_sha1() {
        for text in
            ["", RETURN_1.trim_start_matches('e'), &format!("{RETURN_1}0"), &RETURN_1.replace('e', "g")]
        {
            assert_eq!(Sha1Digits::parse(text), None, "{text:?}");
        }
        assert_eq!(Sha1Digits::parse([0xff; 40]), None);
    }

    #[test]
    fn saved_text_is_checked_when_it_is_read() {
        let sha1 = Sha1Digits::of(b"return 1");
        let json = serde_json::to_string(&sha1).unwrap();
        assert_eq!(serde_json::from_str::<Sha1Digits>(&json).unwrap(), sha1);
        assert!(serde_json::from_str::<Sha1Digits>("\"\"").is_err());
    }
}
