//! QEMU's machine protocol: one JSON object a line, events between the answers.
//! Reference: <https://www.qemu.org/docs/master/interop/qmp-spec.html>

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Error, Result};

/// How long QEMU may take to answer. It answers at once unless the host is starved.
const ANSWER: Duration = Duration::from_secs(30);

/// A line-by-line reader that keeps an unfinished line across timeouts.
pub(crate) struct Lines {
    stream: UnixStream,
    pending: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// The next line, or `None` when none came before `until`.
    pub(crate) fn next(&mut self, until: Instant) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.pending.drain(..=end).collect()));
            }
            // A timeout of zero would mean none at all.
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.pending.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if Instant::now() >= until {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.stream.write_all(text)
    }
}

/// A connection to one QEMU process.
pub(crate) struct Qmp {
    lines: Lines,
    machine: String,
    events: VecDeque<Value>,
    log: File,
}

impl Qmp {
    /// Leaves negotiation mode on a new connection. Every line goes to `log`.
    pub(crate) fn open(stream: UnixStream, machine: &str, log: File) -> Result<Self> {
        let mut qmp = Self { lines: Lines::new(stream), machine: machine.to_owned(), events: VecDeque::new(), log };
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and gives its `return`.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        let line = format!("{request}\n");
        self.lines.write(line.as_bytes()).map_err(|source| self.failed("write to", source))?;
        let until = Instant::now() + ANSWER;
        loop {
            let Some(mut answer) = self.receive(until)? else {
                return Err(Error::Deadline {
                    what: format!("QEMU's answer to {command}"),
                    after: ANSWER,
                    last: "nothing".to_owned(),
                });
            };
            if let Some(error) = answer.get("error") {
                return Err(Error::Refused {
                    channel: "QMP",
                    machine: self.machine.clone(),
                    command: request.to_string(),
                    reason: error.get("desc").and_then(Value::as_str).unwrap_or("no reason").to_owned(),
                });
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if answer.get("event").is_some() {
                self.events.push_back(answer);
            }
        }
    }

    /// The next event of that name which `wanted` takes, earlier ones included. Others before it are dropped.
    pub(crate) fn event(&mut self, name: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let until = Instant::now() + limit;
        loop {
            while let Some(event) = self.events.pop_front() {
                let data = event.get("data").unwrap_or(&Value::Null);
                if event.get("event").and_then(Value::as_str) == Some(name) && wanted(data) {
                    return Ok(data.clone());
                }
            }
            match self.receive(until)? {
                Some(message) if message.get("event").is_some() => self.events.push_back(message),
                Some(_) => {}
                None => {
                    return Err(Error::Deadline {
                        what: format!("QEMU's event {name}"),
                        after: limit,
                        last: "other events".to_owned(),
                    });
                }
            }
        }
    }

    fn receive(&mut self, until: Instant) -> Result<Option<Value>> {
        let Some(line) = self.lines.next(until).map_err(|source| self.failed("read from", source))? else {
            return Ok(None);
        };
        // The log is evidence, not part of the test.
        let _ = self.log.write_all(&line);
        serde_json::from_slice(&line).map(Some).map_err(|source| Error::Json {
            what: "QMP",
            text: String::from_utf8_lossy(&line).into_owned(),
            source,
        })
    }

    fn failed(&self, verb: &'static str, source: io::Error) -> Error {
        Error::Channel { verb, channel: "QMP", machine: self.machine.clone(), source }
    }
}
