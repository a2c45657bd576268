//! The texts of keys, the identities of PSKs, and the machine's secret.

use keys::{ConfiguredPsk, DhchapKey, Identity, Secret};

/// A key has one text; an identity is made of its parts, and of no others.
pub fn keys(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = ConfiguredPsk::parse(&text) {
        assert_eq!(*key.expose(), *text);
    }
    if let Ok(key) = DhchapKey::parse(&text) {
        assert_eq!(*key.expose(), *text);
    }
    if let Ok(secret) = Secret::from_base64(data) {
        assert_eq!(secret.expose().len() % 4, 0);
    }
    let Ok(identity) = Identity::parse(data) else { return };
    for nqn in [identity.host(), identity.subsystem()] {
        assert!((1..=223).contains(&nqn.len()) && nqn.bytes().all(|byte| byte.is_ascii_graphic()), "{nqn:?}");
    }
    let (version, hash) = (identity.version().number(), identity.hash().number());
    let start = format!("NVMe{version}R0{hash} {} {}", identity.host(), identity.subsystem());
    assert!(identity.as_str().starts_with(&start) && identity.as_str().as_bytes() == data);
    // Whatever the host calls itself, its key for this identity comes of the secret.
    let keys = Secret::from_random(&[7; 32]).host(identity.host());
    let candidates = keys.tls(identity.hash()).candidates(&identity);
    assert!(version == 1 || candidates.len() == 2);
    assert!(candidates.iter().all(|psk| psk.identity == identity.as_str()));
}
