//! The text of a key: `NVMeTLSkey-1:01:BASE64:` and `DHHC-1:01:BASE64:`, where
//! the Base64 is the key and then its CRC-32, the lowest byte first (NVM Express TCP
//! Transport Specification 1.0d, 3.6.1.5; NVM Express Base Specification 2.0c,
//! 8.13.5.8).

use settings::base64;
use zeroize::Zeroizing;

use crate::Key;

/// The bytes of the checksum.
const CHECKSUM: usize = 4;

/// A text that is no key. It never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another kind of key, or none.
    #[error("it does not begin with \"{0}:\"")]
    Prefix(&'static str),
    /// Fields other than the prefix, the hash and the key.
    #[error("it is not three fields, each with a colon behind it")]
    Fields,
    /// A hash that this kind of key does not have.
    #[error("its second field is no hash of such a key")]
    Hash,
    /// The key is no Base64.
    #[error("its third field is no base64")]
    Base64,
    /// A key of this many bytes does not belong to its hash.
    #[error("its key has {0} bytes, which its hash does not go with")]
    Length(usize),
    /// Part of it was lost or mistyped.
    #[error("its checksum is wrong: copy it again, as a whole")]
    Checksum,
}

/// The hash's number and the key in `text`.
pub(crate) fn parse(prefix: &'static str, text: &str) -> Result<(u8, Key), FormatError> {
    let rest = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':')).ok_or(FormatError::Prefix(prefix))?;
    let (hash, rest) = rest.split_once(':').ok_or(FormatError::Fields)?;
    let encoded = rest.strip_suffix(':').filter(|key| !key.contains(':')).ok_or(FormatError::Fields)?;
    // Two digits, as each implementation writes and reads it.
    let number = match hash.as_bytes() {
        [b'0', digit @ b'0'..=b'9'] => digit - b'0',
        _ => return Err(FormatError::Hash),
    };
    let mut bytes = Zeroizing::new(base64::decode(encoded.as_bytes()).ok_or(FormatError::Base64)?);
    // One key has one text: no white space, and no bits that count for nothing.
    if *encode(&bytes) != encoded {
        return Err(FormatError::Base64);
    }
    let length = bytes.len().checked_sub(CHECKSUM).ok_or(FormatError::Length(0))?;
    let (key, checksum) = bytes.split_at(length);
    if crc32(key).to_le_bytes() != checksum {
        return Err(FormatError::Checksum);
    }
    bytes.truncate(length);
    Ok((number, Key::new(std::mem::take(&mut *bytes))))
}

/// The text of a key.
pub(crate) fn text(prefix: &str, hash: u8, key: &Key) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(key.expose().len() + CHECKSUM));
    bytes.extend_from_slice(key.expose());
    bytes.extend_from_slice(&crc32(key.expose()).to_le_bytes());
    let encoded = encode(&bytes);
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + encoded.len() + 5));
    for part in [prefix, ":0", digit(hash), ":", &encoded, ":"] {
        text.push_str(part);
    }
    text
}

const fn digit(hash: u8) -> &'static str {
    match hash {
        0 => "0",
        1 => "1",
        2 => "2",
        _ => "3",
    }
}

/// Base64 of a key. The string is as long as it will be from the start: one that grows leaves copies in memory.
pub(crate) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(base64::encode(bytes))
}

/// The CRC-32 of Ethernet and gzip.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::{FormatError, crc32, encode, parse, text};
    use crate::Key;

    /// `nvme gen-tls-key --hmac=1 --secret=0001…1f`.
    const KEY: &str = "NVMeTLSkey-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_text_is_read_as_it_is_written() {
        let (hash, key) = parse("NVMeTLSkey-1", KEY).unwrap();
        assert_eq!((hash, key.expose()), (1, &(0..32).collect::<Vec<u8>>()[..]));
        assert_eq!(*text("NVMeTLSkey-1", hash, &key), KEY);
        for length in [0, 1, 2, 3, 32, 48, 64] {
            let key = Key::new(vec![7; length]);
            assert_eq!(parse("DHHC-1", &text("DHHC-1", 3, &key)).unwrap(), (3, key));
        }
    }

    #[test]
    fn no_text_but_the_whole_one_is_read() {
        for end in 0..KEY.len() {
            assert!(parse("NVMeTLSkey-1", &KEY[..end]).is_err(), "{end}");
        }
        // Every bit counts.
        for position in 0..KEY.len() {
            for bit in 0..7 {
                let mut other = KEY.as_bytes().to_vec();
                other[position] ^= 1 << bit;
                let other = String::from_utf8(other).unwrap();
                let other = parse("NVMeTLSkey-1", &other);
                assert!(other.is_err() || other.unwrap().0 != 1, "{position}, {bit}");
            }
        }
    }

    #[test]
    fn the_reason_for_a_refusal_is_told() {
        let body = &KEY[16..];
        for (text, why) in [
            ("", FormatError::Prefix("NVMeTLSkey-1")),
            (&*format!("DHHC-1:01:{body}"), FormatError::Prefix("NVMeTLSkey-1")),
            (&*format!(" {KEY}"), FormatError::Prefix("NVMeTLSkey-1")),
            ("NVMeTLSkey-1:01", FormatError::Fields),
            (KEY.trim_end_matches(':'), FormatError::Fields),
            (&*format!("{KEY}:"), FormatError::Fields),
            (&*format!("{KEY}\n"), FormatError::Fields),
            (&*format!("NVMeTLSkey-1:1:{body}"), FormatError::Hash),
            (&*format!("NVMeTLSkey-1:+1:{body}"), FormatError::Hash),
            (&*format!("NVMeTLSkey-1:011:{body}"), FormatError::Hash),
            ("NVMeTLSkey-1:01:&&&&:", FormatError::Base64),
            ("NVMeTLSkey-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYX GBkaGxwdHh+KfiaR:", FormatError::Base64),
            ("NVMeTLSkey-1:01:AAE=:", FormatError::Length(0)),
            ("NVMeTLSkey-1:01::", FormatError::Length(0)),
            ("NVMeTLSkey-1:01:BAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:", FormatError::Checksum),
        ] {
            assert_eq!(parse("NVMeTLSkey-1", text), Err(why), "{text:?}");
        }
        // Bits behind the last byte.
        let (_, end) = (encode(&[0; 5]), "AAAAAAB=");
        assert_eq!(parse("DHHC-1", &format!("DHHC-1:00:{end}:")), Err(FormatError::Base64));
    }
}
