//! Public keys, and the file `authorized_keys`.

use settings::ssh::{PublicKey, authorized_keys, count_keys, fingerprint, lines, refused};

/// A key is what it was when it is written down, in one line and of letters
/// that mean nothing to a shell; and a file of keys loses none of them.
pub fn ssh(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = text.parse::<PublicKey>() {
        let line = key.to_string();
        assert_eq!(line.parse(), Ok(key));
        assert!(line.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{line:?}");
        // The server gets what was meant.
        assert_eq!(count_keys(line.as_bytes()), 1, "{line:?}");
    }
    if let Some(fingerprint) = fingerprint(&text) {
        assert_eq!(fingerprint.len(), "SHA256:".len() + 43);
    }
    // Each line is seen once, whatever ends it.
    let seen: usize = lines(data).map(|line| line.text.len()).sum();
    assert_eq!(seen, data.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).count());
    assert!(refused(data).all(|(number, why)| number > 0 && !why.to_string().contains(char::is_control)));
    // The content that was there, and the content to add.
    let (file, new) = text.split_once('\0').unwrap_or((&text, &text));
    let (file, new) = (file.as_bytes(), new.as_bytes());
    let Some(both) = authorized_keys(file, [new]) else { return };
    assert!(both.starts_with(file.trim_ascii_end()) && both.ends_with(b"\n"));
    assert!(count_keys(&both) >= count_keys(file));
    // Behind lines that end the file for the server nothing counts, and is added again.
    if refused(&both).next().is_none() {
        assert_eq!(authorized_keys(&both, [new]), None, "{both:?}");
        assert!(count_keys(&both) >= count_keys(new));
    }
}
