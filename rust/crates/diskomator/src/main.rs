//! The appliance's one binary. Each applet is one of its names: called as
//! `diskomator-dhcp` it is what `diskomator dhcp` is.

mod applet;
mod blink;
mod console;
mod dhcp;
mod export;
mod exporter;
mod hold;
mod hosts;
mod hotplug;
mod listing;
mod mdns;
mod net;
mod power;
mod settings;
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    applet::dispatch(std::env::args_os())
}
