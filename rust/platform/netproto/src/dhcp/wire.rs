//! DHCP messages as bytes (RFC 2131 section 2; options: RFC 2132).
//!
//! The parser takes any bytes and never panics. Its rule is that of
//! [`crate::lenient`]. These decide: `xid`, `chaddr` and `yiaddr`, the cookie,
//! the message type and the server identifier. The last may be missing here; who
//! believes a lease asks for it.

use std::net::Ipv4Addr;

use crate::lenient::{Fault, Faults, Then, What};
use crate::net::{Mac, Prefix4, is_unicast};

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

/// The side that sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A client.
    Request = 1,
    /// A server or a relay.
    Reply = 2,
}

impl Op {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Request, Self::Reply].into_iter().find(|op| *op as u8 == byte)
    }
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
    /// Another host has the address already.
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

    /// Only servers say this.
    const fn is_of_server(self) -> bool {
        matches!(self, Self::Offer | Self::Ack | Self::Nak)
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
    /// The side that sent it.
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

/// The options, each as it was sent; empty or `None` if it was not, or not so
/// that it makes sense.
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
    /// It ends before its options.
    #[error("it is truncated at {0} bytes")]
    Truncated(usize),
    /// Neither a request nor a reply, by nothing in it.
    #[error("{0} is no operation")]
    BadOp(u8),
    /// It has no cookie before its options: BOOTP, or something else.
    #[error("it is not DHCP: there is no magic cookie")]
    NoCookie,
    /// BOOTP without DHCP, or a type that there is not.
    #[error("it has no message type")]
    NoKind,
}

impl Message {
    /// Reads a message, the payload of a UDP datagram.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        Ok(Self::read(bytes)?.0)
    }

    /// The same, with what was passed over.
    pub fn read(bytes: &[u8]) -> Result<(Self, Faults), WireError> {
        let fixed: &[u8; OPTIONS_AT] = bytes.first_chunk().ok_or(WireError::Truncated(bytes.len()))?;
        let op = Op::from_byte(fixed[0]);
        if fixed[236..] != COOKIE {
            return Err(if op.is_none() { WireError::BadOp(fixed[0]) } else { WireError::NoCookie });
        }
        let mut faults = Faults::default();
        let (htype, hlen) = (fixed[1], fixed[2]);
        if (htype, hlen) != (ETHERNET, MAC_LEN) {
            faults.push(Fault::absent(What::Hardware { htype, hlen }));
        }
        let raw = RawOptions::collect(bytes, &mut faults);
        let kind = raw.read(code::KIND, &mut faults, kind).ok_or(WireError::NoKind)?;
        let op = match op {
            Some(op) if op == Op::Reply || !kind.is_of_server() => op,
            _ if kind.is_of_server() => {
                faults.push(Fault::absent(What::Operation(fixed[0])));
                Op::Reply
            }
            _ => return Err(WireError::BadOp(fixed[0])),
        };
        let message = Self {
            op,
            kind,
            xid: u32::from_be_bytes(field(fixed, 4)),
            secs: u16::from_be_bytes(field(fixed, 8)),
            ciaddr: Ipv4Addr::from(field::<4>(fixed, 12)),
            yiaddr: Ipv4Addr::from(field::<4>(fixed, 16)),
            chaddr: Mac(field(fixed, 28)),
            options: raw.options(&mut faults),
        };
        Ok((message, faults))
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

/// Each option as often as it came, in its order.
struct RawOptions<'a>(Vec<(u8, &'a [u8])>);

impl<'a> RawOptions<'a> {
    fn collect(bytes: &'a [u8], faults: &mut Faults) -> Self {
        let mut raw = Self(Vec::new());
        raw.area(&bytes[OPTIONS_AT..], faults);
        // RFC 2131 section 4.1: first "file", then "sname".
        let overload = raw.read(code::OVERLOAD, faults, |value| match value {
            [which @ 1..=3] => Ok(*which),
            [_] => Err(What::Value(code::OVERLOAD.into())),
            other => Err(bad_length(code::OVERLOAD, other)),
        });
        let overload = overload.unwrap_or(0);
        if overload & 1 != 0 {
            raw.area(&bytes[FILE], faults);
        }
        if overload & 2 != 0 {
            raw.area(&bytes[SNAME], faults);
        }
        raw
    }

    fn area(&mut self, mut rest: &'a [u8], faults: &mut Faults) {
        loop {
            match rest {
                [] => return faults.push(Fault::ended(What::NoEnd)),
                [code::END, ..] => return,
                [code::PAD, after @ ..] => rest = after,
                [code, after @ ..] => {
                    let value = after.split_first().and_then(|(len, after)| after.split_at_checked((*len).into()));
                    let Some((value, after)) = value else {
                        return faults.push(Fault::ended(What::PastEnd((*code).into())));
                    };
                    self.0.push((*code, value));
                    rest = after;
                }
            }
        }
    }

    /// The option's value as `read` has it: of all copies joined, as they are
    /// parts of one option (RFC 3396); or else, as a server or who set it up said
    /// it twice, of the first that is good alone.
    fn read<T>(&self, code: u8, faults: &mut Faults, read: impl Fn(&[u8]) -> Result<T, What>) -> Option<T> {
        let copies = self.0.iter().filter(|(found, _)| *found == code).map(|(_, value)| *value);
        let mut count = 0;
        let joined: Vec<u8> = copies.clone().inspect(|_| count += 1).flatten().copied().collect();
        if count == 0 {
            return None;
        }
        let what = match read(&joined) {
            Ok(value) => return Some(value),
            Err(what) => what,
        };
        let first = if count > 1 { copies.into_iter().find_map(|copy| read(copy).ok()) } else { None };
        faults.push(Fault { what, then: if first.is_some() { Then::FirstCopy } else { Then::Absent } });
        first
    }

    fn options(&self, faults: &mut Faults) -> Options {
        let anything = |value: &[u8]| Ok(value.to_vec());
        Options {
            mask: self.read(code::MASK, faults, address(code::MASK)),
            routers: self.read(code::ROUTERS, faults, routers).unwrap_or_default(),
            hostname: self.read(code::HOSTNAME, faults, hostname).unwrap_or_default(),
            mtu: self.read(code::MTU, faults, |value| fixed(code::MTU, value).map(u16::from_be_bytes)),
            requested: self.read(code::REQUESTED, faults, address(code::REQUESTED)),
            lease_time: self.read(code::LEASE_TIME, faults, seconds(code::LEASE_TIME)),
            server: self.read(code::SERVER, faults, server),
            parameters: self.read(code::PARAMETERS, faults, anything).unwrap_or_default(),
            text: self.read(code::TEXT, faults, anything).unwrap_or_default(),
            t1: self.read(code::T1, faults, seconds(code::T1)),
            t2: self.read(code::T2, faults, seconds(code::T2)),
            client_id: self.read(code::CLIENT_ID, faults, client_id).unwrap_or_default(),
            routes: self.read(code::ROUTES, faults, routes),
        }
    }
}

fn bad_length(code: u8, value: &[u8]) -> What {
    What::Length { option: code.into(), len: value.len() }
}

fn fixed<const N: usize>(code: u8, value: &[u8]) -> Result<[u8; N], What> {
    value.try_into().map_err(|_| bad_length(code, value))
}

fn address(code: u8) -> impl Fn(&[u8]) -> Result<Ipv4Addr, What> {
    move |value| fixed::<4>(code, value).map(Ipv4Addr::from)
}

fn seconds(code: u8) -> impl Fn(&[u8]) -> Result<u32, What> {
    move |value| fixed(code, value).map(u32::from_be_bytes)
}

fn kind(value: &[u8]) -> Result<Kind, What> {
    let [byte] = fixed(code::KIND, value)?;
    Kind::from_byte(byte).ok_or(What::Value(code::KIND.into()))
}

/// An address that a server can have. A link-local one is odd, and common in
/// clouds.
fn server(value: &[u8]) -> Result<Ipv4Addr, What> {
    let server = address(code::SERVER)(value)?;
    if is_unicast(server) || server.is_link_local() { Ok(server) } else { Err(What::Value(code::SERVER.into())) }
}

fn routers(value: &[u8]) -> Result<Vec<Ipv4Addr>, What> {
    let (routers, rest) = (value.chunks_exact(4), value.len() % 4);
    if value.is_empty() || rest > 0 {
        return Err(bad_length(code::ROUTERS, value));
    }
    Ok(routers.filter_map(|octets| octets.first_chunk::<4>().copied()).map(Ipv4Addr::from).collect())
}

/// RFC 2132 section 9.14: its minimum length is 2.
fn client_id(value: &[u8]) -> Result<Vec<u8>, What> {
    if value.len() < 2 { Err(bad_length(code::CLIENT_ID, value)) } else { Ok(value.to_vec()) }
}

/// A name is for terminals and files in the end, so no byte that means something
/// there passes. A zero byte at its end is common.
fn hostname(value: &[u8]) -> Result<String, What> {
    let name = value.strip_suffix(b"\0").unwrap_or(value);
    if name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte)) {
        Ok(String::from_utf8_lossy(name).into_owned())
    } else {
        Err(What::Value(code::HOSTNAME.into()))
    }
}

fn routes(value: &[u8]) -> Result<Vec<ClasslessRoute>, What> {
    let (bad_length, bad_value) = (bad_length(code::ROUTES, value), What::Value(code::ROUTES.into()));
    let mut routes = Vec::new();
    let mut rest = value;
    while let [len, after @ ..] = rest {
        let (significant, after) = after.split_at_checked(significant_octets(*len)).ok_or(bad_length)?;
        let (router, after) = after.split_first_chunk::<4>().ok_or(bad_length)?;
        let mut octets = [0; 4];
        octets.get_mut(..significant.len()).ok_or(bad_value)?.copy_from_slice(significant);
        let destination = Prefix4::new(Ipv4Addr::from(octets), *len).ok_or(bad_value)?;
        // RFC 3442: bits below the prefix are to be ignored.
        let destination = Prefix4::new(destination.network(), *len).unwrap_or(destination);
        routes.push(ClasslessRoute { destination, router: Ipv4Addr::from(*router) });
        rest = after;
    }
    Ok(routes)
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

    /// A message with these bytes for options, behind its kind, and what is said of them.
    fn odd(options: &[u8]) -> (Message, String) {
        let (message, faults) = Message::read(&raw(options)).unwrap();
        (message, faults.to_string())
    }

    #[test]
    fn options_go_on_in_the_file_and_then_the_name_field() {
        let mut bytes = raw(&[52, 1, 3, 54, 2, 192, 0, 255]);
        bytes[108..113].copy_from_slice(&[54, 1, 2, 0, 255]);
        bytes[44..48].copy_from_slice(&[54, 1, 1, 255]);
        let (message, faults) = Message::read(&bytes).unwrap();
        assert_eq!((message.options.server, faults.is_empty()), (Some(Ipv4Addr::new(192, 0, 2, 1)), true));
    }

    #[test]
    fn a_server_name_and_a_file_that_are_said_to_hold_options_and_do_not_are_harmless() {
        let mut bytes = raw(&[52, 1, 3, 54, 4, 192, 0, 2, 1, 255]);
        bytes[108..118].copy_from_slice(b"pxelinux.0");
        bytes[44..55].copy_from_slice(b"boot.server");
        let (message, faults) = Message::read(&bytes).unwrap();
        assert_eq!(message.options, Options { server: Some(Ipv4Addr::new(192, 0, 2, 1)), ..Options::default() });
        assert!(faults.to_string().contains("option 98 is longer than the message"), "{faults}");
    }

    #[test]
    fn a_bad_option_counts_as_absent_and_is_named() {
        for (options, what) in [
            (&[][..], "its options do not end"),
            (&[0, 0], "its options do not end"),
            (&[51], "option 51 is longer than the message"),
            (&[51, 4, 0, 0, 1], "option 51 is longer than the message"),
            (&[51, 3, 0, 0, 1, 255], "option 51 cannot have 3 bytes"),
            (&[51, 0, 255], "option 51 cannot have 0 bytes"),
            (&[54, 5, 1, 2, 3, 4, 5, 255], "option 54 cannot have 5 bytes"),
            (&[54, 4, 0, 0, 0, 0, 255], "option 54 has a value that makes no sense"),
            (&[54, 4, 255, 255, 255, 255, 255], "option 54 has a value that makes no sense"),
            (&[3, 0, 255], "option 3 cannot have 0 bytes"),
            (&[3, 6, 1, 2, 3, 4, 5, 6, 255], "option 3 cannot have 6 bytes"),
            (&[26, 0, 255], "option 26 cannot have 0 bytes"),
            (&[26, 1, 5, 255], "option 26 cannot have 1 bytes"),
            (&[61, 1, 5, 255], "option 61 cannot have 1 bytes"),
            (&[52, 1, 4, 255], "option 52 has a value that makes no sense"),
            (&[52, 2, 1, 1, 255], "option 52 cannot have 2 bytes"),
            (&[121, 3, 24, 10, 0, 255], "option 121 cannot have 3 bytes"),
            (&[121, 5, 33, 10, 0, 0, 0, 255], "option 121 cannot have 5 bytes"),
            (&[121, 9, 33, 1, 2, 3, 4, 5, 6, 7, 8, 255], "option 121 cannot have 9 bytes"),
            (&[121, 10, 33, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255], "option 121 has a value that makes no sense"),
            (&[12, 4, b'a', b'\n', b'b', b'c', 255], "option 12 has a value that makes no sense"),
            (&[12, 2, b'$', b'(', 255], "option 12 has a value that makes no sense"),
            (&[12, 10, b'f', b'r', b'o', b'n', b't', b' ', b'd', b'e', b's', b'k', 255], "option 12 has"),
            (&[12, 1, 0x1b, 255], "option 12 has a value that makes no sense"),
        ] {
            let (message, faults) = odd(options);
            assert_eq!(message.options, Options::default(), "{options:?}");
            assert!(faults.starts_with(what) && !faults.contains(", "), "{options:?}: {faults}");
        }
        assert_eq!(odd(&[53, 1, 5, 255]).0.kind, Kind::Ack);
    }

    #[test]
    fn an_option_that_is_sent_twice_counts_once() {
        let server = Some(Ipv4Addr::new(172, 25, 1, 1));
        for options in [
            &[54, 4, 172, 25, 1, 1, 54, 4, 172, 25, 1, 1, 255][..],
            &[54, 4, 172, 25, 1, 1, 54, 4, 10, 0, 0, 1, 255],
            &[54, 0, 54, 4, 172, 25, 1, 1, 54, 4, 10, 0, 0, 1],
            &[54, 3, 10, 0, 0, 54, 4, 172, 25, 1, 1, 255],
            &[54, 4, 0, 0, 0, 0, 54, 4, 172, 25, 1, 1, 255],
            &[54, 4, 172, 25, 1, 1, 54, 200, 10],
        ] {
            assert_eq!(odd(options).0.options.server, server, "{options:?}");
        }
        assert_eq!(
            odd(&[51, 4, 0, 0, 0, 9, 51, 3, 0, 0, 1, 255]).1,
            "option 51 cannot have 7 bytes (its first good copy counts)"
        );
        // Parts of one option (RFC 3396), and a list that goes on.
        assert_eq!(odd(&[54, 1, 172, 54, 3, 25, 1, 1, 255]), (odd(&[54, 4, 172, 25, 1, 1, 255]).0, String::new()));
        assert_eq!(odd(&[3, 4, 1, 2, 3, 4, 3, 4, 5, 6, 7, 8, 255]).0.options.routers.len(), 2);
        assert_eq!(odd(&[3, 4, 1, 2, 3, 4, 3, 1, 5, 255]).0.options.routers, [Ipv4Addr::new(1, 2, 3, 4)]);
    }

    #[test]
    fn what_is_no_dhcp_is_told_from_it() {
        let good = full().build();
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Message::parse(&bytes)
        };
        assert_eq!(changed(239, 0), Err(WireError::NoCookie));
        assert_eq!(changed(242, 9), Err(WireError::NoKind));
        assert_eq!(Message::parse(&[0xff; 300]), Err(WireError::BadOp(0xff)));
        let mut bootp = good.clone();
        bootp.truncate(OPTIONS_AT);
        bootp.push(code::END);
        assert_eq!(Message::parse(&bootp), Err(WireError::NoKind));
        // The type says who talks, and the hardware address whom to.
        for (at, byte) in [(0, 1), (0, 3), (1, 6), (2, 16), (2, 0)] {
            assert_eq!(changed(at, byte), Ok(full()), "byte {at} is {byte}");
        }
        let mut question = Message { op: Op::Request, kind: Kind::Discover, ..full() }.build();
        assert_eq!(Message::parse(&question).map(|message| message.op), Ok(Op::Request));
        question[0] = 3;
        assert_eq!(Message::parse(&question), Err(WireError::BadOp(3)));
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
    fn of_a_truncated_message_the_whole_options_count() {
        let bytes = full().build();
        let end = bytes.iter().rposition(|byte| *byte == code::END).unwrap();
        for len in 0..OPTIONS_AT + 3 {
            assert!(Message::parse(&bytes[..len]).is_err(), "{len}");
        }
        for len in OPTIONS_AT + 3..=end {
            let (message, faults) = Message::read(&bytes[..len]).unwrap();
            assert_eq!(faults.list().len(), 1, "{len}");
            assert!(message.options != full().options || len == end, "{len}");
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
                // A message that was understood survives another trip.
                assert_eq!(Message::parse(&message.build()).unwrap().options, message.options);
            }
        }
    }
}
