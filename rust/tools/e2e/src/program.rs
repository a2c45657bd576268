//! Parts that the programs beside the tests share (`make demo`, `make bench`), and the start of programs of this
//! machine.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{fs, result};

use serde::Serialize;

use crate::{Error, Failure};

/// A line for the terminal. A closed pipe is no failure.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// How the program ends, with the reason if that is a failure.
pub fn exit_code(outcome: result::Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Keeps a report for programs that read it.
pub fn write_json(path: &Path, report: &impl Serialize) -> result::Result<(), Failure> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    Ok(fs::write(path, text).map_err(|source| Error::File { verb: "write", path: path.to_owned(), source })?)
}

/// Runs a program of this machine to its end.
pub(crate) fn run(command: &mut Command) -> crate::Result<()> {
    let program = || command.get_program().to_string_lossy().into_owned();
    let name = program();
    let output = command.output().map_err(|source| Error::Start { program: name, source })?;
    if output.status.success() {
        return Ok(());
    }
    let words = [command.get_program()].into_iter().chain(command.get_args());
    Err(Error::Program {
        command: words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" "),
        status: output.status,
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
