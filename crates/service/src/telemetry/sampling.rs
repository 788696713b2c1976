//! Which traces are recorded.

use std::env::var;

use opentelemetry::trace::{SpanContext, TraceFlags};
use opentelemetry_sdk::trace::Sampler;

/// The setting of the sampler.
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
/// The setting of the share of traces.
const SHARE: &str = "OTEL_TRACES_SAMPLER_ARG";

/// The sampler's setting cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// There is no such sampler.
    #[error(
        "{SAMPLER}: {0:?} is none of always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, \
         parentbased_traceidratio"
    )]
    Unknown(String),
    /// The share is no number from 0 to 1.
    #[error("{SHARE}: {0:?} is no number from 0 to 1")]
    Share(String),
}

/// Decides which traces are recorded before a span of them is made: a span that is not recorded costs hardly less than
/// one that is. The settings are `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`, by the names of
/// [OpenTelemetry's specification]. A trace that begins here is drawn at random; only the `parentbased_` samplers pass the
/// decision on to other services.
///
/// [OpenTelemetry's specification]: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    follows_parent: bool,
    /// Share of the traces that are recorded if nobody has decided yet, 0 … 1.
    share: f64,
}

impl Sampling {
    /// Reads the settings.
    pub(super) fn from_env() -> Result<Self, SamplerError> {
        let set = |name| var(name).ok().filter(|value| !value.is_empty());
        Self::parse(set(SAMPLER).as_deref(), set(SHARE).as_deref())
    }

    fn parse(sampler: Option<&str>, share: Option<&str>) -> Result<Self, SamplerError> {
        let sampler = sampler.unwrap_or("parentbased_always_on");
        let (follows_parent, root) = match sampler.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, sampler),
        };
        let share = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => {
                let share = share.unwrap_or("1");
                let number = share.parse().ok().filter(|share| (0.0..=1.0).contains(share));
                number.ok_or_else(|| SamplerError::Share(share.to_owned()))?
            }
            _ => return Err(SamplerError::Unknown(sampler.to_owned())),
        };
        Ok(Self { follows_parent, share })
    }

    /// Whether the trace is recorded that continues `parent`, or begins if there is none.
    pub fn records(&self, parent: Option<&SpanContext>) -> bool {
        match parent {
            Some(parent) if self.follows_parent => parent.is_sampled(),
            Some(parent) => self.draws(u128::from_be_bytes(parent.trace_id().to_bytes()) as u64),
            None => self.draws(rand::random()),
        }
    }

    /// Whether the share of all traces has this one, by the lower half of its id: the rule of [`Sampler::TraceIdRatioBased`].
    fn draws(self, id: u64) -> bool {
        self.share >= 1.0 || id >> 1 < (self.share * (1_u64 << 63) as f64) as u64
    }

    /// The sampler for spans that are made before anybody has decided.
    pub(super) fn sampler(self) -> Sampler {
        let root = Sampler::TraceIdRatioBased(self.share);
        if self.follows_parent { Sampler::ParentBased(Box::new(root)) } else { root }
    }
}

/// The same parent, which says whether the trace is recorded.
pub fn with_decision(parent: &SpanContext, records: bool) -> SpanContext {
    let flags = if records { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let state = parent.trace_state().clone();
    SpanContext::new(parent.trace_id(), parent.span_id(), flags, parent.is_remote(), state)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceId, TraceState};

    use super::*;

    fn parent(flags: TraceFlags) -> SpanContext {
        SpanContext::new(TraceId::from(1), SpanId::from(1), flags, true, TraceState::NONE)
    }

    #[test]
    fn a_caller_decides_only_if_the_sampler_follows_it() {
        let (sampled, not) = (parent(TraceFlags::SAMPLED), parent(TraceFlags::NOT_SAMPLED));
        for (sampler, expected) in [
            (None, [true, true, false]),
            (Some("always_on"), [true, true, true]),
            (Some("always_off"), [false, false, false]),
            (Some("parentbased_always_off"), [false, true, false]),
            (Some("parentbased_traceidratio"), [true, true, false]),
        ] {
            let sampling = Sampling::parse(sampler, None).unwrap();
            let records = [None, Some(&sampled), Some(&not)].map(|parent| sampling.records(parent));
            assert_eq!(records, expected, "{sampler:?}");
        }
        assert!(!with_decision(&sampled, false).is_sampled() && with_decision(&not, true).is_sampled());
    }

    #[test]
    fn a_share_of_the_traces_is_recorded() {
        let sampling = Sampling::parse(Some("parentbased_traceidratio"), Some("0.25")).unwrap();
        let recorded = (0..100_000).filter(|_| sampling.records(None)).count();
        assert!((24_000..26_000).contains(&recorded), "{recorded}");
    }

    #[test]
    fn a_wrong_setting_is_refused_by_its_name() {
        let refused = |sampler, share| Sampling::parse(sampler, share).unwrap_err().to_string();
        assert!(refused(Some("jaeger_remote"), None).starts_with("OTEL_TRACES_SAMPLER: \"jaeger_remote\""));
        for share in ["x", "-0.1", "1.1", "NaN", "0.01 "] {
            assert!(refused(Some("traceidratio"), Some(share)).starts_with("OTEL_TRACES_SAMPLER_ARG"));
        }
    }
}
