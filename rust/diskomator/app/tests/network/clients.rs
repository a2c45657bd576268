//! The appliance's DHCP client, and those that others use.

use std::fs;

use crate::lab::{Background, Lab, run};

/// A program that asks for addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Diskomator,
    Udhcpc,
    /// Asked to probe, which it does not by default.
    UdhcpcProbing,
    Dhcpcd,
    /// Asked not to probe.
    DhcpcdHasty,
}

/// The script by which udhcpc gives the kernel an address.
const SCRIPT: &str = r#"#!/bin/sh
case $1 in
deconfig) ip -4 address flush dev "$interface"; ip link set "$interface" up ;;
bound | renew)
	ip address replace "$ip/$mask" valid_lft "$lease" preferred_lft "$lease" dev "$interface"
	[ -z "$router" ] || ip route replace default via "$router" dev "$interface"
	;;
esac
"#;

impl Client {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Diskomator => "diskomator",
            Self::Udhcpc => "udhcpc",
            Self::UdhcpcProbing => "udhcpc -a",
            Self::Dhcpcd => "dhcpcd",
            Self::DhcpcdHasty => "dhcpcd -A",
        }
    }

    /// The same, but asking whether an address is free.
    pub(crate) const fn probing(self) -> Self {
        match self {
            Self::Udhcpc => Self::UdhcpcProbing,
            Self::DhcpcdHasty => Self::Dhcpcd,
            Self::Diskomator | Self::UdhcpcProbing | Self::Dhcpcd => self,
        }
    }

    /// Starts one for eth0.
    pub(crate) fn start(self, lab: &Lab) -> Asking {
        let process = match self {
            Self::Diskomator => lab.diskomator(&["dhcp", "--interface", "eth0"]),
            Self::Udhcpc | Self::UdhcpcProbing => {
                let script = lab.file("udhcpc.sh", SCRIPT);
                run("chmod", &["+x", &script]);
                let probing: &[&str] = if self == Self::UdhcpcProbing { &["-a"] } else { &[] };
                lab.start_on(None, "busybox", &[&["udhcpc", "-f", "-i", "eth0", "-s", &script], probing].concat()).0
            }
            Self::Dhcpcd | Self::DhcpcdHasty => {
                lab.empty_run();
                // Where it keeps its leases; on this machine it may be at work, too.
                run("mount", &["-t", "tmpfs", "none", "/var/lib"]);
                fs::create_dir("/var/lib/dhcpcd").unwrap();
                let hasty: &[&str] = if self == Self::DhcpcdHasty { &["-A"] } else { &[] };
                let words = ["-B", "-4", "-f", "/dev/null", "-c", "/bin/true"];
                lab.start_on(None, "dhcpcd", &[&words, hasty, &["eth0"]].concat()).0
            }
        };
        Asking { client: self, process }
    }
}

/// A client at work.
pub(crate) struct Asking {
    client: Client,
    pub(crate) process: Background,
}

impl Asking {
    /// Has it give its address back and end.
    pub(crate) fn release(&mut self) {
        match self.client {
            Client::Diskomator => assert_eq!(self.process.signal("USR1"), Some(0)),
            Client::Udhcpc | Client::UdhcpcProbing => {
                run("kill", &["-s", "USR2", &self.process.id().to_string()]);
            }
            Client::Dhcpcd | Client::DhcpcdHasty => {
                self.process.signal("ALRM");
            }
        }
    }
}
