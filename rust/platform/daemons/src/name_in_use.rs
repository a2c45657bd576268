//! The name that the machine has on the network now. It differs from the name of the settings if another machine
//! had that one already. The applet `mdns` alone writes it, to one file in /run; every other applet reads it there.

use std::fs::File;
use std::io::{self, Read as _};

use kernel::root::{FileError, Root};

/// The directory in which the file comes and goes.
pub const DIRECTORY: &str = "run";
const FILE: &str = "run/machine-name";
/// RFC 1035 section 2.3.4.
const LABEL_MAX: usize = 63;

/// The name without `.local`; `None` before a link has it, and if the file holds no host name.
pub fn read(root: &Root) -> Option<String> {
    // One byte more than the longest line shows that a line is too long.
    let mut content = Vec::with_capacity(LABEL_MAX + 2);
    File::open(root.path(FILE)).ok()?.take(LABEL_MAX as u64 + 2).read_to_end(&mut content).ok()?;
    parse(&content).map(str::to_owned)
}

/// Puts the name in place of the one before.
pub fn write(root: &Root, label: &str) -> Result<(), FileError> {
    root.keep(FILE, format!("{label}\n"))
}

/// Removes the name if there is one.
pub fn remove(root: &Root) -> Result<(), FileError> {
    match root.unlink(FILE) {
        Err(error) if error.io().kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A label of a host name (RFC 1123 section 2.1) and the end of its line.
fn parse(content: &[u8]) -> Option<&str> {
    let label = std::str::from_utf8(content.strip_suffix(b"\n")?).ok()?;
    let is_good = (1..=LABEL_MAX).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-');
    is_good.then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path());
        root.keep_dir(DIRECTORY).unwrap();
        (directory, root)
    }

    #[test]
    fn a_name_that_changes_is_read_anew_and_one_that_is_removed_is_gone() {
        let (_directory, root) = tree();
        assert_eq!(read(&root), None);
        remove(&root).unwrap();
        write(&root, "bench-1").unwrap();
        assert_eq!(read(&root).as_deref(), Some("bench-1"));
        write(&root, "bench-1-2").unwrap();
        assert_eq!(read(&root).as_deref(), Some("bench-1-2"));
        assert_eq!(root.list(DIRECTORY).unwrap(), ["machine-name"], "no temporary file is left");
        remove(&root).unwrap();
        assert_eq!(read(&root), None);
    }

    #[test]
    fn the_longest_label_is_a_name_and_a_file_of_anything_else_is_none() {
        let (_directory, root) = tree();
        let longest = "a".repeat(LABEL_MAX);
        write(&root, &longest).unwrap();
        assert_eq!(read(&root), Some(longest.clone()));
        for content in ["", "\n", "half", "-a\n", "a-\n", "a b\n", "a\nb\n", "\u{e4}\n", "\x1b[2J\n"] {
            root.keep(FILE, content).unwrap();
            assert_eq!(read(&root), None, "{content:?}");
        }
        for overlong in [format!("{longest}a\n"), "a".repeat(1 << 20)] {
            root.keep(FILE, &overlong).unwrap();
            assert_eq!(read(&root), None, "{} bytes", overlong.len());
        }
        root.keep(FILE, [0xff, b'\n']).unwrap();
        assert_eq!(read(&root), None);
    }
}
