//! The rule by which DHCPv4, DHCPv6 and multicast DNS are read: **strict in what
//! decides, lenient in what does not.**
//!
//! A message is dropped if a part that decides is missing or makes no sense:
//! a part that says whose answer it is (transaction, hardware address or client
//! DUID, server identifier), what kind of answer it is, or which address it
//! gives. Anything else is a help, and a malformed help is none:
//!
//! - A malformed option counts as absent, and what holds without it holds.
//! - An option that may occur once and occurs more often counts once: its first
//!   well-formed copy.
//! - An option or a record that reaches past the end of what holds it ends the
//!   list there, and so does the end itself. The ones before it count.
//! - A record that makes no sense is passed over. Those beside it count.
//! - Options, records and fields that nothing here reads may hold anything.
//!
//! Where an RFC has something discarded in so many words, it is discarded
//! (RFC 8415 section 21.4: an `IA_NA` with T1 after T2).
//!
//! Parsers say which parts they passed over in [`Faults`], for a line of the log.
//! `docs/dhcp.md` has the parts of each protocol in a table.

use std::fmt;

/// So many of one message are worth a line.
const FAULTS_MAX: usize = 8;

/// The fault of a part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An option of a length that it cannot have.
    Length {
        /// Its number.
        option: u16,
        /// In bytes; of all copies together, if there are several.
        len: usize,
    },
    /// An option with a value that it cannot have.
    Value(u16),
    /// An option that goes on past the end of what holds it.
    PastEnd(u16),
    /// An option that may occur once.
    Repeated(u16),
    /// Options without an end option.
    NoEnd,
    /// This many bytes, too few for an option.
    Stray(usize),
    /// BOOTP's `op`.
    Operation(u8),
    /// BOOTP's `htype` and `hlen`.
    Hardware {
        /// As in ARP.
        htype: u8,
        /// In bytes.
        hlen: u8,
    },
    /// The question at this byte.
    Question(usize),
    /// The record at this byte.
    Record(usize),
}

/// The consequence for that part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// As if it had not been sent.
    Absent,
    /// One of its copies is good.
    FirstCopy,
    /// Neither it nor what comes after it counts.
    Ended,
}

/// A part of a message that was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which part, and why.
    pub what: What,
    /// How the message is read without it.
    pub then: Then,
}

impl Fault {
    /// A part that counts as absent.
    pub const fn absent(what: What) -> Self {
        Self { what, then: Then::Absent }
    }

    /// A part where a list ends.
    pub const fn ended(what: What) -> Self {
        Self { what, then: Then::Ended }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Length { option, len } => write!(f, "option {option} cannot have {len} bytes")?,
            What::Value(option) => write!(f, "option {option} has a value that makes no sense")?,
            What::PastEnd(option) => write!(f, "option {option} is longer than the message")?,
            What::Repeated(option) => write!(f, "option {option} occurs more than once")?,
            What::NoEnd => write!(f, "its options do not end")?,
            What::Stray(len) => write!(f, "{len} bytes after its options are no option")?,
            What::Operation(op) => write!(f, "{op} is not the operation of a server")?,
            What::Hardware { htype, hlen } => {
                write!(f, "hardware type {htype} with addresses of {hlen} bytes is not Ethernet")?;
            }
            What::Question(at) => write!(f, "the question at byte {at} makes no sense")?,
            What::Record(at) => write!(f, "the record at byte {at} makes no sense")?,
        }
        f.write_str(match self.then {
            Then::Absent => " (counts as absent)",
            Then::FirstCopy => " (its first good copy counts)",
            Then::Ended => " (nothing after it counts)",
        })
    }
}

/// The parts of a message that were passed over: the first ones, and whether
/// there were more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    list: Vec<Fault>,
    has_more: bool,
}

impl Faults {
    /// One more. Beyond the first few it is only counted as more.
    pub fn push(&mut self, fault: Fault) {
        if self.list.len() < FAULTS_MAX {
            self.list.push(fault);
        } else {
            self.has_more = true;
        }
    }

    /// Whether the message is in order.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first ones.
    pub fn list(&self) -> &[Fault] {
        &self.list
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.list.iter().enumerate() {
            write!(f, "{}{fault}", if index > 0 { ", " } else { "" })?;
        }
        f.write_str(if self.has_more { ", and more" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_names_each_option_and_never_grows_long() {
        let mut faults = Faults::default();
        faults.push(Fault::absent(What::Length { option: 26, len: 0 }));
        faults.push(Fault { what: What::Length { option: 54, len: 8 }, then: Then::FirstCopy });
        faults.push(Fault::ended(What::PastEnd(55)));
        assert_eq!(
            faults.to_string(),
            "option 26 cannot have 0 bytes (counts as absent), option 54 cannot have 8 bytes (its first good copy \
             counts), option 55 is longer than the message (nothing after it counts)"
        );
        for option in 0..10_000 {
            faults.push(Fault::absent(What::Value(option)));
        }
        assert_eq!(faults.list().len(), FAULTS_MAX);
        assert!(faults.to_string().ends_with(", and more") && faults.to_string().len() < 1000);
    }
}
