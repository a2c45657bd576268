//! The records of a machine on one link, and those of them that answer a
//! question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::wire::{INTERNET, Name, Question, Record, kind};
use crate::pace::Moment;

/// RFC 6762 section 10: records about a host, and others.
const HOST_TTL: u32 = 120;
const OTHER_TTL: u32 = 4500;
/// With so many an answer fits into the 512 bytes of plain DNS.
const ADDRESSES_MAX: usize = 12;

/// A service that the machine announces (RFC 6763).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Its type, such as `_ssh`, and `_tcp` or `_udp`.
    pub kind: [&'static str; 2],
    /// Its port.
    pub port: u16,
    /// The strings of its TXT record.
    pub txt: &'static [&'static str],
}

/// The names that records are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The first label of `host` and of `instance`.
    pub label: String,
    /// The machine: `LABEL.local`.
    pub host: Name,
    /// Its service: `LABEL._TYPE._tcp.local`.
    pub instance: Name,
    service: Name,
    services: Name,
}

impl Names {
    /// The names of the machine `base`, if it is the `number`th that wants them.
    pub fn new(base: &str, number: u32, service: &Service) -> Self {
        let [kind, transport] = service.kind;
        let service = [kind, transport, "local"];
        let label = if number > 1 { format!("{base}-{number}") } else { base.to_owned() };
        Self {
            host: Name::new([label.as_str(), "local"]),
            instance: Name::new([label.as_str()].into_iter().chain(service)),
            service: Name::new(service),
            // RFC 6763 section 9.
            services: Name::new(["_services", "_dns-sd", "_udp", "local"]),
            label,
        }
    }
}

/// An answer that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Moment,
    /// The only machine that asked, if the rest of its known answers is still to come.
    pub asker: Option<IpAddr>,
}

/// A record, and what becomes of it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The record as it is announced: with its flush bit if nobody else may
    /// have one of its name and type.
    pub record: Record,
    /// When everybody last heard it.
    pub last: Option<Moment>,
    /// When everybody is to hear it.
    pub due: Option<Due>,
}

impl Entry {
    fn new(name: &Name, kind: u16, is_flush: bool, ttl: u32, data: Vec<u8>) -> Self {
        Self {
            record: Record { name: name.clone(), kind, class: INTERNET, is_flush, ttl, data },
            last: None,
            due: None,
        }
    }

    /// Others have records of this name and type, too.
    pub fn is_shared(&self) -> bool {
        !self.record.is_flush
    }

    /// It says which types there are.
    pub fn is_denial(&self) -> bool {
        self.record.kind == kind::NSEC
    }

    /// Whether it was heard less than this ago.
    pub fn is_recent(&self, now: Moment, than: Duration) -> bool {
        self.last.is_some_and(|last| now < last + than)
    }

    /// Whether it can only be told together with `other`, as the flush bit of
    /// one would else make hearers forget the other (RFC 6762 section 10.2).
    pub fn belongs_to(&self, other: &Self) -> bool {
        let key = |entry: &Self| (entry.record.is_flush, entry.record.kind);
        !self.is_shared() && key(self) == key(other) && self.record.name == other.record.name
    }
}

/// The records of a machine on a link.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The names of the records.
    pub names: Names,
    /// Each of them.
    pub entries: Vec<Entry>,
}

impl Zone {
    /// With the service of the machine and the addresses of the link.
    pub fn new(names: Names, offer: &Service, addresses: &[IpAddr]) -> Self {
        let Names { host, instance, service, services, .. } = &names;
        let mut entries = vec![
            Entry::new(services, kind::PTR, false, OTHER_TTL, service.bytes().to_vec()),
            Entry::new(service, kind::PTR, false, OTHER_TTL, instance.bytes().to_vec()),
            Entry::new(instance, kind::SRV, true, HOST_TTL, srv(offer.port, host)),
            Entry::new(instance, kind::TXT, true, OTHER_TTL, txt(offer.txt)),
        ];
        let mut host_kinds = Vec::new();
        for address in addresses.iter().take(ADDRESSES_MAX) {
            let (kind, data) = address_data(*address);
            entries.push(Entry::new(host, kind, true, HOST_TTL, data));
            host_kinds.push(kind);
        }
        entries.push(Entry::new(host, kind::NSEC, true, HOST_TTL, nsec(host, &host_kinds)));
        entries.push(Entry::new(instance, kind::NSEC, true, HOST_TTL, nsec(instance, &[kind::SRV, kind::TXT])));
        Self { names, entries }
    }

    /// Whether an entry answers a question; a denial does if nothing else can.
    pub fn answers(&self, entry: &Entry, question: &Question) -> bool {
        let has = |kind: u16| {
            self.entries.iter().any(|entry| entry.record.kind == kind && entry.record.name == question.name)
        };
        let fits = match (question.kind, entry.is_denial()) {
            (kind::ANY, is_denial) => !is_denial,
            (kind, true) => kind == kind::NSEC || !has(kind),
            (kind, false) => kind == entry.record.kind,
        };
        fits && [INTERNET, kind::ANY].contains(&question.class) && question.name == entry.record.name
    }

    /// Which entries those who asked for `chosen` will want next (RFC 6763
    /// section 12, RFC 6762 section 6.2).
    pub fn additionals(&self, chosen: &[usize]) -> Vec<usize> {
        let has = |test: &dyn Fn(&Record) -> bool| chosen.iter().any(|index| test(&self.entries[*index].record));
        let instance = has(&|record| record.name == self.names.service);
        let host = instance || has(&|record| matches!(record.kind, kind::SRV | kind::A | kind::AAAA));
        let kinds = [kind::A, kind::AAAA].map(|kind| self.entries.iter().any(|entry| entry.record.kind == kind));
        let wanted = |entry: &Entry| {
            let name = &entry.record.name;
            let of_host = host && *name == self.names.host;
            // The host has no addresses but these.
            if entry.is_denial() {
                of_host && kinds != [true, true]
            } else {
                of_host || (instance && *name == self.names.instance)
            }
        };
        let others = (0..self.entries.len()).filter(|index| !chosen.contains(index));
        others.filter(|index| wanted(&self.entries[*index])).collect()
    }

    /// Whether someone else's record shows that it goes by one of our names;
    /// `own` are the addresses of all links. While the names are not yet ours,
    /// anything of that name does (RFC 6762 sections 8.1 and 9).
    pub fn conflicts(&self, record: &Record, own: &[IpAddr], are_ours: bool) -> bool {
        let is_known = |record: &Record| self.entries.iter().any(|entry| entry.record.is_same(record));
        if record.class != INTERNET || record.ttl == 0 || is_known(record) {
            return false;
        }
        let is_address = matches!(record.kind, kind::A | kind::AAAA);
        let is_rival = (record.name == self.names.host && (is_address || !are_ours))
            || (record.name == self.names.instance && (matches!(record.kind, kind::SRV | kind::TXT) || !are_ours));
        // A cable from one of our links to another brings our own back to us.
        is_rival && !(is_address && own.iter().any(|own| address_data(*own).1 == record.data))
    }

    /// The records that a probe for our names claims (RFC 6762 section 8.2).
    pub fn claims(&self) -> Vec<Record> {
        let unique = self.entries.iter().filter(|entry| !entry.is_shared() && !entry.is_denial());
        unique.map(|entry| Record { is_flush: false, ..entry.record.clone() }).collect()
    }

    /// Whether someone who claims this at the same time as we do goes first
    /// (RFC 6762 section 8.2.1): who has the later records, in their order.
    pub fn yields_to(&self, theirs: &[Record]) -> bool {
        fn sorted<'a>(name: &Name, records: &'a [Record]) -> Vec<(u16, u16, &'a [u8])> {
            let of_name = records.iter().filter(|record| record.name == *name);
            let mut all: Vec<_> = of_name.map(|record| (record.class, record.kind, record.data.as_slice())).collect();
            all.sort_unstable();
            all
        }
        let ours = self.claims();
        [&self.names.host, &self.names.instance].into_iter().any(|name| {
            let theirs = sorted(name, theirs);
            !theirs.is_empty() && sorted(name, &ours) < theirs
        })
    }
}

fn address_data(address: IpAddr) -> (u16, Vec<u8>) {
    match address {
        IpAddr::V4(ip) => (kind::A, Ipv4Addr::octets(&ip).to_vec()),
        IpAddr::V6(ip) => (kind::AAAA, Ipv6Addr::octets(&ip).to_vec()),
    }
}

/// RFC 2782: priority, weight, port, target.
fn srv(port: u16, host: &Name) -> Vec<u8> {
    [&[0; 4], &port.to_be_bytes()[..], host.bytes()].concat()
}

/// RFC 6763 section 6.1: strings with their lengths before them, and one without
/// content if there are none.
fn txt(strings: &[&str]) -> Vec<u8> {
    if strings.is_empty() {
        return vec![0];
    }
    strings.iter().flat_map(|text| u8::try_from(text.len()).into_iter().chain(text.bytes())).collect()
}

/// The restricted form of RFC 6762 section 6.1: a bit for each type, all of
/// them below 256.
fn nsec(name: &Name, kinds: &[u16]) -> Vec<u8> {
    let mut bits = [0u8; 5];
    for kind in kinds {
        if let Some(byte) = bits.get_mut(usize::from(kind / 8)) {
            *byte |= 0x80 >> (kind % 8);
        }
    }
    let len = bits.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    [name.bytes(), &[0, u8::try_from(len).unwrap_or(0)], &bits[..len]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_strings_has_one_without_content() {
        assert_eq!(txt(&[]), [0]);
        assert_eq!(txt(&["p=tcp"]), b"\x05p=tcp");
    }
}
