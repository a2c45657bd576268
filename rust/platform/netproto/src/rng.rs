//! Numbers that nobody has to guess, only to differ.

/// `SplitMix64` (Steele, Lea, Flood 2014). Its seed is an argument, so that a
/// test sees the same numbers every time. Good for jitter and transaction ids,
/// which are public anyway; not for secrets.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The numbers that follow from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The upper half of the next number.
    pub fn next_u32(&mut self) -> u32 {
        // Nothing is lost.
        u32::try_from(self.next_u64() >> 32).unwrap_or(0)
    }

    /// A number from 0 to `below`, exclusive; 0 if `below` is. The bias of the
    /// remainder is far below what jitter could show.
    pub fn below(&mut self, below: u64) -> u64 {
        self.next_u64().checked_rem(below).unwrap_or(0)
    }
}
