//! `net`: every link with its addresses, for people and for scripts.

use std::time::Duration;

use kernel::netlink::{Link, Netlink, NetlinkError};
use kernel::root::Root;
use netplan::{Address, Origin};
use netproto::net::speed_text;
use runtime::table;
use runtime::{AppletError, Failure, print, print_help, print_json};
use serde::Serialize;
use settings::Product;

const USAGE: &str = "\
Usage: {product} net [--json]

Lists the network links of this machine: whether a cable is plugged in, and
each address with where it came from and how long it may be used.

Options:
  --json      list as JSON, see below
  -h, --help  show this text

FROM is one of
  dhcp        a DHCP or DHCPv6 server
  router      made of a prefix that a router announces (IPv6)
  link-local  made by this machine itself, good on this link only
  static      the setting `{product}.ip`, or a command on this machine
An address with ? behind it can't be used: another machine may have it.

As JSON: {\"links\": [{\"name\", \"mac\", \"up\", \"carrier\", \"speed\" (megabits a
second), \"mtu\" (bytes), \"addresses\": [{\"address\", \"prefix\" (bits), \"from\" (as
above), \"usable\", \"seconds_left\"}]}]}. Absent values are null; an address without
seconds_left stays.

Exit status: 0 done, 1 the kernel does not tell, 2 wrong usage.
";

#[derive(Debug, Serialize)]
struct AddressRow {
    address: String,
    prefix: u8,
    from: &'static str,
    usable: bool,
    seconds_left: Option<u64>,
}

#[derive(Debug, Serialize)]
struct LinkRow {
    name: String,
    mac: Option<String>,
    up: bool,
    carrier: bool,
    speed: Option<u32>,
    mtu: u32,
    addresses: Vec<AddressRow>,
}

#[derive(Debug, Serialize)]
struct Listing {
    links: Vec<LinkRow>,
}

/// Runs the applet.
/// The kernel lists no links.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct NetError(#[from] NetlinkError);

impl AppletError for NetError {}

/// Runs the applet.
pub fn run<C: Product>(mut args: lexopt::Parser) -> Result<(), Failure> {
    let mut json = false;
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => return print_help::<C>(USAGE),
            lexopt::Arg::Long("json") => json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let (links, addresses) = list().map_err(NetError)?;
    let root = Root::default();
    let links = links.into_iter().filter(|link| !link.is_loopback);
    let listing = Listing { links: links.map(|link| row(&root, link, &addresses)).collect() };
    if json { print_json(&listing) } else { print(&text(&listing)) }
}

fn list() -> Result<(Vec<Link>, Vec<Address>), NetlinkError> {
    let netlink = Netlink::new()?;
    Ok((netlink.links()?, netlink.addresses()?))
}

fn row(root: &Root, link: Link, addresses: &[Address]) -> LinkRow {
    let own = addresses.iter().filter(|address| address.link == link.index);
    LinkRow {
        addresses: own
            .map(|address| AddressRow {
                address: address.ip.to_string(),
                prefix: address.prefix_len,
                from: origin_name(address),
                usable: address.is_usable,
                seconds_left: address.lifetimes.valid.map(|valid| valid.as_secs()),
            })
            .collect(),
        speed: link_speed(root, &link.name),
        mac: link.ethernet.map(|mac| mac.to_string()),
        up: link.is_up,
        carrier: link.has_carrier,
        mtu: link.mtu,
        name: link.name,
    }
}

fn text(listing: &Listing) -> String {
    if listing.links.is_empty() {
        return "No network links.\n".to_owned();
    }
    let mut rows = vec![["LINK", "MAC", "CARRIER", "SPEED", "MTU", "ADDRESS", "FROM", "LEFT"].map(str::to_owned)];
    for link in &listing.links {
        let state = match (link.up, link.carrier) {
            (false, _) => "down",
            (true, false) => "no",
            (true, true) => "yes",
        };
        let [none, nothing] = ["-", ""].map(str::to_owned);
        let mut head = [
            link.name.clone(),
            link.mac.clone().unwrap_or_else(|| none.clone()),
            state.to_owned(),
            link.speed.map_or_else(|| none.clone(), speed_text),
            link.mtu.to_string(),
        ];
        if link.addresses.is_empty() {
            let [name, mac, state, speed, mtu] = head.clone();
            rows.push([name, mac, state, speed, mtu, none.clone(), none.clone(), none.clone()]);
        }
        for address in &link.addresses {
            let [name, mac, state, speed, mtu] = std::mem::replace(&mut head, [const { String::new() }; 5]);
            let doubt = if address.usable { &nothing } else { "?" };
            rows.push([
                name,
                mac,
                state,
                speed,
                mtu,
                format!("{}/{}{doubt}", address.address, address.prefix),
                address.from.to_owned(),
                address.seconds_left.map_or_else(|| none.clone(), |left| span(Duration::from_secs(left))),
            ]);
        }
    }
    table(&rows)
}

/// The source of an address, by the word of the help text.
pub fn origin_name(address: &Address) -> &'static str {
    match address.origin {
        Some(Origin::Dhcp) => "dhcp",
        Some(Origin::LinkLocal) => "link-local",
        None if address.is_link_local => "link-local",
        None if address.is_announced => "router",
        Some(Origin::Setting) | None => "static",
    }
}

/// A link's speed in megabits a second. One without a carrier, or whose driver
/// can't tell, has -1 or fails.
pub fn link_speed(root: &Root, link: &str) -> Option<u32> {
    root.read(format!("sys/class/net/{link}/speed")).ok().and_then(|speed| speed.parse().ok())
}

/// A time in its largest unit but one, so that it still says something.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_a_line_for_each_of_its_addresses() {
        let address = |address: &str, prefix, from, usable, seconds_left| AddressRow {
            address: address.to_owned(),
            prefix,
            from,
            usable,
            seconds_left,
        };
        let links = vec![
            LinkRow {
                name: "eth0".to_owned(),
                mac: Some("52:54:00:12:34:56".to_owned()),
                up: true,
                carrier: true,
                speed: Some(2500),
                mtu: 1500,
                addresses: vec![
                    address("192.0.2.7", 24, "dhcp", true, Some(3599)),
                    address("fe80::1", 64, "link-local", false, None),
                ],
            },
            LinkRow {
                name: "eth1".to_owned(),
                mac: None,
                up: true,
                carrier: false,
                speed: None,
                mtu: 9000,
                addresses: Vec::new(),
            },
        ];
        assert_eq!(
            text(&Listing { links }),
            "\
LINK  MAC                CARRIER  SPEED       MTU   ADDRESS       FROM        LEFT
eth0  52:54:00:12:34:56  yes      2.5 Gbit/s  1500  192.0.2.7/24  dhcp        59 min
                                                    fe80::1/64?   link-local  -
eth1  -                  no       -           9000  -             -           -
"
        );
        assert_eq!(text(&Listing { links: Vec::new() }), "No network links.\n");
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        let spans = [0, 119, 120, 7199, 7200, 172_800].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 days"]);
    }
}
