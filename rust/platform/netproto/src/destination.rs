//! Where to send datagrams: an address that a setting names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::net::is_link_name;

/// An address, with the link where it needs one, and a port where one was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The address.
    pub ip: IpAddr,
    /// The name of the link (RFC 4007 section 11).
    pub link: Option<String>,
    /// The port, if it is not the usual one.
    pub port: Option<u16>,
}

/// Why a text names none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// There is no address in it.
    #[error("{0:?} is no IP address, and names are not looked up")]
    NoAddress(String),
    /// There is no such port.
    #[error("{0:?} is no port")]
    BadPort(String),
    /// The address is on any link.
    #[error("{0} is on every link: say through which, as in {0}%eth0")]
    NoLink(Ipv6Addr),
    /// Only a link-local address needs a link.
    #[error("{0:?} is no link's name, or {1} needs none")]
    BadLink(String, IpAddr),
    /// Nobody has it.
    #[error("nothing can be sent to {0}")]
    Nowhere(IpAddr),
}

impl FromStr for Destination {
    type Err = DestinationError;

    /// `192.0.2.1`, `192.0.2.1:514`, `2001:db8::1`, `[2001:db8::1]:514`, `fe80::1%eth0`, `[fe80::1%eth0]:514`.
    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let no_address = || DestinationError::NoAddress(text.to_owned());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(no_address)?;
                let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(no_address)?) };
                (host, port)
            }
            // With more than one colon it is an IPv6 address.
            None => match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            },
        };
        let (ip, link) = match host.split_once('%') {
            Some((ip, link)) => (ip, Some(link)),
            None => (host, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| no_address())?;
        if ip.is_unspecified() {
            return Err(DestinationError::Nowhere(ip));
        }
        let port = match port.map(|port| (port, port.parse())) {
            None => None,
            Some((_, Ok(port @ 1..))) => Some(port),
            Some((port, _)) => return Err(DestinationError::BadPort(port.to_owned())),
        };
        match (ip, link) {
            (IpAddr::V6(ip), None) if needs_link(ip) => Err(DestinationError::NoLink(ip)),
            (IpAddr::V6(v6), Some(link)) if needs_link(v6) && is_link_name(link) => {
                Ok(Self { ip, link: Some(link.to_owned()), port })
            }
            (_, Some(link)) => Err(DestinationError::BadLink(link.to_owned(), ip)),
            (_, None) => Ok(Self { ip, link: None, port }),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.link.as_ref().map(|link| format!("%{link}")).unwrap_or_default();
        match (self.ip, self.port) {
            (ip, None) => write!(f, "{ip}{zone}"),
            (IpAddr::V4(ip), Some(port)) => write!(f, "{ip}:{port}"),
            (IpAddr::V6(ip), Some(port)) => write!(f, "[{ip}{zone}]:{port}"),
        }
    }
}

/// Unicast or multicast, it is good on one link (RFC 4291 sections 2.5.6 and 2.7).
fn needs_link(ip: Ipv6Addr) -> bool {
    let [first, ..] = ip.segments();
    first & 0xffc0 == 0xfe80 || first & 0xff0f == 0xff02
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_again() {
        for text in [
            "192.0.2.1",
            "192.0.2.1:514",
            "224.0.0.1",
            "2001:db8::1",
            "[2001:db8::1]:514",
            "fe80::1%eth0",
            "[ff02::1%eth0]:6666",
            "ff05::1",
        ] {
            assert_eq!(text.parse::<Destination>().map(|found| found.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("[2001:db8::1]".parse::<Destination>().unwrap().to_string(), "2001:db8::1");
    }

    #[test]
    fn what_is_none_says_why() {
        for (text, why) in [
            ("", "\"\" is no IP address, and names are not looked up"),
            ("loghost", "\"loghost\" is no IP address, and names are not looked up"),
            ("[2001:db8::1", "\"[2001:db8::1\" is no IP address, and names are not looked up"),
            ("[2001:db8::1]514", "\"[2001:db8::1]514\" is no IP address, and names are not looked up"),
            ("192.0.2.1:0", "\"0\" is no port"),
            ("192.0.2.1:", "\"\" is no port"),
            ("192.0.2.1:65536", "\"65536\" is no port"),
            ("fe80::1", "fe80::1 is on every link: say through which, as in fe80::1%eth0"),
            ("2001:db8::1%eth0", "\"eth0\" is no link's name, or 2001:db8::1 needs none"),
            ("fe80::1%", "\"\" is no link's name, or fe80::1 needs none"),
            ("0.0.0.0", "nothing can be sent to 0.0.0.0"),
        ] {
            assert_eq!(text.parse::<Destination>().map_err(|error| error.to_string()), Err(why.to_owned()), "{text}");
        }
    }
}
