//! Public keys, and the file in which they let somebody in.

use std::str;

use diskomator_core::ssh::{PublicKey, authorized_keys, fingerprint, key_lines};

/// A key is what it was when it is written down, in one line and of letters
/// that mean nothing to a shell; and a file of keys loses none of them.
pub fn ssh(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = text.parse::<PublicKey>() {
        let line = key.to_string();
        assert_eq!(line.parse(), Ok(key));
        assert!(line.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{line:?}");
        assert_eq!(key_lines(&line).collect::<Vec<_>>(), [line.as_str()]);
    }
    if let Some(fingerprint) = fingerprint(&text) {
        assert_eq!(fingerprint.len(), "SHA256:".len() + 43);
    }
    // What was there, and what is to be there, too.
    let (file, new) = text.split_once('\0').unwrap_or((&text, &text));
    let Some(both) = authorized_keys(file, key_lines(new)) else { return };
    assert!(both.starts_with(file.trim_end()) && both.ends_with('\n'));
    assert_eq!(authorized_keys(&both, key_lines(new)), None, "{both:?}");
    let kept: Vec<&str> = key_lines(&both).collect();
    assert!(key_lines(file).all(|line| kept.iter().any(|kept| kept.trim_end() == line.trim_end())), "{both:?}");
}
