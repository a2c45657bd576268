//! The discovery controller on the network.

use access::Mode;
use netproto::mdns::zone::Service;

const TRANSPORT: &str = "p=tcp";
const NQN: &str = "nqn=nqn.2014-08.org.nvmexpress.discovery";
/// A user whose list of disks is empty learns why: somebody, or a key, must admit the host first.
const ADMIT: &str = "admit=needed";

/// The announcement of a discovery controller (NVM Express Base Specification,
/// "mDNS/DNS-SD"): its port (NVMe/TCP transport specification, IANA) and its strings.
/// Subtypes are for centralized discovery controllers alone. The mode of access and
/// `admit` are strings of ours, which other programs pass over (RFC 6763 section 6.4).
pub const fn service(mode: Mode) -> Service {
    Service {
        kind: ["_nvme-disc", "_tcp"],
        port: 8009,
        txt: match mode {
            Mode::Open => &[TRANSPORT, NQN, "access=open"],
            Mode::Ask => &[TRANSPORT, NQN, "access=ask", ADMIT],
            Mode::Paired => &[TRANSPORT, NQN, "access=paired", ADMIT],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_tells_the_mode_and_whether_somebody_must_admit_the_host() {
        for (word, mode) in Mode::ALL {
            let txt = service(mode).txt;
            assert_eq!(txt[..2], ["p=tcp", "nqn=nqn.2014-08.org.nvmexpress.discovery"]);
            assert_eq!(txt[2].strip_prefix("access="), Some(word));
            assert_eq!(txt.contains(&ADMIT), mode != Mode::Open);
            // RFC 6763 sections 6.1 and 6.2: with the length of each, a record that fits any message.
            let bytes: usize = txt.iter().map(|text| 1 + text.len()).sum();
            assert!(bytes <= 100, "{bytes} bytes");
        }
    }
}
