//! `diskomator config`: the settings of this boot, as the daemons understand
//! them, for people and for scripts.

use diskomator_core::config::{Config, LogLevel};
use diskomator_sys::root::Root;
use lexopt::Arg::{Long, Short, Value};

use crate::applet::{Failure, print};

const USAGE: &str = "\
Usage: diskomator config [NAME]

Prints each setting of this boot as NAME=VALUE, or the value of one alone.
Settings are words of the kernel command line: diskomator.NAME=VALUE.

Settings:
  debug       yes or no: a root shell on the serial console
  export      DISKS: which disks are exported by themselves
  ip          [DEV:]ADDRESS/PREFIX[,GATEWAY]: an address that a link has, and no
              DHCP on it; [DEV:]off: no DHCP; [DEV:]dhcp: DHCP. Can be given
              more than once
  log         error, warn, info, debug or trace: what the daemons log
  partitions  DISKS: of which disks the partitions are exported, and not the
              disks themselves
  passthru    DISKS: with which NVMe disks hosts get the controller itself, for
              SMART, firmware and format commands, and all of its namespaces
  readonly    DISKS: which disks hosts can only read

DISKS is all, none, or a list of patterns, parted by commas:
  sda, nvme*              the kernel's name; * is any text, ? one character
  model:TEXT, serial:TEXT what the disk calls itself; _ stands for a space, too
  id:TEXT                 its name in /dev/disk/by-id
  nvme, ata, scsi, usb, mmc, virtio, virtual, other   how it is attached
  removable, read-only, boot   what it is; boot: this machine started from it
  size>=500G, size<2T     how large it is (K, M, G, T and P are powers of 1024)
A pattern with ! before it takes disks out again, and the last one that a disk
matches decides; a list that starts with ! means all other disks. `readonly`,
`partitions` and `passthru` alone mean all disks. What is said to be read-only
is not passed through.

DEV is the kernel's name of an Ethernet link or its MAC address. An address
without DEV is for the first one with a cable in it, `off` for all. IPv6
addresses do not keep a link from asking for one of IPv4 by DHCP. The kernel's
own form, ip=ADDRESS::GATEWAY:NETMASK::DEV, gives an address, too.

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
        None => settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<Vec<_>>().concat(),
        Some(wanted) => {
            let values = settings.iter().filter(|(name, _)| *name == wanted);
            let lines: Vec<String> = values.map(|(_, value)| format!("{value}\n")).collect();
            if lines.is_empty() {
                let error = format!("there is no setting {wanted:?}; `diskomator config` lists them");
                return Err(Failure::Usage(error.into()));
            }
            lines.concat()
        }
    };
    print(&text)
}

/// Each setting, and one that was given more than once as often.
fn settings(config: &Config) -> Vec<(&'static str, String)> {
    let mut ip: Vec<_> = config.ip.settings().map(|setting| ("ip", setting.to_string())).collect();
    if ip.is_empty() {
        ip.push(("ip", "dhcp".to_owned()));
    }
    let log = LogLevel::ALL.iter().find(|(_, level)| *level == config.log);
    let before = [("debug", if config.debug { "yes" } else { "no" }.to_owned()), ("export", config.export.to_string())];
    let after = [
        ("log", log.map_or("", |(name, _)| *name).to_owned()),
        ("partitions", config.partitions.to_string()),
        ("passthru", config.passthru.to_string()),
        ("readonly", config.readonly.to_string()),
    ];
    before.into_iter().chain(ip).chain(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_printed_as_they_can_be_set() {
        let ip = "diskomator.ip=off diskomator.ip=eth0:dhcp diskomator.ip=eth1:2001:db8::7/64 ip=192.0.2.7";
        for line in ["", ip, "diskomator.debug=on diskomator.export=!usb,sda diskomator.log=trace diskomator.readonly"]
        {
            let (config, _) = Config::from_cmdline(line);
            let again: Vec<String> =
                settings(&config).iter().map(|(name, value)| format!("diskomator.{name}={value}")).collect();
            assert_eq!(Config::from_cmdline(&again.join(" ")), (config, vec![]));
        }
    }
}
