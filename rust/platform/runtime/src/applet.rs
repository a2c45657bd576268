//! A program whose applets are found by the name that it is called by.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use kernel::error::chain;

use crate::{Failure, print};

/// One name of a program.
pub struct Applet {
    /// The name, as in `PROGRAM-NAME` and `PROGRAM NAME`.
    pub name: &'static str,
    /// Its purpose, in a line of the help.
    pub summary: &'static str,
    /// Runs it.
    pub run: fn(lexopt::Parser) -> Result<(), Failure>,
}

/// A program of applets.
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its purpose, as a sentence.
    pub purpose: &'static str,
    /// All of them.
    pub applets: &'static [Applet],
}

impl Program {
    /// Runs the applet that the arguments name and reports how it ended.
    pub fn dispatch(&self, args: impl Iterator<Item = OsString>) -> ExitCode {
        let (name, parser) = help_of_applet(self.split(args));
        let program = self.name;
        let outcome = match name.as_deref() {
            None | Some("--help" | "-h" | "help") => print(&self.usage()),
            Some("--version" | "-V") => print(&format!("{program} {}\n", self.version)),
            Some(name) => match self.applets.iter().find(|applet| applet.name == name) {
                Some(applet) => (applet.run)(parser),
                None => Err(Failure::Usage(lexopt::Error::Custom(
                    format!("there is no applet {name:?}; `{program} --help` lists them").into(),
                ))),
            },
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("{program}: {}", chain(&failure));
                failure.exit_code()
            }
        }
    }

    fn split(&self, mut args: impl Iterator<Item = OsString>) -> (Option<String>, lexopt::Parser) {
        let called = args.next().unwrap_or_default();
        let called = Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = match called.strip_prefix(self.name).and_then(|rest| rest.strip_prefix('-')) {
            Some(name) => Some(name.to_owned()),
            None => args.next().map(|name| name.to_string_lossy().into_owned()),
        };
        (name, lexopt::Parser::from_args(args))
    }

    fn usage(&self) -> String {
        let program = self.name;
        let mut text = format!("Usage: {program} APPLET [ARGUMENT...]\n\n{}\n\nApplets:\n", self.purpose);
        for applet in self.applets {
            text.push_str(&format!("  {:<10} {}\n", applet.name, applet.summary));
        }
        text.push_str(&format!(
            "\n`{program} help APPLET` says more. Each applet is also a command: {program}-APPLET.\n"
        ));
        text
    }
}

/// `help APPLET` is `APPLET --help`.
fn help_of_applet((name, mut parser): (Option<String>, lexopt::Parser)) -> (Option<String>, lexopt::Parser) {
    if name.as_deref() == Some("help") {
        if let Ok(Some(lexopt::Arg::Value(applet))) = parser.next() {
            return (Some(applet.to_string_lossy().into_owned()), lexopt::Parser::from_args(["--help"]));
        }
    }
    (name, parser)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program {
        name: "diskomator",
        version: "1",
        purpose: "Does something.",
        applets: &[Applet { name: "export", summary: "exports", run: |_| Ok(()) }],
    };

    fn name(args: &[&str]) -> Option<String> {
        PROGRAM.split(args.iter().map(OsString::from)).0
    }

    #[test]
    fn the_applet_is_the_name_called_or_the_first_argument() {
        assert_eq!(name(&["/usr/sbin/diskomator-dhcp", "--help"]).as_deref(), Some("dhcp"));
        assert_eq!(name(&["diskomator", "export", "list"]).as_deref(), Some("export"));
        assert_eq!(name(&["diskomator"]), None);
        assert_eq!(name(&[]), None);
    }

    #[test]
    fn a_word_that_is_no_applet_is_a_usage_error() {
        for (word, code) in [("exprot", 2), ("export", 0), ("--help", 0)] {
            let outcome = PROGRAM.dispatch(["diskomator", word].iter().map(OsString::from));
            assert_eq!(format!("{outcome:?}"), format!("{:?}", ExitCode::from(code)), "{word}");
        }
    }
}
