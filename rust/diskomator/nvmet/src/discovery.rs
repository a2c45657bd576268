//! The discovery controller on the network.

use netproto::mdns::zone::Service;

/// The announcement of a discovery controller (NVM Express Base Specification,
/// "mDNS/DNS-SD"): its port (NVMe/TCP transport specification, IANA) and its strings.
/// Subtypes are for centralized discovery controllers alone.
pub const SERVICE: Service =
    Service { kind: ["_nvme-disc", "_tcp"], port: 8009, txt: &["p=tcp", "nqn=nqn.2014-08.org.nvmexpress.discovery"] };
