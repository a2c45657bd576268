//! The words by which a person or a program names a host.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::nqn::{HostNqn, NqnError};

/// A host, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By the number of its request.
    Number(u64),
    /// By its NQN.
    Nqn(HostNqn),
    /// By its address.
    Address(IpAddr),
}

impl Named {
    /// A text that is no number: an address, else an NQN. So a host whose NQN looks like an address can only be named
    /// by the number of its request.
    pub fn text(word: &str) -> Result<Self, NqnError> {
        match word.parse::<IpAddr>() {
            Ok(address) => Ok(Self::Address(normal(address))),
            Err(_) => Ok(Self::Nqn(word.parse()?)),
        }
    }
}

impl FromStr for Named {
    type Err = NqnError;

    /// A word of a command line: digits are a number.
    fn from_str(word: &str) -> Result<Self, NqnError> {
        match word.parse() {
            Ok(number) if word.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Self::Number(number)),
            _ => Self::text(word),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "request {number}"),
            Self::Nqn(nqn) => nqn.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The address by which a host is known: an IPv4 address that came in an IPv6 one is that IPv4 address.
pub fn normal(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Addresses that one machine can easily have more than one of: an IPv4 address, or an IPv6 network of 64 bits.
pub(crate) fn group(address: IpAddr) -> IpAddr {
    match normal(address) {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_number_and_an_address_is_an_address() {
        let address = |text: &str| Ok(Named::Address(text.parse().unwrap()));
        assert_eq!("3".parse(), Ok(Named::Number(3)));
        assert_eq!("192.0.2.1".parse(), address("192.0.2.1"));
        assert_eq!("::ffff:192.0.2.1".parse(), address("192.0.2.1"));
        assert_eq!("2001:DB8::1".parse(), address("2001:db8::1"));
        for nqn in ["nqn.h", "+3", "99999999999999999999999", "192.0.2.1.5"] {
            assert_eq!(nqn.parse(), Ok(Named::Nqn(nqn.parse().unwrap())));
        }
        assert_eq!(Named::text("3"), Ok(Named::Nqn("3".parse().unwrap())));
        assert_eq!("a b".parse::<Named>(), Err(NqnError::Character(1)));
    }

    #[test]
    fn a_network_of_64_bits_is_one_group() {
        let group = |text: &str| group(text.parse().unwrap()).to_string();
        assert_eq!(group("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(group("192.0.2.1"), "192.0.2.1");
        assert_eq!(group("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
