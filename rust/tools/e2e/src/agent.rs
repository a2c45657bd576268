//! QEMU's guest agent: runs commands in the other machine.
//! Reference: <https://www.qemu.org/docs/master/interop/qemu-ga-ref.html>

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use settings::base64;

use crate::qmp::Lines;
use crate::{Error, Result};

/// How long the agent may take to answer: it is one process, on an emulated processor that may be busy.
const ANSWER: Duration = Duration::from_secs(30);

/// The output of a command, and its exit status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit status; 128 and the signal when a signal ended it, as the shell counts.
    pub status: i32,
}

pub(crate) struct Agent {
    lines: Lines,
    machine: String,
}

impl Agent {
    pub(crate) fn connect(socket: &Path, machine: &str) -> Result<Self> {
        let stream = UnixStream::connect(socket).map_err(|source| Error::Channel {
            verb: "connect to",
            channel: "the guest agent",
            machine: machine.to_owned(),
            source,
        })?;
        Ok(Self { lines: Lines::new(stream), machine: machine.to_owned() })
    }

    /// Asks whether the agent is there; answers to earlier questions are dropped.
    pub(crate) fn sync(&mut self, id: u32, limit: Duration) -> Result<bool> {
        self.write(&json!({ "execute": "guest-sync", "arguments": { "id": id } }))?;
        let until = Instant::now() + limit;
        while let Some(answer) = self.read(until)? {
            if answer.get("return").and_then(Value::as_u64) == Some(u64::from(id)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Starts a shell command and gives its process id.
    pub(crate) fn start(&mut self, script: &str) -> Result<i64> {
        let arguments = json!({ "path": "/bin/sh", "arg": ["-c", script], "capture-output": true });
        let answer = self.call("guest-exec", &arguments)?;
        Ok(answer.get("pid").and_then(Value::as_i64).unwrap_or_default())
    }

    /// A command's outcome, once it has one.
    pub(crate) fn outcome(&mut self, pid: i64) -> Result<Option<Output>> {
        let answer = self.call("guest-exec-status", &json!({ "pid": pid }))?;
        if answer.get("exited").and_then(Value::as_bool) != Some(true) {
            return Ok(None);
        }
        // The agent writes no other than good Base64.
        let bytes = |key| base64::decode(answer.get(key)?.as_str()?.as_bytes());
        let text = |key| String::from_utf8_lossy(&bytes(key).unwrap_or_default()).into_owned();
        let number = |key| answer.get(key).and_then(Value::as_i64).and_then(|value| i32::try_from(value).ok());
        let status = number("exitcode").or_else(|| number("signal").map(|signal| 128 + signal)).unwrap_or(-1);
        Ok(Some(Output { stdout: text("out-data"), stderr: text("err-data"), status }))
    }

    fn call(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        self.write(&json!({ "execute": command, "arguments": arguments }))?;
        let Some(mut answer) = self.read(Instant::now() + ANSWER)? else {
            return Err(Error::Deadline {
                what: format!("the guest agent's answer to {command}"),
                after: ANSWER,
                last: "nothing".to_owned(),
            });
        };
        match answer.get_mut("return") {
            Some(value) => Ok(value.take()),
            None => Err(Error::Refused {
                channel: "the guest agent",
                machine: self.machine.clone(),
                command: format!("{command} {arguments}"),
                reason: answer.to_string(),
            }),
        }
    }

    fn write(&mut self, request: &Value) -> Result<()> {
        let line = format!("{request}\n");
        self.lines.write(line.as_bytes()).map_err(|source| self.failed("write to", source))
    }

    fn read(&mut self, until: Instant) -> Result<Option<Value>> {
        let Some(line) = self.lines.next(until).map_err(|source| self.failed("read from", source))? else {
            return Ok(None);
        };
        serde_json::from_slice(&line).map(Some).map_err(|source| Error::Json {
            what: "the guest agent",
            text: String::from_utf8_lossy(&line).into_owned(),
            source,
        })
    }

    fn failed(&self, verb: &'static str, source: io::Error) -> Error {
        Error::Channel { verb, channel: "the guest agent", machine: self.machine.clone(), source }
    }
}
