//! The tables in docs are the ones that the program has.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use std::path::{Path, PathBuf};
use std::{env, fs};

use disks::config::Config;
use disks::kind;

/// The mark before a table, for the name of the table.
fn begin(table: &str) -> String {
    format!(
        "<!-- {table}: made by `WRITE_DOCS=1 scripts/cargo test --manifest-path rust/Cargo.toml -p disks --test docs` \
         -->\n"
    )
}

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs").join(name)
}

/// The page with this table between its marks.
fn with_table(text: &str, table: &str, content: &str) -> String {
    let (begin, end) = (begin(table), format!("<!-- end of {table} -->"));
    let (before, rest) = text.split_once(&begin).expect("the page has the mark before the table");
    let (_, after) = rest.split_once(&end).expect("the page has the mark behind the table");
    format!("{before}{begin}\n{content}\n{end}{after}")
}

/// Writes the page, or compares it.
fn check(name: &str, change: impl Fn(&str) -> String) {
    let text = fs::read_to_string(page(name)).unwrap();
    let wanted = change(&text);
    if env::var_os("WRITE_DOCS").is_some() {
        fs::write(page(name), &wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "the tables in docs/{name} are not those of the program; the command above them writes them"
        );
    }
}

#[test]
fn docs_have_the_table_of_settings() {
    /// The row of the patterns that are buses ends so.
    const BY_BUS: &str = " by [how they are attached](disks.md#kinds-of-disks) |";
    check("settings.md", |text| {
        let text = with_table(text, "settings", &settings::markdown::<Config>());
        let (before, after) = text.split_once(BY_BUS).expect("docs/settings.md has the row of buses");
        let (before, _) = before.rsplit_once('\n').unwrap();
        format!("{before}\n{}{BY_BUS}{after}", kind::markdown_keywords())
    });
}

#[test]
fn docs_have_the_table_of_kinds() {
    check("disks.md", |text| with_table(text, "kinds", &kind::markdown()));
}
