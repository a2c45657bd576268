//! `diskomator poweroff` and `diskomator reboot`: what the power button and
//! Ctrl-Alt-Del do.

use std::io;

use kernel::root::{FileError, Root};
use kernel::signals::{InitSignal, signal_init};
use runtime::{Failure, print};

/// The steps of both.
const HOW: &str = "\
No host gets a disk any more, what hosts have under way is finished, disks write
what they hold in their caches, hosts are told that the disks are gone, and then
it happens. A disk that does not answer delays that by some ten seconds.

Only for the Diskomator appliance: other systems have commands of their own.

Options:
  -h, --help  show this text

Exit status: 0 it is going down, 1 it is not, 2 wrong usage.
";

/// Why the machine stays on.
#[derive(Debug, thiserror::Error)]
enum PowerError {
    #[error("this is not the Diskomator appliance but a system whose init is {0}; use its own command")]
    NotTheAppliance(String),
    #[error("cannot look for init")]
    Init(#[source] FileError),
    #[error("cannot tell init")]
    Signal(#[source] io::Error),
}

/// Runs `poweroff`.
pub(crate) fn poweroff(args: lexopt::Parser) -> Result<(), Failure> {
    let usage = "Usage: diskomator poweroff\n\nSwitches the machine off, as the power button does.\n";
    run(args, usage, InitSignal::PowerOff)
}

/// Runs `reboot`.
pub(crate) fn reboot(args: lexopt::Parser) -> Result<(), Failure> {
    run(args, "Usage: diskomator reboot\n\nRestarts the machine, as Ctrl-Alt-Del does.\n", InitSignal::Reboot)
}

fn run(mut args: lexopt::Parser, usage: &str, signal: InitSignal) -> Result<(), Failure> {
    if let Some(arg) = args.next()? {
        return match arg {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => print(&format!("{usage}{HOW}")),
            other => Err(other.unexpected().into()),
        };
    }
    ask_init(signal).map_err(Failure::failed)
}

/// Another init would take the signal for something else.
fn ask_init(signal: InitSignal) -> Result<(), PowerError> {
    let init = Root::default().resolve("proc/1/exe").map_err(PowerError::Init)?;
    if init.file_name().is_none_or(|name| name != "busybox") {
        return Err(PowerError::NotTheAppliance(init.display().to_string()));
    }
    signal_init(signal).map_err(PowerError::Signal)
}
