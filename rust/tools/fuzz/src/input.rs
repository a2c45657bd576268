//! The meaning of an input's bytes, and the time that passes meanwhile.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use netproto::pace::Moment;

/// Bytes that say what happens. At their end there are zeros for ever.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next thing that happens, if there is one.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    pub(crate) fn number(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn address(&mut self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.number())
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()].clone()
    }

    /// Bytes with their length before them.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.short());
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Lets time pass: to the next deadline, for a moment, for a while, or for long.
    pub(crate) fn pass(&mut self, now: Moment, deadline: Option<Moment>) -> Moment {
        match self.byte() % 4 {
            0 => deadline.unwrap_or(now),
            1 => now + Duration::from_millis(self.byte().into()),
            2 => now + Duration::from_millis(100) * u32::from(self.byte()),
            _ => now + Duration::from_secs(self.short().into()),
        }
    }
}

/// Packets of one kind, of which there are never more than `limit` in a minute.
pub(crate) struct Sent {
    what: &'static str,
    limit: usize,
    at: VecDeque<Moment>,
}

impl Sent {
    pub(crate) const fn new(what: &'static str, limit: usize) -> Self {
        Self { what, limit, at: VecDeque::new() }
    }

    pub(crate) fn count(&mut self, now: Moment) {
        self.at.push_back(now);
        while self.at.front().is_some_and(|at| *at + Duration::from_secs(60) <= now) {
            self.at.pop_front();
        }
        assert!(self.at.len() <= self.limit, "a storm: {} {} in a minute", self.at.len(), self.what);
    }
}

/// How often a machine may want something done at one moment.
pub(crate) const AT_ONCE: usize = 64;
