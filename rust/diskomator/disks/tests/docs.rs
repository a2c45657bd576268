//! The table of settings in docs/settings.md is the one that the program has.

use std::path::Path;
use std::{env, fs};

use disks::config::Config;
use settings::markdown;

const BEGIN: &str = "<!-- settings: made by `WRITE_DOCS=1 scripts/cargo test --manifest-path rust/Cargo.toml \
                     -p disks --test docs` -->\n";
const END: &str = "<!-- end of settings -->";

#[test]
fn docs_have_the_table_of_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/settings.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("docs/settings.md has the mark before the table");
    let (_, after) = rest.split_once(END).expect("docs/settings.md has the mark behind the table");
    let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", markdown::<Config>());
    if env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "the table in docs/settings.md is not that of the program; the command above it writes it"
        );
    }
}
