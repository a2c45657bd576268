//! The end of an applet without success.

use std::error::Error;
use std::process::ExitCode;

/// Why an applet ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line makes no sense. Exit code 2.
    #[error("{0}")]
    Usage(#[from] lexopt::Error),
    /// The work could not be done. Exit code 1.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// A failure of the work itself, whatever its type.
    pub fn failed(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed(Box::new(error))
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
        })
    }
}
