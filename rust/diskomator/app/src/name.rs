//! The machine's name on the network.

use disks::config::Config;
use kernel::netlink::Link;
use kernel::root::Root;
use local::sysfs::naming_mac;
use netproto::dhcp::client::Identity;
use settings::Product;

/// The name from the settings, or one made of the lowest built-in hardware address;
/// `None` as long as there is no Ethernet link.
pub(crate) fn machine_name(config: &Config, root: &Root, links: &[Link]) -> Option<String> {
    let named = links.iter().filter_map(|link| Some((link.name.as_str(), link.ethernet?)));
    config.system.name.clone().or_else(|| naming_mac(root, named).map(|mac| Identity::of(Config::NAME, mac).hostname))
}
