//! How a recalculation ends, and what its queue does then.

use pricing_core::catalogue::CatalogueError;
use pricing_core::failure::Failure;
use pricing_core::ids::InvalidId;
use pricing_core::recalculation::InvalidPayload;
use pricing_core::simulation::ExternalApiTimeout;
use pricing_queue::QueueError;
use serde::Serialize;

use crate::lock::LockError;
use crate::scan::{ScanError, Scanned};

/// The result of a recalculation, as the task's record holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// All prices were recalculated.
    Updated(Scanned),
    Skipped {
        reason: SkipReason,
    },
}

impl Outcome {
    pub(crate) fn skipped(reason: SkipReason) -> Self {
        Self::Skipped { reason }
    }

    pub(crate) fn updated_count(self) -> Option<u64> {
        match self {
            Self::Updated(scanned) => Some(scanned.updated_count),
            Self::Skipped { .. } => None,
        }
    }
}

/// Why a recalculation was skipped. Its request is met all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SkipReason {
    /// Another worker is recalculating, and will scan again for this request.
    LockHeldByAnotherWorker,
    /// A recalculation that started after the request was made has ended.
    CoveredByANewerRecalculation,
}

/// Why a recalculation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecalculationError {
    #[error("the payload cannot be decoded")]
    Payload(#[from] InvalidPayload),
    /// Another build may read it.
    #[error("the payload cannot be decoded")]
    UnknownSchema(#[source] InvalidPayload),
    #[error("the task id is invalid")]
    TaskId(#[from] InvalidId),
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("the lock failed")]
    Lock(#[from] LockError),
    #[error("the queue failed")]
    Queue(#[from] QueueError),
    #[error(transparent)]
    External(#[from] ExternalApiTimeout),
    /// The lock expired during the run, as after a long pause of the process.
    #[error("the recalculation lock was lost")]
    LockLost,
    /// The task was taken over before the run had the lock.
    #[error("the task was taken over by another worker")]
    LeaseLost,
}

/// What the queue does with the task of a run that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Retry it, if it has retries left.
    Retry,
    /// Dead-letter it: no retry can succeed.
    DeadLetter,
    /// Requeue it: the run was interrupted.
    Requeue,
    /// Requeue it after a delay: another worker may be able to run it.
    Defer,
}

impl RecalculationError {
    /// What a caller may know of it.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Payload(_) | Self::TaskId(_) => Failure::InvalidPayload,
            Self::UnknownSchema(_) => Failure::UnknownSchema,
            Self::Scan(ScanError::Catalogue(CatalogueError::Invalid { .. })) => Failure::InvalidCatalogue,
            Self::Scan(ScanError::Catalogue(_) | ScanError::DatabaseTimeout | ScanError::ReadTooLongAgo) => {
                Failure::DatabaseFailed
            }
            Self::Scan(ScanError::Cache(_) | ScanError::Progress(_)) | Self::Lock(_) | Self::Queue(_) => {
                Failure::RedisFailed
            }
            Self::External(_) => Failure::ExternalTimeout,
            Self::LockLost => Failure::LockLost,
            Self::Scan(ScanError::LeaseLost) | Self::LeaseLost => Failure::LeaseLost,
            Self::Scan(ScanError::Interrupted) => Failure::Interrupted,
        }
    }

    pub(crate) fn treatment(&self) -> Treatment {
        match self {
            Self::Scan(ScanError::Interrupted) => Treatment::Requeue,
            Self::UnknownSchema(_) => Treatment::Defer,
            Self::Payload(_)
            | Self::TaskId(_)
            | Self::Scan(ScanError::Catalogue(CatalogueError::Invalid { .. })) => Treatment::DeadLetter,
            _ => Treatment::Retry,
        }
    }
}

/// A failure as the record of its task holds it: the code, then the error and its causes.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
pub(crate) struct Recorded {
    failure: Failure,
    source: RecalculationError,
}

impl From<RecalculationError> for Recorded {
    fn from(source: RecalculationError) -> Self {
        Self { failure: source.failure(), source }
    }
}

/// The name of a run's outcome in metrics, spans and log lines.
pub(crate) fn outcome_name(ended: &Result<Outcome, RecalculationError>) -> &'static str {
    match ended {
        Ok(Outcome::Updated(_)) => "updated",
        Ok(Outcome::Skipped { reason: SkipReason::LockHeldByAnotherWorker }) => "skipped_lock_held",
        Ok(Outcome::Skipped { reason: SkipReason::CoveredByANewerRecalculation }) => "skipped_covered",
        Err(error) => match error.treatment() {
            Treatment::Requeue | Treatment::Defer => "requeued",
            Treatment::Retry | Treatment::DeadLetter => "failed",
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use pricing_core::ids::TaskId;
    use pricing_core::recalculation::Recalculation;

    use super::*;

    #[test]
    fn outcomes_read_as_the_contract_says() {
        let json = |outcome| serde_json::to_string(&outcome).unwrap();
        assert_eq!(
            json(Outcome::Updated(Scanned { updated_count: 900, changed_count: 12, ..Scanned::default() })),
            r#"{"status":"updated","updated_count":900,"changed_count":12,"invalid_count":0}"#
        );
        assert_eq!(
            json(Outcome::Skipped { reason: SkipReason::LockHeldByAnotherWorker }),
            r#"{"status":"skipped","reason":"lock_held_by_another_worker"}"#
        );
        assert_eq!(
            json(Outcome::Skipped { reason: SkipReason::CoveredByANewerRecalculation }),
            r#"{"status":"skipped","reason":"covered_by_a_newer_recalculation"}"#
        );
    }

    #[test]
    fn only_a_failure_that_may_pass_is_retried() {
        fn redis() -> redis::RedisError {
            io::Error::from(io::ErrorKind::ConnectionReset).into()
        }
        let invalid = CatalogueError::Invalid { what: "price", key: "P-1".to_owned() };
        let newer = Recalculation::decode(r#"{"schema":2}"#).unwrap_err();
        let table: [(RecalculationError, Treatment, Failure); 15] = [
            (RecalculationError::UnknownSchema(newer), Treatment::Defer, Failure::UnknownSchema),
            (
                Recalculation::decode("garbage").unwrap_err().into(),
                Treatment::DeadLetter,
                Failure::InvalidPayload,
            ),
            (
                Recalculation::decode(r#"{"schema":2}"#).unwrap_err().into(),
                Treatment::DeadLetter,
                Failure::InvalidPayload,
            ),
            (TaskId::parse("a b").unwrap_err().into(), Treatment::DeadLetter, Failure::InvalidPayload),
            (ScanError::Catalogue(invalid).into(), Treatment::DeadLetter, Failure::InvalidCatalogue),
            (ScanError::Catalogue(sqlx_away()).into(), Treatment::Retry, Failure::DatabaseFailed),
            (ScanError::DatabaseTimeout.into(), Treatment::Retry, Failure::DatabaseFailed),
            (ScanError::Cache(redis()).into(), Treatment::Retry, Failure::RedisFailed),
            (ScanError::Progress(redis().into()).into(), Treatment::Retry, Failure::RedisFailed),
            (ScanError::LeaseLost.into(), Treatment::Retry, Failure::LeaseLost),
            (ScanError::Interrupted.into(), Treatment::Requeue, Failure::Interrupted),
            (LockError::Redis(redis()).into(), Treatment::Retry, Failure::RedisFailed),
            (ExternalApiTimeout.into(), Treatment::Retry, Failure::ExternalTimeout),
            (RecalculationError::LockLost, Treatment::Retry, Failure::LockLost),
            (RecalculationError::LeaseLost, Treatment::Retry, Failure::LeaseLost),
        ];
        for (error, treatment, failure) in table {
            assert_eq!((error.treatment(), error.failure()), (treatment, failure), "{error:?}");
            let name = match treatment {
                Treatment::Requeue | Treatment::Defer => "requeued",
                Treatment::Retry | Treatment::DeadLetter => "failed",
            };
            assert_eq!(outcome_name(&Err(error)), name);
        }
    }

    fn sqlx_away() -> CatalogueError {
        CatalogueError::File(io::Error::other("the disk is gone"))
    }
}
