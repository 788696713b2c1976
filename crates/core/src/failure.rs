//! Why a task failed, in a code and one sentence that a caller may see.

use std::fmt;

/// Why a task failed. The error of its record begins with the code and a colon, and names the causes after it.
///
/// Code and sentence reveal nothing of the system; the causes do, so only operators see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The payload is no recalculation.
    InvalidPayload,
    /// Another build wrote the payload.
    UnknownSchema,
    /// No price can be made of the catalogue.
    InvalidCatalogue,
    /// The database is away, or refused a statement.
    DatabaseFailed,
    /// Redis is away, or refused a command.
    RedisFailed,
    /// A service that the recalculation calls did not answer.
    ExternalTimeout,
    /// The lock expired during the run.
    LockLost,
    /// Another worker took the task over.
    LeaseLost,
    /// The run was interrupted because its worker ended.
    Interrupted,
    /// The job panicked.
    Panicked,
    /// The task was delivered several times, and none of the runs ended.
    Poisoned,
    /// The result of the task cannot be recorded.
    InvalidResult,
    /// Anything else.
    Failed,
}

impl Failure {
    const ALL: [Self; 13] = [
        Self::InvalidPayload,
        Self::UnknownSchema,
        Self::InvalidCatalogue,
        Self::DatabaseFailed,
        Self::RedisFailed,
        Self::ExternalTimeout,
        Self::LockLost,
        Self::LeaseLost,
        Self::Interrupted,
        Self::Panicked,
        Self::Poisoned,
        Self::InvalidResult,
        Self::Failed,
    ];

    /// The failure that the error of a record begins with; [`Failure::Failed`] when it begins with none.
    pub fn of_record(error: &str) -> Self {
        let code = error.split_once(':').map_or(error, |(code, _)| code);
        Self::ALL.into_iter().find(|failure| failure.code() == code).unwrap_or(Self::Failed)
    }

    /// The code, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidPayload => "invalid_payload",
            Self::UnknownSchema => "unknown_schema",
            Self::InvalidCatalogue => "invalid_catalogue",
            Self::DatabaseFailed => "database_failed",
            Self::RedisFailed => "redis_failed",
            Self::ExternalTimeout => "external_timeout",
            Self::LockLost => "lock_lost",
            Self::LeaseLost => "lease_lost",
            Self::Interrupted => "interrupted",
            Self::Panicked => "panicked",
            Self::Poisoned => "poisoned",
            Self::InvalidResult => "invalid_result",
            Self::Failed => "failed",
        }
    }

    /// The sentence, for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::InvalidPayload => "The payload of the task cannot be read.",
            Self::UnknownSchema => "Another version of the service wrote the task.",
            Self::InvalidCatalogue => "No price can be made of the catalogue.",
            Self::DatabaseFailed => "The database failed.",
            Self::RedisFailed => "Redis failed.",
            Self::ExternalTimeout => "An external service did not answer in time.",
            Self::LockLost => "The recalculation lost its lock.",
            Self::LeaseLost => "Another worker took the task over.",
            Self::Interrupted => "The worker ended before the task did.",
            Self::Panicked => "The worker has a bug.",
            Self::Poisoned => "The task was delivered several times, and none of its runs ended.",
            Self::InvalidResult => "The result of the task cannot be recorded.",
            Self::Failed => "The task failed.",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_the_code_that_it_begins_with() {
        for failure in Failure::ALL {
            assert_eq!(Failure::of_record(failure.code()), failure);
            assert_eq!(Failure::of_record(&format!("{failure}: the cause: its cause")), failure);
        }
        for other in ["", "the payload cannot be decoded: x", "database_failed_again: x", ": panicked"] {
            assert_eq!(Failure::of_record(other), Failure::Failed, "{other}");
        }
    }
}
