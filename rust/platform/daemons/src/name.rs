//! The machine's name on the network.

use kernel::cards::naming_mac;
use kernel::netlink::Link;
use kernel::root::Root;
use netproto::dhcp::client::Identity;
use settings::Product;

use crate::name_in_use;

/// The name from the settings, or one made of the lowest built-in hardware address;
/// `None` as long as there is no Ethernet link.
pub fn machine_name<C: Product>(config: &C, root: &Root, links: &[Link]) -> Option<String> {
    let named = links.iter().filter_map(|link| Some((link.name.as_str(), link.ethernet?)));
    config.as_ref().name.clone().or_else(|| naming_mac(root, named).map(|mac| Identity::of(C::NAME, mac).hostname))
}

/// The name that the machine has on the network; before it has one, the name that it tries first.
pub fn current_name<C: Product>(config: &C, root: &Root, links: &[Link]) -> Option<String> {
    name_in_use::read(root).or_else(|| machine_name(config, root, links))
}
