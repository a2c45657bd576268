//! The appliance's debug shell on the serial port: a root shell, driven line by line.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Output, Result};

pub(crate) struct Shell {
    stream: UnixStream,
    /// The output, which is read all the time: QEMU writes it byte by byte, a socket has room for some hundred such
    /// writes, and then the machine stands still.
    output: Receiver<io::Result<Vec<u8>>>,
    machine: String,
    number: u32,
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The reader ends.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
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
        let output = reader(stream.try_clone().map_err(failed)?);
        let mut shell = Self { stream, output, machine: machine.to_owned(), number: 0 };
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
            match self.output.recv_timeout(left) {
                Ok(Ok(chunk)) => text.push_str(&String::from_utf8_lossy(&chunk).replace('\r', "")),
                Ok(Err(error)) => return Err(self.failed("read from", error)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.failed("read from", io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }

    fn failed(&self, verb: &'static str, source: io::Error) -> Error {
        Error::Channel { verb, channel: "the serial port", machine: self.machine.clone(), source }
    }
}

/// Reads all that comes, until the stream ends or nobody takes it any more.
fn reader(mut stream: UnixStream) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        loop {
            let read = match stream.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => Ok(chunk.get(..count).unwrap_or_default().to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let is_over = read.is_err();
            if sender.send(read).is_err() || is_over {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_says_much_while_no_command_runs_is_not_held_up() {
        let (mut machine, stream) = UnixStream::pair().unwrap();
        let output = reader(stream.try_clone().unwrap());
        let shell = Shell { stream, output, machine: "appliance1".to_owned(), number: 0 };
        machine.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        for _ in 0..4000 {
            machine.write_all(b"x").unwrap();
        }
        drop(shell);
    }
}
