//! Which of the connected hosts is meant: each of its controllers, and no other's.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::model::Host;

/// A controller: what the target has for one host at one subsystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Which one it is.
    pub id: ControllerId,
    /// Whose it is.
    pub host: Host,
}

/// No other controller of this boot has the same: the kernel gives the number of one that has gone to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ControllerId {
    /// `cntlid` (NVM Express Base Specification, "Identify Controller Data Structure").
    pub number: u16,
    /// The inode of its directory in debugfs, which counts on.
    pub inode: u64,
}

impl fmt::Display for ControllerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.inode)
    }
}

impl FromStr for ControllerId {
    type Err = NoController;

    fn from_str(text: &str) -> Result<Self, NoController> {
        let read = || {
            let (number, inode) = text.split_once(':')?;
            Some(Self { number: number.parse().ok()?, inode: inode.parse().ok()? })
        };
        read().ok_or_else(|| NoController(text.to_owned()))
    }
}

/// A text that names no controller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no controller, such as 3:12345")]
pub struct NoController(String);

/// The host that is meant, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its NQN, if it was named by that,
    pub nqn: Option<String>,
    /// or its address.
    pub address: Option<String>,
    /// These controllers alone.
    pub controllers: Option<BTreeSet<ControllerId>>,
    /// More than one host may be meant.
    pub all: bool,
}

impl Wanted {
    /// One more word for it: an address, or an NQN. `false` if there is one of that kind already.
    pub fn name(&mut self, word: &str) -> bool {
        let place = if word.parse::<IpAddr>().is_ok() { &mut self.address } else { &mut self.nqn };
        place.replace(word.to_owned()).is_none()
    }

    fn means(&self, host: &Host) -> bool {
        let is_address = |wanted: &String| {
            host.address.as_ref().is_some_and(|address| match (address.parse::<IpAddr>(), wanted.parse::<IpAddr>()) {
                (Ok(address), Ok(wanted)) => address == wanted,
                _ => address == wanted,
            })
        };
        self.nqn.as_ref().is_none_or(|nqn| *nqn == host.nqn) && self.address.as_ref().is_none_or(is_address)
    }
}

/// Why no controller is chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotChosen {
    /// Nobody is called so.
    #[error("no such host is connected; `diskomator hosts` lists those that are")]
    Nobody,
    /// The controllers that were named have ended, or are another host's.
    #[error("nothing was done: the connections that were meant have ended by themselves")]
    Gone,
    /// More than one host is called so.
    #[error("{0} hosts are called so: {list}; name one by its address and its NQN, or all with --all", list = .1.join(", "))]
    Ambiguous(usize, Vec<String>),
}

/// The controllers, of `all`, of the host that is meant.
pub fn choose<'a, T>(all: &'a [(T, Controller)], wanted: &Wanted) -> Result<Vec<&'a (T, Controller)>, NotChosen> {
    let mut chosen: Vec<_> = all.iter().filter(|(_, controller)| wanted.means(&controller.host)).collect();
    if let Some(ids) = &wanted.controllers {
        chosen.retain(|(_, controller)| ids.contains(&controller.id));
        return if chosen.is_empty() { Err(NotChosen::Gone) } else { Ok(chosen) };
    }
    if chosen.is_empty() {
        return Err(NotChosen::Nobody);
    }
    if wanted.all {
        return Ok(chosen);
    }
    // One whose controller is just being made or taken down has no address, and may have another.
    if chosen.iter().any(|(_, controller)| controller.host.address.is_some()) {
        chosen.retain(|(_, controller)| controller.host.address.is_some());
    }
    let hosts: BTreeSet<&Host> = chosen.iter().map(|(_, controller)| &controller.host).collect();
    if hosts.len() > 1 {
        let name = |host: &&Host| format!("{} {}", host.address.as_deref().unwrap_or("-"), host.nqn);
        return Err(NotChosen::Ambiguous(hosts.len(), hosts.iter().map(name).collect()));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller(number: u16, nqn: &str, address: Option<&str>) -> (u16, Controller) {
        let id = ControllerId { number, inode: 1000 + u64::from(number) };
        (number, Controller { id, host: Host { nqn: nqn.to_owned(), address: address.map(str::to_owned) } })
    }

    fn all() -> Vec<(u16, Controller)> {
        vec![
            controller(1, "nqn.clone", Some("192.0.2.1")),
            controller(2, "nqn.clone", Some("192.0.2.1")),
            controller(3, "nqn.clone", Some("192.0.2.2")),
            controller(4, "nqn.other", Some("2001:db8::7")),
            controller(5, "nqn.nat", Some("192.0.2.2")),
            controller(6, "nqn.clone", None),
            controller(7, "nqn.unknown", None),
        ]
    }

    fn chosen(words: &[&str]) -> Result<Vec<u16>, NotChosen> {
        let mut wanted = Wanted::default();
        for word in words {
            assert!(wanted.name(word));
        }
        choose(&all(), &wanted).map(|chosen| chosen.iter().map(|(number, _)| *number).collect())
    }

    #[test]
    fn a_name_means_one_host_and_of_more_it_says_which_there_are() {
        assert_eq!(chosen(&["192.0.2.1"]), Ok(vec![1, 2]));
        assert_eq!(chosen(&["2001:DB8:0::7"]), Ok(vec![4]));
        assert_eq!(chosen(&["nqn.other"]), Ok(vec![4]));
        assert_eq!(chosen(&["nqn.unknown"]), Ok(vec![7]));
        assert_eq!(chosen(&["nqn.clone", "192.0.2.2"]), Ok(vec![3]));
        assert_eq!(chosen(&["192.0.2.2", "nqn.nat"]), Ok(vec![5]));
        for nobody in [&["192.0.2.3"][..], &["nqn.nobody"], &["nqn.other", "192.0.2.1"], &["NQN.other"]] {
            assert_eq!(chosen(nobody), Err(NotChosen::Nobody));
        }
        let two = |candidates: [&str; 2]| Err(NotChosen::Ambiguous(2, candidates.map(str::to_owned).to_vec()));
        assert_eq!(chosen(&["nqn.clone"]), two(["192.0.2.1 nqn.clone", "192.0.2.2 nqn.clone"]));
        assert_eq!(chosen(&["192.0.2.2"]), two(["192.0.2.2 nqn.clone", "192.0.2.2 nqn.nat"]));
        let wanted = Wanted { nqn: Some("nqn.clone".to_owned()), all: true, ..Wanted::default() };
        assert_eq!(choose(&all(), &wanted).map(|chosen| chosen.len()), Ok(4));
    }

    #[test]
    fn controllers_that_a_question_named_are_those_still_or_nothing_is_done() {
        let named = |ids: &[&str]| {
            let controllers = Some(ids.iter().map(|id| id.parse().unwrap()).collect());
            let wanted = Wanted { address: Some("192.0.2.1".to_owned()), controllers, ..Wanted::default() };
            choose(&all(), &wanted).map(|chosen| chosen.iter().map(|(number, _)| *number).collect::<Vec<u16>>())
        };
        assert_eq!(named(&["1:1001"]), Ok(vec![1]));
        assert_eq!(named(&["1:1001", "2:1002", "9:9"]), Ok(vec![1, 2]));
        // The number has gone to a later controller; or it is another host's.
        assert_eq!(named(&["1:900"]), Err(NotChosen::Gone));
        assert_eq!(named(&["3:1003"]), Err(NotChosen::Gone));
        for text in ["", "3", ":", "3:", "a:1", "70000:1"] {
            assert!(text.parse::<ControllerId>().is_err(), "{text}");
        }
    }
}
