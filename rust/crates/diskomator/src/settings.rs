//! `diskomator config`: the settings of this boot, as the daemons understand
//! them, for people and for scripts.

use diskomator_core::config::{Config, ExportMode, LogLevel};
use diskomator_sys::root::Root;
use lexopt::Arg::{Long, Short, Value};

use crate::applet::{Failure, print};

const USAGE: &str = "\
Usage: diskomator config [NAME]

Prints each setting of this boot as NAME=VALUE, or the value of one alone.
Settings are words of the kernel command line: diskomator.NAME=VALUE.

Settings:
  debug   yes or no: a root shell on the serial console
  export  all or none: which disks are exported by themselves
  log     error, warn, info, debug or trace: what the daemons log

Options:
  -h, --help  show this text
";

/// Runs the applet.
pub(crate) fn run(mut args: lexopt::Parser) -> Result<(), Failure> {
    let mut wanted = None;
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return print(USAGE),
            Value(name) if wanted.is_none() => wanted = Some(name.to_string_lossy().into_owned()),
            other => return Err(other.unexpected().into()),
        }
    }
    let cmdline = Root::default().read("proc/cmdline").map_err(Failure::failed)?;
    let settings = settings(&Config::from_cmdline(&cmdline).0);
    let text = match wanted {
        None => settings.map(|(name, value)| format!("{name}={value}\n")).concat(),
        Some(wanted) => match settings.iter().find(|(name, _)| *name == wanted) {
            Some((_, value)) => format!("{value}\n"),
            None => {
                let error = format!("there is no setting {wanted:?}; `diskomator config` lists them");
                return Err(Failure::Usage(error.into()));
            }
        },
    };
    print(&text)
}

fn settings(config: &Config) -> [(&'static str, &'static str); 3] {
    let export = ExportMode::WORDS.iter().find(|(_, mode)| *mode == config.export);
    let log = LogLevel::ALL.iter().find(|(_, level)| *level == config.log);
    [
        ("debug", if config.debug { "yes" } else { "no" }),
        ("export", export.map_or("", |(name, _)| *name)),
        ("log", log.map_or("", |(name, _)| *name)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_printed_as_they_can_be_set() {
        for line in ["", "diskomator.debug=on diskomator.export=none diskomator.log=trace"] {
            let (config, _) = Config::from_cmdline(line);
            let again: Vec<String> =
                settings(&config).iter().map(|(name, value)| format!("diskomator.{name}={value}")).collect();
            assert_eq!(Config::from_cmdline(&again.join(" ")), (config, vec![]));
        }
    }
}
