//! Where file systems, volume groups, RAIDs and partition tables of any kind have their marks.
//!
//! libblkid looks at the first bytes of a disk or a partition, and at the last: at its start as far as the second
//! header of LUKS2 can be (4 MiB, `superblocks/luks.c`), at its end as far as Promise's RAID (3087 blocks of 512 bytes,
//! `superblocks/promise_raid.c`). ZFS has two labels of 256 KiB at either end (`superblocks/zfs.c`), md its 0.90 in the
//! last but one 64 KiB and its 1.0 in the last 8 to 12 KiB (`superblocks/linux_raid.c`).

use std::ops::Range;

const MEBI: u64 = 1 << 20;
/// The second header of LUKS2 begins at 4 MiB at most.
const START: u64 = 4 * MEBI + (64 << 10);
const END: u64 = 2 * MEBI;
/// The second and third superblock of btrfs (`BTRFS_SUPER_MIRROR_SHIFT`): its own tools find a file system by them.
const BTRFS: [u64; 2] = [64 * MEBI, 256 << 30];
const BTRFS_LENGTH: u64 = 4096;

/// The ranges of a disk of `size` bytes with marks of what was there: of the disk itself, of the partition that it
/// gets, `own`, and of those that it had. They overlap.
pub(crate) fn marks(size: u64, own: &Range<u64>, old: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut ranges = of_one(&(0..size));
    // The rest of the disk is another partition's, sooner or later.
    ranges.push(own.end..own.end.saturating_add(START));
    ranges.extend(old.iter().chain([own]).flat_map(of_one));
    let within = ranges.into_iter().map(|range| range.start.min(size)..range.end.min(size));
    within.filter(|range| !range.is_empty()).collect()
}

fn of_one(part: &Range<u64>) -> Vec<Range<u64>> {
    let btrfs = BTRFS.map(|at| part.start.saturating_add(at)..part.start.saturating_add(at + BTRFS_LENGTH));
    let start = part.start..part.start.saturating_add(START);
    let end = part.end.saturating_sub(END).max(part.start)..part.end;
    let ranges = [start, end].into_iter().chain(btrfs);
    ranges.map(|range| range.start.min(part.end)..range.end.min(part.end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_at_both_ends_and_never_beyond() {
        for size in [0, 512, MEBI, 5 * MEBI, (3 << 30) + 512] {
            for range in marks(size, &(MEBI..size.max(MEBI)), std::slice::from_ref(&(2 * MEBI..u64::MAX))) {
                assert!(range.start < range.end && range.end <= size, "{range:?} of {size}");
            }
        }
        let marks = marks(1 << 40, &(MEBI..1 << 30), &[]);
        let has = |at: u64| marks.iter().any(|range| range.contains(&at));
        for at in [0, 5 * MEBI, (1 << 30) - 1, (1 << 30) + MEBI, 65 * MEBI, 256 << 30, (1 << 40) - 1] {
            assert!(has(at), "{at}");
        }
        assert!(!has(32 * MEBI) && !has(512 << 30));
    }
}
