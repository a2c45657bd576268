//! The appliance's debug shell on the serial port: a root shell, driven line by line.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Error, Output, Result};

pub(crate) struct Shell {
    stream: UnixStream,
    machine: String,
    number: u32,
}

impl Shell {
    /// Waits for the shell to answer, for at most `limit`.
    pub(crate) fn connect(socket: &Path, machine: &str, limit: Duration) -> Result<Self> {
        let failed = |source| Error::Channel {
            verb: "connect to",
            channel: "the serial port",
            machine: machine.to_owned(),
            source,
        };
        let stream = UnixStream::connect(socket).map_err(failed)?;
        let mut shell = Self { stream, machine: machine.to_owned(), number: 0 };
        let until = Instant::now() + limit;
        // Kernel messages would cut into the answers; they stay in dmesg.
        while shell.run("dmesg -n 1", Duration::from_secs(2)).is_err() {
            if Instant::now() >= until {
                return Err(Error::Deadline {
                    what: "the debug shell on the serial port".to_owned(),
                    after: limit,
                    last: "no answer".to_owned(),
                });
            }
        }
        Ok(shell)
    }

    /// Runs one line. Its errors come together with its output, as on any terminal.
    pub(crate) fn run(&mut self, line: &str, limit: Duration) -> Result<Output> {
        self.number += 1;
        let (begin, end) = (format!("_begin_{}", self.number), format!("_end_{}_", self.number));
        // The marks are put together by printf, so that the terminal's echo of this line has neither.
        let request = format!("printf 'e2e%s\\n' {begin}; {line}; printf '\\ne2e%s%d_\\n' {end} $?\n");
        self.stream.write_all(request.as_bytes()).map_err(|source| self.failed("write to", source))?;
        let text = self.read_until(&format!("e2e{end}"), limit, line)?;
        let start = format!("e2e{begin}\n");
        let body = text.find(&start).map_or(text.as_str(), |at| text.get(at + start.len()..).unwrap_or_default());
        let (stdout, tail) = body.rsplit_once(&format!("\ne2e{end}")).unwrap_or((body, ""));
        let status = tail.split('_').next().and_then(|number| number.parse().ok()).unwrap_or(-1);
        Ok(Output { stdout: stdout.to_owned(), stderr: String::new(), status })
    }

    /// Reads until the line that has `mark` is complete. Carriage returns are dropped.
    fn read_until(&mut self, mark: &str, limit: Duration, line: &str) -> Result<String> {
        let until = Instant::now() + limit;
        let mut text = String::new();
        loop {
            if text.find(mark).is_some_and(|at| text.get(at..).is_some_and(|rest| rest.contains('\n'))) {
                return Ok(text);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Deadline {
                    what: format!("`{line}` in the debug shell of {}", self.machine),
                    after: limit,
                    last: text,
                });
            }
            self.stream.set_read_timeout(Some(left)).map_err(|source| self.failed("read from", source))?;
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(self.failed("read from", io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    let new = String::from_utf8_lossy(chunk.get(..count).unwrap_or_default()).replace('\r', "");
                    text.push_str(&new);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(self.failed("read from", error)),
            }
        }
    }

    fn failed(&self, verb: &'static str, source: io::Error) -> Error {
        Error::Channel { verb, channel: "the serial port", machine: self.machine.clone(), source }
    }
}
