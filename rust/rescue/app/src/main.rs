//! The one binary of a stick that boots into a network. Each applet is one of its
//! names: `rescue-dhcp` is `rescue dhcp`.
#![forbid(unsafe_code)]

mod config;
mod console;

use std::process::ExitCode;

use daemons::{config as settings_list, dhcp, mdns, net, power, remote_log, ssh};
use netproto::mdns::zone::Service;
use runtime::{Applet, Program};

use crate::config::Config;

/// DNS-based service discovery knows SSH servers by this type (IANA).
const SERVICE: Service = Service { kind: ["_ssh", "_tcp"], port: 22, txt: &[] };

/// The step before the machine goes down.
const SYNC: &str = "\
Data that disks hold in their caches is written first.
";

const PROGRAM: Program = Program {
    name: "rescue",
    version: env!("CARGO_PKG_VERSION"),
    purpose: "Boots a machine into a network, for repair over SSH.",
    applets: &APPLETS,
};

const APPLETS: [Applet; 9] = [
    Applet { name: "console", summary: "show addresses and the SSH login, until stopped", run: console::run },
    Applet { name: "dhcp", summary: "bring every Ethernet link up and give it addresses", run: dhcp::run::<Config> },
    Applet {
        name: "mdns",
        summary: "tell the network the machine's name and what it serves",
        run: |args| mdns::run::<Config>(args, |_| SERVICE),
    },
    Applet {
        name: "log",
        summary: "send this machine's log to another one, until stopped",
        run: remote_log::run::<Config>,
    },
    Applet { name: "ssh", summary: "let people log in over SSH", run: ssh::run::<Config> },
    Applet { name: "net", summary: "list the network links and their addresses", run: net::run::<Config> },
    Applet {
        name: "config",
        summary: "show the settings of this boot",
        run: |args| settings_list::run::<Config>(args, ""),
    },
    Applet { name: "poweroff", summary: "switch the machine off", run: |args| power::poweroff::<Config>(args, SYNC) },
    Applet { name: "reboot", summary: "restart the machine", run: |args| power::reboot::<Config>(args, SYNC) },
];

fn main() -> ExitCode {
    PROGRAM.dispatch(std::env::args_os())
}
