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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_out_at_once_and_then_one_at_a_time() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(3, second * 5);
        let mut sent = Vec::new();
        for tenth in 1000..1600 {
            let now = second / 10 * tenth;
            if pace.earliest() <= now {
                pace.count(now);
                sent.push(tenth - 1000);
            }
        }
        assert_eq!(sent[..6], [0, 1, 2, 50, 100, 150]);
        assert_eq!(sent.len(), 14);
        // After a while the burst is there again.
        for _ in 0..3 {
            assert!(pace.earliest() <= second * 600);
            pace.count(second * 600);
        }
        assert!(pace.earliest() > second * 600);
    }
}
