//! Acknowledges the ends of runs, several with one script.

use redis::RedisError;
use tokio::sync::{mpsc, oneshot};

use crate::error::QueueError;
use crate::lease::Lease;
use crate::outcome::Outcome;
use crate::scripts::{SCRIPTS, millis};
use crate::span::client_span;
use crate::store::{GROUP, Store};

/// Maximum number of runs that one script ends.
const BATCH: usize = 100;
/// Maximum length of a result or an error that shares a script with others, in bytes.
const MAX_SHARED_TEXT: usize = 4 * 1_024;
/// Maximum length of an error in a record, in bytes.
const MAX_ERROR: usize = 2_048;

/// Acknowledges the runs of one worker. Those that end while a script is under way share the next one.
#[derive(Clone)]
pub(crate) struct Acks(mpsc::UnboundedSender<EndedRun>);

struct EndedRun {
    lease: Lease,
    outcome: Outcome,
    answer: oneshot::Sender<Result<bool, QueueError>>,
}

impl Acks {
    /// The acknowledgements of a worker, and the future that sends them, until the last clone is dropped.
    pub(crate) fn new(store: Store) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), send(store, receiver))
    }

    /// Ends a run with an outcome. Returns whether its lease was still current; nothing is changed if not.
    pub(crate) async fn ack(&self, lease: &Lease, outcome: &Outcome) -> Result<bool, QueueError> {
        if !shares_script(outcome) {
            return ack(lease, outcome).await;
        }
        let (answer, answered) = oneshot::channel();
        let ended = EndedRun { lease: lease.clone(), outcome: outcome.clone(), answer };
        if self.0.send(ended).is_err() {
            return ack(lease, outcome).await;
        }
        let answered = async { answered.await.unwrap_or(Err(QueueError::Reply("none".to_owned()))) };
        client_span(SPAN, answered).await
    }
}

const SPAN: &str = "EVALSHA ack task";

async fn send(store: Store, mut ended: mpsc::UnboundedReceiver<EndedRun>) {
    let mut batch = Vec::with_capacity(BATCH);
    while ended.recv_many(&mut batch, BATCH).await > 0 {
        let runs: Vec<_> = batch.iter().map(|run| (&run.lease, &run.outcome)).collect();
        let answers = end(&store, &runs).await;
        for (index, run) in batch.drain(..).enumerate() {
            let answer = match &answers {
                Ok(current) => {
                    current.get(index).copied().ok_or_else(|| QueueError::Reply("none".to_owned()))
                }
                Err(error) => Err(error.clone().into()),
            };
            let _ = run.answer.send(answer); // nobody waits for it when the worker was dropped
        }
    }
}

/// Whether a script may end the run beside others. That of a dead letter may evict a hundred tasks.
fn shares_script(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Succeeded { result } => result.len() <= MAX_SHARED_TEXT,
        Outcome::Retry { .. } | Outcome::Defer { .. } | Outcome::Requeue => true,
        Outcome::DeadLetter { .. } => false,
    }
}

/// Like [`Acks::ack`], with a script for this run alone.
pub(crate) async fn ack(lease: &Lease, outcome: &Outcome) -> Result<bool, QueueError> {
    let ended = async { Ok(end(lease.store(), &[(lease, outcome)]).await?) };
    let current = client_span(SPAN, ended).await?;
    current.first().copied().ok_or_else(|| QueueError::Reply("none".to_owned()))
}

/// Ends runs with one script. Returns for each whether its lease was current.
async fn end(store: &Store, runs: &[(&Lease, &Outcome)]) -> Result<Vec<bool>, RedisError> {
    let Store { keys, options, .. } = store;
    let mut call = SCRIPTS.ack.key(&keys.stream);
    call.key(&keys.delayed).key(&keys.dead).key(&keys.bytes);
    call.arg(GROUP).arg(millis(options.retention));
    call.arg(options.dead_capacity).arg(options.dead_capacity_bytes).arg(&keys.record_prefix);
    for (lease, outcome) in runs {
        let (text, delay) = match outcome {
            Outcome::Succeeded { result } => (result.as_str(), 0),
            Outcome::Retry { error, delay } | Outcome::Defer { error, delay } => {
                (shortened(error), millis(*delay))
            }
            Outcome::Requeue => ("", 0),
            Outcome::DeadLetter { error } => (shortened(error), 0),
        };
        call.key(lease.record_key());
        call.arg(lease.token()).arg(&lease.record().id).arg(outcome.as_str()).arg(text).arg(delay);
    }
    let current: Vec<bool> = call.invoke_async(&mut store.commands.clone()).await?;
    let lost = runs.iter().zip(&current).filter(|(_, is_current)| !**is_current);
    lost.for_each(|((lease, _), _)| lease.declare_lost());
    Ok(current)
}

fn shortened(error: &str) -> &str {
    let end = (0..=MAX_ERROR.min(error.len())).rev().find(|end| error.is_char_boundary(*end));
    &error[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_shortened_at_a_character() {
        let error = "é".repeat(MAX_ERROR);
        assert_eq!(shortened(&error), "é".repeat(MAX_ERROR / 2));
        assert_eq!(shortened("short"), "short");
    }
}
