//! The end of a process.

use std::error::Error;
use std::process::ExitCode;

use pricing_core::causes::{causes, printable};

/// The exit code of a process that ended with `outcome`. Prints an error on one line of standard error, with its
/// causes and without a backtrace, whatever `RUST_BACKTRACE` says.
#[expect(clippy::print_stderr, reason = "settings may be wrong before there is a log")]
pub fn report<E: Into<Box<dyn Error + Send + Sync>>>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", printable(&causes(&*error.into()).to_string()));
            ExitCode::FAILURE
        }
    }
}
