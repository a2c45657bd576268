//! Messages of multicast DNS (RFC 6762 section 18), in the format of DNS
//! (RFC 1035 section 4). Names in the data of records are kept in full, so
//! that records compare as bytes in any compression.
//!
//! The parser takes any bytes and never panics. Its rule is that of
//! [`crate::lenient`]. These decide: opcode and response code, and of each
//! question and record its name, type and class, and of a record its data.

use std::fmt;

use crate::lenient::{Fault, Faults, What};

/// The port of multicast DNS.
pub const PORT: u16 = 5353;
/// No message is longer (RFC 6762 section 17).
pub const MESSAGE_MAX: usize = 9000;
/// The class of the Internet, and so of all that is here.
pub const INTERNET: u16 = 1;

/// The top bit of a class: "answer me alone" in a question, "forget what you
/// knew" in a record (RFC 6762 sections 5.4 and 10.2).
const TOP_BIT: u16 = 0x8000;
const RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
/// Opcode and response code, which must be zero.
const CODES: u16 = 0x780f;
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 255;
/// The two top bits of a length that is the place of the rest of a name.
const POINTER: u8 = 0xc0;

/// Types of records (RFC 1035 section 3.2.2, 3596, 2782, 4034).
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// Another name.
    pub const PTR: u16 = 12;
    /// Words about a service.
    pub const TXT: u16 = 16;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// A service's host and port.
    pub const SRV: u16 = 33;
    /// Which types a name has.
    pub const NSEC: u16 = 47;
    /// In a question: whatever there is.
    pub const ANY: u16 = 255;
}

/// Why some bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends in its header.
    #[error("it is truncated at {0} bytes")]
    Truncated(usize),
    /// RFC 6762 sections 18.3 and 18.11: to be ignored.
    #[error("its opcode or response code is not zero")]
    Codes,
}

/// A name, as its labels with their lengths, ended by an empty one.
#[derive(Clone, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// From its labels. Labels for which a name has no room are left out.
    pub fn new<'a>(labels: impl IntoIterator<Item = &'a str>) -> Self {
        let mut bytes = Vec::new();
        for label in labels {
            let label = &label.as_bytes()[..label.len().min(LABEL_MAX)];
            let has_room = !label.is_empty() && bytes.len() + 1 + label.len() < NAME_MAX;
            if let (true, Ok(len)) = (has_room, u8::try_from(label.len())) {
                bytes.push(len);
                bytes.extend_from_slice(label);
            }
        }
        bytes.push(0);
        Self(bytes)
    }

    /// As it is on the wire, without compression.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Letters of ASCII are alike in both cases (RFC 6762 section 16); a length is
/// below all of them.
impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        while let Some((len, after)) = rest.split_first().filter(|(len, _)| **len > 0) {
            let (label, next) = after.split_at(usize::from(*len).min(after.len()));
            write!(f, "{}.", label.escape_ascii())?;
            rest = next;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A question (RFC 6762 section 18).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// About whom.
    pub name: Name,
    /// The type, or [`kind::ANY`].
    pub kind: u16,
    /// The class, without its top bit.
    pub class: u16,
    /// The answer need not go to everybody (QU).
    pub wants_unicast: bool,
}

/// A resource record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub name: Name,
    /// The type of its data.
    pub kind: u16,
    /// The class, without its top bit.
    pub class: u16,
    /// Others of this name and type are no longer true.
    pub is_flush: bool,
    /// For how many seconds; 0 is no longer.
    pub ttl: u32,
    /// The data, with names in full.
    pub data: Vec<u8>,
}

impl Record {
    /// Whether both say the same, for however long.
    pub fn is_same(&self, other: &Self) -> bool {
        let data = || {
            let Some(at) = name_in_data(self.kind) else { return self.data == other.data };
            let ((a, name_a), (b, name_b)) = (split(&self.data, at), split(&other.data, at));
            a == b && name_a.eq_ignore_ascii_case(name_b)
        };
        (self.kind, self.class) == (other.kind, other.class) && self.name == other.name && data()
    }
}

fn split(data: &[u8], at: usize) -> (&[u8], &[u8]) {
    data.split_at(at.min(data.len()))
}

/// Where in the data of this type a name begins that may be compressed
/// (RFC 6762 section 18.14).
const fn name_in_data(kind: u16) -> Option<usize> {
    match kind {
        // And NS, CNAME, DNAME.
        kind::PTR | kind::NSEC | 2 | 5 | 39 => Some(0),
        // MX.
        15 => Some(2),
        kind::SRV => Some(6),
        _ => None,
    }
}

/// A query or a response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Repeated by an answer to one host alone, else 0.
    pub id: u16,
    /// It answers.
    pub is_response: bool,
    /// More answers that are known follow in other messages.
    pub is_truncated: bool,
    /// The questions, or those that are answered.
    pub questions: Vec<Question>,
    /// The answers; in a query those that are known.
    pub answers: Vec<Record>,
    /// In a probe what the sender is about to claim.
    pub authorities: Vec<Record>,
    /// Records that answer the next question.
    pub additionals: Vec<Record>,
}

impl Message {
    /// Reads a UDP payload.
    pub fn parse(packet: &[u8]) -> Result<Self, WireError> {
        Ok(Self::read(packet)?.0)
    }

    /// The same, with what was passed over.
    pub fn read(packet: &[u8]) -> Result<(Self, Faults), WireError> {
        let mut reader = Reader { packet, at: 0 };
        let mut header = [0; 6];
        for field in &mut header {
            *field = reader.u16().map_err(|Cut| WireError::Truncated(packet.len()))?;
        }
        let [id, flags, counts @ ..] = header;
        if flags & CODES != 0 {
            return Err(WireError::Codes);
        }
        let mut faults = Faults::default();
        let [questions, answers, authorities, additionals] = counts;
        let message = Self {
            id,
            is_response: flags & RESPONSE != 0,
            is_truncated: flags & TRUNCATED != 0,
            questions: reader.list(questions, Reader::question, What::Question, &mut faults),
            answers: reader.list(answers, Reader::record, What::Record, &mut faults),
            authorities: reader.list(authorities, Reader::record, What::Record, &mut faults),
            additionals: reader.list(additionals, Reader::record, What::Record, &mut faults),
        };
        Ok((message, faults))
    }

    /// Writes it, as short as names allow.
    pub fn build(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let mut flags = if self.is_response { RESPONSE | AUTHORITATIVE } else { 0 };
        if self.is_truncated {
            flags |= TRUNCATED;
        }
        writer.u16(self.id);
        writer.u16(flags);
        let lists = [&self.answers, &self.authorities, &self.additionals];
        for len in [self.questions.len()].into_iter().chain(lists.map(Vec::len)) {
            // No message of ours has so many.
            writer.u16(u16::try_from(len).unwrap_or(u16::MAX));
        }
        for question in &self.questions {
            writer.name(question.name.bytes());
            writer.u16(question.kind);
            writer.u16(question.class | if question.wants_unicast { TOP_BIT } else { 0 });
        }
        for record in lists.into_iter().flatten() {
            writer.record(record);
        }
        writer.bytes
    }
}

struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

/// Nobody knows where the rest begins: the packet has ended, or a length in it is
/// none.
struct Cut;

impl<'a> Reader<'a> {
    /// So many of what `read` reads. It has `None` of one that makes no sense but
    /// has an end.
    fn list<T>(
        &mut self,
        count: u16,
        read: impl Fn(&mut Self) -> Result<Option<T>, Cut>,
        what: impl Fn(usize) -> What,
        faults: &mut Faults,
    ) -> Vec<T> {
        let mut list = Vec::new();
        for _ in 0..count {
            let start = self.at;
            match read(self) {
                Ok(Some(item)) => list.push(item),
                Ok(None) => faults.push(Fault::absent(what(start))),
                Err(Cut) => {
                    // Said once, however many lists are still to come.
                    if start <= self.packet.len() {
                        faults.push(Fault::ended(what(start)));
                    }
                    self.at = self.packet.len() + 1;
                    break;
                }
            }
        }
        list
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Cut> {
        let end = self.at.saturating_add(len);
        let bytes = self.packet.get(self.at..end).ok_or(Cut)?;
        self.at = end;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16, Cut> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, Cut> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    /// A name, or `None` if it is too long, or goes in circles. Each pointer leads
    /// to before the part that it ends, so there is an end to them (RFC 1035
    /// section 4.1.4: a *prior* occurrence).
    fn name(&mut self) -> Result<Option<Name>, Cut> {
        let mut bytes = Vec::new();
        let mut part = self.at;
        let mut pointer = self.labels(&mut bytes)?;
        let after = self.at;
        while let Some(target) = pointer.filter(|target| *target < part && bytes.len() < NAME_MAX) {
            (self.at, part) = (target, target);
            // No end to it is no end of the packet.
            let Ok(next) = self.labels(&mut bytes) else { break };
            pointer = next;
        }
        self.at = after;
        bytes.push(0);
        Ok((pointer.is_none() && bytes.len() <= NAME_MAX).then_some(Name(bytes)))
    }

    /// Appends the labels up to the end of a name, or up to a pointer, which is
    /// returned. Of what makes a name too long only that counts.
    fn labels(&mut self, bytes: &mut Vec<u8>) -> Result<Option<usize>, Cut> {
        loop {
            let len = self.take(1)?[0];
            match len {
                0 => return Ok(None),
                POINTER.. => {
                    return Ok(Some(usize::from(u16::from_be_bytes([len & !POINTER, self.take(1)?[0]]))));
                }
                // RFC 1035 section 4.1.4: reserved.
                _ if usize::from(len) > LABEL_MAX => return Err(Cut),
                _ => {
                    let label = self.take(usize::from(len))?;
                    if bytes.len() < NAME_MAX {
                        bytes.push(len);
                        bytes.extend_from_slice(label);
                    }
                }
            }
        }
    }

    fn question(&mut self) -> Result<Option<Question>, Cut> {
        let (name, kind, class) = (self.name()?, self.u16()?, self.u16()?);
        let (class, wants_unicast) = (class & !TOP_BIT, class & TOP_BIT != 0);
        Ok(name.map(|name| Question { name, kind, class, wants_unicast }))
    }

    fn record(&mut self) -> Result<Option<Record>, Cut> {
        let (name, kind, class, ttl) = (self.name()?, self.u16()?, self.u16()?, self.u32()?);
        let len = usize::from(self.u16()?);
        let start = self.at;
        let raw = self.take(len)?;
        let (class, is_flush) = (class & !TOP_BIT, class & TOP_BIT != 0);
        let data = self.data(start, raw, kind, class);
        Ok(name.zip(data).map(|(name, data)| Record { name, kind, class, is_flush, ttl, data }))
    }

    /// The data that begins at `start`, with its name in full; `None` if it is
    /// not what its type has.
    fn data(&self, start: usize, raw: &[u8], kind: u16, class: u16) -> Option<Vec<u8>> {
        let Some(offset) = name_in_data(kind) else {
            let is_whole = match kind {
                kind::A => raw.len() == 4,
                kind::AAAA => raw.len() == 16,
                _ => true,
            };
            return (is_whole || class != INTERNET).then(|| raw.to_vec());
        };
        // The name's own end must be in the data, wherever its rest is.
        let mut inner = Reader { packet: &self.packet[..self.at], at: start + offset };
        let target = inner.name().ok()??;
        let rest = self.packet.get(inner.at..self.at)?;
        // Only of NSEC is there more.
        (rest.is_empty() || kind == kind::NSEC).then(|| [&raw[..offset], target.bytes(), rest].concat())
    }
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    /// Names, and ends of names, that can be pointed to.
    places: Vec<(Vec<u8>, u16)>,
}

impl Writer {
    fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn name(&mut self, mut name: &[u8]) {
        while let Some(len) = name.first().copied().filter(|len| *len > 0) {
            if let Some((_, place)) = self.places.iter().find(|(known, _)| known == name) {
                let pointer = place | u16::from(POINTER) << 8;
                return self.u16(pointer);
            }
            if let Some(place) = u16::try_from(self.bytes.len()).ok().filter(|place| place >> 14 == 0) {
                self.places.push((name.to_vec(), place));
            }
            let (label, rest) = name.split_at((usize::from(len) + 1).min(name.len()));
            self.bytes.extend_from_slice(label);
            name = rest;
        }
        self.bytes.push(0);
    }

    fn record(&mut self, record: &Record) {
        self.name(record.name.bytes());
        self.u16(record.kind);
        self.u16(record.class | if record.is_flush { TOP_BIT } else { 0 });
        self.bytes.extend_from_slice(&record.ttl.to_be_bytes());
        let at = self.bytes.len();
        self.u16(0);
        // In other types a hearer of plain DNS may not expect it (section 18.14).
        if record.kind == kind::PTR {
            self.name(&record.data);
        } else {
            self.bytes.extend_from_slice(&record.data);
        }
        let len = u16::try_from(self.bytes.len() - at - 2).unwrap_or(0);
        self.bytes[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with these counts.
    fn packet(counts: [u8; 4], body: &[u8]) -> Vec<u8> {
        let [a, b, c, d] = counts;
        [&[0, 0, 0, 0, 0, a, 0, b, 0, c, 0, d], body].concat()
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let host = Name::new(["diskomator-123456", "local"]);
        let record = |name: &Name, kind, data: &[u8]| Record {
            name: name.clone(),
            kind,
            class: INTERNET,
            is_flush: kind != kind::PTR,
            ttl: 120,
            data: data.to_vec(),
        };
        let service = Name::new(["_nvme-disc", "_tcp", "local"]);
        let message = Message {
            id: 7,
            is_response: true,
            is_truncated: true,
            questions: vec![Question { name: service.clone(), kind: kind::PTR, class: INTERNET, wants_unicast: true }],
            answers: vec![record(&service, kind::PTR, Name::new(["x", "_nvme-disc", "_tcp", "local"]).bytes())],
            authorities: vec![record(&host, kind::A, &[192, 0, 2, 1])],
            additionals: vec![record(&host, kind::SRV, &[&[0, 0, 0, 0, 0x1f, 0x49], host.bytes()].concat())],
        };
        let bytes = message.build();
        assert_eq!(Message::read(&bytes), Ok((message, Faults::default())));
        assert_eq!(bytes.windows(10).filter(|part| part == b"_nvme-disc").count(), 1, "a name is written once");
        for len in 0..12 {
            assert_eq!(Message::parse(&bytes[..len]), Err(WireError::Truncated(len)));
        }
        for len in 12..bytes.len() {
            let (cut, faults) = Message::read(&bytes[..len]).unwrap();
            let count = |message: &Message| {
                message.questions.len()
                    + [&message.answers, &message.authorities, &message.additionals].map(Vec::len).iter().sum::<usize>()
            };
            assert!(count(&cut) < 4 && faults.list().len() == 1, "{len}: {faults}");
        }
    }

    #[test]
    fn compressed_names_in_data_are_read_in_full() {
        // A question for "ab.local", then its SRV, whose target is "x" before that.
        let question = [2, b'a', b'b', 5, b'l', b'o', b'c', b'a', b'l', 0, 0, 33, 0, 1];
        let srv = [0xc0, 12, 0, 33, 0x80, 1, 0, 0, 0, 120, 0, 10, 0, 0, 0, 0, 31, 73, 1, b'x', 0xc0, 15];
        let message = Message::parse(&packet([1, 1, 0, 0], &[&question[..], &srv].concat())).unwrap();
        assert_eq!(message.answers[0].name, Name::new(["AB", "local"]));
        assert!(message.answers[0].is_flush);
        assert_eq!(message.answers[0].data, [&[0, 0, 0, 0, 31, 73], Name::new(["x", "local"]).bytes()].concat());
    }

    #[test]
    fn a_question_with_a_name_that_makes_no_sense_is_passed_over_and_the_next_one_counts() {
        let next = [1, b'z', 0, 0, 1, 0, 1];
        let asked = |name: &[u8]| {
            let (message, faults) =
                Message::read(&packet([2, 0, 0, 0], &[name, &[0, 1, 0, 1], &next].concat())).unwrap();
            (message.questions, faults.to_string())
        };
        let passed = "the question at byte 12 makes no sense (counts as absent)";
        let long: Vec<u8> = [&[63], &[b'a'; 63][..]].concat().repeat(4);
        let longest = [&long[..192], &[61], &[b'a'; 61], &[0]].concat();
        let z = Name::new(["z"]);
        for (name, why) in [
            (&[0xc0, 12][..], "itself"),
            (&[0xc0, 14], "what comes later"),
            (&[0xc0, 200], "what is not there"),
            (&[1, b'a', 0xc0, 12], "a loop"),
            (&[&long[..], &[0]].concat(), "257 bytes"),
        ] {
            let (questions, faults) = asked(name);
            assert_eq!(questions.iter().map(|question| &question.name).collect::<Vec<_>>(), [&z], "{why}");
            assert_eq!(faults, passed, "{why}");
        }
        assert_eq!(asked(&longest).0[0].name.bytes().len(), 255);
        // A reserved length: nobody knows where it ends.
        let (questions, faults) = asked(&[0x40; 80]);
        assert_eq!(
            (questions.len(), &faults[..]),
            (0, "the question at byte 12 makes no sense (nothing after it counts)")
        );
    }

    #[test]
    fn a_record_that_makes_no_sense_is_passed_over_and_those_beside_it_count() {
        let a = |last| [1, b'a', 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, last];
        let beside = |bad: &[u8]| {
            let (message, faults) = Message::read(&packet([0, 2, 0, 1], &[&a(1), bad, &a(3)].concat())).unwrap();
            let last = |list: &[Record]| list.iter().map(|record| record.data[3]).collect::<Vec<_>>();
            assert_eq!(faults.list().len(), 1, "{bad:?}: {faults}");
            (last(&message.answers), last(&message.additionals))
        };
        let head = |kind, len| [0, 0, kind, 0, 1, 0, 0, 0, 0, 0, len];
        for bad in [
            // A name in data that ends before it does, and one that points to itself.
            &[&head(12, 1)[..], &[3]].concat()[..],
            &[&head(12, 2)[..], &[0xc0, 40]].concat(),
            // Data that goes on after the name that it is.
            &[&head(12, 4)[..], &[0, 0, 1, 0x40]].concat(),
            // Data that is shorter than its type.
            &[&head(33, 1)[..], &[3]].concat(),
            &head(33, 0),
            &[&head(1, 3)[..], &[192, 0, 2]].concat(),
            &[&head(1, 5)[..], &[192, 0, 2, 1, 0]].concat(),
            &[&head(28, 4)[..], &[192, 0, 2, 1]].concat(),
            // An owner that points to itself.
            &[0xc0, 29, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 2],
        ] {
            assert_eq!(beside(bad), (vec![1], vec![3]), "{bad:?}");
        }
        // Data past the end of the packet, and a length that is reserved.
        assert_eq!(beside(&[&head(1, 200)[..], &[192]].concat()), (vec![1], vec![]));
        assert_eq!(beside(&[0x80, 1, 2]), (vec![1], vec![]));
        // Types that nothing reads, with EDNS among them.
        for kind in [41, 13, 99, 16] {
            let (message, faults) =
                Message::read(&packet([0, 2, 0, 0], &[&head(kind, 2)[..], &[0xff, 0xff], &a(1)].concat())).unwrap();
            assert_eq!((message.answers.len(), faults), (2, Faults::default()));
        }
        let nsec = Message::parse(&packet([0, 1, 0, 0], &[&head(47, 4)[..], &[0, 0, 1, 0x40]].concat())).unwrap();
        assert_eq!(nsec.answers[0].data, [0, 0, 1, 0x40]);
    }

    #[test]
    fn counts_that_are_larger_than_what_there_is_and_bytes_after_it_are_harmless() {
        let a = [1, b'a', 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1];
        let (message, faults) = Message::read(&packet([0, 255, 255, 255], &a)).unwrap();
        assert_eq!((message.answers.len(), faults.list().len()), (1, 1), "{faults}");
        let (message, faults) = Message::read(&packet([0, 1, 0, 0], &[&a[..], &[0xff; 40]].concat())).unwrap();
        assert_eq!((message.answers.len(), faults.is_empty()), (1, true));
    }

    #[test]
    fn messages_of_another_kind_are_ignored() {
        assert_eq!(Message::parse(&[0, 0, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(WireError::Codes));
        assert_eq!(Message::parse(&[0, 0, 0x80, 3, 0, 0, 0, 0, 0, 0, 0, 0]), Err(WireError::Codes));
    }

    #[test]
    fn a_name_is_shown_without_what_could_harm_a_terminal() {
        assert_eq!(Name::new(["a\x1b[2J", "local"]).to_string(), "a\\x1b[2J.local.");
        let name = Name::new(std::iter::repeat_n("a".repeat(80).as_str(), 9));
        assert_eq!(name.bytes().len(), 3 * 64 + 1);
    }
}
