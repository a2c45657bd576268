//! DHCPv6 messages as bytes (RFC 8415 sections 8 and 21).
//!
//! The parser takes any bytes and never panics. Its rule is that of
//! [`crate::lenient`]. These decide: the message type, the transaction id, both
//! DUIDs, and of an address of ours the `IA_NA` that it is in, with its status.

use std::net::Ipv6Addr;

use crate::lenient::{Fault, Faults, Then, What};

/// The type and the transaction id.
const HEADER_LEN: usize = 4;
/// RFC 8415 section 11.1: two bytes of type and 1 to 128 more. A shorter one is
/// as good: nobody but its owner looks into it.
const DUID_LEN: std::ops::RangeInclusive<usize> = 1..=130;
/// IAID, T1 and T2.
const IA_LEN: usize = 12;
/// Address, preferred and valid lifetime.
const IA_ADDRESS_LEN: usize = 24;
/// RFC 1035 section 2.3.4.
const LABEL_MAX: usize = 63;
/// Transaction ids have three bytes.
pub const XID_MASK: u32 = 0x00ff_ffff;
/// A time that does not end (RFC 8415 section 7.7).
pub const FOR_EVER: u32 = u32::MAX;
/// RFC 8415 section 7.2.
pub const CLIENT_PORT: u16 = 546;
/// The same.
pub const SERVER_PORT: u16 = 547;
/// `All_DHCP_Relay_Agents_and_Servers` (RFC 8415 section 7.1).
pub const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Option numbers (RFC 8415 section 21; 39: RFC 4704).
pub mod code {
    #![allow(missing_docs)]
    pub const CLIENT_ID: u16 = 1;
    pub const SERVER_ID: u16 = 2;
    pub const IA_NA: u16 = 3;
    pub const IA_ADDRESS: u16 = 5;
    pub const REQUESTED: u16 = 6;
    pub const PREFERENCE: u16 = 7;
    pub const ELAPSED: u16 = 8;
    pub const STATUS: u16 = 13;
    pub const RAPID_COMMIT: u16 = 14;
    pub const FQDN: u16 = 39;
    pub const SOL_MAX_RT: u16 = 82;
}

/// Which message it is (RFC 8415 section 7.3), of those between a client and a
/// server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who has an address for me?
    Solicit = 1,
    /// You can have this one.
    Advertise = 2,
    /// I take this one.
    Request = 3,
    /// Is this one still right on this link?
    Confirm = 4,
    /// More time, of the server that gave it.
    Renew = 5,
    /// More time, of any server.
    Rebind = 6,
    /// A server's answer to all but the first.
    Reply = 7,
    /// I need it no more.
    Release = 8,
    /// Another host has the address already.
    Decline = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Solicit,
            Self::Advertise,
            Self::Request,
            Self::Confirm,
            Self::Renew,
            Self::Rebind,
            Self::Reply,
            Self::Release,
            Self::Decline,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The status of an answer (RFC 8415 section 21.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// One of the constants below, or another.
    pub code: u16,
    /// Anything at all. Show it escaped.
    pub text: Vec<u8>,
}

impl Status {
    /// It was done.
    pub const SUCCESS: u16 = 0;
    /// No, and no more is said.
    pub const UNSPEC_FAIL: u16 = 1;
    /// There is no address left, or none for this client.
    pub const NO_ADDRS_AVAIL: u16 = 2;
    /// The server does not know of this lease.
    pub const NO_BINDING: u16 = 3;
    /// The address does not belong on this link.
    pub const NOT_ON_LINK: u16 = 4;
}

/// Option 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IaAddress {
    /// The address.
    pub ip: Ipv6Addr,
    /// For how many seconds it may be used for something new.
    pub preferred: u32,
    /// For how many seconds it may be used.
    pub valid: u32,
    /// Its status, if the server refuses it.
    pub status: Option<Status>,
}

/// Option 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IaNa {
    /// Which one of the client's it is.
    pub iaid: u32,
    /// After how many seconds to renew; 0 leaves that to the client.
    pub t1: u32,
    /// After how many seconds to rebind; 0 leaves that to the client.
    pub t2: u32,
    /// Its addresses.
    pub addresses: Vec<IaAddress>,
    /// Its status, if the server refuses it.
    pub status: Option<Status>,
}

/// A message, with the options that this client and its tests know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which.
    pub kind: Kind,
    /// Ties answers to questions; 24 bits.
    pub xid: u32,
    /// The rest.
    pub options: Options,
}

/// The options, each as it was sent; empty or `None` if it was not. Of those
/// that come once the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Option 1, a DUID.
    pub client: Vec<u8>,
    /// Option 2, a DUID.
    pub server: Vec<u8>,
    /// Option 3.
    pub ias: Vec<IaNa>,
    /// Option 6.
    pub requested: Vec<u16>,
    /// Option 7: the highest is asked first.
    pub preference: Option<u8>,
    /// Option 8, in hundredths of a second.
    pub elapsed: Option<u16>,
    /// Option 13.
    pub status: Option<Status>,
    /// Option 14.
    pub rapid_commit: bool,
    /// Option 39: the host's name, one label without a domain. Empty, too, if
    /// what came is no such name.
    pub hostname: String,
    /// Option 82, in seconds.
    pub sol_max_rt: Option<u32>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends before it should.
    #[error("it is truncated at {0} bytes")]
    Truncated(usize),
    /// It is not between a client and a server.
    #[error("{0} is no message of a client or a server")]
    BadKind(u8),
}

impl Message {
    /// Reads a message, the payload of a UDP datagram.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        Ok(Self::read(bytes)?.0)
    }

    /// The same, with what was passed over.
    pub fn read(bytes: &[u8]) -> Result<(Self, Faults), WireError> {
        let Some(([kind, a, b, c], rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(WireError::Truncated(bytes.len()));
        };
        let kind = Kind::from_byte(*kind).ok_or(WireError::BadKind(*kind))?;
        let mut faults = Faults::default();
        let options = Options::parse(rest, &mut faults);
        Ok((Self { kind, xid: u32::from_be_bytes([0, *a, *b, *c]), options }, faults))
    }

    /// The message as the payload of a UDP datagram.
    pub fn build(&self) -> Vec<u8> {
        let [_, xid @ ..] = self.xid.to_be_bytes();
        let mut out = vec![self.kind as u8];
        out.extend_from_slice(&xid);
        self.options.build(&mut out);
        out
    }
}

impl Options {
    fn parse(bytes: &[u8], faults: &mut Faults) -> Self {
        let raw = Raw::split(bytes, faults);
        Self {
            client: raw.one(code::CLIENT_ID, faults, duid(code::CLIENT_ID)).unwrap_or_default(),
            server: raw.one(code::SERVER_ID, faults, duid(code::SERVER_ID)).unwrap_or_default(),
            ias: raw.all(code::IA_NA, faults, IaNa::parse),
            requested: raw.one(code::REQUESTED, faults, requested).unwrap_or_default(),
            preference: raw.one(code::PREFERENCE, faults, |value, _| {
                let [preference] = fixed(code::PREFERENCE, value)?;
                Ok(preference)
            }),
            elapsed: raw.one(code::ELAPSED, faults, |value, _| fixed(code::ELAPSED, value).map(u16::from_be_bytes)),
            status: raw.one(code::STATUS, faults, Status::parse),
            // Its presence says all.
            rapid_commit: raw.one(code::RAPID_COMMIT, faults, |_, _| Ok(())).is_some(),
            hostname: raw.one(code::FQDN, faults, hostname).unwrap_or_default(),
            sol_max_rt: raw
                .one(code::SOL_MAX_RT, faults, |value, _| fixed(code::SOL_MAX_RT, value).map(u32::from_be_bytes)),
        }
    }

    fn build(&self, out: &mut Vec<u8>) {
        put_bytes(out, code::CLIENT_ID, &self.client);
        put_bytes(out, code::SERVER_ID, &self.server);
        for ia in &self.ias {
            put(out, code::IA_NA, |out| ia.build(out));
        }
        let requested: Vec<u8> = self.requested.iter().flat_map(|code| code.to_be_bytes()).collect();
        put_bytes(out, code::REQUESTED, &requested);
        if let Some(preference) = self.preference {
            put_bytes(out, code::PREFERENCE, &[preference]);
        }
        if let Some(elapsed) = self.elapsed {
            put_bytes(out, code::ELAPSED, &elapsed.to_be_bytes());
        }
        put_status(out, self.status.as_ref());
        if self.rapid_commit {
            put(out, code::RAPID_COMMIT, |_| {});
        }
        if !self.hostname.is_empty() {
            put(out, code::FQDN, |out| {
                // RFC 4704 section 4.1: no flag set, the server need not write
                // the name into its zone. Section 4.2: without its domain a name
                // does not end in a zero.
                out.push(0);
                let name = &self.hostname.as_bytes()[..self.hostname.len().min(LABEL_MAX)];
                out.push(u8::try_from(name.len()).unwrap_or(0));
                out.extend_from_slice(name);
            });
        }
        if let Some(seconds) = self.sol_max_rt {
            put_bytes(out, code::SOL_MAX_RT, &seconds.to_be_bytes());
        }
    }
}

impl IaNa {
    fn parse(value: &[u8], faults: &mut Faults) -> Result<Self, What> {
        let (head, rest) = value.split_first_chunk::<IA_LEN>().ok_or(bad_length(code::IA_NA, value))?;
        let [iaid, t1, t2] = words(head);
        let raw = Raw::split(rest, faults);
        let addresses = raw.all(code::IA_ADDRESS, faults, IaAddress::parse);
        Ok(Self { iaid, t1, t2, addresses, status: raw.one(code::STATUS, faults, Status::parse) })
    }

    /// Whether it says that an address has no time left.
    pub fn takes_back(&self, address: Ipv6Addr) -> bool {
        self.addresses.iter().any(|given| given.ip == address && given.valid == 0)
    }

    fn build(&self, out: &mut Vec<u8>) {
        for word in [self.iaid, self.t1, self.t2] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        for address in &self.addresses {
            put(out, code::IA_ADDRESS, |out| {
                out.extend_from_slice(&address.ip.octets());
                out.extend_from_slice(&address.preferred.to_be_bytes());
                out.extend_from_slice(&address.valid.to_be_bytes());
                put_status(out, address.status.as_ref());
            });
        }
        put_status(out, self.status.as_ref());
    }
}

impl IaAddress {
    fn parse(value: &[u8], faults: &mut Faults) -> Result<Self, What> {
        let (head, rest) = value.split_first_chunk::<IA_ADDRESS_LEN>().ok_or(bad_length(code::IA_ADDRESS, value))?;
        let [a, b, c, d, preferred, valid] = words(head);
        let ip = Ipv6Addr::from_bits([a, b, c, d].into_iter().fold(0, |bits, word| bits << 32 | u128::from(word)));
        let status = Raw::split(rest, faults).one(code::STATUS, faults, Status::parse);
        Ok(Self { ip, preferred, valid, status })
    }
}

impl Status {
    fn parse(value: &[u8], _: &mut Faults) -> Result<Self, What> {
        let (code, text) = value.split_first_chunk::<2>().ok_or(bad_length(code::STATUS, value))?;
        Ok(Self { code: u16::from_be_bytes(*code), text: text.to_vec() })
    }
}

/// The options in some bytes, each as often as it came, in its order.
struct Raw<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Raw<'a> {
    fn split(mut bytes: &'a [u8], faults: &mut Faults) -> Self {
        let mut options = Vec::new();
        while let Some(([a, b, c, d], rest)) = bytes.split_first_chunk::<4>() {
            let (code, len) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            let Some((value, rest)) = rest.split_at_checked(len.into()) else {
                faults.push(Fault::ended(What::PastEnd(code)));
                return Self(options);
            };
            options.push((code, value));
            bytes = rest;
        }
        if !bytes.is_empty() {
            faults.push(Fault::ended(What::Stray(bytes.len())));
        }
        Self(options)
    }

    /// The first good copy of an option that may occur once.
    fn one<T>(
        &self,
        code: u16,
        faults: &mut Faults,
        read: impl Fn(&[u8], &mut Faults) -> Result<T, What>,
    ) -> Option<T> {
        let mut what = None;
        let mut found = None;
        for (_, value) in self.0.iter().filter(|(found, _)| *found == code) {
            match read(value, faults) {
                _ if found.is_some() => what = what.or(Some(What::Repeated(code))),
                Ok(value) => found = Some(value),
                Err(error) => what = what.or(Some(error)),
            }
        }
        if let Some(what) = what {
            faults.push(Fault { what, then: if found.is_some() { Then::FirstCopy } else { Then::Absent } });
        }
        found
    }

    /// The good ones of an option that may occur several times.
    fn all<T>(&self, code: u16, faults: &mut Faults, read: impl Fn(&[u8], &mut Faults) -> Result<T, What>) -> Vec<T> {
        let mut all = Vec::new();
        for (_, value) in self.0.iter().filter(|(found, _)| *found == code) {
            match read(value, faults) {
                Ok(value) => all.push(value),
                Err(what) => faults.push(Fault::absent(what)),
            }
        }
        all
    }
}

/// Big-endian numbers; zeros where there are no bytes.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(4)) {
        *word = bytes.first_chunk().copied().map_or(0, u32::from_be_bytes);
    }
    words
}

const fn bad_length(code: u16, value: &[u8]) -> What {
    What::Length { option: code, len: value.len() }
}

fn fixed<const N: usize>(code: u16, value: &[u8]) -> Result<[u8; N], What> {
    value.try_into().map_err(|_| bad_length(code, value))
}

fn duid(code: u16) -> impl Fn(&[u8], &mut Faults) -> Result<Vec<u8>, What> {
    move |value, _| if DUID_LEN.contains(&value.len()) { Ok(value.to_vec()) } else { Err(bad_length(code, value)) }
}

fn requested(value: &[u8], _: &mut Faults) -> Result<Vec<u16>, What> {
    let pair = |pair: &[u8]| pair.first_chunk().copied().map(u16::from_be_bytes);
    value.chunks(2).map(pair).collect::<Option<_>>().ok_or(bad_length(code::REQUESTED, value))
}

/// The first label of a name, if it has only what names of hosts have.
fn hostname(value: &[u8], _: &mut Faults) -> Result<String, What> {
    let [_flags, name @ ..] = value else { return Err(bad_length(code::FQDN, value)) };
    let label = name.split_first().and_then(|(len, rest)| rest.get(..usize::from(*len)));
    let good = label.filter(|label| {
        label.len() <= LABEL_MAX && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    });
    Ok(good.map(|label| String::from_utf8_lossy(label).into_owned()).unwrap_or_default())
}

/// An option whose value `fill` appends.
fn put(out: &mut Vec<u8>, code: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut value = Vec::new();
    fill(&mut value);
    // Nothing here comes near the end of what a length can say.
    value.truncate(u16::MAX.into());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&value);
}

/// An empty option not at all.
fn put_bytes(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    if !value.is_empty() {
        put(out, code, |out| out.extend_from_slice(value));
    }
}

fn put_status(out: &mut Vec<u8>, status: Option<&Status>) {
    if let Some(status) = status {
        put(out, code::STATUS, |out| {
            out.extend_from_slice(&status.code.to_be_bytes());
            out.extend_from_slice(&status.text);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn full() -> Message {
        let status = |code| Some(Status { code, text: b"\xff\0text".to_vec() });
        let address = |last, status| IaAddress {
            ip: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last),
            preferred: 1800,
            valid: FOR_EVER,
            status,
        };
        Message {
            kind: Kind::Reply,
            xid: 0x12_3456,
            options: Options {
                client: vec![0, 3, 0, 1, 2, 3, 4, 5, 6, 7],
                server: vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 1],
                ias: vec![
                    IaNa {
                        iaid: 0x0405_0607,
                        t1: 900,
                        t2: 1440,
                        addresses: vec![address(7, None), address(8, status(Status::NO_ADDRS_AVAIL))],
                        status: None,
                    },
                    IaNa { iaid: 1, t1: 0, t2: 0, addresses: vec![], status: status(Status::NO_BINDING) },
                ],
                requested: vec![82, 39],
                preference: Some(255),
                elapsed: Some(0xffff),
                status: status(Status::SUCCESS),
                rapid_commit: true,
                hostname: "diskomator-123456".to_owned(),
                sol_max_rt: Some(120),
            },
        }
    }

    /// A message with these bytes for options.
    fn with(options: &[u8]) -> Result<Message, WireError> {
        Message::parse(&[&[7, 0, 0, 1], options].concat())
    }

    #[test]
    fn what_is_built_is_read_again() {
        assert_eq!(Message::parse(&full().build()), Ok(full()));
        let bare = Message { kind: Kind::Solicit, xid: XID_MASK, options: Options::default() };
        assert_eq!(bare.build(), [1, 0xff, 0xff, 0xff]);
        assert_eq!(Message::parse(&bare.build()), Ok(bare));
    }

    /// The faults that are reported of a Reply with these options.
    fn faults(options: &[u8]) -> String {
        Message::read(&[&[7, 0, 0, 1], options].concat()).unwrap().1.to_string()
    }

    #[test]
    fn a_bad_option_counts_as_absent_and_is_named() {
        let long = [&[0, 1, 0, 131][..], &[0; 131]].concat();
        for (options, what) in [
            (&[0][..], "1 bytes after its options are no option"),
            (&[0, 1, 0], "3 bytes after its options are no option"),
            (&[0, 1, 0, 4, 0, 3, 0], "option 1 is longer than the message"),
            (&[0x77, 1, 0xff, 0xff, 0], "option 30465 is longer than the message"),
            (&[0, 1, 0, 0], "option 1 cannot have 0 bytes"),
            (&[0, 2, 0, 0], "option 2 cannot have 0 bytes"),
            (&long, "option 1 cannot have 131 bytes"),
            (&[0, 3, 0, 4, 0, 0, 0, 1], "option 3 cannot have 4 bytes"),
            (&[0, 6, 0, 3, 0, 1, 0], "option 6 cannot have 3 bytes"),
            (&[0, 7, 0, 2, 0, 1], "option 7 cannot have 2 bytes"),
            (&[0, 8, 0, 1, 0], "option 8 cannot have 1 bytes"),
            (&[0, 13, 0, 1, 0], "option 13 cannot have 1 bytes"),
            (&[0, 39, 0, 0], "option 39 cannot have 0 bytes"),
            (&[0, 82, 0, 2, 0, 0], "option 82 cannot have 2 bytes"),
        ] {
            assert_eq!(with(options).unwrap().options, Options::default(), "{options:?}");
            let said = faults(options);
            assert!(said.starts_with(what) && !said.contains(", "), "{options:?}: {said}");
        }
        // An IA without an address that could be read is one all the same.
        for tail in [&[0, 5, 0, 9][..], &[0, 5, 0, 0], &[0], &[0, 13, 0, 1, 2]] {
            let len = u8::try_from(12 + tail.len()).unwrap();
            let options = [&[0, 3, 0, len, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0][..], tail].concat();
            let ia = IaNa { iaid: 1, t1: 0, t2: 0, addresses: vec![], status: None };
            assert_eq!(with(&options).unwrap().options.ias, [ia]);
            assert!(!faults(&options).is_empty());
        }
        assert!(with(&[0, 14, 0, 1, 0]).unwrap().options.rapid_commit, "its presence says all");
    }

    #[test]
    fn what_is_unknown_is_passed_over_and_the_first_good_one_of_several_counts() {
        let options = &[0, 200, 0, 3, 1, 2, 3, 0, 7, 0, 2, 3, 3, 0, 7, 0, 1, 9, 0, 7, 0, 1, 8];
        assert_eq!(with(options).unwrap().options, Options { preference: Some(9), ..Options::default() });
        assert_eq!(faults(options), "option 7 cannot have 2 bytes (its first good copy counts)");
        assert_eq!(faults(&options[13..]), "option 7 occurs more than once (its first good copy counts)");
        assert_eq!(faults(&options[..7]), "");
    }

    #[test]
    fn relayed_messages_and_those_of_the_future_are_told_from_ours() {
        for kind in [0, 10, 11, 12, 13, 255] {
            assert_eq!(Message::parse(&[kind, 0, 0, 0]), Err(WireError::BadKind(kind)));
        }
    }

    #[test]
    fn a_name_that_could_be_anything_else_is_none() {
        let name = |value: &[u8]| hostname(value, &mut Faults::default()).unwrap();
        assert_eq!(name(&[0, 2, b'a', b'-', 3, b'x', b'y', b'z', 0]), "a-");
        for bad in [&[0][..], &[0, 9, b'a'], &[0, 2, b'a', b'\n'], &[0, 1, 0x1b], &[0, 0xc0, 0]] {
            assert_eq!(name(bad), "", "{bad:?}");
        }
    }

    #[test]
    fn of_a_truncated_message_the_whole_options_count() {
        let bytes = full().build();
        for len in HEADER_LEN..bytes.len() {
            let (message, faults) = Message::read(&bytes[..len]).unwrap();
            assert!(message != full() && (!faults.is_empty() || message.build() == bytes[..len]), "{len}");
        }
        for len in 0..HEADER_LEN {
            assert_eq!(Message::parse(&bytes[..len]), Err(WireError::Truncated(len)));
        }
    }

    #[test]
    fn no_bytes_at_all_make_it_panic() {
        let mut rng = Rng::new(7);
        let good = full().build();
        for _ in 0..100_000_u32 {
            let mut bytes = good.clone();
            bytes.truncate(usize::try_from(rng.below(bytes.len() as u64 + 1)).unwrap());
            for _ in 0..=rng.below(6) {
                let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
                if let Some(byte) = bytes.get_mut(at) {
                    // Lengths and codes are small.
                    *byte = rng.next_u32().to_le_bytes()[0] & if rng.below(2) == 0 { 0x0f } else { 0xff };
                }
            }
            if let Ok(message) = Message::parse(&bytes) {
                // A message that was understood survives another trip.
                assert_eq!(Message::parse(&message.build()).unwrap().options, message.options);
            }
        }
    }
}
