//! A FAT file system where it is: its boot sector and its chains of clusters (Microsoft's FAT specification,
//! "Boot Sector and BPB", "FAT Type Determination").

use super::FatError;
use super::name::ENTRY;

/// How many bits a table has for a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

impl Kind {
    /// The one thing that decides.
    pub(super) fn of(clusters: u64) -> Self {
        match clusters {
            ..4085 => Self::Fat12,
            4085..65525 => Self::Fat16,
            _ => Self::Fat32,
        }
    }

    /// Bytes of a table for clusters up to the one before `end`.
    pub(super) fn table(self, end: u64) -> u64 {
        match self {
            Self::Fat12 => (end * 3).div_ceil(2),
            Self::Fat16 => end * 2,
            Self::Fat32 => end * 4,
        }
    }

    /// The first value that is no cluster: a bad one, and after that the end of a chain.
    pub(super) fn bad(self) -> u32 {
        match self {
            Self::Fat12 => 0xff7,
            Self::Fat16 => 0xfff7,
            Self::Fat32 => 0x0fff_fff7,
        }
    }

    /// The entry of `cluster` in the table: the next cluster of its chain, or a mark such as the end.
    fn next(self, table: &[u8], cluster: u32) -> Option<u32> {
        let at = usize::try_from(cluster).ok()?;
        let pair = |at: usize| Some(u16::from_le_bytes([*table.get(at)?, *table.get(at + 1)?]));
        match self {
            Self::Fat12 => {
                let both = pair(at + at / 2)?;
                Some(u32::from(if at % 2 == 0 { both & 0xfff } else { both >> 4 }))
            }
            Self::Fat16 => pair(2 * at).map(u32::from),
            // The highest four bits of an entry are reserved.
            Self::Fat32 => Some((u32::from(pair(4 * at)?) | u32::from(pair(4 * at + 2)?) << 16) & 0x0fff_ffff),
        }
    }

    /// Says that `next` follows `cluster`.
    pub(super) fn set(self, table: &mut [u8], cluster: usize, next: u32) {
        let bytes = next.to_le_bytes();
        match self {
            Self::Fat12 => {
                let place = &mut table[cluster + cluster / 2..][..2];
                if cluster % 2 == 0 {
                    (place[0], place[1]) = (bytes[0], place[1] & 0xf0 | bytes[1] & 0x0f);
                } else {
                    let next = (next << 4).to_le_bytes();
                    (place[0], place[1]) = (place[0] & 0x0f | next[0] & 0xf0, next[1]);
                }
            }
            Self::Fat16 => table[2 * cluster..2 * cluster + 2].copy_from_slice(&bytes[..2]),
            Self::Fat32 => table[4 * cluster..4 * cluster + 4].copy_from_slice(&bytes),
        }
    }
}

/// Where things are, in bytes from the start of the file system.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) kind: Kind,
    pub(super) cluster: u64,
    /// The table that counts.
    pub(super) table: (u64, u64),
    /// The root folder that is in no cluster, and how long it is.
    pub(super) root: (u64, u64),
    /// The first cluster of the root folder, if it is in one.
    pub(super) root_cluster: Option<u32>,
    data: u64,
    /// One more than the last cluster.
    end: u32,
}

impl Volume {
    /// Reads a boot sector.
    pub(super) fn parse(sector: &[u8; 512]) -> Result<Self, FatError> {
        let short = |at: usize| u64::from(u16::from_le_bytes([sector[at], sector[at + 1]]));
        let long = |at: usize| short(at) | short(at + 2) << 16;
        let either = |one: u64, other: u64| if one == 0 { other } else { one };
        let bytes = short(11);
        let (per_cluster, reserved, tables) = (u64::from(sector[13]), short(14), u64::from(sector[16]));
        let is_one = sector[510..] == [0x55, 0xaa]
            && [512, 1024, 2048, 4096].contains(&bytes)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && [1, 2].contains(&tables);
        if !is_one {
            return Err(FatError::None);
        }
        let table = either(short(22), long(36)) * bytes;
        let root = (short(17) * ENTRY as u64).next_multiple_of(bytes);
        let root_at = reserved * bytes + tables * table;
        let data = root_at + root;
        let cluster = per_cluster * bytes;
        let size = either(short(19), long(32)) * bytes;
        let clusters = size.checked_sub(data).ok_or(FatError::None)? / cluster;
        let kind = Kind::of(clusters);
        let end = u32::try_from(clusters + 2).ok().filter(|end| *end <= kind.bad()).ok_or(FatError::None)?;
        let (mut active, mut root_cluster) = (0, None);
        if kind == Kind::Fat32 {
            root_cluster = u32::try_from(long(44)).ok();
            // Both tables are kept alike, or one counts.
            active = if short(40) & 0x80 == 0 { 0 } else { short(40) & 0xf };
        }
        if table < kind.table(end.into()) || active >= tables || (kind != Kind::Fat32) != (root > 0) {
            return Err(FatError::None);
        }
        let table_at = reserved * bytes + active * table;
        let table = (table_at, kind.table(end.into()));
        Ok(Self { kind, cluster, table, root: (root_at, root), root_cluster, data, end })
    }

    /// Where a cluster is.
    pub(super) fn at(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster).saturating_sub(2) * self.cluster
    }

    /// The clusters of a chain that begins with `first`; each may be in one chain only, which `used` keeps.
    pub(super) fn chain(&self, table: &[u8], first: u32, used: &mut [bool]) -> Option<Vec<u32>> {
        let mut chain = Vec::new();
        let mut cluster = first;
        loop {
            let is_used = used.get_mut(usize::try_from(cluster).ok()?).filter(|_| (2..self.end).contains(&cluster))?;
            if std::mem::replace(is_used, true) {
                return None;
            }
            chain.push(cluster);
            cluster = self.kind.next(table, cluster)?;
            if cluster > self.kind.bad() {
                return Some(chain);
            }
        }
    }

    /// A note for each cluster.
    pub(super) fn none_used(&self) -> Vec<bool> {
        vec![false; usize::try_from(self.end).unwrap_or_default()]
    }
}
