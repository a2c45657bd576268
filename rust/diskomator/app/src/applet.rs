//! Which applet is meant, and how an applet ends.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use log::LevelFilter;
use serde::Serialize;

use disks::config::Settings;
pub(crate) use kernel::error::chain;
use kernel::given;
use kernel::logger;
use kernel::root::Root;
use settings::system::LogLevel;

use crate::{blink, config, console, dhcp, export, hosts, hotplug, mdns, net, power, remote_log, ssh};

/// One name of this program.
pub(crate) struct Applet {
    pub(crate) name: &'static str,
    summary: &'static str,
    run: fn(lexopt::Parser) -> Result<(), Failure>,
}

pub(crate) const APPLETS: [Applet; 14] = [
    Applet { name: "export", summary: "list, add and remove the exports of this machine's disks", run: export::run },
    Applet { name: "hotplug", summary: "export each disk as it appears, until stopped", run: hotplug::run },
    Applet { name: "dhcp", summary: "bring every Ethernet link up and give it addresses", run: dhcp::run },
    Applet { name: "mdns", summary: "tell the network the machine's name and what it serves", run: mdns::run },
    Applet { name: "console", summary: "show addresses and disks on the screen, until stopped", run: console::run },
    Applet { name: "hosts", summary: "list which hosts are connected to which disk", run: hosts::hosts },
    Applet { name: "disconnect", summary: "end the connections of a host", run: hosts::disconnect },
    Applet { name: "blink", summary: "make the light at a disk's bay blink", run: blink::run },
    Applet { name: "log", summary: "send this machine's log to another one, until stopped", run: remote_log::run },
    Applet { name: "ssh", summary: "let people log in over SSH, if a setting says so", run: ssh::run },
    Applet { name: "net", summary: "list the network links and their addresses", run: net::run },
    Applet { name: "config", summary: "show the settings of this boot", run: config::run },
    Applet { name: "poweroff", summary: "switch the machine off, when its disks are at rest", run: power::poweroff },
    Applet { name: "reboot", summary: "restart the machine, when its disks are at rest", run: power::reboot },
];

/// Why an applet ended without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense. Exit code 2.
    #[error("{0}")]
    Usage(#[from] lexopt::Error),
    /// The work could not be done. Exit code 1.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// A failure of the work itself, whatever its type.
    pub(crate) fn failed(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed(Box::new(error))
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
        })
    }
}

/// Runs the applet that the arguments name and reports how it ended.
pub(crate) fn dispatch(args: impl Iterator<Item = OsString>) -> ExitCode {
    let (name, parser) = help_of_applet(split(args));
    let outcome = match name.as_deref() {
        None | Some("--help" | "-h" | "help") => print(&usage()),
        Some("--version" | "-V") => print(&format!("diskomator {}\n", env!("CARGO_PKG_VERSION"))),
        Some(name) => match APPLETS.iter().find(|applet| applet.name == name) {
            Some(applet) => (applet.run)(parser),
            None => Err(Failure::Usage(lexopt::Error::Custom(
                format!("there is no applet {name:?}; `diskomator --help` lists them").into(),
            ))),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("diskomator: {}", chain(&failure));
            failure.exit_code()
        }
    }
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(error)),
        _ => Ok(()),
    }
}

/// The links that a daemon is to use, from its command line, none meaning all; `None` if only help is wanted.
pub(crate) fn chosen_links(mut args: lexopt::Parser) -> Result<Option<Vec<String>>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut only = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Short('i') | Long("interface") => only.push(args.value()?.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(only))
}

/// Writes a list for programs to standard output.
pub(crate) fn print_json(list: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(list).map_err(Failure::failed)?;
    text.push('\n');
    print(&text)
}

/// Starts a daemon's log and returns the settings of this boot. Every daemon
/// would find the same typos, so only one of them reports (`report_typos`).
pub(crate) fn start_daemon(name: &'static str, root: &Root, report_typos: bool) -> Settings {
    let (settings, error): (Settings, _) = given::read(root);
    logger::init(name, level_filter(settings.config.system.log), true);
    if let Some(error) = &error {
        log::warn!("no kernel command line: {}", chain(error));
    }
    if report_typos {
        for warning in &settings.warnings {
            log::warn!("{warning}");
        }
    }
    settings
}

/// `log`'s name for a level.
pub(crate) const fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

fn split(mut args: impl Iterator<Item = OsString>) -> (Option<String>, lexopt::Parser) {
    let called = args.next().unwrap_or_default();
    let called = Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = match called.strip_prefix("diskomator-") {
        Some(name) => Some(name.to_owned()),
        None => args.next().map(|name| name.to_string_lossy().into_owned()),
    };
    (name, lexopt::Parser::from_args(args))
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

fn usage() -> String {
    let mut text = String::from(
        "Usage: diskomator APPLET [ARGUMENT...]\n\n\
         Exposes the local disks of this machine over NVMe/TCP.\n\nApplets:\n",
    );
    for applet in &APPLETS {
        text.push_str(&format!("  {:<10} {}\n", applet.name, applet.summary));
    }
    text.push_str("\n`diskomator help APPLET` says more. Each applet is also a command: diskomator-APPLET.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(args: &[&str]) -> Option<String> {
        split(args.iter().map(OsString::from)).0
    }

    #[test]
    fn the_applet_is_the_name_called_or_the_first_argument() {
        assert_eq!(name(&["/usr/sbin/diskomator-dhcp", "--help"]).as_deref(), Some("dhcp"));
        assert_eq!(name(&["diskomator", "export", "list"]).as_deref(), Some("export"));
        assert_eq!(name(&["diskomator"]), None);
        assert_eq!(name(&[]), None);
    }

    #[test]
    fn what_a_key_of_the_console_does_a_command_does_too() {
        let bindings = screen::ui::BINDINGS;
        for binding in bindings.iter().filter(|binding| binding.command.starts_with("diskomator ")) {
            let applet = binding.command.split(' ').nth(1).unwrap();
            let is_one = APPLETS.iter().any(|other| other.name == applet) || applet == "--help";
            assert!(is_one, "{}: {}", binding.name, binding.command);
        }
    }

    #[test]
    fn a_word_that_is_no_applet_is_a_usage_error() {
        let code = dispatch(["diskomator", "exprot"].iter().map(OsString::from));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(2)));
    }
}
