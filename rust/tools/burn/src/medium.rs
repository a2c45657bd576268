//! The medium to write to, in pieces that direct I/O takes.

use std::io::{self, Read, Seek, SeekFrom, Write};

/// The most that is read or written at once.
pub(crate) const BATCH: usize = 1 << 20;
/// The alignment of direct reads and writes, in memory and on the disk: the largest logical block, in bytes.
pub(crate) const ALIGNMENT: usize = 4096;

/// A disk or file to write to. Reads return its own content, not that of a cache of this machine.
pub(crate) trait Medium: Read + Write + Seek {
    /// Has it keep what was written.
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for std::fs::File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Memory that direct reads and writes take.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        let memory = vec![0; BATCH + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + BATCH]
    }

    /// Reads from any place any number of bytes of a medium with blocks of `block` bytes.
    pub(crate) fn read_at(
        &mut self,
        medium: &mut (impl Read + Seek),
        block: usize,
        mut at: u64,
        mut into: &mut [u8],
    ) -> io::Result<()> {
        while !into.is_empty() {
            let start = at / block as u64 * block as u64;
            let skipped = usize::try_from(at - start).unwrap_or_default();
            let length = into.len().min(BATCH - block);
            let whole = &mut self.bytes()[..(skipped + length).next_multiple_of(block)];
            medium.seek(SeekFrom::Start(start))?;
            medium.read_exact(whole)?;
            let (own, others) = into.split_at_mut(length);
            own.copy_from_slice(&whole[skipped..skipped + length]);
            into = others;
            at += length as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_from_any_place() {
        let bytes: Vec<u8> = (0..3 * BATCH).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let mut disk = io::Cursor::new(bytes.clone());
        for (at, length) in [(0, 1), (511, 2), (4095, BATCH), (77, 2 * BATCH), (3 * BATCH - 1, 1), (5, 0)] {
            let mut into = vec![0; length];
            Buffer::new().read_at(&mut disk, 512, at as u64, &mut into).unwrap();
            assert!(into == bytes[at..at + length], "{length} bytes at {at}");
        }
    }
}
