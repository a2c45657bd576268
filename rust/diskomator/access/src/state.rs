//! Requests, admissions and denials: the state of one boot.
//!
//! Times are whole seconds since the machine's start. `now` never goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::{Named, group, normal};
use crate::nqn::{Grant, HostNqn};

/// Requests at most.
pub const REQUESTS_MAX: usize = 64;
/// Requests at most from one IPv4 address or one IPv6 network of 64 bits.
pub const GROUP_MAX: usize = 8;
/// Denials at most.
pub const DENIED_MAX: usize = 64;
/// Admitted hosts at most.
pub const ADMITTED_MAX: usize = 128;
/// Hosts at most that must prove a key.
pub const KEYED_MAX: usize = ADMITTED_MAX;
/// How long a denied host raises no question.
pub const DENIAL: Duration = Duration::from_secs(60);
/// How long a request is kept without another attempt: Linux hosts make one every ten seconds.
pub const SILENCE: Duration = Duration::from_secs(600);

/// How a host came to be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The setting `allow`.
    Setting,
    /// The command `allow`.
    Command,
    /// A key of the console.
    Screen,
    /// A cryptographic key, which the host must prove.
    Key,
}

impl By {
    /// Its word in the file and in tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Command => "command",
            Self::Screen => "screen",
            Self::Key => "key",
        }
    }
}

/// A host that may use the disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// The host.
    pub nqn: HostNqn,
    /// It may only read.
    pub read_only: bool,
    /// How it came to be admitted.
    pub by: By,
    /// The address of the request that was answered. Admission does not depend on it.
    #[serde(default)]
    pub address: Option<IpAddr>,
}

/// A host that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The host.
    pub nqn: HostNqn,
    /// From then on it raises a question again.
    pub until: u64,
}

/// A host that nobody has decided on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// No other request of this boot has it.
    pub number: u64,
    /// The host, as it names itself.
    pub nqn: HostNqn,
    /// Where the host asked from.
    pub address: IpAddr,
    /// The time of its first attempt,
    pub first: u64,
    /// and of its last one.
    pub last: u64,
    /// The number of its attempts.
    pub tries: u64,
}

/// The effect of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is a new question, with this number.
    New(u64),
    /// The question is there already.
    Known(u64),
    /// The host is admitted.
    Admitted,
    /// The host was denied a moment ago.
    Denied,
    /// As many ask already as can be noted, each from another place.
    Full,
}

/// Why an answer has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// No such host asks.
    #[error(
        "{0} is no request now: it was answered, or the host has stopped asking; `diskomator hosts` lists requests"
    )]
    NoRequest(Named),
    /// No host there is known.
    #[error("no host at {0} asks or is admitted; `diskomator hosts` lists them; a host can also be named by its NQN")]
    Nobody(IpAddr),
    /// The request comes from another address than the answer says.
    #[error("{named} is not from {address}; `diskomator hosts` lists requests")]
    Elsewhere {
        /// The host, as it was named.
        named: Named,
        /// The address that the answer says.
        address: IpAddr,
    },
    /// More than one host is called so.
    #[error("{count} hosts are called so: {list}; name one by its number or its NQN", count = .0.len(), list = .0.join(", "))]
    Ambiguous(Vec<String>),
    /// No more hosts can be admitted.
    #[error("{ADMITTED_MAX} hosts are admitted, and that is the limit; `diskomator deny HOST` ends an admission")]
    TooMany,
    /// There is nothing to forget.
    #[error("{0} is neither admitted nor denied; `diskomator hosts` lists those that are")]
    Unknown(Named),
}

/// Why a file holds no state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is no JSON of this shape, or has an NQN that is none.
    #[error("the file of admitted hosts cannot be read")]
    Json(#[from] serde_json::Error),
    /// It has more entries than there can be.
    #[error("the file of admitted hosts has too many entries")]
    TooMany,
}

/// Requests, admissions and denials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    everyone: bool,
    admitted: Vec<Admitted>,
    denied: Vec<Denied>,
    requests: Vec<Request>,
    /// Hosts that have a key, and must prove it wherever they are admitted.
    #[serde(default)]
    keyed: Vec<HostNqn>,
    /// The number of the last request.
    #[serde(default)]
    last_number: u64,
}

fn seconds(now: Duration) -> u64 {
    now.as_secs()
}

impl State {
    /// The state at the start of a boot.
    pub fn new(everyone: bool, grants: &[Grant]) -> Self {
        let mut state = Self { everyone, ..Self::default() };
        for Grant { nqn, read_only } in grants {
            // Of two grants to one host, the later one counts, as with other settings.
            state.admitted.retain(|host| host.nqn != *nqn);
            state.admitted.push(Admitted { nqn: nqn.clone(), read_only: *read_only, by: By::Setting, address: None });
        }
        state.admitted.truncate(ADMITTED_MAX);
        state
    }

    /// A state in the place of one that was lost: numbers begin where the lost ones have most likely not come to.
    #[must_use]
    pub fn after_loss(mut self, now: Duration) -> Self {
        self.last_number = seconds(now);
        self
    }

    /// Reads the file.
    pub fn parse(file: &[u8]) -> Result<Self, StateError> {
        let mut state: Self = serde_json::from_slice(file)?;
        let is_longer = state.admitted.len() > ADMITTED_MAX || state.denied.len() > DENIED_MAX;
        if is_longer || state.requests.len() > REQUESTS_MAX || state.keyed.len() > KEYED_MAX {
            return Err(StateError::TooMany);
        }
        // A host in two places is in the one that keeps it out.
        let denied: BTreeSet<&HostNqn> = state.denied.iter().map(|host| &host.nqn).collect();
        state.admitted.retain(|host| !denied.contains(&host.nqn));
        for request in &state.requests {
            state.last_number = state.last_number.max(request.number);
        }
        Ok(state)
    }

    /// The content of the file, which ends with a newline.
    pub fn to_file(&self) -> Result<String, StateError> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Every host is admitted until the next start.
    pub const fn everyone(&self) -> bool {
        self.everyone
    }

    /// The admitted hosts.
    pub fn admitted(&self) -> &[Admitted] {
        &self.admitted
    }

    /// The denied hosts, the oldest denial first.
    pub fn denied(&self) -> &[Denied] {
        &self.denied
    }

    /// The requests, the oldest first.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// The hosts that have a key. Of those that are admitted, each must prove it.
    pub fn keyed(&self) -> &[HostNqn] {
        &self.keyed
    }

    /// From now on the host must prove its key wherever it is admitted.
    pub fn must_prove(&mut self, nqn: &HostNqn) {
        if self.keyed.contains(nqn) {
            return;
        }
        // An admitted host never loses its key: without one it would be admitted by its name alone.
        if self.keyed.len() >= KEYED_MAX {
            self.keyed.retain(|host| self.admitted.iter().any(|admitted| admitted.nqn == *host));
        }
        self.keyed.push(nqn.clone());
    }

    /// Admits the host that proves its key, with the access that it has if it is admitted already.
    pub fn key(&mut self, nqn: &HostNqn, now: Duration) -> Result<Admitted, AnswerError> {
        let read_only = self.admitted.iter().any(|host| host.nqn == *nqn && host.read_only);
        self.allow(&Named::Nqn(nqn.clone()), None, read_only, By::Key, now)
    }

    /// Whether the target has to do the same for both.
    pub fn decides_as(&self, other: &Self) -> bool {
        let decided =
            |state: &Self| (state.everyone, state.admitted.clone(), state.denied.clone(), state.keyed.clone());
        decided(self) == decided(other)
    }

    /// An undecided host has tried to connect or to find the disks.
    pub fn heard(&mut self, nqn: &HostNqn, address: IpAddr, now: Duration) -> Heard {
        self.expire(now);
        let address = normal(address);
        if self.everyone || self.admitted.iter().any(|host| host.nqn == *nqn) {
            return Heard::Admitted;
        }
        if self.denied.iter().any(|host| host.nqn == *nqn) {
            return Heard::Denied;
        }
        let known = self.requests.iter_mut().find(|request| request.nqn == *nqn && request.address == address);
        if let Some(request) = known {
            request.last = seconds(now);
            request.tries = request.tries.saturating_add(1);
            return Heard::Known(request.number);
        }
        if !self.make_room(group(address)) {
            return Heard::Full;
        }
        // 64 bits outlast any boot.
        self.last_number = self.last_number.saturating_add(1);
        self.requests.push(Request {
            number: self.last_number,
            nqn: nqn.clone(),
            address,
            first: seconds(now),
            last: seconds(now),
            tries: 1,
        });
        Heard::New(self.last_number)
    }

    /// Makes room for a request of a group. The group that would have the most loses its oldest request; nobody else
    /// ever loses one to a newcomer of a group as large as its own.
    fn make_room(&mut self, newcomer: IpAddr) -> bool {
        let mut sizes: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for request in &self.requests {
            *sizes.entry(group(request.address)).or_default() += 1;
        }
        let size = sizes.get(&newcomer).copied().unwrap_or_default();
        let loser = if size >= GROUP_MAX {
            newcomer
        } else if self.requests.len() < REQUESTS_MAX {
            return true;
        } else {
            match sizes.iter().max_by_key(|(_, size)| **size) {
                Some((largest, most)) if *most > size + 1 => *largest,
                _ => newcomer,
            }
        };
        // They are in the order of their numbers.
        let oldest = self.requests.iter().position(|request| group(request.address) == loser);
        oldest.map(|place| self.requests.remove(place)).is_some()
    }

    /// Admits a host. A request's number means the NQN and the address of that request alone; an NQN can be admitted
    /// before its host asks. With `address`, only a request from there is answered.
    pub fn allow(
        &mut self,
        named: &Named,
        address: Option<IpAddr>,
        read_only: bool,
        by: By,
        now: Duration,
    ) -> Result<Admitted, AnswerError> {
        self.expire(now);
        let (nqn, from) = self.meant(named, address)?;
        let former = self.admitted.iter().position(|host| host.nqn == nqn);
        if former.is_none() && self.admitted.len() >= ADMITTED_MAX {
            return Err(AnswerError::TooMany);
        }
        let from = from.or_else(|| self.admitted.get(former?)?.address);
        let host = Admitted { nqn, read_only, by, address: from };
        self.decided(&host.nqn);
        if by == By::Key {
            self.must_prove(&host.nqn);
        }
        match former {
            Some(place) => self.admitted[place] = host.clone(),
            None => self.admitted.push(host.clone()),
        }
        Ok(host)
    }

    /// Refuses a host, and ends its admission if it has one. For [`DENIAL`] it raises no question. Names are as in
    /// [`State::allow`]; an address also means an admitted host whose request came from there.
    pub fn deny(&mut self, named: &Named, address: Option<IpAddr>, now: Duration) -> Result<Denied, AnswerError> {
        self.expire(now);
        let (nqn, _) = self.meant(named, address)?;
        self.admitted.retain(|host| host.nqn != nqn);
        self.decided(&nqn);
        if self.denied.len() >= DENIED_MAX {
            self.denied.remove(0);
        }
        // Rounded up, so that a minute is not less than one.
        let until = seconds(now + DENIAL) + u64::from(now.subsec_nanos() > 0);
        let host = Denied { nqn, until };
        self.denied.push(host.clone());
        Ok(host)
    }

    /// Takes the decision on a host back: it is undecided again.
    pub fn forget(&mut self, named: &Named, now: Duration) -> Result<HostNqn, AnswerError> {
        self.expire(now);
        let (nqn, _) = self.meant(named, None)?;
        let count = |state: &Self| state.admitted.len() + state.denied.len() + state.requests.len() + state.keyed.len();
        let before = count(self);
        self.admitted.retain(|host| host.nqn != nqn);
        self.keyed.retain(|host| *host != nqn);
        self.decided(&nqn);
        if before == count(self) {
            return Err(AnswerError::Unknown(named.clone()));
        }
        Ok(nqn)
    }

    /// Admits every host until the next start, or only those that are admitted by name.
    pub fn set_everyone(&mut self, everyone: bool) {
        self.everyone = everyone;
        if everyone {
            self.requests.clear();
        }
    }

    /// Forgets the denials and requests whose time is over; returns when the next one's is.
    pub fn expire(&mut self, now: Duration) -> Option<Duration> {
        let (now, silence) = (seconds(now), SILENCE.as_secs());
        self.denied.retain(|host| host.until > now);
        self.requests.retain(|request| request.last.saturating_add(silence) > now);
        let denials = self.denied.iter().map(|host| host.until);
        let requests = self.requests.iter().map(|request| request.last.saturating_add(silence));
        denials.chain(requests).min().map(Duration::from_secs)
    }

    /// The NQN has an answer: whatever was asked or said about it before is over.
    fn decided(&mut self, nqn: &HostNqn) {
        self.denied.retain(|host| host.nqn != *nqn);
        self.requests.retain(|request| request.nqn != *nqn);
    }

    /// The host that is meant, and the address that it asks from, if it does.
    fn meant(&self, named: &Named, address: Option<IpAddr>) -> Result<(HostNqn, Option<IpAddr>), AnswerError> {
        let address = address.map(normal);
        let is_meant = |request: &&Request| match named {
            Named::Number(number) => request.number == *number,
            Named::Nqn(nqn) => request.nqn == *nqn,
            Named::Address(from) => request.address == *from,
        };
        let called: Vec<&Request> = self.requests.iter().filter(is_meant).collect();
        let chosen = called.iter().filter(|request| address.is_none_or(|address| request.address == address));
        let mut hosts: BTreeMap<&HostNqn, &Request> = BTreeMap::new();
        for request in chosen {
            hosts.entry(&request.nqn).or_insert(request);
        }
        if hosts.len() > 1 {
            let name = |request: &&Request| format!("{} {} {}", request.number, request.address, request.nqn);
            return Err(AnswerError::Ambiguous(hosts.values().map(name).collect()));
        }
        if let Some((nqn, request)) = hosts.pop_first() {
            return Ok((nqn.clone(), Some(request.address)));
        }
        if let Some(address) = address {
            return Err(AnswerError::Elsewhere { named: named.clone(), address });
        }
        match named {
            Named::Number(_) => Err(AnswerError::NoRequest(named.clone())),
            Named::Nqn(nqn) => Ok((nqn.clone(), None)),
            Named::Address(from) => {
                let hosts: Vec<_> = self.admitted.iter().filter(|host| host.address == Some(*from)).collect();
                match hosts.as_slice() {
                    [] => Err(AnswerError::Nobody(*from)),
                    [host] => Ok((host.nqn.clone(), Some(*from))),
                    hosts => {
                        Err(AnswerError::Ambiguous(hosts.iter().map(|host| format!("{from} {}", host.nqn)).collect()))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
