//! A trial of a disk's size: sticks are sold that say they had 64 GB and have one.
//!
//! A write beyond the real end of such a stick is dropped, or lands at the address modulo the real size.
//! So blocks that can be told from each other are written all over the disk, then the first megabytes, which is more
//! than such sticks have in their caches, and all is read again. A block that is not kept shows the first kind. The
//! second shows when an address far up reads as one of the first megabytes: addresses are read so close to each other
//! that one of them must, whatever the real size is. In the end the disk is as it was.

use std::io::{self, SeekFrom};

use disks::disk::human_size;
use thiserror::Error;

use crate::medium::{ALIGNMENT, BATCH, Buffer, Medium};

/// Bytes of a block on trial, a multiple of every logical block.
const BLOCK: usize = ALIGNMENT;
/// Each of these can be told from all others.
const SECTOR: usize = 512;
/// The first megabytes. f3probe found caches of 3 MiB in such sticks.
const RANGE: u64 = 16 << 20;
/// How far addresses that are read are from each other: two of them are in a range of that length, and at least one in
/// its half that no cache holds any more.
const STRIDE: u64 = RANGE / 2;
/// The most addresses that are read, as a disk that turns takes a second for a hundred; beyond 64 GiB they are further
/// apart. Real sizes that are a power of two are found then, too, and others as a rule, since there are many copies of
/// the range.
const READS: u64 = 8192;
/// How many blocks are written at equal distances.
const SPREAD: u64 = 32;
/// How exactly the real size is found.
const EXACT: u64 = 16 << 20;

/// Why a disk is not written to.
#[derive(Debug, Error)]
pub(crate) enum TrialError {
    #[error("it says that it has {}, but keeps only the first {}: it is a fake", human_size(*.said), human_size(*.real))]
    Fake { said: u64, real: u64 },
    #[error("it keeps nothing that is written to it: it is broken, or write-protected")]
    KeepsNothing,
    #[error("it does not keep what is written at byte {0}: it is broken")]
    Broken(u64),
    #[error("failed to {verb} at byte {at}")]
    Io { verb: &'static str, at: u64, source: io::Error },
    #[error("failed to put back what was at byte {at}, after which what is on it may be lost")]
    Restore { at: u64, source: io::Error },
    #[error("interrupted")]
    Interrupted,
}

/// Whether the disk keeps what is written anywhere on it. `nonce` tells this trial from all others; `go_on` is asked
/// between any two steps.
pub(crate) fn run(
    medium: &mut impl Medium,
    size: u64,
    block: u16,
    nonce: [u8; 16],
    go_on: &mut dyn FnMut() -> bool,
) -> Result<(), TrialError> {
    let block = u64::from(block);
    let mut trial =
        Trial { medium, size, step: block, range: range(size), nonce, go_on, buffer: Buffer::new(), kept: Vec::new() };
    let first = trial.round(&spread(size, trial.range, block));
    match first {
        Ok(Findings::Good) => Ok(()),
        // Once more: a plug that is not all in costs a block now and then, and nobody should throw away a good stick.
        Ok(_) => trial.confirm(),
        Err(error) => Err(error),
    }
}

fn range(size: u64) -> u64 {
    (size / 4).min(RANGE) / BLOCK as u64 * BLOCK as u64
}

/// Where blocks are written on trial: at powers of two and around them, at equal distances, and at the end.
fn spread(size: u64, range: u64, block: u64) -> Vec<u64> {
    let powers = (20..63).flat_map(|power| [(1_u64 << power) - BLOCK as u64, 1 << power]);
    let equal = (1..SPREAD).map(|part| size / SPREAD * part);
    between(range, size, block, powers.chain(equal).chain([size.saturating_sub(BLOCK as u64)]))
}

/// Those that are whole blocks between two places, sorted, none over another.
fn between(from: u64, to: u64, block: u64, places: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut places: Vec<u64> = places.map(|at| at / block * block).collect();
    places.retain(|at| *at >= from && at.checked_add(BLOCK as u64).is_some_and(|end| end <= to));
    places.sort_unstable();
    // The last one stays: it is at the end.
    let mut apart: Vec<u64> = Vec::new();
    for at in places.into_iter().rev() {
        if apart.last().is_none_or(|last| at + BLOCK as u64 <= *last) {
            apart.push(at);
        }
    }
    apart.reverse();
    apart
}

/// The result of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Findings {
    Good,
    /// Addresses are the same that are so far from each other.
    Wraps(u64),
    /// The last block before which all are kept, and the first after which none is.
    Drops {
        good: u64,
        bad: u64,
    },
    /// This one is not kept, and others behind it are.
    Loses(u64),
    Nothing,
}

struct Trial<'a, M> {
    medium: &'a mut M,
    size: u64,
    /// Bytes of a logical block.
    step: u64,
    /// Bytes at the start.
    range: u64,
    nonce: [u8; 16],
    go_on: &'a mut dyn FnMut() -> bool,
    buffer: Buffer,
    /// The former content of the blocks of this round, each with its offset, in the order in which they were written.
    kept: Vec<(u64, Vec<u8>)>,
}

impl<M: Medium> Trial<'_, M> {
    /// Tries addresses all over the disk. If the disk drops those beyond some address, looks for its real size.
    fn confirm(&mut self) -> Result<(), TrialError> {
        let said = self.size;
        let mut findings = self.round(&spread(said, self.range, self.step))?;
        loop {
            return match findings {
                Findings::Good => Ok(()),
                Findings::Loses(at) => Err(TrialError::Broken(at)),
                Findings::Nothing => Err(TrialError::KeepsNothing),
                Findings::Drops { good, bad } if bad - good > EXACT => {
                    let places = (1..SPREAD).map(|part| good + (bad - good) / SPREAD * part);
                    let places = between(good + 1, bad, self.step, places);
                    findings = match self.round(&places)? {
                        Findings::Good => Findings::Drops { good: *places.last().unwrap_or(&bad), bad },
                        Findings::Drops { good: better, bad } => Findings::Drops { good: better.max(good), bad },
                        Findings::Nothing => Findings::Drops { good, bad: *places.first().unwrap_or(&good) },
                        other => other,
                    };
                    continue;
                }
                Findings::Wraps(real) | Findings::Drops { bad: real, .. } => Err(TrialError::Fake { said, real }),
            };
        }
    }

    /// Writes blocks at `places`, looks, and puts back what was there.
    fn round(&mut self, places: &[u64]) -> Result<Findings, TrialError> {
        let found = self.look(places);
        let back = self.put_back();
        found.and_then(|found| back.map(|()| found))
    }

    fn look(&mut self, places: &[u64]) -> Result<Findings, TrialError> {
        let mut before = Vec::new();
        // The partition table goes first, and comes back last: half a system never boots.
        let batches: Vec<(u64, u64)> =
            (0..self.range).step_by(BATCH).map(|at| (at, (self.range - at).min(BATCH as u64))).collect();
        let (head, rest) = batches.split_at(1.min(batches.len()));
        let blocks = places.iter().map(|at| (*at, BLOCK as u64));
        let plan: Vec<(u64, u64)> = head.iter().copied().chain(blocks).chain(rest.iter().copied()).collect();
        for (at, length) in &plan {
            self.ask()?;
            // Where there is nothing to read, nothing needs to be put back.
            if let Ok(bytes) = self.read(*at, *length) {
                before.push((*at, bytes.to_vec()));
            }
        }
        for (at, length) in &plan {
            self.ask()?;
            if let Some(old) = before.iter().position(|(place, _)| place == at) {
                self.kept.push(before.swap_remove(old));
            }
            let is_block = places.contains(at);
            match self.write_pattern(*at, *length) {
                Err(source) if !is_block => return Err(TrialError::Io { verb: "write", at: *at, source }),
                // It will not read back.
                _ => {}
            }
        }
        self.sync()?;
        if let Some(real) = self.alias()? {
            return Ok(Findings::Wraps(real));
        }
        if !self.is_kept(0) {
            return Ok(Findings::Nothing);
        }
        let mut kept = Vec::new();
        for at in places {
            self.ask()?;
            kept.push(self.is_kept(*at));
        }
        Ok(match kept.iter().position(|kept| !kept) {
            None => Findings::Good,
            Some(first) => match kept.iter().rposition(|kept| *kept) {
                Some(last) if last > first => Findings::Loses(places[first]),
                Some(last) => Findings::Drops { good: places[last], bad: places[first] },
                None => Findings::Drops { good: self.range.min(places[first]), bad: places[first] },
            },
        })
    }

    /// The distance of two addresses that are the same.
    fn alias(&mut self) -> Result<Option<u64>, TrialError> {
        // Far apart only by a power of two, so that real sizes which are one are found in any case.
        let stride = STRIDE.min(self.range / 2).max((self.size / READS).next_power_of_two());
        let stride = usize::try_from(stride.next_multiple_of(self.step)).unwrap_or(usize::MAX);
        let mut distance: Option<u64> = None;
        for at in (self.range.next_multiple_of(stride as u64)..self.size).step_by(stride) {
            self.ask()?;
            let Some(other) = self.origin(at).filter(|other| *other != at) else { continue };
            if other < self.range {
                return Ok(Some(at - other));
            }
            // Of two of the blocks up there: so many times the real size.
            let (mut one, mut rest) = (at.abs_diff(other), distance.unwrap_or(0));
            while rest > 0 {
                (one, rest) = (rest, one % rest);
            }
            distance = Some(one);
        }
        Ok(distance)
    }

    /// Puts back what was there, the start last.
    fn put_back(&mut self) -> Result<(), TrialError> {
        let kept = std::mem::take(&mut self.kept);
        let mut outcome = Ok(());
        // Another way round than it was written, so that the first batch is the last one.
        for (at, bytes) in kept.iter().rev() {
            let own = &mut self.buffer.bytes()[..bytes.len()];
            own.copy_from_slice(bytes);
            let done = self.medium.seek(SeekFrom::Start(*at)).and_then(|_| self.medium.write_all(own));
            // Where a disk takes nothing, nothing was lost.
            if let Err(source) = done.and_then(|()| if *at == 0 { self.medium.sync() } else { Ok(()) }) {
                if *at < self.range {
                    outcome = Err(TrialError::Restore { at: *at, source });
                }
            }
        }
        outcome
    }

    fn ask(&mut self) -> Result<(), TrialError> {
        if (self.go_on)() { Ok(()) } else { Err(TrialError::Interrupted) }
    }

    fn sync(&mut self) -> Result<(), TrialError> {
        self.medium.sync().map_err(|source| TrialError::Io { verb: "flush what was written", at: 0, source })
    }

    fn read(&mut self, at: u64, length: u64) -> io::Result<&[u8]> {
        let bytes = &mut self.buffer.bytes()[..usize::try_from(length).unwrap_or(BATCH)];
        self.medium.seek(SeekFrom::Start(at))?;
        self.medium.read_exact(bytes)?;
        Ok(bytes)
    }

    fn write_pattern(&mut self, at: u64, length: u64) -> io::Result<()> {
        let bytes = &mut self.buffer.bytes()[..usize::try_from(length).unwrap_or(BATCH)];
        for (sector, at) in bytes.chunks_exact_mut(SECTOR).zip((at..).step_by(SECTOR)) {
            sector.copy_from_slice(&pattern(self.nonce, at));
        }
        self.medium.seek(SeekFrom::Start(at))?;
        self.medium.write_all(bytes)
    }

    fn is_kept(&mut self, at: u64) -> bool {
        let nonce = self.nonce;
        let is_own = |(sector, at): (&[u8], u64)| *sector == pattern(nonce, at);
        self.read(at, BLOCK as u64)
            .is_ok_and(|bytes| bytes.chunks_exact(SECTOR).zip((at..).step_by(SECTOR)).all(is_own))
    }

    /// For which place the sector was written in this trial that is read at `at`.
    fn origin(&mut self, at: u64) -> Option<u64> {
        let nonce = self.nonce;
        let step = self.step;
        let sector = self.read(at, step).ok()?.get(..SECTOR)?;
        let place = u64::from_le_bytes(sector.get(16..24)?.try_into().ok()?);
        (*sector == pattern(nonce, place)).then_some(place)
    }
}

/// A sector that is like no other: the trial, the place, and words that both decide.
fn pattern(nonce: [u8; 16], at: u64) -> [u8; SECTOR] {
    // An odd number with as many ones as zeros: each place and each word changes half of the bits.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut sector = [0; SECTOR];
    sector[..16].copy_from_slice(&nonce);
    sector[16..24].copy_from_slice(&at.to_le_bytes());
    let mut word = nonce.iter().fold(at.wrapping_mul(STEP), |word, byte| word.rotate_left(8) ^ u64::from(*byte));
    for place in sector[24..].chunks_exact_mut(8) {
        word = word.wrapping_add(STEP);
        place.copy_from_slice(&word.to_le_bytes());
    }
    sector
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, VecDeque};
    use std::io::{Read, Seek, Write};

    /// The behaviour of a stick at addresses beyond its real end.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Beyond {
        Wraps,
        Zeros,
        Garbage,
        Fails,
        /// As [`Beyond::Zeros`], after a first part that wraps.
        Chain,
    }

    /// A stick that says it had `said` bytes and has `real`, with a cache of some blocks.
    #[derive(Clone)]
    struct Stick {
        said: u64,
        real: u64,
        beyond: Beyond,
        flash: BTreeMap<u64, [u8; SECTOR]>,
        /// Sectors that are not in the flash yet, by address, with the number of their latest write;
        /// `order` lists the writes.
        cache: BTreeMap<u64, (u64, [u8; SECTOR])>,
        order: VecDeque<(u64, u64)>,
        cached: usize,
        at: u64,
        written: u64,
        reads: u64,
        /// How many blocks it has yet to lose, of all that are read.
        flaky: u32,
    }

    impl Stick {
        fn new(said: u64, real: u64, beyond: Beyond, cached: usize) -> Self {
            let mut stick = Self {
                said,
                real,
                beyond,
                flash: BTreeMap::new(),
                cache: BTreeMap::new(),
                order: VecDeque::new(),
                cached,
                at: 0,
                written: 0,
                reads: 0,
                flaky: 0,
            };
            // The content before the trial.
            for at in [0, SECTOR as u64, 8 << 20, real.min(said) - SECTOR as u64] {
                stick.flash.insert(at, [0x5a; SECTOR]);
            }
            stick
        }

        fn place(&self, at: u64) -> Option<u64> {
            match self.beyond {
                _ if at < self.real => Some(at),
                Beyond::Wraps => Some(at % self.real),
                Beyond::Chain if at < 2 * self.real => Some(at % self.real),
                _ => None,
            }
        }

        /// Takes the oldest write out of the cache.
        fn write_back(&mut self) {
            let Some((at, number)) = self.order.pop_front() else { return };
            if self.cache.get(&at).is_none_or(|(latest, _)| *latest != number) {
                return;
            }
            if let Some((place, (_, sector))) = self.place(at).zip(self.cache.remove(&at)) {
                self.flash.insert(place, sector);
            }
        }

        /// The flash's content with all that was cached, without sectors of zeros.
        fn content(mut self) -> BTreeMap<u64, [u8; SECTOR]> {
            while !self.order.is_empty() {
                self.write_back();
            }
            self.flash.retain(|_, sector| *sector != [0; SECTOR]);
            self.flash
        }
    }

    impl Read for Stick {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            assert!(self.at + into.len() as u64 <= self.said);
            self.reads += 1;
            for part in into.chunks_exact_mut(SECTOR) {
                let cached = self.cache.get(&self.at).map(|(_, sector)| *sector);
                let flash = self.place(self.at).map(|place| self.flash.get(&place).copied().unwrap_or([0; SECTOR]));
                let sector = match cached.or(flash) {
                    Some(sector) => sector,
                    None if self.beyond == Beyond::Fails => return Err(io::ErrorKind::Other.into()),
                    None if self.beyond == Beyond::Garbage => [self.at.to_le_bytes()[2] ^ 0x77; SECTOR],
                    None => [0; SECTOR],
                };
                part.copy_from_slice(&sector);
                self.at += SECTOR as u64;
            }
            if self.flaky > 0 && into[0] != 0 && into.len() == BLOCK {
                self.flaky -= 1;
                into[7] ^= 1;
            }
            Ok(into.len())
        }
    }

    impl Write for Stick {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(self.at + bytes.len() as u64 <= self.said);
            if self.beyond == Beyond::Fails && self.at >= self.real {
                return Err(io::ErrorKind::Other.into());
            }
            for part in bytes.chunks_exact(SECTOR) {
                self.written += SECTOR as u64;
                self.cache.insert(self.at, (self.written, part.try_into().unwrap()));
                self.order.push_back((self.at, self.written));
                while self.order.len() > self.cached {
                    self.write_back();
                }
                self.at += SECTOR as u64;
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Stick {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            if let SeekFrom::Start(at) = to {
                self.at = at;
            }
            Ok(self.at)
        }
    }

    impl Medium for Stick {
        /// Such sticks say that they did.
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tried(stick: &mut Stick) -> Result<(), TrialError> {
        run(stick, stick.said, 512, [7; 16], &mut || true)
    }

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_stick_that_keeps_all_is_left_as_it_was() {
        for (size, cached) in [(17 << 20, 0), (3 * GIB + 7 * 512, 64), (2048 * GIB, 4096)] {
            let mut stick = Stick::new(size, size, Beyond::Wraps, cached);
            let before = stick.clone().content();
            tried(&mut stick).unwrap();
            assert!(stick.written < 40 << 20 && stick.reads < 40_000, "in seconds: {} bytes", stick.written);
            assert!(stick.content() == before, "{size}");
        }
    }

    #[test]
    fn a_fake_stick_is_told_of_with_its_real_size_and_left_as_it_was() {
        // A modulus that is no power of two, and one that is no multiple of anything.
        let reals = [GIB, 5 * GIB + 301 * 4096, 7_777_777 * 512, 17 << 20];
        let others = [Beyond::Zeros, Beyond::Garbage, Beyond::Fails, Beyond::Chain];
        let others = others.into_iter().zip([0, 0, 1, 2]).map(|(beyond, index)| (beyond, &reals[index..=index]));
        for (beyond, reals) in [(Beyond::Wraps, &reals[..])].into_iter().chain(others) {
            for real in reals.iter().copied() {
                let mut stick = Stick::new(64_000_000_000, real, beyond, 1000);
                let before = stick.clone().content();
                let error = tried(&mut stick).unwrap_err();
                let TrialError::Fake { said, real: found } = error else { panic!("{beyond:?} {real}: {error}") };
                assert_eq!(said, 64_000_000_000);
                assert!(found.abs_diff(real) <= EXACT, "{beyond:?} {real}: {found}");
                assert!(stick.content() == before, "{beyond:?} {real}");
            }
        }
        let fake = TrialError::Fake { said: 64 * GIB, real: GIB };
        assert_eq!(fake.to_string(), "it says that it has 64 GiB, but keeps only the first 1 GiB: it is a fake");
    }

    #[test]
    fn a_fake_stick_s_cache_does_not_hide_it() {
        for cached in [6144, 12288] {
            for beyond in [Beyond::Wraps, Beyond::Zeros] {
                let mut stick = Stick::new(8 * GIB, 3 * GIB, beyond, cached);
                let error = tried(&mut stick).unwrap_err();
                assert!(matches!(error, TrialError::Fake { .. }), "{beyond:?}, {cached}: {error}");
            }
        }
    }

    #[test]
    fn a_stick_that_loses_a_block_once_is_no_fake() {
        let mut stick = Stick { flaky: 1, ..Stick::new(8 * GIB, 8 * GIB, Beyond::Wraps, 0) };
        tried(&mut stick).unwrap();
    }

    #[test]
    fn a_trial_that_is_interrupted_leaves_all_as_it_was() {
        const SIZE: u64 = 20 << 20;
        let stick = Stick::new(SIZE, SIZE, Beyond::Wraps, 0);
        let mut steps = 0;
        run(&mut stick.clone(), SIZE, 512, [7; 16], &mut || {
            steps += 1;
            true
        })
        .unwrap();
        for step in (0..steps).step_by(5) {
            let mut stick = stick.clone();
            let before = stick.clone().content();
            let mut left = step;
            let error = run(&mut stick, SIZE, 512, [7; 16], &mut || {
                left -= 1;
                left >= 0
            });
            assert!(matches!(error, Err(TrialError::Interrupted)), "{error:?}");
            assert!(stick.content() == before, "at step {step}");
        }
    }

    /// A card that takes all writes and keeps none, as worn-out ones do.
    #[test]
    fn a_card_that_keeps_nothing_is_told_of() {
        struct Worn(Stick);
        impl Read for Worn {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.0.read(into)
            }
        }
        impl Write for Worn {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        impl Seek for Worn {
            fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
                self.0.seek(to)
            }
        }
        impl Medium for Worn {
            fn sync(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut card = Worn(Stick::new(GIB, GIB, Beyond::Wraps, 0));
        let error = run(&mut card, GIB, 4096, [7; 16], &mut || true).unwrap_err();
        assert!(matches!(error, TrialError::KeepsNothing), "{error}");
    }
}
