//! The kernel's log as it grows.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

use diskomator_core::screen::log::Record;

use crate::root::Root;

/// `CONSOLE_EXT_LOG_MAX` of the kernel: no record is longer.
const RECORD_MAX: usize = 8192;

/// Readable when there are records that were not read yet. The first are the
/// oldest that the kernel still has.
#[derive(Debug)]
pub struct KernelLog(File);

impl KernelLog {
    /// Opens `/dev/kmsg`.
    pub fn open(root: &Root) -> io::Result<Self> {
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(root.path("dev/kmsg")).map(Self)
    }

    /// What is new.
    pub fn read(&mut self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut buffer = [0; RECORD_MAX];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return Ok(records),
                Ok(length) => records.extend(buffer.get(..length).and_then(Record::parse)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(records),
                // What was next is overwritten; the next read goes on with what is there.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

crate::source::by_descriptor!(KernelLog);
