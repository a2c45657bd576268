//! Bytes that never show themselves, and the hashes that make them.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroizing;

/// The bytes of a key.
#[derive(Clone)]
pub struct Key(Zeroizing<Vec<u8>>);

impl Key {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// In a time that does not tell where two keys of one length differ.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(other.0.iter()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// The hash of a PSK and of its cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// `TLS_AES_128_GCM_SHA256`.
    Sha256,
    /// `TLS_AES_256_GCM_SHA384`.
    Sha384,
}

impl Hash {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha384];

    /// Its number in keys and identities.
    pub const fn number(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha384 => 2,
        }
    }

    /// The bytes of its output, and of a key for it.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    pub(crate) fn with_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.number() == number)
    }

    pub(crate) fn with_size(size: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.size() == size)
    }

    /// HKDF (RFC 5869), with as many bytes of output as the hash has. Without a salt it is as many zeros.
    #[expect(clippy::expect_used, reason = "only more than 255 times the hash is too long")]
    pub(crate) fn hkdf(self, salt: Option<&[u8]>, input: &[u8], info: &[&[u8]]) -> Key {
        let mut output = Zeroizing::new(vec![0; self.size()]);
        match self {
            Self::Sha256 => Hkdf::<Sha256>::new(salt, input).expand_multi_info(info, &mut output),
            Self::Sha384 => Hkdf::<Sha384>::new(salt, input).expand_multi_info(info, &mut output),
        }
        .expect("HKDF has as many bytes as its hash");
        Key(output)
    }

    /// The hash of `bytes`.
    pub(crate) fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
        }
    }

    /// HMAC (RFC 2104) of all parts, one after the other.
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    pub(crate) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Key {
        fn of<M: Mac>(mut mac: M, parts: &[&[u8]]) -> Key {
            for part in parts {
                mac.update(part);
            }
            Key::new(mac.finalize().into_bytes().to_vec())
        }
        match self {
            Self::Sha256 => of(<Hmac<Sha256> as Mac>::new_from_slice(key).expect("any key"), parts),
            Self::Sha384 => of(<Hmac<Sha384> as Mac>::new_from_slice(key).expect("any key"), parts),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Hash, Key};

    /// The bytes of hexadecimal digits.
    pub(crate) fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)?.try_into().ok()).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn hkdf_and_hmac_are_those_of_the_rfcs() {
        // RFC 5869, A.1: the first 32 of its 42 bytes.
        let key = Hash::Sha256.hkdf(
            Some(&hex("000102030405060708090a0b0c")),
            &[0x0b; 22],
            &[&hex("f0f1f2f3f4"), &hex("f5f6f7f8f9")],
        );
        assert_eq!(key.expose(), hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"));
        // RFC 4231, 4.2.
        let mac = Hash::Sha384.hmac(&[0x0b; 20], &[b"Hi ", b"There"]);
        assert_eq!(
            mac.expose(),
            hex("afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6")
        );
    }

    #[test]
    fn a_key_shows_its_length_alone() {
        let key = Key::new(vec![0xab; 32]);
        assert_eq!(format!("{key:?}"), "Key(32 bytes)");
    }

    #[test]
    fn keys_are_the_same_if_all_their_bytes_are() {
        let key = |bytes: &[u8]| Key::new(bytes.to_vec());
        assert_eq!(key(b"ab"), key(b"ab"));
        assert_ne!(key(b"ab"), key(b"ac"));
        assert_ne!(key(b"ab"), key(b"abc"));
        assert_ne!(key(b""), key(b"a"));
    }
}
