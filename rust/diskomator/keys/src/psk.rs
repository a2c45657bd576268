//! The keys that both ends have, and the TLS keys that each end derives from them.
//!
//! The NVM Express TCP Transport Specification 1.0d, 3.6.1.3, derives in two steps:
//!
//! ```text
//! retained PSK = HKDF-Expand-Label(HKDF-Extract(0, configured PSK), "HostNQN", host NQN)
//! TLS PSK      = HKDF-Expand-Label(HKDF-Extract(0, retained PSK), "nvme-tls-psk", context)
//! ```
//!
//! The context is the identity in version 0, and hash and digest of the identity in version 1.

use zeroize::Zeroizing;

use crate::identity::{Identity, Version};
use crate::interchange::{self, FormatError};
use crate::key::{Hash, Key};

const TLS_PREFIX: &str = "NVMeTLSkey-1";
const DHCHAP_PREFIX: &str = "DHHC-1";
/// The end of the text that a PSK's digest is of.
const DIGEST_SEED: &[u8] = b"NVMe-over-Fabrics";

/// The way in which a host's software makes up the `info` of HKDF-Expand-Label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// As RFC 8446, 7.1, says: libnvme 1.16 and later.
    Rfc8446,
    /// As libnvme did before (Debian 13 has 1.13, and later versions with `--compat`): without the
    /// lengths of label and context, and the length of the output with its low byte first.
    Early,
}

impl Method {
    /// Both, the right one first.
    pub const ALL: [Self; 2] = [Self::Rfc8446, Self::Early];

    /// HKDF with the label of `name` and the parts of a context, of at most 255 bytes.
    fn expand(self, hash: Hash, input: &Key, name: &str, context: &[&[u8]]) -> Key {
        let length = u8::try_from(hash.size()).unwrap_or(0);
        let label = format!("tls13 {name}");
        let byte = |length: usize| [u8::try_from(length).unwrap_or(u8::MAX)];
        let label_length = byte(label.len());
        let context_length = byte(context.iter().map(|part| part.len()).sum());
        let mut info: Vec<&[u8]> = Vec::new();
        match self {
            Self::Rfc8446 => {
                let length = [0, length];
                info.extend([&length[..], &label_length, label.as_bytes(), &context_length]);
                info.extend(context);
                hash.hkdf(None, input.expose(), &info)
            }
            Self::Early => {
                let length = [length, 0];
                info.extend([&length[..], label.as_bytes()]);
                info.extend(context);
                hash.hkdf(None, input.expose(), &info)
            }
        }
    }
}

/// The second field of a configured PSK: how the retained PSK comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transform {
    /// The configured PSK is the retained one.
    None,
    /// HKDF with this hash and the host's NQN.
    Hash(Hash),
}

/// A configured PSK: the key for TLS that a user copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredPsk {
    transform: Transform,
    /// The hash that has as many bytes as the key.
    hash: Hash,
    key: Key,
}

impl ConfiguredPsk {
    /// A key with as many bytes as `hash` has.
    pub(crate) fn new(hash: Hash, key: Key) -> Self {
        Self { transform: Transform::Hash(hash), hash, key }
    }

    /// The key in `text`, such as `NVMeTLSkey-1:01:…:`.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let (number, key) = interchange::parse(TLS_PREFIX, text)?;
        let hash = Hash::with_size(key.expose().len());
        let transform = match number {
            0 => Transform::None,
            number => Transform::Hash(Hash::with_number(number).ok_or(FormatError::Hash)?),
        };
        match hash {
            Some(hash) if transform == Transform::None || transform == Transform::Hash(hash) => {
                Ok(Self { transform, hash, key })
            }
            _ => Err(FormatError::Length(key.expose().len())),
        }
    }

    /// Its text. The text is as secret as the key.
    pub fn expose(&self) -> Zeroizing<String> {
        let number = match self.transform {
            Transform::None => 0,
            Transform::Hash(hash) => hash.number(),
        };
        interchange::text(TLS_PREFIX, number, &self.key)
    }

    /// Its hash, which is that of the connection's cipher suite, too.
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// The retained PSK of the host with this NQN.
    pub fn retained(&self, host: &str, method: Method) -> RetainedPsk {
        let key = match self.transform {
            Transform::None => self.key.clone(),
            Transform::Hash(hash) => method.expand(hash, &self.key, "HostNQN", &[host.as_bytes()]),
        };
        RetainedPsk { method, hash: self.hash, key, host: host.to_owned() }
    }

    /// The key of the host that sent this identity, or the keys, if the identity does not tell the
    /// method: one of them has made the binder beside it. None, if the identity is for another key.
    pub fn candidates(&self, identity: &Identity<'_>) -> Vec<TlsPsk> {
        if identity.hash() != self.hash {
            return Vec::new();
        }
        let of = |method| self.retained(identity.host(), method).tls(identity.subsystem(), identity.version());
        let mut all: Vec<TlsPsk> =
            Method::ALL.into_iter().map(of).filter(|psk| psk.identity == identity.as_str()).collect();
        all.dedup_by(|a, b| a.psk == b.psk);
        all
    }
}

/// A retained PSK: the key of one host, whatever the subsystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedPsk {
    method: Method,
    hash: Hash,
    key: Key,
    host: String,
}

impl RetainedPsk {
    /// The key of connections between the host and the subsystem with this NQN.
    pub fn tls(&self, subsystem: &str, version: Version) -> TlsPsk {
        let digest = self.digest(subsystem);
        let start = format!("NVMe{}R{:02} {} {subsystem}", version.number(), self.hash.number(), self.host);
        let (identity, context) = match version {
            Version::V0 => (start.clone(), start),
            Version::V1 => (format!("{start} {digest}"), format!("{:02} {digest}", self.hash.number())),
        };
        let psk = self.method.expand(self.hash, &self.key, "nvme-tls-psk", &[context.as_bytes()]);
        TlsPsk { method: self.method, hash: self.hash, identity, psk }
    }

    /// The digest of this PSK, which tells the ends that they mean the same one (TP 8018).
    fn digest(&self, subsystem: &str) -> String {
        let parts = [self.host.as_bytes(), b" ", subsystem.as_bytes(), b" ", DIGEST_SEED];
        interchange::encode(self.hash.hmac(self.key.expose(), &parts).expose()).to_string()
    }
}

/// An external PSK of TLS 1.3, with its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPsk {
    /// The way in which it was derived.
    pub method: Method,
    /// The hash that it is for.
    pub hash: Hash,
    /// Its identity, which everyone on the network sees.
    pub identity: String,
    /// The key.
    pub psk: Key,
}

impl TlsPsk {
    /// The binder that a host with this key puts beside the identity in its first `ClientHello`,
    /// made of that message up to its list of binders (RFC 8446, 4.2.11.2 and 7.1).
    pub fn binder(&self, hello: &[u8]) -> Key {
        let hash = self.hash;
        let length = u8::try_from(hash.size()).unwrap_or(0);
        let early_secret = hash.hmac(&vec![0; hash.size()], &[self.psk.expose()]);
        // HKDF-Expand with as many bytes as the hash has is one HMAC.
        let info: [&[u8]; 5] = [&[0, length, 16], b"tls13 ext binder", &[length], &hash.digest(b""), &[1]];
        let binder_key = hash.hmac(early_secret.expose(), &info);
        let finished_key = hash.hmac(binder_key.expose(), &[&[0, length, 14], b"tls13 finished", &[0], &[1]]);
        hash.hmac(finished_key.expose(), &[&hash.digest(hello)])
    }
}

/// A key for DH-HMAC-CHAP, of the host or of the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhchapKey {
    /// 0: the key is used as it is. 1 to 3: by HMAC with SHA-256, 384 or 512 and the owner's NQN.
    hash: u8,
    key: Key,
}

impl DhchapKey {
    /// A key of 32 bytes, for SHA-256.
    pub(crate) fn new(key: Key) -> Self {
        Self { hash: Hash::Sha256.number(), key }
    }

    /// The key in `text`, such as `DHHC-1:01:…:`.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let (hash, key) = interchange::parse(DHCHAP_PREFIX, text)?;
        // The lengths that the kernel and nvme-cli take.
        match (hash, key.expose().len()) {
            (0, 32 | 48 | 64) | (1, 32) | (2, 48) | (3, 64) => Ok(Self { hash, key }),
            (0..=3, length) => Err(FormatError::Length(length)),
            _ => Err(FormatError::Hash),
        }
    }

    /// Its text, as the kernel's target takes it, too. The text is as secret as the key.
    pub fn expose(&self) -> Zeroizing<String> {
        interchange::text(DHCHAP_PREFIX, self.hash, &self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::{ConfiguredPsk, DhchapKey, Method, TlsPsk};
    use crate::interchange::FormatError;
    use crate::key::tests::hex;
    use crate::{Identity, Version};

    const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:5f7a1d2c-8f3e-4b6a-9c1d-0e2f3a4b5c6d";
    const SUBSYSTEM: &str = "nqn.2024-01.org.example:disk1";
    /// `nvme gen-tls-key --hmac=1 --secret=0001…1f` of nvme-cli 2.13 and 2.16.
    const SHA256: &str = "NVMeTLSkey-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";
    /// `nvme gen-tls-key --hmac=2 --secret=0001…2f`.
    const SHA384: &str = "NVMeTLSkey-1:02:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vcSEgBQ==:";

    fn key(text: &str) -> ConfiguredPsk {
        ConfiguredPsk::parse(text).unwrap()
    }

    fn tls(text: &str, method: Method, version: Version) -> TlsPsk {
        key(text).retained(HOST, method).tls(SUBSYSTEM, version)
    }

    /// From `nvme check-tls-key --insert --identity=VERSION`: of 2.16 for the RFC's method, of 2.13
    /// (and 2.16 with `--compat`, which are the same) for the early one. The key went into a
    /// keyring that showed it.
    const REAL: [(&str, Method, Version, &str, &str); 8] = [
        (SHA256, Method::Rfc8446, Version::V0, "", "e876b17e0044e3105ba135463af49a621b98fbd3ac6e7c07516f837aa3e76273"),
        (SHA256, Method::Early, Version::V0, "", "b000f74fa0842d271b88f1e2876090fa480fc416c5384b465aa9fef3fb947274"),
        (
            SHA256,
            Method::Rfc8446,
            Version::V1,
            " X5OzD3wHINUvDvONbofSagFyE+fqtf1Al/nPCm0rN2A=",
            "b04b8998c2993f9c6a2b9180c69d31786f53b751805d6ee9acf0127f26028141",
        ),
        (
            SHA256,
            Method::Early,
            Version::V1,
            " FzTK+OdfOdimI812gGBFZtHyGyYbsUNMUCI3QtrIkZo=",
            "d638841a581c6ecbdba5e0e1a25c563f997c02819941684022578752310b0bc6",
        ),
        (
            SHA384,
            Method::Rfc8446,
            Version::V0,
            "",
            "3e8d80dfe4a25391a83d008876d319176eb650811042b9e2f1bad35465a6c6278f0b5091d5fa0427ae0b21187e0ed59d",
        ),
        (
            SHA384,
            Method::Early,
            Version::V0,
            "",
            "61d5e64ae46ef76671c0daffff71cb537a62faae09e99f230c42ce8a314494f9c49db11ab565adb10c8ffdbf2c94c787",
        ),
        (
            SHA384,
            Method::Rfc8446,
            Version::V1,
            " kHOCCtJsoBepXa1qqlsGBiPPl04maKlkQZuWneRTp/T/eMQktkwM+vVFa5HViHNK",
            "0e0636a2c0978a4365517bb4daf597c7b275b47182004fa0344f1574c5c5410b44f619346b66700cbc30626789fdb9e8",
        ),
        (
            SHA384,
            Method::Early,
            Version::V1,
            " 6QbIsSR5uvF1oG/QEGQqdwGYtUQ0DN1xueTTG5A6OiVOuhPDgHkys6BChQEkVzyc",
            "44b54c24e4de5cefb32c05188b69531719b214e97179dfb4ce262dd9538d70ff2846229923275c325fad15008ecb686b",
        ),
    ];

    #[test]
    fn identities_and_keys_are_those_of_libnvme() {
        for (text, method, version, digest, psk) in REAL {
            let tls = tls(text, method, version);
            let (version, hash) = (version.number(), key(text).hash().number());
            assert_eq!(tls.identity, format!("NVMe{version}R0{hash} {HOST} {SUBSYSTEM}{digest}"));
            assert_eq!(tls.psk.expose(), hex(psk), "{method:?} {}", tls.identity);
        }
    }

    #[test]
    fn an_identity_with_a_digest_tells_the_method_and_one_without_does_not() {
        for (text, method, version, _, _) in REAL {
            let tls = tls(text, method, version);
            let candidates = key(text).candidates(&Identity::parse(tls.identity.as_bytes()).unwrap());
            assert!(candidates.contains(&tls));
            assert_eq!(candidates.len(), if version == Version::V0 { 2 } else { 1 }, "{}", tls.identity);
        }
    }

    #[test]
    fn an_identity_of_another_key_has_no_candidates() {
        let identity = tls(SHA256, Method::Rfc8446, Version::V1).identity;
        let identity = Identity::parse(identity.as_bytes()).unwrap();
        assert_eq!(key(SHA384).candidates(&identity), []);
        let other = "NVMeTLSkey-1:01:BPJhMIxQ2VAIYcUbyT6VS4AfzD4I+4AB7t3GpByP6Lb9wCkY:";
        assert_eq!(key(other).candidates(&identity), []);
        let identity = tls(SHA256, Method::Rfc8446, Version::V1).identity.replace("disk1", "disk2");
        assert_eq!(key(SHA256).candidates(&Identity::parse(identity.as_bytes()).unwrap()), []);
    }

    #[test]
    fn a_key_without_transform_has_one_retained_key() {
        let key = key(&SHA256.replace(":01:", ":00:"));
        let [right, early] = Method::ALL.map(|method| key.retained(HOST, method));
        assert_eq!(right.key, early.key);
        // So an identity with a digest no longer tells the method.
        let identity = right.tls(SUBSYSTEM, Version::V1).identity;
        assert_eq!(key.candidates(&Identity::parse(identity.as_bytes()).unwrap()).len(), 2);
    }

    #[test]
    fn a_binder_tells_the_method_that_the_identity_does_not_tell() {
        // Recomputed by the TLS client that OpenSSL 3.6 and mbedTLS 3.6 accept.
        for (text, method, binder) in [
            (SHA256, Method::Rfc8446, "ee230483274d59839f95f4364db6d861ce17d7b4eab6ae3b6d69cceb16611552"),
            (SHA256, Method::Early, "fc975dd209964f6f70bbef300e879d2ac9c9ffd7692ca4e7780deccd50cdfd1c"),
            (
                SHA384,
                Method::Rfc8446,
                "468cad82a18c0d571b77ddedef12ee6a10676c82aff27601707aac39e262958e80beb53fdf9a30b644511447a68287e2",
            ),
            (
                SHA384,
                Method::Early,
                "58f497dbdcea5821404ac61ba204f8580a3bed0d1dc07fdc38829e639390d87a216e1d713b60b6d6c0363c16a4da59cf",
            ),
        ] {
            assert_eq!(tls(text, method, Version::V0).binder(b"ClientHello").expose(), hex(binder));
        }
    }

    #[test]
    fn a_key_is_as_long_as_its_hash() {
        assert_eq!(ConfiguredPsk::parse(&SHA256.replace(":01:", ":02:")), Err(FormatError::Length(32)));
        assert_eq!(ConfiguredPsk::parse(&SHA384.replace(":02:", ":01:")), Err(FormatError::Length(48)));
        assert_eq!(ConfiguredPsk::parse(&SHA256.replace(":01:", ":03:")), Err(FormatError::Hash));
        assert_eq!(*key(SHA384).expose(), SHA384);
    }

    #[test]
    fn keys_of_dhchap_are_those_of_nvme_cli() {
        // `nvme gen-dhchap-key --secret=0001…1f --nqn=HOST`, with --hmac=0 and --hmac=1, of 2.3, 2.13 and 2.16.
        for text in [
            "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:",
            "DHHC-1:01:BPJhMIxQ2VAIYcUbyT6VS4AfzD4I+4AB7t3GpByP6Lb9wCkY:",
        ] {
            assert_eq!(*DhchapKey::parse(text).unwrap().expose(), text);
        }
        let text = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";
        assert_eq!(DhchapKey::parse(&text.replace(":00:", ":02:")), Err(FormatError::Length(32)));
        assert_eq!(DhchapKey::parse(&text.replace(":00:", ":04:")), Err(FormatError::Hash));
        assert_eq!(DhchapKey::parse(SHA256), Err(FormatError::Prefix("DHHC-1")));
    }
}
