//! `poweroff` and `reboot`: what the power button and
//! Ctrl-Alt-Del do.

use std::io;

use kernel::root::{FileError, Root};
use kernel::signals::{InitSignal, signal_init};
use runtime::{AppletError, Failure, print_help};
use settings::Product;

/// The rest of both help texts.
const HOW: &str = "\
Only for the {product} appliance: other systems have commands of their own.

Options:
  -h, --help  show this text

Exit status: 0 it is going down, 1 it is not, 2 wrong usage.
";

/// Why the machine stays on.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// Another init would take the signal for something else.
    #[error("this is not the {product} appliance but a system whose init is {init}; use its own command")]
    NotTheAppliance {
        /// The name of the product.
        product: &'static str,
        /// The other init's program.
        init: String,
    },
    /// Init can't be looked at.
    #[error("cannot look for init")]
    Init(#[source] FileError),
    /// Init does not take the signal.
    #[error("cannot tell init")]
    Signal(#[source] io::Error),
}

impl AppletError for PowerError {}

/// Runs `poweroff`. The help has the `steps` before it happens.
pub fn poweroff<C: Product>(args: lexopt::Parser, steps: &str) -> Result<(), Failure> {
    let usage = "Usage: {product} poweroff\n\nSwitches the machine off, as the power button does.\n";
    run::<C>(args, usage, steps, InitSignal::PowerOff)
}

/// Runs `reboot`, as [`poweroff`].
pub fn reboot<C: Product>(args: lexopt::Parser, steps: &str) -> Result<(), Failure> {
    run::<C>(
        args,
        "Usage: {product} reboot\n\nRestarts the machine, as Ctrl-Alt-Del does.\n",
        steps,
        InitSignal::Reboot,
    )
}

fn run<C: Product>(mut args: lexopt::Parser, usage: &str, steps: &str, signal: InitSignal) -> Result<(), Failure> {
    if let Some(arg) = args.next()? {
        return match arg {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => print_help::<C>(&format!("{usage}{steps}\n{HOW}")),
            other => Err(other.unexpected().into()),
        };
    }
    Ok(ask_init::<C>(signal)?)
}

fn ask_init<C: Product>(signal: InitSignal) -> Result<(), PowerError> {
    check_init::<C>()?;
    signal_init(signal).map_err(PowerError::Signal)
}

/// Whether this machine's init is ours, which restarts the machine when it is asked to.
pub fn check_init<C: Product>() -> Result<(), PowerError> {
    let init = Root::default().resolve("proc/1/exe").map_err(PowerError::Init)?;
    if init.file_name().is_none_or(|name| name != "busybox") {
        return Err(PowerError::NotTheAppliance { product: C::NAME, init: init.display().to_string() });
    }
    Ok(())
}

/// Restarts the machine, when its disks are at rest.
pub fn restart<C: Product>() -> Result<(), PowerError> {
    ask_init::<C>(InitSignal::Reboot)
}
