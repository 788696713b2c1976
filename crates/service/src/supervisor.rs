//! The parts that a process is made of: none of them may end unseen.

use std::error::Error;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::panics::panic_text;
use crate::shutdown::Shutdown;

/// Why a part failed.
type Cause = Box<dyn Error + Send + Sync>;

/// A part of the process ended unexpectedly. The process must exit with a code other than zero, so that it is
/// restarted.
#[derive(Debug, thiserror::Error)]
pub enum PartFailed {
    /// It returned an error.
    #[error("{part} failed")]
    Failed {
        /// Name of the part.
        part: &'static str,
        /// The error.
        source: Cause,
    },
    /// A bug ended it.
    #[error("{part} panicked: {message}")]
    Panicked {
        /// Name of the part.
        part: &'static str,
        /// Text of the panic.
        message: String,
    },
    /// It ended before the shutdown.
    #[error("{part} ended by itself")]
    Ended {
        /// Name of the part.
        part: &'static str,
    },
}

/// Runs the parts of a process, each in a Tokio task.
///
/// **No part ends unseen**: a part that fails, panics or ends before the shutdown ends the process. So a process
/// never runs without one of its parts.
pub struct Supervisor {
    tasks: JoinSet<Result<Ended, PartFailed>>,
    shutdown: CancellationToken,
    /// Parts that finish their work during the shutdown.
    working: usize,
}

/// A part that ended without an error.
struct Ended {
    part: &'static str,
    is_background: bool,
}

impl Supervisor {
    /// A supervisor of the signal handler alone. Must be called inside the Tokio runtime.
    pub fn new(shutdown: Shutdown) -> Self {
        let mut supervisor = Self { tasks: JoinSet::new(), shutdown: shutdown.token.clone(), working: 0 };
        supervisor.background("the signal handler", shutdown.signals);
        supervisor
    }

    /// The token that the shutdown cancels.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a part that does the work of the process. After the shutdown began it finishes its work and ends.
    pub fn part<E: Into<Cause>>(
        &mut self,
        part: &'static str,
        run: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.working += 1;
        let run = run.map(|ended| ended.map_err(Into::into));
        self.tasks.spawn(watched(Ended { part, is_background: false }, run));
    }

    /// Starts a part that runs as long as the process. It is dropped at the end.
    pub fn background(&mut self, part: &'static str, run: impl Future<Output: Send> + Send + 'static) {
        let run = run.map(|_| Ok(()));
        self.tasks.spawn(watched(Ended { part, is_background: true }, run));
    }

    /// Waits until the shutdown began and the working parts have ended.
    ///
    /// # Errors
    ///
    /// When a part fails, panics or ends before the shutdown; the others are dropped then.
    pub async fn run(mut self) -> Result<(), PartFailed> {
        while self.working > 0 {
            let ended = self.tasks.join_next().await.expect("invariant: a working part has a task");
            let ended =
                ended.expect("invariant: panics are caught inside the tasks, and nothing aborts them");
            let Ended { part, is_background } = ended?;
            if is_background || !self.shutdown.is_cancelled() {
                return Err(PartFailed::Ended { part });
            }
            self.working -= 1;
        }
        Ok(())
    }
}

async fn watched(ended: Ended, run: impl Future<Output = Result<(), Cause>>) -> Result<Ended, PartFailed> {
    let part = ended.part;
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(Ok(())) => Ok(ended),
        Ok(Err(source)) => Err(PartFailed::Failed { part, source }),
        Err(panic) => Err(PartFailed::Panicked { part, message: panic_text(&*panic).to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::io;

    use super::*;

    fn supervisor() -> Supervisor {
        Supervisor::new(Shutdown { token: CancellationToken::new(), signals: tokio::spawn(pending()) })
    }

    #[tokio::test]
    async fn it_ends_when_every_working_part_has_ended_after_being_asked_to() {
        let mut supervisor = supervisor();
        let shutdown = supervisor.shutdown();
        for _ in 0..2 {
            let asked = shutdown.clone();
            supervisor.part("work", asked.cancelled_owned().map(Ok::<_, io::Error>));
        }
        supervisor.background("upkeep", pending::<()>());
        let mut run = Box::pin(supervisor.run());
        assert!(futures_util::poll!(&mut run).is_pending());
        shutdown.cancel();
        assert!(run.await.is_ok());
    }

    #[tokio::test]
    async fn a_part_that_ends_fails_or_panics_ends_all() {
        let mut ended = supervisor();
        ended.part("work", pending::<io::Result<()>>());
        ended.part("short work", ready(Ok::<_, io::Error>(())));
        assert_eq!(ended.run().await.unwrap_err().to_string(), "short work ended by itself");

        let mut failed = supervisor();
        failed.part("work", ready(Err(io::Error::other("no luck"))));
        let failure = failed.run().await.unwrap_err();
        assert_eq!(failure.to_string(), "work failed");
        assert_eq!(failure.source().unwrap().to_string(), "no luck");

        let mut panicked = supervisor();
        panicked.part("work", pending::<io::Result<()>>());
        panicked.background("upkeep", async { panic!("a bug") });
        assert_eq!(panicked.run().await.unwrap_err().to_string(), "upkeep panicked: a bug");
    }
}
