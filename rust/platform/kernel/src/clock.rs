//! The time of day, and whether the machine knows it.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::root::Root;

/// The time of day, counted from 1970.
pub fn time_of_day() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The time since the kernel's start, as its log counts it.
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// No clock that goes is before this: the date of the image, which the build
/// notes in `os-release`, less the day by which a clock that has the local time
/// of anywhere may be late. Zero in an image that has no date.
pub fn earliest(root: &Root) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    let release = root.read("usr/lib/os-release").unwrap_or_default();
    let date = release.lines().find_map(|line| line.strip_prefix("IMAGE_EPOCH=")?.parse().ok());
    Duration::from_secs(date.unwrap_or_default()).saturating_sub(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clock_is_right_a_day_before_the_image_was_made() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path());
        assert_eq!(earliest(&root), Duration::ZERO);
        let path = root.path("usr/lib/os-release");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "NAME=Other\n").unwrap();
        assert_eq!(earliest(&root), Duration::ZERO);
        std::fs::write(&path, "NAME=Appliance\nIMAGE_EPOCH=1767225600\n").unwrap();
        assert_eq!(earliest(&root), Duration::from_secs(1_767_139_200));
    }
}
