//! Waiting until a request is due, more exactly than the milliseconds of `epoll_wait`.

pub(super) use system::Timer;

#[cfg(target_os = "linux")]
mod system {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    use std::time::{Duration, Instant};

    use anyhow::Result;
    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

    /// A time of zero would switch the timer off.
    const SHORTEST: Duration = Duration::from_nanos(1);

    /// A timer whose end is an event. It is edge-triggered, so that nobody has to read it.
    #[derive(Debug)]
    pub(in super::super) struct Timer(TimerFd);

    impl Timer {
        pub(in super::super) fn new(registry: &Registry, token: Token) -> Result<Self> {
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
            registry.register(&mut SourceFd(&timer.as_fd().as_raw_fd()), token, Interest::READABLE)?;
            Ok(Self(timer))
        }

        /// Wakes the poll at `due`, if there is one. Returns the time-out of the poll: here none is needed.
        pub(in super::super) fn set(&self, due: Option<Instant>) -> Result<Option<Duration>> {
            if let Some(due) = due {
                let wait = due.saturating_duration_since(Instant::now()).max(SHORTEST);
                self.0.set(Expiration::OneShot(TimeSpec::from_duration(wait)), TimerSetTimeFlags::empty())?;
            }
            Ok(None)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::time::{Duration, Instant};

    use anyhow::Result;
    use mio::{Registry, Token};

    /// The time-out of the poll, which is exact where it is kqueue's.
    #[derive(Debug)]
    pub(in super::super) struct Timer;

    impl Timer {
        pub(in super::super) fn new(_: &Registry, _: Token) -> Result<Self> {
            Ok(Self)
        }

        pub(in super::super) fn set(&self, due: Option<Instant>) -> Result<Option<Duration>> {
            Ok(due.map(|due| due.saturating_duration_since(Instant::now())))
        }
    }
}
