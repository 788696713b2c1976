//! Where events come from.

/// How an event reached the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The event log, which keeps the event until it is acknowledged.
    Log,
    /// The Pub/Sub channel, which keeps nothing.
    Channel,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Channel => "channel",
        }
    }
}
