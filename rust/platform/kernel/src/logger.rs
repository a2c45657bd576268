//! Log records to the kernel's ring buffer (`/dev/kmsg`), where `dmesg` and
//! the console find them, or to standard error where there is no such device.

use std::fs::OpenOptions;
use std::io::{self, Write};

use log::{Level, LevelFilter};

/// A kernel log line is at most this long (`PRINTKRB_RECORD_MAX` in the
/// kernel's `printk.c`, less its prefix); the rest of a record is cut.
const RECORD_MAX: usize = 976;

/// Starts logging for the process that calls itself `tag` in its records.
///
/// Records go to `/dev/kmsg` when `to_kmsg` is set and the device opens, with
/// the kernel's priorities (`linux/kern_levels.h`), else to standard error.
pub fn init(tag: String, level: LevelFilter, to_kmsg: bool) {
    let kmsg = if to_kmsg { OpenOptions::new().write(true).open("/dev/kmsg").ok() } else { None };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    match kmsg {
        Some(device) => {
            builder
                .target(env_logger::Target::Pipe(Box::new(Lines(device))))
                .format(move |out, record| writeln!(out, "<{}>{tag}: {}", priority(record.level()), record.args()));
        }
        None => {
            builder.format(move |out, record| {
                writeln!(out, "{}: {}", record.level().as_str().to_lowercase(), record.args())
            });
        }
    }
    // A second call finds a logger in place, which is the one to keep.
    drop(builder.try_init());
}

/// Facility `daemon` (3) and the severity of RFC 5424.
const fn priority(level: Level) -> u8 {
    const DAEMON: u8 = 3 << 3;
    DAEMON
        | match level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        }
}

/// Writes each record with one `write`, as the device demands, and cuts what
/// it would refuse.
struct Lines<W: Write>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let end = record.len().min(RECORD_MAX);
        self.0.write_all(&record[..end])?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_the_kernel_would_refuse_is_cut() {
        let mut lines = Lines(Vec::new());
        lines.write_all(&[b'x'; 4000]).unwrap();
        assert_eq!(lines.0.len(), RECORD_MAX);
    }

    #[test]
    fn priorities_are_those_of_syslog_with_facility_daemon() {
        assert_eq!(priority(Level::Error), 27);
        assert_eq!(priority(Level::Debug), 31);
    }
}
