//! How fast data flows, from counters that are looked at again and again.

use std::collections::VecDeque;
use std::time::Duration;

use disks::disk::{Activity, human_size};

/// The number of past seconds that are kept.
const HISTORY: usize = 60;
/// A disk that is at work and finishes nothing for so long hangs.
const HUNG: Duration = Duration::from_secs(2);

/// The I/O at a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes read in a second.
    pub read: u64,
    /// Bytes written in a second.
    pub written: u64,
    /// Requests finished in a second.
    pub requests: u64,
    /// Bytes in a second, read and written, at each look so far; the last is now.
    pub history: VecDeque<u64>,
    /// It has work and finishes none of it.
    pub is_hung: bool,
}

impl Traffic {
    /// Whether nothing flows.
    pub fn is_idle(&self) -> bool {
        self.read == 0 && self.written == 0 && self.requests == 0
    }
}

/// Two looks at a disk's counters make a speed.
#[derive(Debug, Default)]
pub struct Meter {
    last: Option<(Duration, Activity)>,
    /// Since when it has finished nothing though there was work.
    stuck_since: Option<Duration>,
    traffic: Traffic,
}

impl Meter {
    /// A look at the counters at the time `now` since some fixed moment.
    pub fn look(&mut self, now: Duration, activity: Activity) -> &Traffic {
        if let Some((then, before)) = self.last {
            let millis = now.saturating_sub(then).as_millis();
            if millis == 0 {
                return &self.traffic;
            }
            let rate = |now: u64, before: u64| {
                let each = u128::from(now.saturating_sub(before)) * 1000 / millis;
                u64::try_from(each).unwrap_or(u64::MAX)
            };
            self.traffic.read = rate(activity.read, before.read);
            self.traffic.written = rate(activity.written, before.written);
            self.traffic.requests = rate(activity.finished, before.finished);
            self.traffic.history.push_back(self.traffic.read.saturating_add(self.traffic.written));
            if self.traffic.history.len() > HISTORY {
                self.traffic.history.pop_front();
            }
            self.stuck_since = if activity.is_stuck_since(&before) { self.stuck_since.or(Some(then)) } else { None };
            self.traffic.is_hung = self.stuck_since.is_some_and(|since| now.saturating_sub(since) >= HUNG);
        }
        self.last = Some((now, activity));
        &self.traffic
    }
}

/// Bytes in a second, for people.
pub(crate) fn rate_text(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { format!("{}/s", human_size(bytes)) }
}

/// Which characters a terminal has for columns of different height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Blocks {
    /// Full and half blocks, as in the fonts of the kernel (code page 437).
    #[default]
    Half,
    /// Eighths, as in Unicode.
    Eighth,
}

/// The end of a history as columns, the highest of which is as high as a row.
pub(crate) fn sparkline(history: &VecDeque<u64>, width: usize, blocks: Blocks) -> String {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const HALVES: [char; 4] = [' ', '_', '▄', '█'];
    let steps: &[char] = if blocks == Blocks::Eighth { &EIGHTHS } else { &HALVES };
    let shown = history.iter().skip(history.len().saturating_sub(width));
    let top = u128::from(shown.clone().max().copied().unwrap_or(0).max(1));
    let most = u128::try_from(steps.len() - 1).unwrap_or(1);
    let glyph = |value: &u64| {
        // Rounded up, so that what little there was is seen.
        let step = (u128::from(*value) * most).div_ceil(top);
        usize::try_from(step).ok().and_then(|step| steps.get(step)).copied().unwrap_or(' ')
    };
    let text: String = shown.map(glyph).collect();
    format!("{text:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(read: u64, written: u64, finished: u64, in_flight: u64) -> Activity {
        Activity { read, written, finished, in_flight }
    }

    #[test]
    fn two_looks_make_a_speed() {
        let mut meter = Meter::default();
        assert_eq!(*meter.look(Duration::from_secs(10), activity(1000, 0, 5, 1)), Traffic::default());
        let traffic = meter.look(Duration::from_millis(10_500), activity(3000, 500, 15, 1));
        assert_eq!((traffic.read, traffic.written, traffic.requests), (4000, 1000, 20));
        assert_eq!(traffic.history, [5000]);
        // A disk that was replaced by another starts anew.
        assert!(meter.look(Duration::from_secs(11), activity(0, 0, 0, 0)).is_idle());
    }

    #[test]
    fn a_disk_that_finishes_nothing_for_two_seconds_hangs() {
        let mut meter = Meter::default();
        let mut look =
            |second: u64, finished| meter.look(Duration::from_secs(second), activity(0, 0, finished, 1)).is_hung;
        assert_eq!(
            [(1, 5), (2, 5), (3, 5), (4, 6), (5, 6)].map(|(second, finished)| look(second, finished)),
            [false, false, true, false, false]
        );
    }

    #[test]
    fn columns_are_as_high_as_there_are_characters_for() {
        let history = VecDeque::from([0, 1, 25, 50, 75, 100]);
        assert_eq!(sparkline(&history, 8, Blocks::Eighth), "   ▁▂▄▆█");
        assert_eq!(sparkline(&history, 8, Blocks::Half), "   __▄██");
        assert_eq!(sparkline(&history, 2, Blocks::Half), "██");
        assert_eq!(sparkline(&VecDeque::new(), 2, Blocks::Half), "  ");
    }
}
