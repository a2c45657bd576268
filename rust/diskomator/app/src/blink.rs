//! `diskomator blink`: which of the disks in this machine is it?

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kernel::root::{FileError, Root};
use kernel::signals::Termination;
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;
use local::sysfs;
use runtime::{AppletError, Failure, print};

const USAGE: &str = "\
Usage: diskomator blink [--read] [--seconds N] [--diskseq N] DISK

Makes the light at a disk's bay blink for 15 seconds, so that it is found among
others. It takes an enclosure that the kernel knows (SES: /sys/class/enclosure).

Options:
  --read       where the bay has no light of its own to switch, read from the disk
               in bursts, so that its activity light blinks; nothing is written
  --seconds N  so long, 1 to 600
  --diskseq N  only if DISK is the disk with this number in /sys/block/DISK/diskseq
  -h, --help   this text

DISK is a kernel name such as sda, with or without /dev/.

Exit status: 0 it has blinked, 1 it has not, 2 wrong usage.
";

/// The rhythm of the reads: half a second of them, then none.
const BURST: Duration = Duration::from_millis(500);
/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// Why nothing blinked.
#[derive(Debug, thiserror::Error)]
enum BlinkError {
    #[error("there is no disk {0}; `diskomator export list` shows those there are")]
    NoSuchDisk(String),
    #[error("nothing was done: {disk} is not the disk with the diskseq {diskseq} any more")]
    OtherDisk { disk: String, diskseq: u64 },
    #[error("the bay of {0} has no light that can be switched; --read makes its activity light blink")]
    NoLight(String),
    #[error("cannot switch the light of {disk}")]
    Switch { disk: String, source: FileError },
    #[error("cannot read from {disk}")]
    Read { disk: String, source: io::Error },
}

impl AppletError for BlinkError {}

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    disk: String,
    diskseq: Option<u64>,
    read: bool,
    time: Duration,
}

/// Runs the applet.
pub(crate) fn run(args: lexopt::Parser) -> Result<(), Failure> {
    let Some(arguments) = parse(args)? else { return print(USAGE) };
    Ok(blink(&Root::default(), &arguments)?)
}

/// `None` if only help is wanted.
fn parse(mut args: lexopt::Parser) -> Result<Option<Arguments>, lexopt::Error> {
    let (mut disk, mut diskseq, mut read, mut seconds) = (None, None, false, 15);
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Long("read") => read = true,
            Long("diskseq") => diskseq = Some(args.value()?.parse()?),
            Long("seconds") => {
                let word = args.value()?.string()?;
                let number = word.parse().ok().filter(|seconds| (1..=600).contains(seconds));
                seconds = number.ok_or_else(|| format!("--seconds {word:?} is not a number from 1 to 600"))?;
            }
            Value(word) if disk.is_none() => disk = Some(word.to_string_lossy().into_owned()),
            other => return Err(other.unexpected()),
        }
    }
    let disk = disk.ok_or("say which disk: blink DISK (see --help)")?;
    let disk = disk.strip_prefix("/dev/").unwrap_or(&disk).to_owned();
    Ok(Some(Arguments { disk, diskseq, read, time: Duration::from_secs(seconds) }))
}

fn blink(root: &Root, arguments: &Arguments) -> Result<(), BlinkError> {
    let Arguments { disk, diskseq, read, time } = arguments;
    if disk.contains('/') || disk.starts_with('.') || !root.exists(format!("sys/block/{disk}")) {
        return Err(BlinkError::NoSuchDisk(disk.clone()));
    }
    let light = sysfs::light(root, disk);
    // The switch that was found is that of the disk that is there now.
    if let Some(diskseq) = *diskseq {
        let now = root.read(format!("sys/block/{disk}/diskseq")).ok();
        if now != Some(diskseq.to_string()) {
            return Err(BlinkError::OtherDisk { disk: disk.clone(), diskseq });
        }
    }
    match light {
        Some(light) => {
            let switch =
                |value| root.write(&light, value).map_err(|source| BlinkError::Switch { disk: disk.clone(), source });
            // The light must not blink for ever after this is stopped.
            let stopped = Termination::new().ok();
            switch("1")?;
            match stopped {
                Some(stopped) => stopped.wait(*time),
                None => sleep(*time),
            }
            switch("0")
        }
        None if *read => read_in_bursts(root, disk, *diskseq, *time)
            .map_err(|source| BlinkError::Read { disk: disk.clone(), source }),
        None => Err(BlinkError::NoLight(disk.clone())),
    }
}

fn read_in_bursts(root: &Root, disk: &str, diskseq: Option<u64>, time: Duration) -> io::Result<()> {
    let mut device = sysfs::Uncached::open(root, disk, diskseq, CHUNK)?;
    let until = Instant::now() + time;
    while Instant::now() < until {
        let end = Instant::now() + BURST;
        while Instant::now() < end {
            device.read_on()?;
        }
        sleep(BURST);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Arguments>, String> {
        parse(lexopt::Parser::from_args(words)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_to_blink_and_how_long_is_understood() {
        let arguments = |read, seconds| Arguments {
            disk: "sda".to_owned(),
            diskseq: None,
            read,
            time: Duration::from_secs(seconds),
        };
        assert_eq!(
            parsed(&["sda", "--diskseq", "7"]),
            Ok(Some(Arguments { diskseq: Some(7), ..arguments(false, 15) }))
        );
        assert_eq!(parsed(&["sda"]), Ok(Some(arguments(false, 15))));
        assert_eq!(parsed(&["--read", "--seconds", "2", "/dev/sda"]), Ok(Some(arguments(true, 2))));
        assert_eq!(parsed(&["-h"]), Ok(None));
        assert_eq!(parsed(&[]), Err("say which disk: blink DISK (see --help)".to_owned()));
        assert_eq!(parsed(&["--seconds", "0", "sda"]), Err("--seconds \"0\" is not a number from 1 to 600".to_owned()));
    }

    #[test]
    fn a_light_is_switched_on_and_off_and_a_bay_without_one_says_so() {
        let directory = std::env::temp_dir().join(format!("diskomator-blink-{}", std::process::id()));
        let root = Root::at(&directory);
        let bay = root.path("sys/block/sda/device/enclosure_device:Slot 01");
        std::fs::create_dir_all(&bay).unwrap();
        std::fs::create_dir_all(root.path("sys/block/sdb/device")).unwrap();
        let arguments = |disk: &str| Arguments {
            disk: disk.to_owned(),
            diskseq: None,
            read: false,
            time: Duration::from_millis(5),
        };
        std::fs::write(bay.join("locate"), "x").unwrap();
        blink(&root, &arguments("sda")).unwrap();
        assert_eq!(std::fs::read_to_string(bay.join("locate")).unwrap(), "0");
        // The bay has another disk in it now.
        std::fs::write(root.path("sys/block/sda/diskseq"), "9\n").unwrap();
        std::fs::write(bay.join("locate"), "x").unwrap();
        let before = Arguments { diskseq: Some(8), ..arguments("sda") };
        assert!(matches!(blink(&root, &before), Err(BlinkError::OtherDisk { .. })));
        assert_eq!(std::fs::read_to_string(bay.join("locate")).unwrap(), "x");
        blink(&root, &Arguments { diskseq: Some(9), ..arguments("sda") }).unwrap();
        assert!(matches!(blink(&root, &arguments("sdb")), Err(BlinkError::NoLight(_))));
        assert!(matches!(blink(&root, &arguments("../block/sda")), Err(BlinkError::NoSuchDisk(_))));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
