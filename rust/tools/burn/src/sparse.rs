//! A disk in memory, of which only what was written exists.

use std::collections::BTreeMap;
use std::io;

/// Bytes of a piece: a multiple of every logical block.
pub(crate) const PIECE: usize = 64 << 10;

/// A disk of `size` bytes. Pieces that were never written stay untouched on the real disk.
#[derive(Debug)]
pub(crate) struct Sparse {
    size: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl Sparse {
    pub(crate) fn new(size: u64) -> Self {
        Self { size, pieces: BTreeMap::new() }
    }

    /// The pieces to write, in order: place and bytes. The last piece ends where the disk does.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pieces.iter().map(|(number, piece)| {
            let at = number * PIECE as u64;
            let length = usize::try_from(self.size - at).unwrap_or(PIECE).min(PIECE);
            (at, &piece[..length])
        })
    }

    /// Writes `bytes` at `at`, if all of them are on the disk.
    pub(crate) fn write_at(&mut self, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        while !bytes.is_empty() {
            let (number, offset) = place(at);
            let length = bytes.len().min(PIECE - offset);
            let piece = self.pieces.entry(number).or_insert_with(|| vec![0; PIECE]);
            piece[offset..offset + length].copy_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            at += length as u64;
        }
        Ok(())
    }

    /// Reads from `at`; what was never written reads as zeros.
    pub(crate) fn read_at(&self, mut at: u64, mut into: &mut [u8]) -> io::Result<()> {
        if at.checked_add(into.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !into.is_empty() {
            let (number, offset) = place(at);
            let length = into.len().min(PIECE - offset);
            let (own, others) = into.split_at_mut(length);
            match self.pieces.get(&number) {
                Some(piece) => own.copy_from_slice(&piece[offset..offset + length]),
                None => own.fill(0),
            }
            into = others;
            at += length as u64;
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "an offset in a piece")]
fn place(at: u64) -> (u64, usize) {
    (at / PIECE as u64, (at % PIECE as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_there() -> io::Result<()> {
        let mut disk = Sparse::new(10 * PIECE as u64 + 512);
        disk.write_at(2 * PIECE as u64 - 1, b"ab")?;
        disk.write_at(10 * PIECE as u64 + 510, b"yz")?;
        let pieces: Vec<_> = disk.pieces().map(|(at, bytes)| (at / PIECE as u64, bytes.len())).collect();
        assert_eq!(pieces, [(1, PIECE), (2, PIECE), (10, 512)]);
        assert!(disk.write_at(10 * PIECE as u64 + 511, b"yz").is_err(), "beyond the end");
        let mut read = [1; 4];
        disk.read_at(2 * PIECE as u64 - 2, &mut read)?;
        assert_eq!(read, *b"\0ab\0");
        assert!(disk.read_at(10 * PIECE as u64 + 510, &mut read).is_err(), "beyond the end");
        Ok(())
    }
}
