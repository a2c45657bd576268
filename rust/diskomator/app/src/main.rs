//! The appliance's one binary. Each applet is one of its names: called as
//! `diskomator-dhcp` it is what `diskomator dhcp` is.

mod access;
mod admission;
mod applet;
mod blink;
mod boot;
mod console;
mod export;
mod exporter;
mod hosts;
mod hotplug;
mod key;
mod listing;
mod secret;

use std::process::ExitCode;

fn main() -> ExitCode {
    applet::PROGRAM.dispatch(std::env::args_os())
}
