//! The identity of a PSK, as a host sends it in its first message.

use crate::Hash;

/// The most bytes of an NQN (NVM Express Base Specification 2.0c, 4.5).
const NQN_MAX: usize = 223;

/// The version of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `NVMe0R01 HOST SUBSYSTEM`.
    V0,
    /// `NVMe1R01 HOST SUBSYSTEM DIGEST`, which Linux prefers.
    V1,
}

impl Version {
    /// Its digit.
    pub const fn number(self) -> u8 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
        }
    }
}

/// An identity that is not one of a retained PSK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Bytes that no NQN has.
    #[error("it has bytes that are no printable ASCII")]
    Text,
    /// It begins otherwise, as that of a generated PSK (`NVMe0G01`) does.
    #[error("it does not begin with NVMe0R01, NVMe0R02, NVMe1R01 or NVMe1R02")]
    Kind,
    /// Too many words, or too few.
    #[error("it has another number of words than its kind")]
    Words,
    /// An NQN of no length or of a length that is not allowed.
    #[error("it has an NQN that is empty or longer than 223 bytes")]
    Nqn,
    /// The digest is not as long as its hash.
    #[error("its digest has another length than its hash")]
    Digest,
}

/// The identity of a retained PSK. Nothing in it is proven before the binder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    text: &'a str,
    version: Version,
    hash: Hash,
    host: &'a str,
    subsystem: &'a str,
}

impl<'a> Identity<'a> {
    /// The identity in these bytes of a `ClientHello`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, IdentityError> {
        let text = std::str::from_utf8(bytes).map_err(|_| IdentityError::Text)?;
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(IdentityError::Text);
        }
        let mut words = text.split(' ');
        let (version, hash) = match words.next() {
            Some("NVMe0R01") => (Version::V0, Hash::Sha256),
            Some("NVMe0R02") => (Version::V0, Hash::Sha384),
            Some("NVMe1R01") => (Version::V1, Hash::Sha256),
            Some("NVMe1R02") => (Version::V1, Hash::Sha384),
            _ => return Err(IdentityError::Kind),
        };
        let (Some(host), Some(subsystem)) = (words.next(), words.next()) else { return Err(IdentityError::Words) };
        let digest = if version == Version::V1 { Some(words.next().ok_or(IdentityError::Words)?) } else { None };
        if words.next().is_some() {
            return Err(IdentityError::Words);
        }
        if [host, subsystem].iter().any(|nqn| !(1..=NQN_MAX).contains(&nqn.len())) {
            return Err(IdentityError::Nqn);
        }
        // The Base64 of as many bytes as the hash has.
        if digest.is_some_and(|digest| digest.len() != hash.size().div_ceil(3) * 4) {
            return Err(IdentityError::Digest);
        }
        Ok(Self { text, version, hash, host, subsystem })
    }

    /// The whole of it.
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// Its version.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The hash that its key is for.
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// The host's NQN: at most 223 bytes of printable ASCII. It may have slashes, and is hostile text.
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// The subsystem's NQN, of the same form.
    pub const fn subsystem(&self) -> &'a str {
        self.subsystem
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, IdentityError, Version};
    use crate::Hash;

    #[test]
    fn an_identity_has_its_parts() {
        let identity = Identity::parse(b"NVMe0R02 nqn.host nqn.disk").unwrap();
        assert_eq!((identity.version(), identity.hash()), (Version::V0, Hash::Sha384));
        assert_eq!((identity.host(), identity.subsystem()), ("nqn.host", "nqn.disk"));
        let text = format!("NVMe1R01 h s {}", "A".repeat(44));
        let identity = Identity::parse(text.as_bytes()).unwrap();
        assert_eq!((identity.version(), identity.hash()), (Version::V1, Hash::Sha256));
        assert_eq!(identity.as_str(), text);
    }

    #[test]
    fn all_else_is_refused() {
        let (long, digest) = ("n".repeat(224), "A".repeat(44));
        for (text, why) in [
            (String::new(), IdentityError::Kind),
            ("NVMe0R01".into(), IdentityError::Words),
            ("NVMe0R01 h".into(), IdentityError::Words),
            ("NVMe0R01 h s ".into(), IdentityError::Words),
            (format!("NVMe0R01 h s {digest}"), IdentityError::Words),
            ("NVMe1R01 h s".into(), IdentityError::Words),
            (format!("NVMe1R01 h s {digest} x"), IdentityError::Words),
            (format!("NVMe1R02 h s {digest}"), IdentityError::Digest),
            ("NVMe1R01 h s ".into(), IdentityError::Digest),
            ("NVMe0R01  s".into(), IdentityError::Nqn),
            (format!("NVMe0R01 h {long}"), IdentityError::Nqn),
            (format!("NVMe0R01 {long} s"), IdentityError::Nqn),
            ("NVMe0G01 h s".into(), IdentityError::Kind),
            ("NVMe0R03 h s".into(), IdentityError::Kind),
            ("nvme0r01 h s".into(), IdentityError::Kind),
            (" NVMe0R01 h s".into(), IdentityError::Kind),
            ("NVMe0R01\th s".into(), IdentityError::Text),
            ("NVMe0R01 h s\0".into(), IdentityError::Text),
            ("NVMe0R01 hé s".into(), IdentityError::Text),
        ] {
            assert_eq!(Identity::parse(text.as_bytes()), Err(why), "{text:?}");
        }
        assert_eq!(Identity::parse(b"NVMe0R01 \xff s"), Err(IdentityError::Text));
    }
}
