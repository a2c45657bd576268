//! The end of an applet without success.

use std::error::Error;
use std::process::ExitCode;

/// Why an applet ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line makes no sense. Exit code 2.
    #[error("{0}")]
    // Its text has its cause in it already.
    Usage(lexopt::Error),
    /// The work could not be done. Exit code 1.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// An error of an applet's own, which names what could not be done and why. With `?` it becomes [`Failure::Failed`].
/// Errors of files and sockets are none: the applet says which of its tasks they end.
pub trait AppletError: Error + Send + Sync + 'static {}

impl<E: AppletError> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error)
    }
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use kernel::error::chain;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot dig the hole")]
    struct HoleError(#[source] std::io::Error);

    impl AppletError for HoleError {}

    fn dig(is_understood: bool) -> Result<(), Failure> {
        if !is_understood {
            return Err(lexopt::Error::from("dig where?").into());
        }
        Ok(Err(HoleError(std::io::ErrorKind::PermissionDenied.into()))?)
    }

    #[test]
    fn an_error_of_an_applet_is_a_failure_and_one_of_its_arguments_is_wrong_usage() {
        for (is_understood, text, code) in
            [(true, "cannot dig the hole: permission denied", 1), (false, "dig where?", 2)]
        {
            let failure = dig(is_understood).unwrap_err();
            assert_eq!(chain(&failure), text);
            assert_eq!(format!("{:?}", failure.exit_code()), format!("{:?}", ExitCode::from(code)));
        }
    }
}
