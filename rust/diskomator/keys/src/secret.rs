//! The machine's secret, and the keys of each host.

use std::fmt;

use settings::base64;
use zeroize::Zeroizing;

use crate::interchange;
use crate::key::{Hash, Key};
use crate::psk::{ConfiguredPsk, DhchapKey};

/// A secret that is refused. It never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The text is no Base64.
    #[error("it is no base64: write what \"head -c 32 /dev/urandom | base64\" prints")]
    NoBase64,
    /// It has this many bytes.
    #[error("it has {0} bytes of at least {min}: write what \"head -c 32 /dev/urandom | base64\" prints", min = Secret::SIZE_MIN)]
    TooShort(usize),
}

/// The machine's secret, of which all keys come.
#[derive(Clone)]
pub struct Secret(Key);

impl Secret {
    /// The fewest bytes, as many as the strongest attack needs to be hopeless.
    pub const SIZE_MIN: usize = 32;
    /// The salt of HKDF: no other program derives the same keys from the same secret.
    const SALT: &'static [u8] = b"diskomator keys 1";

    /// The secret whose Base64 this is; white space counts for nothing, as in each credential.
    pub fn from_base64(text: &[u8]) -> Result<Self, SecretError> {
        let bytes = base64::decode(text).map(Zeroizing::new).ok_or(SecretError::NoBase64)?;
        if bytes.len() < Self::SIZE_MIN {
            return Err(SecretError::TooShort(bytes.len()));
        }
        Ok(Self(Key::new(bytes.to_vec())))
    }

    /// A secret of random bytes.
    pub fn from_random(bytes: &[u8; Self::SIZE_MIN]) -> Self {
        Self(Key::new(bytes.to_vec()))
    }

    /// Its Base64, for a file that only its owner reads.
    pub fn expose(&self) -> Zeroizing<String> {
        interchange::encode(self.0.expose())
    }

    /// The keys of the host with this NQN.
    pub fn host(&self, nqn: &str) -> HostKeys {
        let tls = |hash, label| ConfiguredPsk::new(hash, self.derive(hash, label, nqn));
        HostKeys {
            nqn: nqn.to_owned(),
            tls_sha256: tls(Hash::Sha256, "tls psk sha256"),
            tls_sha384: tls(Hash::Sha384, "tls psk sha384"),
            dhchap_host: DhchapKey::new(self.derive(Hash::Sha256, "dhchap host", nqn)),
            dhchap_controller: DhchapKey::new(self.derive(Hash::Sha256, "dhchap controller", nqn)),
            control: self.derive(Hash::Sha256, "control channel", nqn),
        }
    }

    /// HKDF of the secret, where `info` is the label, a zero byte and the NQN. Labels have no zero
    /// byte, so no label with an NQN is another label with another one.
    fn derive(&self, hash: Hash, label: &str, nqn: &str) -> Key {
        hash.hkdf(Some(Self::SALT), self.0.expose(), &[label.as_bytes(), &[0], nqn.as_bytes()])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The keys of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKeys {
    /// The host.
    pub nqn: String,
    /// For TLS with SHA-256.
    pub tls_sha256: ConfiguredPsk,
    /// For TLS with SHA-384.
    pub tls_sha384: ConfiguredPsk,
    /// The host proves with it that it is the host.
    pub dhchap_host: DhchapKey,
    /// This machine proves with it that it is this machine.
    pub dhchap_controller: DhchapKey,
    /// The PSK of the control channel, for SHA-256.
    pub control: Key,
}

impl HostKeys {
    /// The key for TLS with this hash.
    pub const fn tls(&self, hash: Hash) -> &ConfiguredPsk {
        match hash {
            Hash::Sha256 => &self.tls_sha256,
            Hash::Sha384 => &self.tls_sha384,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Secret, SecretError};
    use crate::key::tests::hex;

    /// Of the bytes 0 to 31.
    const TEXT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:5f7a1d2c-8f3e-4b6a-9c1d-0e2f3a4b5c6d";

    fn secret() -> Secret {
        Secret::from_base64(TEXT.as_bytes()).unwrap()
    }

    #[test]
    fn a_secret_is_read_as_it_is_written() {
        assert_eq!(*secret().expose(), TEXT);
        assert_eq!(*Secret::from_base64(format!(" {TEXT}\r\n").as_bytes()).unwrap().expose(), TEXT);
        let bytes = std::array::from_fn(|index| u8::try_from(index).unwrap());
        assert_eq!(*Secret::from_random(&bytes).expose(), TEXT);
    }

    #[test]
    fn a_weak_secret_is_refused() {
        for (text, why) in [
            ("", SecretError::TooShort(0)),
            ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==", SecretError::TooShort(31)),
            ("correct horse battery staple correct horse!!", SecretError::NoBase64),
            (&TEXT[..43], SecretError::NoBase64),
        ] {
            assert_eq!(Secret::from_base64(text.as_bytes()).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn a_refusal_tells_no_byte_of_the_text() {
        let error = Secret::from_base64(b"hunter2").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn nothing_shows_a_key() {
        let keys = secret().host(HOST);
        let shown = format!("{:?} {keys:?}", secret());
        let texts = [keys.tls_sha256.expose(), keys.tls_sha384.expose(), keys.dhchap_host.expose()];
        for text in texts.iter().flat_map(|text| text.split(':')).chain([TEXT]).filter(|text| text.len() > 8) {
            assert!(!text.starts_with("NVMe") && !shown.contains(text) || text == "NVMeTLSkey-1", "{shown}");
        }
        // Nor as a list of numbers.
        assert!(!shown.contains(", 1") && !shown.contains('['), "{shown}");
    }

    #[test]
    fn each_key_is_another_one() {
        let mut all = BTreeSet::new();
        for nqn in [HOST, "nqn.other", "t\0nqn.other"] {
            let keys = secret().host(nqn);
            let texts = [keys.tls_sha256.expose(), keys.tls_sha384.expose()];
            let chap = [keys.dhchap_host.expose(), keys.dhchap_controller.expose()];
            all.extend(texts.iter().chain(&chap).map(|text| text.split(':').nth(2).unwrap()[..24].to_owned()));
            all.insert(format!("{:?}", &keys.control.expose()[..16]));
        }
        assert_eq!(all.len(), 15);
        let other = Secret::from_base64(TEXT.replace("AAE", "AAI").as_bytes()).unwrap();
        assert_ne!(other.host(HOST), secret().host(HOST));
    }

    /// A key that a user copied holds after an update: recomputed by another implementation of HKDF.
    #[test]
    fn keys_stay_what_they_are() {
        let keys = secret().host(HOST);
        assert_eq!(*keys.tls_sha256.expose(), "NVMeTLSkey-1:01:e/LbDVnG0pw3BvhupRAjX0qK9rp4ho/i2PDWov0SHd8Kxh70:");
        assert_eq!(
            *keys.tls_sha384.expose(),
            "NVMeTLSkey-1:02:JVjr2mn4MVKme0ffu/Lq7P6+qwyb0QGMDZxF1+q6n9CWF4h1qk4uX9aSbXL1d/2bPYG2pA==:"
        );
        assert_eq!(*keys.dhchap_host.expose(), "DHHC-1:01:rTHZ8AYXwql1KaU5cZM1Y5InZxTK5JmT86dPFQCd65V1xPRz:");
        assert_eq!(*keys.dhchap_controller.expose(), "DHHC-1:01:uHF4Pg6MZXTUKBcmEND0+F/l3cfuAU8+aYC3X5vk6idMtoFk:");
        assert_eq!(keys.control.expose(), hex("9bb1c1c02bd016b99cbb31e4deb7ce2adeb0c2253c928a179bff56c6b9cca165"));
    }
}
