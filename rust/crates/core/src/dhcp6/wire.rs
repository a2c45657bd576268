//! DHCPv6 messages as bytes (RFC 8415 sections 8 and 21).
//!
//! The parser takes any bytes and never panics. An option of a wrong length
//! spoils the message; one that is unknown does not.

use std::net::Ipv6Addr;

/// The type and the transaction id.
const HEADER_LEN: usize = 4;
/// RFC 8415 section 11.1: two bytes of type and 1 to 128 more.
const DUID_LEN: std::ops::RangeInclusive<usize> = 3..=130;
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
    /// Somebody else has it already.
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

/// What became of a question (RFC 8415 section 21.13).
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
    /// What is wrong with it.
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
    /// What is wrong with it.
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
    /// An option goes on past the end of what holds it.
    #[error("option {0} is longer than what it is in")]
    OptionPastEnd(u16),
    /// An option of a length that it cannot have.
    #[error("option {code} cannot have {len} bytes")]
    BadLength {
        /// Which.
        code: u16,
        /// In bytes.
        len: usize,
    },
}

impl Message {
    /// Reads a message, the payload of a UDP datagram.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let Some(([kind, a, b, c], rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(WireError::Truncated(bytes.len()));
        };
        let kind = Kind::from_byte(*kind).ok_or(WireError::BadKind(*kind))?;
        Ok(Self { kind, xid: u32::from_be_bytes([0, *a, *b, *c]), options: Options::parse(rest)? })
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
    fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut options = Self::default();
        for option in Split(bytes) {
            let (code, value) = option?;
            match code {
                code::CLIENT_ID if options.client.is_empty() => options.client = duid(code, value)?,
                code::SERVER_ID if options.server.is_empty() => options.server = duid(code, value)?,
                code::IA_NA => options.ias.push(IaNa::parse(value)?),
                code::REQUESTED if options.requested.is_empty() => {
                    let pairs = value.chunks(2).map(|pair| fixed(code, pair).map_err(|_| bad_length(code, value)));
                    options.requested = pairs.map(|pair| pair.map(u16::from_be_bytes)).collect::<Result<_, _>>()?;
                }
                code::PREFERENCE if options.preference.is_none() => {
                    let [preference] = fixed(code, value)?;
                    options.preference = Some(preference);
                }
                code::ELAPSED if options.elapsed.is_none() => {
                    options.elapsed = Some(u16::from_be_bytes(fixed(code, value)?));
                }
                code::STATUS if options.status.is_none() => options.status = Some(Status::parse(value)?),
                code::RAPID_COMMIT => {
                    let [] = fixed(code, value)?;
                    options.rapid_commit = true;
                }
                code::FQDN if options.hostname.is_empty() => options.hostname = hostname(value)?,
                code::SOL_MAX_RT if options.sol_max_rt.is_none() => {
                    options.sol_max_rt = Some(u32::from_be_bytes(fixed(code, value)?));
                }
                _ => {}
            }
        }
        Ok(options)
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
    fn parse(value: &[u8]) -> Result<Self, WireError> {
        let (head, rest) = value.split_first_chunk::<IA_LEN>().ok_or(bad_length(code::IA_NA, value))?;
        let [iaid, t1, t2] = words(head);
        let mut ia = Self { iaid, t1, t2, addresses: Vec::new(), status: None };
        for option in Split(rest) {
            match option? {
                (code::IA_ADDRESS, value) => ia.addresses.push(IaAddress::parse(value)?),
                (code::STATUS, value) if ia.status.is_none() => ia.status = Some(Status::parse(value)?),
                _ => {}
            }
        }
        Ok(ia)
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
    fn parse(value: &[u8]) -> Result<Self, WireError> {
        let (head, rest) = value.split_first_chunk::<IA_ADDRESS_LEN>().ok_or(bad_length(code::IA_ADDRESS, value))?;
        let [a, b, c, d, preferred, valid] = words(head);
        let ip = Ipv6Addr::from_bits([a, b, c, d].into_iter().fold(0, |bits, word| bits << 32 | u128::from(word)));
        let mut address = Self { ip, preferred, valid, status: None };
        for option in Split(rest) {
            if let (code::STATUS, value) = option? {
                address.status.get_or_insert(Status::parse(value)?);
            }
        }
        Ok(address)
    }
}

impl Status {
    fn parse(value: &[u8]) -> Result<Self, WireError> {
        let (code, text) = value.split_first_chunk::<2>().ok_or(bad_length(code::STATUS, value))?;
        Ok(Self { code: u16::from_be_bytes(*code), text: text.to_vec() })
    }
}

/// The options in some bytes.
struct Split<'a>(&'a [u8]);

impl<'a> Iterator for Split<'a> {
    type Item = Result<(u16, &'a [u8]), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        // Whatever is wrong, nothing comes after it.
        let bytes = std::mem::take(&mut self.0);
        let Some(([a, b, c, d], rest)) = bytes.split_first_chunk::<4>() else {
            return Some(Err(WireError::Truncated(bytes.len())));
        };
        let (code, len) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let Some((value, rest)) = rest.split_at_checked(len.into()) else {
            return Some(Err(WireError::OptionPastEnd(code)));
        };
        self.0 = rest;
        Some(Ok((code, value)))
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

const fn bad_length(code: u16, value: &[u8]) -> WireError {
    WireError::BadLength { code, len: value.len() }
}

fn fixed<const N: usize>(code: u16, value: &[u8]) -> Result<[u8; N], WireError> {
    value.try_into().map_err(|_| bad_length(code, value))
}

fn duid(code: u16, value: &[u8]) -> Result<Vec<u8>, WireError> {
    if DUID_LEN.contains(&value.len()) { Ok(value.to_vec()) } else { Err(bad_length(code, value)) }
}

/// The first label of a name, if it has only what names of hosts have.
fn hostname(value: &[u8]) -> Result<String, WireError> {
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

    #[test]
    fn bad_options_spoil_the_message() {
        let bad = |code, len| WireError::BadLength { code, len };
        for (options, error) in [
            (&[0][..], WireError::Truncated(1)),
            (&[0, 1, 0], WireError::Truncated(3)),
            (&[0, 1, 0, 4, 0, 3, 0], WireError::OptionPastEnd(1)),
            (&[0x77, 1, 0xff, 0xff, 0], WireError::OptionPastEnd(0x7701)),
            (&[0, 1, 0, 0], bad(1, 0)),
            (&[0, 2, 0, 2, 0, 3], bad(2, 2)),
            (&[0, 3, 0, 4, 0, 0, 0, 1], bad(3, 4)),
            (&[0, 3, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 9], WireError::OptionPastEnd(5)),
            (&[0, 3, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0], bad(5, 0)),
            (&[0, 6, 0, 3, 0, 1, 0], bad(6, 3)),
            (&[0, 7, 0, 2, 0, 1], bad(7, 2)),
            (&[0, 8, 0, 1, 0], bad(8, 1)),
            (&[0, 13, 0, 1, 0], bad(13, 1)),
            (&[0, 14, 0, 1, 0], bad(14, 1)),
            (&[0, 39, 0, 0], bad(39, 0)),
            (&[0, 82, 0, 2, 0, 0], bad(82, 2)),
        ] {
            assert_eq!(with(options), Err(error), "{options:?}");
        }
        let long = [&[0, 1, 0, 131][..], &[0; 131]].concat();
        assert_eq!(with(&long), Err(bad(1, 131)));
    }

    #[test]
    fn what_is_unknown_is_passed_over_and_the_first_of_two_counts() {
        let message = with(&[0, 200, 0, 3, 1, 2, 3, 0, 7, 0, 1, 9, 0, 7, 0, 1, 8]).unwrap();
        assert_eq!(message.options, Options { preference: Some(9), ..Options::default() });
    }

    #[test]
    fn relayed_messages_and_those_of_the_future_are_told_from_ours() {
        for kind in [0, 10, 11, 12, 13, 255] {
            assert_eq!(Message::parse(&[kind, 0, 0, 0]), Err(WireError::BadKind(kind)));
        }
    }

    #[test]
    fn a_name_that_could_be_anything_else_is_none() {
        let name = |value: &[u8]| hostname(value).unwrap();
        assert_eq!(name(&[0, 2, b'a', b'-', 3, b'x', b'y', b'z', 0]), "a-");
        for bad in [&[0][..], &[0, 9, b'a'], &[0, 2, b'a', b'\n'], &[0, 1, 0x1b], &[0, 0xc0, 0]] {
            assert_eq!(name(bad), "", "{bad:?}");
        }
    }

    #[test]
    fn a_truncated_message_is_an_error_or_lacks_an_option() {
        let bytes = full().build();
        for len in 0..bytes.len() {
            if let Ok(message) = Message::parse(&bytes[..len]) {
                assert!(message != full() && message.build() == bytes[..len], "{len}");
            }
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
                // What was understood survives another trip.
                assert_eq!(Message::parse(&message.build()).unwrap().options, message.options);
            }
        }
    }
}
