//! How much may be sent, whatever comes in.

use std::time::Duration;

use crate::dhcp::client::Moment;

/// Lets a burst of packets through, then one for each interval.
#[derive(Debug, Clone)]
pub struct Pace {
    burst: u32,
    interval: Duration,
    /// When the burst will be there in full again.
    full: Moment,
}

impl Pace {
    /// A pace of which nothing is used yet.
    pub const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, full: Moment::ZERO }
    }

    /// When the next packet may go.
    pub fn earliest(&self) -> Moment {
        (self.full + self.interval).saturating_sub(self.interval * self.burst)
    }

    /// A packet goes now, which those after it pay for if it was too early.
    pub fn count(&mut self, now: Moment) {
        self.full = self.full.max(now) + self.interval;
    }
}
