//! Lines of `authorized_keys`, and whether the SSH server takes them: what this program counts as
//! a key. The end-to-end test `who_has_a_key_that_was_given_gets_in_and_nobody_else` asks the
//! server itself about the same lines.
#![allow(clippy::panic, reason = "these are tests")]

#[path = "authorized_keys/table.rs"]
#[allow(dead_code, reason = "a client's key is for others who use the table")]
mod table;

use settings::ssh::{count_keys, refused};

#[test]
fn a_key_counts_if_and_only_if_the_server_takes_its_line() {
    let mut file = Vec::new();
    let rows = table::rows();
    for row in &rows {
        let shown = String::from_utf8_lossy(&row.line);
        assert_eq!(count_keys(&row.line), usize::from(row.admits), "{}: {shown:?}", row.what);
        // One that does not count is reported, unless it is meant to be none.
        let is_silent = row.admits || row.what.starts_with("a comment");
        assert_eq!(refused(&row.line).count(), usize::from(!is_silent), "{}: {shown:?}", row.what);
        file.extend([&row.line[..], b"\n"].concat());
    }
    // Lines do nothing to each other.
    assert_eq!(count_keys(&file), rows.iter().filter(|row| row.admits).count());
}
