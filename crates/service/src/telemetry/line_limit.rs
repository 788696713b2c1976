//! Bounds the log lines of one kind, and says how many were suppressed.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{counter, describe_counter};
use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Lines of a kind that are written at once.
const BURST: u32 = 10;
/// Period at which a kind may write another line after that.
const PERIOD: Duration = Duration::from_secs(1);
/// Period at which suppressed lines are reported.
const REPORT_PERIOD: Duration = Duration::from_secs(5);
/// Longest message of a report, in characters.
const MAX_MESSAGE: usize = 200;
/// Kinds that are told apart by their detail as well. Those beyond are told apart by their place alone.
const MAX_DETAILED: usize = 1_024;
/// End of the targets whose lines are not limited: they stand for rows of the audit that could not be written.
const UNLIMITED: &str = "::audit";
const SUPPRESSED: &str = "pricing_log_lines_suppressed_total";

/// Describes the metric of suppressed lines to the installed recorder.
pub(super) fn describe() {
    describe_counter!(
        SUPPRESSED,
        "Log lines that were not written because their kind had too many, by level"
    );
}

/// Writes the events of another format up to a limit for each kind of warning and error. Lines of other levels are not
/// limited.
///
/// A kind is a place in the code that logs, and the field `detail` if the line has one: all answers 503 are logged in one
/// place, and their detail says why. It may write a burst of ten lines, then one a second. Every five seconds
/// [`LineLimits::report`] says how many lines of which kind were suppressed. Lines of a target that ends in `::audit` are
/// not limited.
pub(super) struct Limited<F> {
    pub(super) inner: F,
    pub(super) limits: LineLimits,
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.limits.admit(event) { self.inner.format_event(context, writer, event) } else { Ok(()) }
    }
}

/// The limits of all kinds. Clones share them.
#[derive(Clone, Default)]
pub(super) struct LineLimits(Arc<Mutex<Kinds>>);

/// Kinds by their place in the code and a hash of their detail.
type Kinds = HashMap<(Identifier, Option<u64>), Kind>;

/// The lines of one kind.
struct Kind {
    metadata: &'static Metadata<'static>,
    /// When the whole burst may be written again.
    replenished: Instant,
    /// Lines suppressed since the last report.
    suppressed: u64,
    /// The message of one of them.
    message: String,
}

impl LineLimits {
    /// Whether the line of an event is to be written.
    fn admit(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        let is_unlimited = metadata.target() == module_path!() || metadata.target().ends_with(UNLIMITED);
        if *metadata.level() > Level::WARN || is_unlimited {
            return true;
        }
        let mut kind = (metadata.callsite(), detail(event));
        let taken = {
            let mut kinds = self.kinds();
            if kinds.len() >= MAX_DETAILED && !kinds.contains_key(&kind) {
                kind.1 = None;
            }
            kinds.entry(kind.clone()).or_insert_with(|| Kind::new(metadata)).take()
        };
        let Taken::Suppressed { first } = taken else { return true };
        counter!(SUPPRESSED, "level" => metadata.level().as_str()).increment(1);
        if first {
            // Without the lock: what is formatted may log.
            let message = message(event);
            if let Some(kind) = self.kinds().get_mut(&kind) {
                kind.message = message;
            }
        }
        false
    }

    /// Reports suppressed lines every five seconds.
    pub(super) async fn report_periodically(self) {
        let mut period = tokio::time::interval(REPORT_PERIOD);
        loop {
            period.tick().await;
            self.report();
        }
    }

    /// Logs how many lines of each kind were suppressed since the last report, in a line of the same level.
    pub(super) fn report(&self) {
        let suppressed: Vec<_> = self.kinds().values_mut().filter_map(Kind::report).collect();
        for (metadata, lines, message) in suppressed {
            let kind = format!("{}: {message}", metadata.target());
            if *metadata.level() == Level::ERROR {
                tracing::error!(suppressed = lines, kind, "log lines suppressed");
            } else {
                tracing::warn!(suppressed = lines, kind, "log lines suppressed");
            }
        }
    }

    fn kinds(&self) -> MutexGuard<'_, Kinds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a kind says to one more line.
enum Taken {
    Admitted,
    Suppressed {
        /// Whether it is the first one since the last report.
        first: bool,
    },
}

impl Kind {
    fn new(metadata: &'static Metadata<'static>) -> Self {
        Self { metadata, replenished: Instant::now(), suppressed: 0, message: String::new() }
    }

    fn take(&mut self) -> Taken {
        let now = Instant::now();
        let replenished = self.replenished.max(now) + PERIOD;
        if replenished > now + PERIOD * BURST {
            self.suppressed += 1;
            return Taken::Suppressed { first: self.suppressed == 1 };
        }
        self.replenished = replenished;
        Taken::Admitted
    }

    fn report(&mut self) -> Option<(&'static Metadata<'static>, u64, String)> {
        let lines = std::mem::take(&mut self.suppressed);
        (lines > 0).then(|| (self.metadata, lines, std::mem::take(&mut self.message)))
    }
}

/// The message of an event with its detail, without its other fields.
fn message(event: &Event<'_>) -> String {
    #[derive(Default)]
    struct Message {
        message: String,
        detail: Option<String>,
    }
    impl Visit for Message {
        fn record_str(&mut self, field: &Field, value: &str) {
            match field.name() {
                "message" => self.message = value.to_owned(),
                "detail" => self.detail = Some(value.to_owned()),
                _ => {}
            }
        }

        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                self.message = format!("{value:?}");
            }
        }
    }
    let mut found = Message::default();
    event.record(&mut found);
    let Message { message, detail } = found;
    let text = detail.map_or(message.clone(), |detail| format!("{message}: {detail}"));
    text.chars().take(MAX_MESSAGE).collect()
}

/// A hash of the text `detail` of an event, `None` if it has none.
fn detail(event: &Event<'_>) -> Option<u64> {
    struct Detail(Option<u64>);
    impl Visit for Detail {
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "detail" {
                let mut hasher = DefaultHasher::new();
                value.hash(&mut hasher);
                self.0 = Some(hasher.finish());
            }
        }

        fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
    }
    let mut detail = Detail(None);
    event.record(&mut detail);
    detail.0
}

#[cfg(test)]
mod tests {
    use std::io;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        /// The lines since the last call.
        fn lines(&self) -> Vec<String> {
            let text = std::mem::take(&mut *self.0.lock().unwrap());
            String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
        }
    }

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Buffer {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// Logs to a buffer, for as long as the guard lives.
    fn logging() -> (Buffer, LineLimits, tracing::subscriber::DefaultGuard) {
        let (buffer, limits) = (Buffer::default(), LineLimits::default());
        let inner = format().without_time().with_target(false).with_ansi(false);
        let format = Limited { inner, limits: limits.clone() };
        let layer = tracing_subscriber::fmt::layer().with_writer(buffer.clone()).event_format(format);
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        (buffer, limits, guard)
    }

    fn fail(attempt: u32) {
        tracing::error!(target: "prices", attempt, "lookup failed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_writes_a_burst_and_then_a_line_a_second() {
        let (buffer, _, _guard) = logging();
        (0..1_000).for_each(fail);
        let lines = buffer.lines();
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[9].trim(), "ERROR lookup failed attempt=9");
        for second in 0..3 {
            tokio::time::advance(PERIOD).await;
            (0..1_000).for_each(fail);
            assert_eq!(buffer.lines().len(), 1, "second {second}");
        }
        tokio::time::advance(PERIOD * 60).await;
        (0..1_000).for_each(fail);
        assert_eq!(buffer.lines().len(), 10, "a silence restores the burst and no more");
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_has_a_limit_of_its_own_and_lines_of_lower_levels_have_none() {
        let (buffer, _, _guard) = logging();
        (0..1_000).for_each(fail);
        for _ in 0..20 {
            tracing::warn!("another kind");
            tracing::info!("no warning");
            tracing::debug!("no warning either");
        }
        let lines = buffer.lines();
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!((count("lookup failed"), count("another kind")), (10, 10));
        assert_eq!((count("no warning"), count("no warning either")), (40, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_of_one_place_are_told_apart_by_their_detail() {
        let (buffer, limits, _guard) = logging();
        for _ in 0..30 {
            for detail in ["Redis", "PostgreSQL"] {
                tracing::error!(detail, "answering 503");
            }
        }
        let lines = buffer.lines();
        assert_eq!(lines.iter().filter(|line| line.contains("PostgreSQL")).count(), 10, "{lines:?}");
        limits.report();
        let reports = buffer.lines().concat();
        assert!(reports.contains("answering 503: Redis") && reports.contains("answering 503: PostgreSQL"));

        (0..2 * MAX_DETAILED).for_each(|number| tracing::error!(detail = format!("{number}"), "unbounded"));
        assert!(limits.kinds().len() <= MAX_DETAILED + 1, "{} kinds", limits.kinds().len());
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_for_a_row_of_the_audit_is_not_limited() {
        let (buffer, _, _guard) = logging();
        (0..50).for_each(|row| tracing::error!(target: "pricing_api::audit", row, "not in the audit"));
        assert_eq!(buffer.lines().len(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn suppressed_lines_are_reported_within_five_seconds_also_when_no_other_line_comes() {
        let (buffer, limits, _guard) = logging();
        let reporting = limits.report_periodically();
        tokio::pin!(reporting);
        // The first tick comes at once, when there is nothing to report.
        assert!(tokio::time::timeout(PERIOD, &mut reporting).await.is_err());
        (0..25).for_each(fail);
        assert_eq!(buffer.lines().len(), 10);
        assert!(tokio::time::timeout(REPORT_PERIOD, &mut reporting).await.is_err());
        let lines = buffer.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            lines[0].trim(),
            r#"ERROR log lines suppressed suppressed=15 kind="prices: lookup failed""#
        );
        assert!(tokio::time::timeout(2 * REPORT_PERIOD, &mut reporting).await.is_err());
        assert!(buffer.lines().is_empty(), "they are reported once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_has_the_level_of_its_lines_and_is_not_limited_itself() {
        let (buffer, limits, _guard) = logging();
        for round in 0..20 {
            (0..30).for_each(|_| tracing::warn!("first\nof {}", "x".repeat(1_000)));
            (0..30).for_each(fail);
            buffer.lines();
            limits.report();
            let mut lines = buffer.lines();
            lines.sort();
            let [warning, error] = &lines[..] else { panic!("round {round}: {lines:?}") };
            assert!(warning.trim().starts_with("WARN log lines suppressed suppressed="), "{warning}");
            assert!(warning.contains(r"first\nof x") && warning.len() < 400, "{warning}");
            assert!(error.contains("ERROR log lines suppressed"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn suppressed_lines_are_counted_by_level() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _recorder = metrics::set_default_local_recorder(&recorder);
        let (_buffer, _, _guard) = logging();
        (0..25).for_each(fail);
        let text = recorder.handle().render();
        assert!(text.contains(r#"pricing_log_lines_suppressed_total{level="ERROR"} 15"#), "{text}");
    }
}
