//! The machine's name on the network.

use diskomator_core::config::Config;
use diskomator_core::dhcp::client::Identity;
use diskomator_sys::netlink::Link;
use diskomator_sys::root::Root;
use diskomator_sys::sysfs::naming_mac;

/// What the settings say, or what the lowest built-in hardware address makes
/// of it; `None` as long as there is no Ethernet link.
pub(crate) fn machine_name(config: &Config, root: &Root, links: &[Link]) -> Option<String> {
    let named = links.iter().filter_map(|link| Some((link.name.as_str(), link.ethernet?)));
    config.system.name.clone().or_else(|| naming_mac(root, named).map(|mac| Identity::of(mac).hostname))
}
