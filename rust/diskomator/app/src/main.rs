//! The appliance's one binary. Each applet is one of its names: called as
//! `diskomator-dhcp` it is what `diskomator dhcp` is.

mod applet;
mod blink;
mod config;
mod console;
mod dhcp;
mod dhcp6;
mod export;
mod exporter;
mod hosts;
mod hotplug;
mod listing;
mod mdns;
mod name;
mod name_in_use;
mod net;
mod network;
mod power;
mod remote_log;
mod ssh;

use std::process::ExitCode;

fn main() -> ExitCode {
    applet::PROGRAM.dispatch(std::env::args_os())
}
