//! The lease that a server gives, checked before anything uses it, by the rule of
//! [`crate::lenient`].

use std::net::Ipv6Addr;
use std::time::Duration;

use super::wire::{FOR_EVER, IaAddress, IaNa, Status};

/// An address that a server gives. Each time is from the answer on; `None` is
/// never. `renew <= rebind <= valid` and `preferred <= valid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address. Nothing says what else is on its link (RFC 5942 section 4).
    pub address: Ipv6Addr,
    /// When it should no longer be used for anything new.
    pub preferred: Option<Duration>,
    /// Its end.
    pub valid: Option<Duration>,
    /// T1: ask the server for more.
    pub renew: Option<Duration>,
    /// T2: ask any server for more.
    pub rebind: Option<Duration>,
}

/// Why what a server gives is no lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// There is nothing about what was asked for.
    #[error("there is no answer about an address in it")]
    NoIa,
    /// The server says no.
    #[error("the server says no, with status {} (\"{}\")", .0.code, .0.text.escape_ascii())]
    Status(Status),
    /// RFC 8415 section 21.4: "the client discards the `IA_NA` option".
    #[error("it is to be renewed after {t1} s, but rebound after {t2} s already")]
    BadTimes {
        /// When to renew, in seconds.
        t1: u32,
        /// When to rebind, in seconds.
        t2: u32,
    },
    /// There is no address, or none that a host can use.
    #[error("there is no address in it that could be used")]
    NoAddress,
}

impl Lease {
    /// Reads the lease in an `IA_NA`: the address `wish` if it is there, else the
    /// first that is good for anything.
    pub fn from_ia(ia: &IaNa, wish: Option<Ipv6Addr>) -> Result<Self, LeaseError> {
        if let Some(status) = ia.status.clone().filter(|status| status.code != Status::SUCCESS) {
            return Err(LeaseError::Status(status));
        }
        let (t1, t2) = (ia.t1, ia.t2);
        if t1 > t2 && t2 > 0 {
            return Err(LeaseError::BadTimes { t1, t2 });
        }
        let mut good = ia.addresses.iter().filter(|address| is_good(address));
        let first = good.clone().next();
        let address = good.find(|address| Some(address.ip) == wish).or(first).ok_or(LeaseError::NoAddress)?;
        let (preferred, valid) = (time(address.preferred), time(address.valid));
        // RFC 8415 section 21.4: a half and four fifths of the preferred lifetime
        // are what servers should choose, so that is what is chosen for them. An
        // address may be given that is not to be used for anything new.
        let base = if preferred == Some(Duration::ZERO) { valid } else { preferred };
        let rebind = (if t2 == 0 { base.map(|base| base * 4 / 5) } else { time(t2) }).into_iter().chain(valid).min();
        let renew = (if t1 == 0 { base.map(|base| base / 2) } else { time(t1) }).into_iter().chain(rebind).min();
        Ok(Self { address: address.ip, preferred, valid, renew, rebind })
    }
}

/// RFC 8415 section 21.6: a preferred lifetime that is longer than the valid one
/// makes the address none, and one of no time is taken back.
fn is_good(address: &IaAddress) -> bool {
    let ip = address.ip;
    let is_host = !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !ip.is_unicast_link_local();
    let is_given = address.status.as_ref().is_none_or(|status| status.code == Status::SUCCESS);
    // IPv4 addresses in disguise are none of IPv6 on any wire.
    is_host && is_given && address.valid > 0 && address.preferred <= address.valid && ip.to_ipv4_mapped().is_none()
}

fn time(seconds: u32) -> Option<Duration> {
    (seconds != FOR_EVER).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str, preferred: u32, valid: u32) -> IaAddress {
        IaAddress { ip: text.parse().unwrap(), preferred, valid, status: None }
    }

    fn ia(t1: u32, t2: u32, addresses: Vec<IaAddress>) -> IaNa {
        IaNa { iaid: 1, t1, t2, addresses, status: None }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_times_are_the_servers_or_follow_from_the_lifetimes() {
        let times = |t1, t2, preferred, valid| {
            let lease = Lease::from_ia(&ia(t1, t2, vec![address("2001:db8::7", preferred, valid)]), None).unwrap();
            (lease.renew, lease.rebind, lease.preferred, lease.valid)
        };
        assert_eq!(times(100, 160, 200, 400), (Some(s(100)), Some(s(160)), Some(s(200)), Some(s(400))));
        assert_eq!(times(0, 0, 200, 400), (Some(s(100)), Some(s(160)), Some(s(200)), Some(s(400))));
        assert_eq!(times(0, 150, 200, 400), (Some(s(100)), Some(s(150)), Some(s(200)), Some(s(400))));
        assert_eq!(times(180, 0, 200, 400), (Some(s(160)), Some(s(160)), Some(s(200)), Some(s(400))));
        assert_eq!(times(0, 0, 0, 400), (Some(s(200)), Some(s(320)), Some(s(0)), Some(s(400))));
        assert_eq!(times(0, 0, FOR_EVER, FOR_EVER), (None, None, None, None));
        assert_eq!(times(0, 0, 200, FOR_EVER), (Some(s(100)), Some(s(160)), Some(s(200)), None));
        assert_eq!(times(FOR_EVER, FOR_EVER, 200, 400), (Some(s(400)), Some(s(400)), Some(s(200)), Some(s(400))));
        assert_eq!(
            times(500, 600, 200, 400),
            (Some(s(400)), Some(s(400)), Some(s(200)), Some(s(400))),
            "never after the end"
        );
    }

    #[test]
    fn the_address_that_one_has_comes_first() {
        let two = ia(0, 0, vec![address("2001:db8::1", 9, 9), address("2001:db8::2", 9, 9)]);
        let of = |wish: Option<&str>| {
            Lease::from_ia(&two, wish.map(|text| text.parse().unwrap())).unwrap().address.to_string()
        };
        assert_eq!(of(None), "2001:db8::1");
        assert_eq!(of(Some("2001:db8::2")), "2001:db8::2");
        assert_eq!(of(Some("2001:db8::3")), "2001:db8::1");
    }

    #[test]
    fn what_is_no_lease_says_why() {
        let refused = |ia: &IaNa| Lease::from_ia(ia, None).unwrap_err();
        let bad_times = ia(9, 8, vec![address("2001:db8::1", 9, 9)]);
        assert_eq!(refused(&bad_times), LeaseError::BadTimes { t1: 9, t2: 8 });
        for bad in ["::", "::1", "ff02::1", "fe80::1", "::ffff:192.0.2.1"] {
            assert_eq!(refused(&ia(0, 0, vec![address(bad, 9, 9)])), LeaseError::NoAddress, "{bad}");
        }
        assert_eq!(refused(&ia(0, 0, vec![address("2001:db8::1", 0, 0)])), LeaseError::NoAddress);
        assert_eq!(refused(&ia(0, 0, vec![address("2001:db8::1", 9, 8)])), LeaseError::NoAddress);
        let status = Status { code: Status::NO_ADDRS_AVAIL, text: b"full\n".to_vec() };
        let mut full = ia(0, 0, vec![address("2001:db8::1", 9, 9)]);
        full.addresses[0].status = Some(status.clone());
        assert_eq!(refused(&full), LeaseError::NoAddress);
        full.status = Some(status);
        assert_eq!(refused(&full).to_string(), "the server says no, with status 2 (\"full\\n\")");
    }
}
