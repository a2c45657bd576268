//! The machine's name on the network.

use disks::config::Config;
use kernel::netlink::Link;
use kernel::root::Root;
use local::sysfs::naming_mac;
use netproto::dhcp::client::Identity;
use settings::Product;

use crate::name_in_use;

/// The name from the settings, or one made of the lowest built-in hardware address;
/// `None` as long as there is no Ethernet link.
pub(crate) fn machine_name(config: &Config, root: &Root, links: &[Link]) -> Option<String> {
    let named = links.iter().filter_map(|link| Some((link.name.as_str(), link.ethernet?)));
    config.system.name.clone().or_else(|| naming_mac(root, named).map(|mac| Identity::of(Config::NAME, mac).hostname))
}

/// The name that the machine has on the network; before it has one, the name that it tries first.
pub(crate) fn current_name(config: &Config, root: &Root, links: &[Link]) -> Option<String> {
    name_in_use::read(root).or_else(|| machine_name(config, root, links))
}
