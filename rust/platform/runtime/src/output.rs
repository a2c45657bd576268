//! Output for people and for programs.

use std::io::{self, Write};

use serde::Serialize;
use settings::Product;

use crate::{AppletError, Failure};

/// Why the output of an applet did not come out.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Standard output takes no more text.
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
    /// A list has no JSON.
    #[error("cannot write the list as JSON")]
    Json(#[source] serde_json::Error),
}

impl AppletError for OutputError {}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OutputError::Write(error).into()),
        _ => Ok(()),
    }
}

/// Writes a help text, in which `{product}` stands for the product's name.
pub fn print_help<C: Product>(text: &str) -> Result<(), Failure> {
    print(&text.replace("{product}", C::NAME))
}

/// Writes a list for programs to standard output.
pub fn print_json(list: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(list).map_err(OutputError::Json)?;
    text.push('\n');
    print(&text)
}

/// A table for people, of lines whose columns are as wide as their widest cell. The first row is the header.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
