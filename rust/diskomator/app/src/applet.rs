//! The registry of applets.

use daemons::{config, dhcp, mdns, net, power, remote_log, ssh};
use disks::config::Config;
use nvmet::discovery::service;
use runtime::{Applet, Program};

use crate::{access, blink, boot, console, export, hosts, hotplug, key};

/// The appliance's one program.
pub(crate) const PROGRAM: Program = Program {
    name: "diskomator",
    version: env!("CARGO_PKG_VERSION"),
    purpose: "Exposes the local disks of this machine over NVMe/TCP.",
    applets: &APPLETS,
};

/// The values of the settings about disks, for the help of `config`.
const VALUES: &str = "\
DISKS is all, none, or a list of patterns, parted by commas:
  sda, nvme*              the kernel's name; * is any text, ? one character
  model:TEXT, serial:TEXT what the disk calls itself; _ stands for a space, too
  id:TEXT                 its name in /dev/disk/by-id
  nvme, ata, scsi, usb, mmc, virtio, virtual, other   how it is attached
  removable, read-only, boot   what it is; boot: this machine started from it
  size>=500G, size<2T     how large it is (K, M, G, T and P are powers of 1024)
A pattern with ! before it takes disks out again, and the last one that a disk
matches decides; a list that starts with ! means all other disks. `readonly`,
`partitions` and `passthru` alone mean all disks. A read-only disk
is not passed through.

MODE is open, ask or paired; `diskomator help access` says more. HOSTNQN is the
NQN of a host, as `cat /etc/nvme/hostnqn` shows it there; only a last `:ro` is
no part of it.

";

/// The steps before the machine goes down.
const AT_REST: &str = "\
No host gets a disk any more, what hosts have under way is finished, disks write
what they hold in their caches, hosts are told that the disks are gone, and then
it happens. A disk that does not answer delays that by some ten seconds.
";

const APPLETS: [Applet; 19] = [
    Applet { name: "export", summary: "list, add and remove the exports of this machine's disks", run: export::run },
    Applet { name: "hotplug", summary: "export each disk as it appears, until stopped", run: hotplug::run },
    Applet { name: "dhcp", summary: "bring every Ethernet link up and give it addresses", run: dhcp::run::<Config> },
    Applet {
        name: "mdns",
        summary: "tell the network the machine's name and what it serves",
        run: |args| mdns::run::<Config>(args, |config| service(config.mode())),
    },
    Applet { name: "console", summary: "show addresses and disks on the screen, until stopped", run: console::run },
    Applet { name: "access", summary: "note which hosts ask for the disks, until stopped", run: access::run },
    Applet { name: "hosts", summary: "list which hosts use, ask for and may use the disks", run: hosts::hosts },
    Applet { name: "allow", summary: "admit a host to the disks", run: access::answer::allow },
    Applet { name: "deny", summary: "refuse the disks to a host", run: access::answer::deny },
    Applet { name: "key", summary: "print the keys of a host, and how it connects with them", run: key::run },
    Applet { name: "disconnect", summary: "end the connections of a host", run: hosts::disconnect },
    Applet { name: "blink", summary: "make the light at a disk's bay blink", run: blink::run },
    Applet { name: "boot", summary: "restart the machine from a disk, once", run: boot::run },
    Applet {
        name: "log",
        summary: "send this machine's log to another one, until stopped",
        run: remote_log::run::<Config>,
    },
    Applet { name: "ssh", summary: "let people log in over SSH, if a setting says so", run: ssh::run::<Config> },
    Applet { name: "net", summary: "list the network links and their addresses", run: net::run::<Config> },
    Applet {
        name: "config",
        summary: "show the settings of this boot",
        run: |args| config::run::<Config>(args, VALUES),
    },
    Applet {
        name: "poweroff",
        summary: "switch the machine off, when its disks are at rest",
        run: |args| power::poweroff::<Config>(args, AT_REST),
    },
    Applet {
        name: "reboot",
        summary: "restart the machine, when its disks are at rest",
        run: |args| power::reboot::<Config>(args, AT_REST),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_for_help_fit_a_terminal() {
        assert!(VALUES.lines().chain(AT_REST.lines()).all(|line| line.len() <= 80));
    }

    #[test]
    fn what_a_key_of_the_console_does_a_command_does_too() {
        let bindings = screen::bindings::BINDINGS;
        for binding in bindings.iter().filter(|binding| binding.command.starts_with("diskomator ")) {
            let applet = binding.command.split(' ').nth(1).unwrap();
            let is_one = APPLETS.iter().any(|other| other.name == applet) || applet == "--help";
            assert!(is_one, "{}: {}", binding.name, binding.command);
        }
    }
}
