//! Failures of operations on the machines, each with its verb and its object.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use kernel::error::chain;
use thiserror::Error;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of an operation on the machines.
#[derive(Debug, Error)]
pub enum Error {
    /// A file or directory could not be read, written, made or removed.
    #[error("failed to {verb} {path}")]
    File {
        /// The operation.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something that another command makes is not there.
    #[error("{path} is not there: {remedy}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The command that makes it.
        remedy: &'static str,
    },
    /// A program of this machine could not be started.
    #[error("failed to start {program}")]
    Start {
        /// Its name.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program of this machine failed.
    #[error("{command} ended with {status}: {said}")]
    Program {
        /// The command.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its output.
        said: String,
    },
    /// A virtual machine ended while it was still needed.
    #[error("{machine} ended with {status}; QEMU said: {said}")]
    Ended {
        /// Which machine.
        machine: String,
        /// How QEMU ended.
        status: String,
        /// QEMU's own words.
        said: String,
    },
    /// Talking to a machine over one of its sockets failed.
    #[error("failed to {verb} {channel} of {machine}")]
    Channel {
        /// The operation.
        verb: &'static str,
        /// QMP, the guest agent or the serial port.
        channel: &'static str,
        /// Which machine.
        machine: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// QEMU or the guest agent refused a command.
    #[error("{channel} of {machine} refused {command}: {reason}")]
    Refused {
        /// QMP or the guest agent.
        channel: &'static str,
        /// Which machine.
        machine: String,
        /// The command.
        command: String,
        /// The reason given.
        reason: String,
    },
    /// Something did not happen in time.
    #[error("waited {} s for {what}; last seen: {last}", .after.as_secs())]
    Deadline {
        /// The state that was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// The last state seen, or the last error.
        last: String,
    },
    /// A command failed inside a virtual machine.
    #[error("on {machine}: `{command}` ended with {status}: {said}")]
    Command {
        /// Which machine.
        machine: String,
        /// The command.
        command: String,
        /// Its exit status.
        status: i32,
        /// Its output, errors first.
        said: String,
    },
    /// A program's output is not what it documents.
    #[error("failed to read the output of {what}: {text}")]
    Json {
        /// Which output.
        what: &'static str,
        /// The text.
        text: String,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A machine's answer does not have what was asked for.
    #[error("failed to find {what} in: {text}")]
    Answer {
        /// The command that printed it.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// The machine has no such thing left.
    #[error("{machine} has no {what}")]
    None {
        /// Which machine.
        machine: String,
        /// A free slot, a disk of that name, …
        what: String,
    },
}

/// An error as a test or a program reports it: the whole chain of causes, in plain words.
pub struct Failure(String);

impl<E: StdError> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(chain(&error))
    }
}

impl Failure {
    /// A failure with no error behind it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// The test harness prints a test's error with Debug.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
