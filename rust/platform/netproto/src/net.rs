//! Addresses as the network parts use them.

use std::fmt;
use std::net::Ipv4Addr;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// An address that one station can have: not a group's, not all zeros.
    pub fn is_station(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An IPv4 address with the length of its network's prefix, 0 to 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix4 {
    address: Ipv4Addr,
    len: u8,
}

impl Prefix4 {
    /// Every address: the default route's destination.
    pub const ANY: Self = Self { address: Ipv4Addr::UNSPECIFIED, len: 0 };

    /// `None` if a prefix cannot be that long.
    pub const fn new(address: Ipv4Addr, len: u8) -> Option<Self> {
        if len <= 32 { Some(Self { address, len }) } else { None }
    }

    /// From a mask, whose ones must come before its zeros.
    pub fn from_mask(address: Ipv4Addr, mask: Ipv4Addr) -> Option<Self> {
        let ones = mask.to_bits().leading_ones();
        if mask.to_bits().checked_shl(ones).unwrap_or(0) != 0 {
            return None;
        }
        Self::new(address, u8::try_from(ones).ok()?)
    }

    /// The address.
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// The length of the prefix.
    #[expect(clippy::len_without_is_empty, reason = "a prefix of no bits is not an empty one")]
    pub const fn len(self) -> u8 {
        self.len
    }

    /// The mask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0))
    }

    /// The network's first address.
    pub fn network(self) -> Ipv4Addr {
        self.address & self.mask()
    }

    /// The network's last address.
    pub fn last(self) -> Ipv4Addr {
        self.address | !self.mask()
    }

    /// Whether `other` is in the network.
    pub fn contains(self, other: Ipv4Addr) -> bool {
        other & self.mask() == self.network()
    }

    /// Whether a host on this network can have the address. Networks of one
    /// or two addresses have none to spare for themselves (RFC 3021).
    pub fn is_host(self) -> bool {
        is_unicast(self.address) && (self.len >= 31 || (self.address != self.network() && self.address != self.last()))
    }
}

impl fmt::Display for Prefix4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

/// Whether `address` can be one machine's on a network: not of "this" network
/// (0/8), loopback, link-local, multicast or reserved (RFC 6890).
pub fn is_unicast(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first < 224 && !address.is_loopback() && !address.is_link_local()
}

/// The network of an address as it was before there were masks (RFC 791). Nobody
/// of this century leaves the mask out.
pub fn class_prefix(address: Ipv4Addr) -> Prefix4 {
    let len = match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    };
    Prefix4 { address, len }
}

/// Whether a link can be called that: `dev_valid_name` in the kernel's
/// `net/core/dev.c`, but no names that a terminal could not show.
pub fn is_link_name(name: &str) -> bool {
    /// `IFNAMSIZ` less its end.
    const NAME_MAX: usize = 15;
    let is_printable = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_printable && !name.contains(['/', ':']) && name != "." && name != ".."
}

/// Megabits a second as network cards are called.
pub fn speed_text(megabits: u32) -> String {
    match (megabits / 1000, megabits % 1000) {
        (0, _) => format!("{megabits} Mbit/s"),
        (gigabits, 0) => format!("{gigabits} Gbit/s"),
        (gigabits, rest) => format!("{gigabits}.{} Gbit/s", rest / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix4 {
        let (address, len) = text.split_once('/').unwrap();
        Prefix4::new(address.parse().unwrap(), len.parse().unwrap()).unwrap()
    }

    #[test]
    fn masks_with_holes_are_no_prefix() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        for (mask, len) in [
            ("255.255.255.0", Some(24)),
            ("255.255.255.255", Some(32)),
            ("0.0.0.0", Some(0)),
            ("128.0.0.0", Some(1)),
            ("255.0.255.0", None),
            ("0.255.255.255", None),
            ("0.0.0.1", None),
        ] {
            assert_eq!(Prefix4::from_mask(address, mask.parse().unwrap()).map(Prefix4::len), len, "{mask}");
        }
    }

    #[test]
    fn a_host_is_neither_its_network_nor_everybody_on_it() {
        for (text, host) in [
            ("192.0.2.7/24", true),
            ("192.0.2.0/24", false),
            ("192.0.2.255/24", false),
            ("192.0.2.0/31", true),
            ("192.0.2.1/31", true),
            ("192.0.2.0/32", true),
            ("127.0.0.1/8", false),
            ("0.0.0.0/24", false),
            ("224.0.0.1/24", false),
            ("240.0.0.1/24", false),
            ("255.255.255.255/32", false),
            ("169.254.1.1/16", false),
        ] {
            assert_eq!(prefix(text).is_host(), host, "{text}");
        }
    }

    #[test]
    fn the_ends_of_a_network() {
        assert_eq!(prefix("10.1.2.3/0").network(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(prefix("10.1.2.3/0").last(), Ipv4Addr::BROADCAST);
        assert_eq!(prefix("10.1.2.3/30").network(), Ipv4Addr::new(10, 1, 2, 0));
        assert!(prefix("10.1.2.3/30").contains(Ipv4Addr::new(10, 1, 2, 1)));
        assert!(!prefix("10.1.2.3/30").contains(Ipv4Addr::new(10, 1, 2, 4)));
    }

    #[test]
    fn speeds_are_called_as_on_the_cards() {
        assert_eq!([10, 1000, 2500, 100_000].map(speed_text), ["10 Mbit/s", "1 Gbit/s", "2.5 Gbit/s", "100 Gbit/s"]);
    }
}
