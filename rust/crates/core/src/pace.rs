//! Time, and how many packets fit into it.

use std::time::Duration;

use crate::rng::Rng;

/// A time since some fixed moment, such as the machine's start.
pub type Moment = Duration;

/// Lets a burst of packets through, then one at a time, whatever the states
/// think: nobody can make us flood a network.
#[derive(Debug)]
pub struct Pace {
    burst: u32,
    each: Duration,
    /// When the burst will be there in full again.
    full: Moment,
}

impl Pace {
    /// At most `burst` packets at once, and one more in the time `each`.
    pub const fn new(burst: u32, each: Duration) -> Self {
        Self { burst, each, full: Moment::ZERO }
    }

    /// When the next packet may go out.
    pub fn earliest(&self) -> Moment {
        (self.full + self.each).saturating_sub(self.each.saturating_mul(self.burst))
    }

    /// A packet goes out.
    pub fn count(&mut self, now: Moment) {
        self.full = self.full.max(now) + self.each;
    }
}

/// Some time below `up_to`.
pub(crate) fn spread(up_to: Duration, rng: &mut Rng) -> Duration {
    Duration::from_nanos(rng.below(u64::try_from(up_to.as_nanos()).unwrap_or(u64::MAX)))
}
