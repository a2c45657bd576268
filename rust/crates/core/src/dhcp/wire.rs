//! DHCP messages as bytes (RFC 2131 section 2; options: RFC 2132).
//!
//! The parser takes any bytes and never panics. It is strict where a lenient
//! one would have to guess: an option of the wrong length spoils the message.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::net::{Mac, Prefix4};

/// Where options begin: the fixed fields and the magic cookie.
const OPTIONS_AT: usize = 240;
/// BOOTP's message size. Some relays drop what is shorter.
const MIN_LEN: usize = 300;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const ETHERNET: u8 = 1;
const MAC_LEN: u8 = 6;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// Option numbers (RFC 2132; 121: RFC 3442).
pub mod code {
    #![allow(missing_docs)]
    pub const PAD: u8 = 0;
    pub const MASK: u8 = 1;
    pub const ROUTERS: u8 = 3;
    pub const HOSTNAME: u8 = 12;
    pub const MTU: u8 = 26;
    pub const REQUESTED: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const KIND: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const TEXT: u8 = 56;
    pub const T1: u8 = 58;
    pub const T2: u8 = 59;
    pub const CLIENT_ID: u8 = 61;
    pub const ROUTES: u8 = 121;
    pub const END: u8 = 255;
}

/// Who sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A client.
    Request = 1,
    /// A server or a relay.
    Reply = 2,
}

/// Option 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who has an address for me?
    Discover = 1,
    /// You can have this one.
    Offer = 2,
    /// I take, or keep, this one.
    Request = 3,
    /// Somebody else has it already.
    Decline = 4,
    /// It is yours.
    Ack = 5,
    /// It is not.
    Nak = 6,
    /// I need it no more.
    Release = 7,
    /// I have an address, tell me the rest.
    Inform = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Discover, Self::Offer, Self::Request, Self::Decline, Self::Ack, Self::Nak, Self::Release, Self::Inform]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// One entry of option 121.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClasslessRoute {
    /// The network, with the bits below its prefix zero.
    pub destination: Prefix4,
    /// The router; 0.0.0.0 if the network is on the link itself.
    pub router: Ipv4Addr,
}

/// A message, with the options that this client and its tests know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub op: Op,
    /// Option 53.
    pub kind: Kind,
    /// Ties answers to questions.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The address that the client has and can be reached at, or 0.0.0.0.
    pub ciaddr: Ipv4Addr,
    /// The address that the server gives.
    pub yiaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: Mac,
    /// The rest.
    pub options: Options,
}

/// The options, each as it was sent; empty or `None` if it was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Option 1.
    pub mask: Option<Ipv4Addr>,
    /// Option 3, best first.
    pub routers: Vec<Ipv4Addr>,
    /// Option 12: letters, digits, dots, dashes and underscores only.
    pub hostname: String,
    /// Option 26, in bytes.
    pub mtu: Option<u16>,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 51, in seconds; all ones is for ever.
    pub lease_time: Option<u32>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 55.
    pub parameters: Vec<u8>,
    /// Option 56: anything at all. Show it escaped.
    pub text: Vec<u8>,
    /// Option 58, in seconds.
    pub t1: Option<u32>,
    /// Option 59, in seconds.
    pub t2: Option<u32>,
    /// Option 61.
    pub client_id: Vec<u8>,
    /// Option 121; `Some` overrides option 3, even if it is empty.
    pub routes: Option<Vec<ClasslessRoute>>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends before it should.
    #[error("it is truncated at {0} bytes")]
    Truncated(usize),
    /// It is not for an Ethernet address.
    #[error("hardware type {htype} with addresses of {hlen} bytes is not Ethernet")]
    NotEthernet {
        /// As in ARP.
        htype: u8,
        /// In bytes.
        hlen: u8,
    },
    /// Neither a request nor a reply.
    #[error("{0} is no operation")]
    BadOp(u8),
    /// It has no cookie before its options: BOOTP, or something else.
    #[error("it is not DHCP: there is no magic cookie")]
    NoCookie,
    /// An option goes on past the end of what holds it.
    #[error("option {0} is longer than the message")]
    OptionPastEnd(u8),
    /// No end option.
    #[error("its options do not end")]
    NoEnd,
    /// An option of a length that it cannot have.
    #[error("option {code} cannot have {len} bytes")]
    BadLength {
        /// Which.
        code: u8,
        /// In bytes.
        len: usize,
    },
    /// An option with a value that it cannot have.
    #[error("option {0} has a value that makes no sense")]
    BadValue(u8),
    /// BOOTP without DHCP.
    #[error("it has no message type")]
    NoKind,
}

impl Message {
    /// Reads a message, the payload of a UDP datagram.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let truncated = WireError::Truncated(bytes.len());
        let fixed: &[u8; OPTIONS_AT] = bytes.first_chunk().ok_or(truncated)?;
        let op = match fixed[0] {
            1 => Op::Request,
            2 => Op::Reply,
            other => return Err(WireError::BadOp(other)),
        };
        let (htype, hlen) = (fixed[1], fixed[2]);
        if (htype, hlen) != (ETHERNET, MAC_LEN) {
            return Err(WireError::NotEthernet { htype, hlen });
        }
        if fixed[236..] != COOKIE {
            return Err(WireError::NoCookie);
        }
        let raw = RawOptions::collect(bytes)?;
        Ok(Self {
            op,
            kind: raw.kind()?,
            xid: u32::from_be_bytes(field(fixed, 4)),
            secs: u16::from_be_bytes(field(fixed, 8)),
            ciaddr: Ipv4Addr::from(field::<4>(fixed, 12)),
            yiaddr: Ipv4Addr::from(field::<4>(fixed, 16)),
            chaddr: Mac(field(fixed, 28)),
            options: raw.options()?,
        })
    }

    /// The message as the payload of a UDP datagram, at least as long as BOOTP
    /// has it.
    pub fn build(&self) -> Vec<u8> {
        let mut out = vec![0; OPTIONS_AT];
        out[0] = self.op as u8;
        out[1] = ETHERNET;
        out[2] = MAC_LEN;
        out[4..8].copy_from_slice(&self.xid.to_be_bytes());
        out[8..10].copy_from_slice(&self.secs.to_be_bytes());
        out[12..16].copy_from_slice(&self.ciaddr.octets());
        out[16..20].copy_from_slice(&self.yiaddr.octets());
        out[28..34].copy_from_slice(&self.chaddr.0);
        out[236..].copy_from_slice(&COOKIE);

        put(&mut out, code::KIND, &[self.kind as u8]);
        let options = &self.options;
        put(&mut out, code::CLIENT_ID, &options.client_id);
        put_address(&mut out, code::REQUESTED, options.requested);
        put_address(&mut out, code::SERVER, options.server);
        put_seconds(&mut out, code::LEASE_TIME, options.lease_time);
        put_seconds(&mut out, code::T1, options.t1);
        put_seconds(&mut out, code::T2, options.t2);
        put_address(&mut out, code::MASK, options.mask);
        let routers: Vec<u8> = options.routers.iter().flat_map(Ipv4Addr::octets).collect();
        put(&mut out, code::ROUTERS, &routers);
        if let Some(mtu) = options.mtu {
            put(&mut out, code::MTU, &mtu.to_be_bytes());
        }
        match options.routes.as_deref() {
            // An empty list overrides the routers, too.
            Some([]) => out.extend_from_slice(&[code::ROUTES, 0]),
            Some(routes) => put(&mut out, code::ROUTES, &route_bytes(routes)),
            None => {}
        }
        put(&mut out, code::HOSTNAME, options.hostname.as_bytes());
        put(&mut out, code::PARAMETERS, &options.parameters);
        put(&mut out, code::TEXT, &options.text);
        out.push(code::END);
        out.resize(out.len().max(MIN_LEN), code::PAD);
        out
    }
}

/// `N` bytes of the fixed fields.
fn field<const N: usize>(fixed: &[u8; OPTIONS_AT], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&fixed[at..at + N]);
    bytes
}

/// An option in as many parts as it takes (RFC 3396); an empty one not at all.
fn put(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    for part in value.chunks(255) {
        out.push(code);
        out.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(part);
    }
}

fn put_address(out: &mut Vec<u8>, code: u8, address: Option<Ipv4Addr>) {
    if let Some(address) = address {
        put(out, code, &address.octets());
    }
}

fn put_seconds(out: &mut Vec<u8>, code: u8, seconds: Option<u32>) {
    if let Some(seconds) = seconds {
        put(out, code, &seconds.to_be_bytes());
    }
}

fn route_bytes(routes: &[ClasslessRoute]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for route in routes {
        let len = route.destination.len();
        bytes.push(len);
        bytes.extend_from_slice(&route.destination.network().octets()[..significant_octets(len)]);
        bytes.extend_from_slice(&route.router.octets());
    }
    bytes
}

/// How many octets of a destination option 121 carries (RFC 3442).
fn significant_octets(len: u8) -> usize {
    usize::from(len).div_ceil(8)
}

/// Every option by number; the parts of one that came in several are joined
/// (RFC 3396).
struct RawOptions(BTreeMap<u8, Vec<u8>>);

impl RawOptions {
    fn collect(bytes: &[u8]) -> Result<Self, WireError> {
        let mut raw = Self(BTreeMap::new());
        raw.area(&bytes[OPTIONS_AT..])?;
        // RFC 2131 section 4.1: first "file", then "sname".
        let overload = raw.0.get(&code::OVERLOAD).cloned();
        match overload.as_deref() {
            None => {}
            Some([1]) => raw.area(&bytes[FILE])?,
            Some([2]) => raw.area(&bytes[SNAME])?,
            Some([3]) => {
                raw.area(&bytes[FILE])?;
                raw.area(&bytes[SNAME])?;
            }
            Some([_]) => return Err(WireError::BadValue(code::OVERLOAD)),
            Some(other) => return Err(WireError::BadLength { code: code::OVERLOAD, len: other.len() }),
        }
        Ok(raw)
    }

    fn area(&mut self, mut rest: &[u8]) -> Result<(), WireError> {
        loop {
            match rest {
                [] => return Err(WireError::NoEnd),
                [code::END, ..] => return Ok(()),
                [code::PAD, after @ ..] => rest = after,
                [code, len, after @ ..] => {
                    let (value, after) =
                        after.split_at_checked(usize::from(*len)).ok_or(WireError::OptionPastEnd(*code))?;
                    self.0.entry(*code).or_default().extend_from_slice(value);
                    rest = after;
                }
                [code] => return Err(WireError::OptionPastEnd(*code)),
            }
        }
    }

    fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    fn fixed<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>, WireError> {
        self.get(code)
            .map(|value| value.try_into().map_err(|_| WireError::BadLength { code, len: value.len() }))
            .transpose()
    }

    fn address(&self, code: u8) -> Result<Option<Ipv4Addr>, WireError> {
        Ok(self.fixed::<4>(code)?.map(Ipv4Addr::from))
    }

    fn seconds(&self, code: u8) -> Result<Option<u32>, WireError> {
        Ok(self.fixed(code)?.map(u32::from_be_bytes))
    }

    fn kind(&self) -> Result<Kind, WireError> {
        let [byte] = self.fixed(code::KIND)?.ok_or(WireError::NoKind)?;
        Kind::from_byte(byte).ok_or(WireError::BadValue(code::KIND))
    }

    fn options(&self) -> Result<Options, WireError> {
        Ok(Options {
            mask: self.address(code::MASK)?,
            routers: self.routers()?,
            hostname: self.hostname()?,
            mtu: self.fixed(code::MTU)?.map(u16::from_be_bytes),
            requested: self.address(code::REQUESTED)?,
            lease_time: self.seconds(code::LEASE_TIME)?,
            server: self.address(code::SERVER)?,
            parameters: self.get(code::PARAMETERS).unwrap_or_default().to_vec(),
            text: self.get(code::TEXT).unwrap_or_default().to_vec(),
            t1: self.seconds(code::T1)?,
            t2: self.seconds(code::T2)?,
            client_id: self.client_id()?,
            routes: self.routes()?,
        })
    }

    fn routers(&self) -> Result<Vec<Ipv4Addr>, WireError> {
        let Some(value) = self.get(code::ROUTERS) else { return Ok(Vec::new()) };
        let mut octets = value.chunks_exact(4);
        let routers: Vec<_> =
            octets.by_ref().filter_map(|o| o.first_chunk::<4>().copied()).map(Ipv4Addr::from).collect();
        if routers.is_empty() || !octets.remainder().is_empty() {
            return Err(WireError::BadLength { code: code::ROUTERS, len: value.len() });
        }
        Ok(routers)
    }

    fn client_id(&self) -> Result<Vec<u8>, WireError> {
        match self.get(code::CLIENT_ID) {
            // RFC 2132 section 9.14: its minimum length is 2.
            Some(short @ ([] | [_])) => Err(WireError::BadLength { code: code::CLIENT_ID, len: short.len() }),
            Some(id) => Ok(id.to_vec()),
            None => Ok(Vec::new()),
        }
    }

    /// A name is for terminals and files in the end, so no byte that means
    /// something there passes. A zero byte at its end is common.
    fn hostname(&self) -> Result<String, WireError> {
        let value = self.get(code::HOSTNAME).unwrap_or_default();
        let name = value.strip_suffix(b"\0").unwrap_or(value);
        if name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte)) {
            Ok(String::from_utf8_lossy(name).into_owned())
        } else {
            Err(WireError::BadValue(code::HOSTNAME))
        }
    }

    fn routes(&self) -> Result<Option<Vec<ClasslessRoute>>, WireError> {
        let Some(value) = self.get(code::ROUTES) else { return Ok(None) };
        let bad_length = WireError::BadLength { code: code::ROUTES, len: value.len() };
        let mut routes = Vec::new();
        let mut rest = value;
        while let [len, after @ ..] = rest {
            let (significant, after) = after.split_at_checked(significant_octets(*len)).ok_or(bad_length)?;
            let (router, after) = after.split_first_chunk::<4>().ok_or(bad_length)?;
            let mut octets = [0; 4];
            octets.get_mut(..significant.len()).ok_or(WireError::BadValue(code::ROUTES))?.copy_from_slice(significant);
            let destination = Prefix4::new(Ipv4Addr::from(octets), *len).ok_or(WireError::BadValue(code::ROUTES))?;
            // RFC 3442: bits below the prefix are to be ignored.
            let destination = Prefix4::new(destination.network(), *len).unwrap_or(destination);
            routes.push(ClasslessRoute { destination, router: Ipv4Addr::from(*router) });
            rest = after;
        }
        Ok(Some(routes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn full() -> Message {
        Message {
            op: Op::Reply,
            kind: Kind::Ack,
            xid: 0x1234_5678,
            secs: 9,
            ciaddr: Ipv4Addr::new(192, 0, 2, 6),
            yiaddr: Ipv4Addr::new(192, 0, 2, 7),
            chaddr: Mac([2, 3, 4, 5, 6, 7]),
            options: Options {
                mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
                routers: vec![Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)],
                hostname: "disk-1.example".into(),
                mtu: Some(9000),
                requested: Some(Ipv4Addr::new(192, 0, 2, 8)),
                lease_time: Some(3600),
                server: Some(Ipv4Addr::new(192, 0, 2, 1)),
                parameters: vec![1, 121, 3],
                text: b"\xff\0text".to_vec(),
                t1: Some(1800),
                t2: Some(3000),
                client_id: vec![255, 1, 2, 3],
                routes: Some(vec![
                    ClasslessRoute {
                        destination: Prefix4::new(Ipv4Addr::new(10, 128, 0, 0), 9).unwrap(),
                        router: Ipv4Addr::new(192, 0, 2, 3),
                    },
                    ClasslessRoute { destination: Prefix4::ANY, router: Ipv4Addr::new(192, 0, 2, 4) },
                ]),
            },
        }
    }

    /// A message with these bytes for options, behind its kind.
    fn with(options: &[u8]) -> Result<Message, WireError> {
        Message::parse(&raw(options))
    }

    fn raw(options: &[u8]) -> Vec<u8> {
        let mut bytes = Message { options: Options::default(), ..full() }.build();
        bytes.truncate(OPTIONS_AT + 3);
        bytes.extend_from_slice(options);
        bytes
    }

    #[test]
    fn what_is_built_is_read_again() {
        assert_eq!(Message::parse(&full().build()), Ok(full()));
    }

    #[test]
    fn a_message_is_never_shorter_than_bootp_has_it() {
        assert_eq!(Message { options: Options::default(), ..full() }.build().len(), 300);
    }

    #[test]
    fn a_long_option_goes_in_parts_and_comes_together_again() {
        let mut message = full();
        message.options.text = (0..=255).cycle().take(700).collect();
        assert_eq!(Message::parse(&message.build()), Ok(message));
    }

    #[test]
    fn options_go_on_in_the_file_and_then_the_name_field() {
        let mut bytes = raw(&[52, 1, 3, 54, 2, 192, 0, 255]);
        bytes[108..113].copy_from_slice(&[54, 1, 2, 0, 255]);
        bytes[44..48].copy_from_slice(&[54, 1, 1, 255]);
        assert_eq!(Message::parse(&bytes).unwrap().options.server, Some(Ipv4Addr::new(192, 0, 2, 1)));
        bytes[44..48].copy_from_slice(&[54, 200, 1, 255]);
        assert_eq!(Message::parse(&bytes), Err(WireError::OptionPastEnd(54)));
        bytes[44..108].fill(0);
        assert_eq!(Message::parse(&bytes), Err(WireError::NoEnd));
    }

    #[test]
    fn bad_options_spoil_the_message() {
        for (options, error) in [
            (&[][..], WireError::NoEnd),
            (&[0, 0], WireError::NoEnd),
            (&[51], WireError::OptionPastEnd(51)),
            (&[51, 4, 0, 0, 1], WireError::OptionPastEnd(51)),
            (&[51, 3, 0, 0, 1, 255], WireError::BadLength { code: 51, len: 3 }),
            (&[51, 0, 255], WireError::BadLength { code: 51, len: 0 }),
            (&[54, 5, 1, 2, 3, 4, 5, 255], WireError::BadLength { code: 54, len: 5 }),
            (&[53, 1, 5, 255], WireError::BadLength { code: 53, len: 2 }),
            (&[3, 0, 255], WireError::BadLength { code: 3, len: 0 }),
            (&[3, 6, 1, 2, 3, 4, 5, 6, 255], WireError::BadLength { code: 3, len: 6 }),
            (&[26, 1, 5, 255], WireError::BadLength { code: 26, len: 1 }),
            (&[61, 1, 5, 255], WireError::BadLength { code: 61, len: 1 }),
            (&[52, 1, 4, 255], WireError::BadValue(52)),
            (&[52, 2, 1, 1, 255], WireError::BadLength { code: 52, len: 2 }),
            (&[121, 3, 24, 10, 0, 255], WireError::BadLength { code: 121, len: 3 }),
            (&[121, 5, 33, 10, 0, 0, 0, 255], WireError::BadLength { code: 121, len: 5 }),
            (&[121, 9, 33, 1, 2, 3, 4, 5, 6, 7, 8, 255], WireError::BadLength { code: 121, len: 9 }),
            (&[121, 10, 33, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255], WireError::BadValue(121)),
            (&[12, 4, b'a', b'\n', b'b', b'c', 255], WireError::BadValue(12)),
            (&[12, 2, b'$', b'(', 255], WireError::BadValue(12)),
            (&[12, 1, 0x1b, 255], WireError::BadValue(12)),
        ] {
            assert_eq!(with(options), Err(error), "{options:?}");
        }
    }

    #[test]
    fn what_is_no_dhcp_is_told_from_it() {
        let good = full().build();
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Message::parse(&bytes).unwrap_err()
        };
        assert_eq!(changed(0, 3), WireError::BadOp(3));
        assert_eq!(changed(1, 6), WireError::NotEthernet { htype: 6, hlen: 6 });
        assert_eq!(changed(2, 16), WireError::NotEthernet { htype: 1, hlen: 16 });
        assert_eq!(changed(239, 0), WireError::NoCookie);
        assert_eq!(changed(242, 9), WireError::BadValue(53));
        let mut bootp = good;
        bootp.truncate(OPTIONS_AT);
        bootp.push(code::END);
        assert_eq!(Message::parse(&bootp), Err(WireError::NoKind));
    }

    #[test]
    fn an_empty_list_of_classless_routes_is_a_list() {
        let empty = with(&[121, 0, 255]).unwrap();
        assert_eq!(empty.options.routes, Some(vec![]));
        assert_eq!(Message::parse(&empty.build()), Ok(empty));
        assert_eq!(with(&[255]).unwrap().options.routes, None);
    }

    #[test]
    fn a_name_may_end_in_a_zero_byte() {
        assert_eq!(with(&[12, 3, b'a', b'b', 0, 255]).unwrap().options.hostname, "ab");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = full().build();
        let end = bytes.iter().rposition(|byte| *byte == code::END).unwrap();
        for len in 0..=end {
            assert!(Message::parse(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn no_bytes_at_all_make_it_panic() {
        let mut rng = Rng::new(7);
        for round in 0..100_000_u32 {
            let mut bytes = full().build();
            bytes.truncate(OPTIONS_AT + usize::try_from(rng.below(120)).unwrap());
            let from = if round % 4 == 0 { 0 } else { OPTIONS_AT as u64 };
            for _ in 0..=rng.below(6) {
                let span = bytes.len() as u64 - from;
                if let Some(byte) = bytes.get_mut(usize::try_from(from + rng.below(span)).unwrap()) {
                    *byte = rng.next_u32().to_le_bytes()[0];
                }
            }
            if let Ok(message) = Message::parse(&bytes) {
                // What was understood survives another trip.
                assert_eq!(Message::parse(&message.build()).unwrap().options, message.options);
            }
        }
    }
}
