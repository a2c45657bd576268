//! Writing a layout to a disk, so that at no moment a half of it boots.

use std::io::{self, SeekFrom};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::layout::{HEAD, Layout};
use crate::medium::{BATCH, Buffer, Medium};
use crate::sparse::PIECE;

/// Why a disk is not what it should be now.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    #[error("failed to {verb} at byte {at}")]
    Io {
        verb: &'static str,
        at: u64,
        #[source]
        source: io::Error,
    },
    #[error("byte {0} reads back other than it was written: the device is broken, or smaller than it says")]
    Differs(u64),
    #[error("interrupted")]
    Interrupted,
}

/// The current step, with bytes done and in total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) verb: &'static str,
    pub(crate) done: u64,
    pub(crate) all: u64,
}

impl Progress {
    fn new(verb: &'static str, batches: &[Batch<'_>]) -> Self {
        Self { verb, done: 0, all: batches.iter().map(|batch| batch.length as u64).sum() }
    }
}

/// Writes `layout`, and reads all of it again. `report` is asked between any two batches whether to go on.
///
/// The first write makes the old content unbootable. The tables, without which nothing on the disk is found,
/// come when all they lead to is known to be there. They are not interrupted.
pub(crate) fn write(
    medium: &mut impl Medium,
    layout: &Layout,
    report: &mut dyn FnMut(Progress) -> bool,
) -> Result<(), WriteError> {
    let buffer = &mut Buffer::new();
    let blank: Vec<(u64, Vec<u8>)> = layout.tables().map(|(at, bytes)| (at, vec![0; bytes.len()])).collect();
    // The table before its backup: without a protective MBR the backup is not looked for.
    let head = blank.iter().filter(|(at, _)| *at < HEAD);
    let blank = head.chain(blank.iter().filter(|(at, _)| *at >= HEAD));
    put(medium, buffer, &batches(blank.map(|(at, bytes)| (*at, &bytes[..]))), &mut |_| true)?;
    // With the backup of the table, which is not looked for yet: at the end of a disk that is smaller than it says, it
    // would be written over what was checked already.
    let body = || layout.body().chain(layout.tables().filter(|(at, _)| *at >= HEAD));
    put(medium, buffer, &batches(body()), report)?;
    check(medium, buffer, &batches(body()), report)?;
    let head = || layout.tables().filter(|(at, _)| *at < HEAD);
    put(medium, buffer, &batches(head()), &mut |_| true)?;
    check(medium, buffer, &batches(head()), &mut |_| true)
}

/// Pieces that follow each other on the disk.
struct Batch<'a> {
    at: u64,
    length: usize,
    pieces: Vec<&'a [u8]>,
}

fn batches<'a>(pieces: impl Iterator<Item = (u64, &'a [u8])>) -> Vec<Batch<'a>> {
    let mut batches: Vec<Batch<'a>> = Vec::new();
    for (at, bytes) in pieces {
        match batches.last_mut() {
            Some(last) if last.at + last.length as u64 == at && last.length + PIECE <= BATCH => {
                last.length += bytes.len();
                last.pieces.push(bytes);
            }
            _ => batches.push(Batch { at, length: bytes.len(), pieces: vec![bytes] }),
        }
    }
    batches
}

fn put(
    medium: &mut impl Medium,
    buffer: &mut Buffer,
    batches: &[Batch<'_>],
    report: &mut dyn FnMut(Progress) -> bool,
) -> Result<(), WriteError> {
    let mut progress = Progress::new("writing", batches);
    for batch in batches {
        if !report(progress) {
            return Err(WriteError::Interrupted);
        }
        let bytes = &mut buffer.bytes()[..batch.length];
        let mut rest = &mut bytes[..];
        for piece in &batch.pieces {
            let (own, others) = rest.split_at_mut(piece.len());
            own.copy_from_slice(piece);
            rest = others;
        }
        let failed = |source| WriteError::Io { verb: "write", at: batch.at, source };
        medium.seek(SeekFrom::Start(batch.at)).map_err(failed)?;
        medium.write_all(bytes).map_err(failed)?;
        progress.done += batch.length as u64;
    }
    if !report(progress) {
        return Err(WriteError::Interrupted);
    }
    let at = batches.last().map_or(0, |last| last.at);
    medium.sync().map_err(|source| WriteError::Io { verb: "flush what was written", at, source })
}

fn check(
    medium: &mut impl Medium,
    buffer: &mut Buffer,
    batches: &[Batch<'_>],
    report: &mut dyn FnMut(Progress) -> bool,
) -> Result<(), WriteError> {
    let mut progress = Progress::new("checking", batches);
    for batch in batches {
        if !report(progress) {
            return Err(WriteError::Interrupted);
        }
        let bytes = &mut buffer.bytes()[..batch.length];
        let failed = |source| WriteError::Io { verb: "read back", at: batch.at, source };
        medium.seek(SeekFrom::Start(batch.at)).map_err(failed)?;
        medium.read_exact(bytes).map_err(failed)?;
        let mut at = batch.at;
        let mut rest = &bytes[..];
        for piece in &batch.pieces {
            let (read, others) = rest.split_at(piece.len());
            if read != *piece {
                let same = read.iter().zip(piece.iter()).take_while(|(read, written)| read == written).count();
                return Err(WriteError::Differs(at + same as u64));
            }
            at += piece.len() as u64;
            rest = others;
        }
        progress.done += batch.length as u64;
    }
    if report(progress) { Ok(()) } else { Err(WriteError::Interrupted) }
}

/// How fast something goes, and how long it will take.
#[derive(Debug)]
pub(crate) struct Pace {
    started: Instant,
}

impl Pace {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Bytes a second, and the time left, once there is something to tell it from.
    pub(crate) fn at(&self, progress: Progress) -> Option<(u64, Duration)> {
        estimate(self.started.elapsed(), progress)
    }
}

fn estimate(elapsed: Duration, progress: Progress) -> Option<(u64, Duration)> {
    let millis = u64::try_from(elapsed.as_millis()).ok().filter(|millis| *millis > 0)?;
    let rate = (progress.done.saturating_mul(1000) / millis).max(1);
    let left = progress.all.saturating_sub(progress.done);
    (progress.done > 0).then(|| (rate, Duration::from_secs(left.div_ceil(rate))))
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small disks in memory")]
mod tests {
    use super::*;
    use crate::gpt::{START, Table};
    use crate::identity::Identity;
    use crate::layout::Content;
    use std::io::{Read, Seek, Write};

    const SIZE: u64 = 20 << 20;

    /// A stick that loses its power in the middle of a write.
    struct Stick {
        bytes: io::Cursor<Vec<u8>>,
        writes: usize,
        lost_at: Option<usize>,
    }

    impl Stick {
        fn holding(layout: &Layout) -> Self {
            let mut stick = Self { bytes: io::Cursor::new(vec![0; SIZE as usize]), writes: 0, lost_at: None };
            write(&mut stick, layout, &mut |_| true).unwrap();
            Self { writes: 0, ..stick }
        }

        fn copy(&self, lost_at: Option<usize>) -> Self {
            Self { bytes: io::Cursor::new(self.bytes.get_ref().clone()), writes: 0, lost_at }
        }

        /// Whether firmware finds a table: the primary or, led by a protective MBR, the backup.
        fn has_table(&self) -> bool {
            let bytes = self.bytes.get_ref();
            bytes[510..512] == [0x55, 0xaa] || Table::parse(&bytes[..START], 512).is_ok()
        }

        fn holds(&self, layout: &Layout) -> bool {
            let bytes = self.bytes.get_ref();
            let at = |at: u64, piece: &[u8]| &bytes[at as usize..at as usize + piece.len()] == piece;
            layout.body().all(|(start, piece)| at(start, piece))
        }
    }

    impl Write for Stick {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            if self.lost_at.is_some_and(|at| self.writes > at) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let torn = if self.lost_at == Some(self.writes) { bytes.len() / 2 } else { bytes.len() };
            self.bytes.write(&bytes[..torn])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Stick {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.bytes.read(into)
        }
    }

    impl Seek for Stick {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.bytes.seek(to)
        }
    }

    impl Medium for Stick {
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn layouts() -> [Layout; 2] {
        let identity = Identity::of(&[1; Identity::RANDOM]);
        ["old", "new"].map(|word| Layout::new(&Content::example(word), &identity, SIZE, 512, &[]).unwrap())
    }

    #[test]
    fn a_stick_whose_power_was_cut_boots_the_whole_of_the_new_or_not_at_all() {
        let [old, new] = layouts();
        let stick = Stick::holding(&old);
        let mut whole = stick.copy(None);
        write(&mut whole, &new, &mut |_| true).unwrap();
        assert!(whole.has_table() && whole.holds(&new) && !whole.holds(&old));
        assert!(whole.writes > 6, "{} writes", whole.writes);
        for lost_at in 1..whole.writes {
            let mut stick = stick.copy(Some(lost_at));
            write(&mut stick, &new, &mut |_| true).unwrap_err();
            assert!(!stick.has_table() || stick.holds(&new), "cut at write {lost_at} of {}", whole.writes);
        }
    }

    #[test]
    fn who_is_interrupted_leaves_nothing_that_boots() {
        let [old, new] = layouts();
        let stick = Stick::holding(&old);
        let mut steps = 0;
        write(&mut stick.copy(None), &new, &mut |_| {
            steps += 1;
            true
        })
        .unwrap();
        for step in 0..steps {
            let mut stick = stick.copy(None);
            let mut left = step;
            let error = write(&mut stick, &new, &mut |_| {
                left -= 1;
                left >= 0
            });
            assert!(matches!(error, Err(WriteError::Interrupted)), "at step {step}: {error:?}");
            assert!(!stick.has_table(), "at step {step}");
        }
    }

    /// A stick with a broken byte.
    struct Broken(Stick, u64);

    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let at = self.0.bytes.position();
            let length = self.0.read(into)?;
            if let Some(byte) = self.1.checked_sub(at).and_then(|offset| into[..length].get_mut(offset as usize)) {
                *byte ^= 1;
            }
            Ok(length)
        }
    }

    impl Seek for Broken {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    impl Medium for Broken {
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stick_that_reads_otherwise_than_it_was_written_is_told_of() {
        let [old, new] = layouts();
        for at in [(1 << 20) + 77, SIZE - 1, 512] {
            let mut stick = Broken(Stick::holding(&old), at);
            let error = write(&mut stick, &new, &mut |_| true);
            assert!(matches!(error, Err(WriteError::Differs(byte)) if byte == at), "{error:?}");
        }
    }

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done_did() {
        let progress = Progress { verb: "writing", done: 10 << 20, all: 40 << 20 };
        let (rate, left) = estimate(Duration::from_secs(2), progress).unwrap();
        assert_eq!((rate, left), (5 << 20, Duration::from_secs(6)));
        assert_eq!(estimate(Duration::ZERO, progress), None);
        assert_eq!(estimate(Duration::from_secs(2), Progress { done: 0, ..progress }), None);
    }
}
